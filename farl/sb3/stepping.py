"""Algorithms that can be stopped, saved and gone on with between any two steps, in the middle of a rollout, too.

``Stepwise(Algorithm)`` calls ``between_steps`` where everything is at rest: the last step has been stored, and nothing
has been drawn for the next. ``open_state`` is what such a moment holds beside what ``save`` writes: the rollout that is
open. To go on, ``reopen`` says before ``learn`` how far that rollout is, and ``take_up``, called by the first
``between_steps``, puts back what it holds: until there, ``learn`` and ``collect_rollouts`` begin as ever, and whatever
they have drawn and cleared is restored after them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, TypeVar

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit

__all__ = ["OpenRollout", "Stepwise", "is_aligned", "pausing", "rollout_rows", "rows_taken"]

Algorithm = TypeVar("Algorithm", bound=BaseAlgorithm)


class OpenRollout(BaseAlgorithm):
    """What all algorithms share that can be stopped between two steps."""

    between_steps: Callable[[], None] | None = None
    """Called between any two steps of a rollout, and before its first."""
    reopened: Mapping[str, int] | None = None
    """How far the rollout is that the next one goes on with; None begins a new one."""
    pauses_itself = False
    """Whether ``collect_rollouts`` calls ``pause``."""

    def pause(self) -> None:
        """Call ``between_steps``, if there is anyone to be called."""
        if self.between_steps is not None:
            self.between_steps()
        self.reopened = None

    def open_state(self) -> dict[str, Any]:
        """Return what an open rollout holds, as a tree of arrays, tensors, numbers, strings, lists and dicts."""
        return {}

    def reopen(self, state: Mapping[str, Any], anew: bool = False) -> None:
        """Go on with an open rollout in the next call of ``learn``.

        :param state: what ``open_state`` returned
        :param anew: whether new episodes begin in it
        """
        self.reopened = {"anew": int(anew)}

    def settle(self) -> None:
        """Forget a step that was begun and never stored, as one that failed."""

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Put back what an open rollout held; to be called by the first ``between_steps`` after ``reopen``."""

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "between_steps", "reopened"]


def Stepwise(algorithm: type[Algorithm]) -> type[Algorithm]:
    """Return a subclass of an algorithm that can be stopped between any two steps; it learns the same.

    :param algorithm: on-policy or off-policy, with or without ``FAR`` and ``Fast``; others are returned as they are
    """
    if issubclass(algorithm, _OnPolicy | _OffPolicy) or not issubclass(
        algorithm, OnPolicyAlgorithm | OffPolicyAlgorithm
    ):
        return algorithm
    return _make_class(algorithm)


@cache
def _make_class(algorithm: type[Any]) -> type[Any]:
    mixin = _OnPolicy if issubclass(algorithm, OnPolicyAlgorithm) else _OffPolicy
    return type(algorithm.__name__, (mixin, algorithm), {"__doc__": algorithm.__doc__, "__module__": __name__})


class _OnPolicy(OpenRollout, OnPolicyAlgorithm):
    """Rows of the rollout buffer are what has been collected."""

    iterations = 0
    """Rollouts so far, for the log."""
    _began = 0  # timesteps before the present rollout
    _log_interval: int | None = 1

    def learn(
        self, total_timesteps: int, callback: Any = None, log_interval: int = 1, *args: Any, **kwargs: Any
    ) -> Any:
        """Learn; see SB3. The log counts rollouts since the first ``learn`` that reset the timesteps."""
        if self.reopened is None:
            self.iterations = 0
        self._log_interval = log_interval
        return super().learn(total_timesteps, callback, 1, *args, **kwargs)

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, if it is time."""
        self.iterations += 1
        if self._log_interval is not None and self.iterations % self._log_interval == 0:
            super().dump_logs(self.iterations)

    def collect_rollouts(
        self, env: Any, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Collect a rollout, or the rest of one; see SB3."""
        taken = rows_taken(self)
        self._began = self.num_timesteps - taken * self.n_envs
        with nullcontext() if self.pauses_itself else pausing(self, taken):
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps - taken)

    def open_state(self) -> dict[str, Any]:
        """Return the rows that are filled."""
        rows, buffer = rollout_rows(self.rollout_buffer), self.rollout_buffer
        filled = _arrays(buffer) if rows else {}  # after training they have another shape
        arrays = {name: {key: part[:rows].copy() for key, part in parts.items()} for name, parts in filled.items()}
        return super().open_state() | {"rows": rows, "buffer": arrays}

    def reopen(self, state: Mapping[str, Any], anew: bool = False) -> None:
        """Go on with an open rollout."""
        super().reopen(state, anew)
        self.reopened = {**(self.reopened or {}), "rows": int(state["rows"])}

    def settle(self) -> None:
        """Forget a step that was begun and never stored."""
        super().settle()
        if not (self.rollout_buffer.full or self.rollout_buffer.generator_ready):
            self.num_timesteps = self._began + self.rollout_buffer.pos * self.n_envs

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Fill the rows."""
        super().take_up(state)
        rows, held = int(state["rows"]), _arrays(self.rollout_buffer)
        for name, parts in state["buffer"].items():
            for key, part in parts.items():
                held[name][key][:rows] = part
        self.rollout_buffer.pos = rows


class _OffPolicy(OpenRollout, OffPolicyAlgorithm):
    """A rollout is a number of steps or episodes; the transitions themselves are in the replay buffer."""

    _began = 0  # timesteps before the open rollout
    _episodes_before = 0  # it

    def collect_rollouts(
        self, env: Any, callback: BaseCallback, train_freq: TrainFreq, *args: Any, **kwargs: Any
    ) -> RolloutReturn:
        """Collect a rollout, or the rest of one; see SB3."""
        steps, episodes = ((self.reopened or {}).get(name, 0) for name in ("steps", "episodes"))
        self._began, self._episodes_before = self.num_timesteps - steps * env.num_envs, self._episode_num - episodes
        done = steps if train_freq.unit is TrainFrequencyUnit.STEP else episodes
        rest = TrainFreq(train_freq.frequency - done, train_freq.unit)
        found = super().collect_rollouts(env, callback, rest, *args, **kwargs)
        self._began, self._episodes_before = self.num_timesteps, self._episode_num
        return RolloutReturn(
            found.episode_timesteps + steps * env.num_envs, found.n_episodes + episodes, found.continue_training
        )

    def _sample_action(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if is_aligned(self, self._steps_taken):
            self.pause()
        return super()._sample_action(*args, **kwargs)

    @property
    def _steps_taken(self) -> int:
        return (self.num_timesteps - self._began) // self.n_envs

    def open_state(self) -> dict[str, Any]:
        """Return how far the rollout is."""
        episodes = self._episode_num - self._episodes_before
        return super().open_state() | {"steps": self._steps_taken, "episodes": episodes}

    def reopen(self, state: Mapping[str, Any], anew: bool = False) -> None:
        """Go on with an open rollout."""
        super().reopen(state, anew)
        self.reopened = {**(self.reopened or {}), **{name: int(state[name]) for name in ("steps", "episodes")}}


@contextmanager
def pausing(model: Any, taken: int) -> Iterator[None]:
    """Have an on-policy algorithm that calls its policy for each action pause before it does.

    :param taken: steps of the rollout that were taken before
    """
    policy, buffer = model.policy, model.rollout_buffer
    forward, begin = policy.forward, model.num_timesteps - taken * model.n_envs

    def pause_first(*args: Any, **kwargs: Any) -> Any:
        # Policies are also called to evaluate them: then the latest step has not been stored yet.
        rows = taken if model.reopened is not None else rollout_rows(buffer)
        at_rest = model.num_timesteps == begin + rows * model.n_envs and not buffer.full
        if at_rest and is_aligned(model, rows):
            model.pause()
        return forward(*args, **kwargs)

    policy.forward = pause_first
    try:
        yield
    finally:
        del policy.forward


def is_aligned(model: Any, steps: int) -> bool:
    """Whether a rollout can be gone on with after so many steps: gSDE draws its noise at every so many."""
    return not (model.use_sde and model.sde_sample_freq > 0 and steps % model.sde_sample_freq)


def rows_taken(model: Any) -> int:
    """Return how many rows were filled of the rollout that an on-policy algorithm goes on with; 0 for a new one."""
    return int((model.reopened or {}).get("rows", 0))


def rollout_rows(buffer: RolloutBuffer) -> int:
    """Return how many rows of the present rollout are filled."""
    return 0 if buffer.full or buffer.generator_ready else int(buffer.pos)


def _arrays(buffer: Any) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """The arrays of a rollout buffer that have a row for each step, by attribute and, for dicts, key."""
    found = {}
    for name, value in vars(buffer).items():
        parts = value if isinstance(value, dict) else {"": value}
        if parts and all(isinstance(part, np.ndarray) and len(part) == buffer.buffer_size for part in parts.values()):
            found[name] = parts
    return found
