"""Ctrl-C and SIGTERM while training: stop at the next step, so that what is saved is consistent."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(Exception):
    """Training was stopped from outside; ``checkpoint`` holds everything up to there (None without a run directory)."""

    def __init__(self, timesteps: int, run: Path | None, checkpoint: Path | None) -> None:
        super().__init__(f"interrupted after {timesteps:,} timesteps")
        self.timesteps = timesteps
        self.run = run
        self.checkpoint = checkpoint


class StopRequest:
    """Set by the first signal; a second one ends the process at once."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catch the signals while the block runs, as far as this is the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
