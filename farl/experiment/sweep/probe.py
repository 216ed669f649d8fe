"""Measures how fast a run goes, without finishing it."""

import time
from typing import TYPE_CHECKING

from farl.experiment.interruption import TrainingInterrupted

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

    def started(self, timesteps: int, total_timesteps: int) -> None:
        """Training begins."""
        self._began = time.monotonic()

    def progressed(self, status: "Status") -> None:
        """Stop once enough was seen.

        :raises TrainingInterrupted: it was
        """
        self.rate = status.steps_per_second
        if self._began is not None and time.monotonic() - self._began > self._seconds:
            raise TrainingInterrupted(status.timesteps, None, None)

    def finished(self) -> None:
        """Training is over."""
