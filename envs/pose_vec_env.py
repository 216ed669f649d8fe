"""Many agents in one grid world that never changes, as a Stable-Baselines3 VecEnv: a step is a look-up in tables."""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from farl.envs.batched import BatchedVecEnv
from farl.envs.partial_views import IntArray
from farl.envs.pose_world import PoseWorld, check_at_least, goal_reward

__all__ = ["PoseVecEnv"]


class PoseVecEnv(BatchedVecEnv):
    """E agents in one world, without a loop over them in any step. Agent e with seed s starts where a single one with
    seed s + e does.

    Agents whose episode ends are reset at once; their infos then hold ``terminal_observation``, ``TimeLimit.truncated``
    and ``episode`` (return, length), as a ``VecMonitor`` would write it.

    :param n_envs: number of agents E
    :param world: whose tables say where actions lead
    :param max_steps: steps of an episode; None for no end
    :raises ValueError: if a number is out of range
    """

    def __init__(
        self,
        n_envs: int,
        world: PoseWorld,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        max_steps: int | None,
        render_mode: str | None,
    ) -> None:
        check_at_least({"n_envs": (n_envs, 1)} | ({} if max_steps is None else {"max_steps": (max_steps, 1)}))
        self._world, self.max_steps, self.render_mode = world, max_steps, render_mode
        super().__init__(n_envs, observation_space, action_space)
        self._rngs = [np.random.default_rng() for _ in range(n_envs)]
        self._poses: IntArray = np.zeros(n_envs, np.int64)
        self._all = np.arange(n_envs)

    @property
    def reachable(self) -> npt.NDArray[np.bool_]:
        """bool[height, width], the cells that an agent can stand on."""
        return self._world.reachable

    @abstractmethod
    def _start(self, rng: np.random.Generator) -> int:
        """Draw the pose that an episode begins in."""

    @abstractmethod
    def _see(self, envs: IntArray) -> npt.NDArray[Any]:
        """Return what some agents see, [len(envs), ...]."""

    @abstractmethod
    def _draw(self, pose: int) -> npt.NDArray[np.uint8]:
        """Draw the world with one agent, uint8[H, W, 3]."""

    def reset(self) -> VecEnvObs:
        """Start an episode of every agent."""
        for env, seed in enumerate(self._seeds):
            if seed is not None:
                self._rngs[env] = np.random.default_rng(seed)
        self._restart(self._all)
        self.reset_infos = self._infos()
        self._reset_seeds()
        self._reset_options()
        return self._see(self._all)

    def step_wait(self) -> VecEnvStepReturn:
        """Move every agent."""
        self._poses = self._world.following[self._poses, self._actions]
        self.lengths += 1
        reached = self._world.is_goal[self._poses]
        rewards = np.where(reached, goal_reward(self.lengths, self.max_steps), 0.0).astype(np.float32)
        self.returns += rewards
        dones = reached if self.max_steps is None else reached | (self.lengths >= self.max_steps)
        infos = self._infos()
        observations = self._see(self._all)
        if dones.any():
            ended = np.flatnonzero(dones)
            for env, last in zip(ended, observations[ended], strict=True):  # a dict each; episodes end rarely
                infos[env] |= self.finish(int(env), last, truncated=not reached[env])
            self._restart(ended)
            observations[ended] = self._see(ended)
            starts = self._infos()
            for env in ended:
                self.reset_infos[env] = starts[env]
        return observations, rewards, dones, infos

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"poses": self._poses.copy(), "rngs": copy.deepcopy(self._rngs)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self._poses, self._rngs = state["poses"].copy(), copy.deepcopy(state["rngs"])

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Draw the world once for every agent."""
        return [self._draw(int(pose)) for pose in self._poses]

    def _restart(self, envs: IntArray) -> None:
        for env in envs:
            self._poses[env] = self._start(self._rngs[env])
        self.lengths[envs], self.returns[envs] = 0, 0.0

    def _infos(self) -> list[dict[str, Any]]:
        # One dict per agent is what the interface asks for; the positions are looked up for all at once.
        return [{"position": (x, y)} for x, y in self._world.positions[self._poses].tolist()]
