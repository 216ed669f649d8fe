"""Looks at the observations of environments that are stepped in one call, all of them at once."""

import logging
from typing import Any

import numpy as np
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from farl.errors import ConfigError
from farl.experiment.checked_env import observation_check
from farl.experiment.workers import WorkerVecEnv
from farl.sb3.advice import without_advice
from farl.sb3.unnormalised import original_observations, unnormalised_space

__all__ = ["BatchCheck"]

_LOG = logging.getLogger(__name__)


class BatchCheck:
    """What the environments return is checked as ``CheckedEnv`` checks it of one, in one go for all.

    :param env: the environments; those that are made one by one are checked there, and here nothing is done
    """

    def __init__(self, env: VecEnv) -> None:
        self.env = env
        """What is checked."""
        self._space = space = unnormalised_space(env)
        self._alone = observation_check(space, "the observation", self._mention)
        self._together = observation_check(batch_space(space, env.num_envs), "the observations", self._mention)
        self._needed = not isinstance(env.unwrapped, DummyVecEnv | WorkerVecEnv)
        self._mentioned = False

    def __call__(self, observations: Any) -> None:
        """Check the latest observations of all environments, as they came out of ``env``.

        :raises ConfigError: naming what is wrong, and in which environment
        """
        if not self._needed:
            return
        seen = original_observations(without_advice(observations, self._space), self.env)
        if (problem := self._together(seen)) is None:
            return
        for number in range(self.env.num_envs if _are_rows(seen, self.env.num_envs) else 0):
            if (alone := self._alone(_of_one(seen, number))) is not None:
                raise ConfigError(f"environment {number} returned {alone}")
        raise ConfigError(f"the environments returned {problem}")

    def _mention(self, problem: str) -> None:
        if not self._mentioned:
            self._mentioned = True
            _LOG.warning("the environments returned %s; said once", problem)


def _are_rows(observations: Any, count: int) -> bool:
    """Whether there are arrays with a row for each environment."""
    if isinstance(observations, dict | tuple):
        parts = observations.values() if isinstance(observations, dict) else observations
        return all(_are_rows(part, count) for part in parts)
    return isinstance(observations, np.ndarray) and observations.shape[:1] == (count,)


def _of_one(observations: Any, number: int) -> Any:
    """Return the observation of one environment."""
    if isinstance(observations, dict):
        return {name: _of_one(part, number) for name, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_of_one(part, number) for part in observations)
    return observations[number]
