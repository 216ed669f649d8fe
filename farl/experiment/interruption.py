"""Signals while training: stop at the next step, so that what is saved is consistent."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_LOG = logging.getLogger(__name__)
# Batch systems announce the end of a job by SIGUSR1 or SIGTERM, a terminal that is closed says SIGHUP.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]


class TrainingInterrupted(Exception):
    """Training was stopped from outside; ``checkpoint`` holds everything up to there (None without a run directory)."""

    def __init__(self, timesteps: int, run: Path | None, checkpoint: Path | None, number: int = signal.SIGINT) -> None:
        super().__init__(f"interrupted after {timesteps:,} timesteps")
        self.exit_code = 128 + number
        """What a process that a signal ended returns to the shell."""
        self.timesteps = timesteps
        self.run = run
        self.checkpoint = checkpoint


class StopRequest:
    """Set by the first signal; a second one ends the process at once."""

    def __init__(self) -> None:
        self.requested = False
        self.number: int = signal.SIGINT
        """The signal."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested, self.number = True, number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        _LOG.warning("%s: stopping at the next step, to save first; a second one ends it at once, unsaved", name)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catch the signals while the block runs, as far as this is the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    # nohup ignores SIGHUP, and means it.
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT]
    before = {number: signal.signal(number, request) for number in heard}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
