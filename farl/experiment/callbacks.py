"""What happens beside learning: progress, checkpoints, stopping."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stable_baselines3.common.callbacks import BaseCallback

from farl.experiment.metrics import curiosity_metrics, episode_metrics
from farl.memory.pages import give_back_free_memory

COVERAGE_GOAL = 0.9
SECONDS_BETWEEN_REPORTS = 0.25
SECONDS_BETWEEN_TIDYING = 5.0


class HasCoverage(Protocol):
    """What the tracker asks of the exploration callback."""

    @property
    def coverage(self) -> float | None:
        """Part of the reachable cells that were visited, None where positions are unknown."""

    @property
    def seen(self) -> float | None:
        """Share of the worlds that is seen in the episodes that go on, None where no world tells."""


@dataclass(frozen=True)
class Status:
    """How far training is; None where something does not apply or is not known yet."""

    timesteps: int
    total_timesteps: int
    steps_per_second: float
    ep_rew_mean: float | None
    coverage: float | None
    fragments: int | None
    recalls: int | None


class Observer(Protocol):
    """Somebody who watches a run, such as a progress bar."""

    def started(self, timesteps: int, total_timesteps: int) -> None:
        """Training begins, or goes on, at ``timesteps``."""

    def progressed(self, status: Status) -> None:
        """Called a few times a second."""

    def finished(self) -> None:
        """Training is over, for whatever reason."""


class AtTheStart(BaseCallback):
    """Does something once, before the first step.

    :param act: what
    """

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act

    def _on_training_start(self) -> None:
        self._act()

    def _on_step(self) -> bool:
        return True


class RunTracker(BaseCallback):
    """Reports to the observer, notes when 90% of the cells were covered, and keeps no memory that is not needed."""

    def __init__(self, total_timesteps: int, exploration: HasCoverage, observer: Observer | None) -> None:
        super().__init__()
        self.goal_timesteps: int | None = None
        self._total_timesteps = total_timesteps
        self._exploration = exploration
        self._observer = observer
        self._steps_at_start = 0
        self._began = 0.0
        self._reported = 0.0
        self._tidied = 0.0

    def _on_training_start(self) -> None:
        self._steps_at_start = self.model.num_timesteps
        self._began = self._reported = time.monotonic()
        if self._observer is not None:
            self._observer.started(self.model.num_timesteps, self._total_timesteps)

    def _on_step(self) -> bool:
        if self.goal_timesteps is None and (self._exploration.coverage or 0.0) >= COVERAGE_GOAL:
            self.goal_timesteps = self.num_timesteps
        if self._observer is not None and time.monotonic() - self._reported > SECONDS_BETWEEN_REPORTS:
            self.report()
        return True

    def _on_rollout_end(self) -> None:
        if time.monotonic() - self._tidied > SECONDS_BETWEEN_TIDYING:
            give_back_free_memory()
            self._tidied = time.monotonic()

    def _on_training_end(self) -> None:
        self.report()

    def report(self) -> None:
        """Tell the observer how things stand."""
        if self._observer is None:
            return
        self._reported = time.monotonic()
        curiosity, seen = curiosity_metrics(self.model), self._exploration.seen
        self._observer.progressed(
            Status(
                timesteps=self.model.num_timesteps,
                total_timesteps=self._total_timesteps,
                steps_per_second=(self.model.num_timesteps - self._steps_at_start)
                / max(self._reported - self._began, 1e-9),
                ep_rew_mean=episode_metrics(self.model)["ep_rew_mean"],
                coverage=self._exploration.coverage if seen is None else seen,
                fragments=curiosity["fragments"],
                recalls=curiosity["recalls"],
            )
        )


class CheckpointClock:
    """Says when it is time for a checkpoint: after so many timesteps, or minutes, whichever comes first.

    :param freq: timesteps between two checkpoints
    :param minutes: minutes between two checkpoints
    """

    def __init__(self, freq: int, minutes: float) -> None:
        self._freq, self._seconds = freq, 60.0 * minutes
        self.saved(0)

    def saved(self, timesteps: int) -> None:
        """Begin to wait anew, at ``timesteps``."""
        self._next = (timesteps // self._freq + 1) * self._freq
        self._last = time.monotonic()

    def is_due(self, timesteps: int) -> bool:
        """Whether it is time."""
        return timesteps >= self._next or time.monotonic() - self._last >= self._seconds
