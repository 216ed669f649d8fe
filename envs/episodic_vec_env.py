"""Many copies of one kind of environment, stepped and reset together, each with episodes of its own."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from farl.envs.batched import BatchedVecEnv

__all__ = ["EpisodicVecEnv", "IntArray", "Rows"]

IntArray = npt.NDArray[np.int64]
Rows = IntArray | slice
"""Some copies, by their numbers, or all of them, which needs no copies of arrays."""
_ALL = slice(None)


class EpisodicVecEnv(BatchedVecEnv):
    """E copies, without a loop over them in any step. Copy e with seed s does what a single environment with seed s + e
    does.

    Copies whose episode ends are reset at once; their infos then hold ``terminal_observation``, ``TimeLimit.truncated``
    and ``episode`` (return, length), as a ``VecMonitor`` would write it.

    :param n_envs: number of copies E
    :param max_steps: steps of an episode; None for no end
    """

    def __init__(
        self,
        n_envs: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        max_steps: int | None,
        render_mode: str | None,
    ) -> None:
        self.max_steps, self.render_mode = max_steps, render_mode
        super().__init__(n_envs, observation_space, action_space)
        self._rngs = [np.random.default_rng() for _ in range(n_envs)]
        self._all = np.arange(n_envs)

    @abstractmethod
    def _begin(self, envs: IntArray) -> None:
        """Begin an episode in some copies, int64[n]; copy e draws from ``_rngs[e]``."""

    @abstractmethod
    def _advance(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Step all copies; return the rewards, float[E], and whose episode has come to its end, bool[E].

        ``lengths`` counts this step already.
        """

    @abstractmethod
    def _look(self, envs: Rows) -> Any:
        """Return what some copies show, [n, ...], in arrays of their own."""

    def _infos(self, envs: Rows) -> list[dict[str, Any]]:
        """Return the infos of some copies, n of them."""
        return [{} for _ in self._all[envs]]

    def reset(self) -> VecEnvObs:
        """Start an episode in every copy."""
        for env, seed in enumerate(self._seeds):
            if seed is not None:
                self._rngs[env] = np.random.default_rng(seed)
        self._begin(self._all)
        self.lengths[:], self.returns[:] = 0, 0.0
        self.reset_infos = self._infos(_ALL)
        self._reset_seeds()
        self._reset_options()
        observations: VecEnvObs = self._look(_ALL)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step every copy."""
        self.lengths += 1
        rewards, terminated = self._advance()
        self.returns += rewards
        dones = terminated if self.max_steps is None else terminated | (self.lengths >= self.max_steps)
        observations, infos = self._look(_ALL), self._infos(_ALL)
        ended = np.flatnonzero(dones)
        if len(ended):
            for env in ended.tolist():  # a dict each; episodes end rarely
                infos[env] |= self.finish(env, _row(observations, env), truncated=not terminated[env])
            self._begin(ended)
            _put(observations, ended, self._look(ended))
            for env, start in zip(ended.tolist(), self._infos(ended), strict=True):
                self.reset_infos[env] = start
        return observations, rewards.astype(np.float32), dones, infos

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"rngs": copy.deepcopy(self._rngs)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self._rngs = copy.deepcopy(state["rngs"])


def _row(observations: Any, env: int) -> Any:
    if isinstance(observations, dict):
        return {name: part[env].copy() for name, part in observations.items()}
    return observations[env].copy()


def _put(observations: Any, envs: IntArray, fresh: Any) -> None:
    if isinstance(observations, dict):
        for name, part in observations.items():
            part[envs] = fresh[name]
    else:
        observations[envs] = fresh
