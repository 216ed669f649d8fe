"""Measures how fast a run goes, without finishing it."""

import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farl.experiment.callbacks import Status


class SpeedProbe:
    """Observer that stops training after some seconds.

    :param seconds: For how long to measure.
    """

    def __init__(self, seconds: float) -> None:
        self.rate = 0.0
        """Steps a second, over the whole time."""
        self._seconds = seconds
        self._began: float | None = None
        self._stopped = False

    def started(self, timesteps: int, total_timesteps: int) -> None:
        """Training begins."""
        self._began = time.monotonic()

    def progressed(self, status: "Status") -> None:
        """Stop once enough was seen."""
        self.rate = status.steps_per_second
        if not self._stopped and self._began is not None and time.monotonic() - self._began > self._seconds:
            self._stopped = True
            signal.raise_signal(signal.SIGTERM)

    def finished(self) -> None:
        """Training is over."""
