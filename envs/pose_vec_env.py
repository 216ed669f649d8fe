"""Many agents in one grid world that never changes, as a Stable-Baselines3 VecEnv: a step is a look-up in tables."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from farl.envs.episodic_vec_env import EpisodicVecEnv, IntArray, Rows
from farl.envs.pose_world import PoseWorld, check_at_least, goal_reward

__all__ = ["PoseVecEnv"]


class PoseVecEnv(EpisodicVecEnv):
    """E agents in one world.

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
        self._world = world
        super().__init__(n_envs, observation_space, action_space, max_steps, render_mode)
        self._poses: IntArray = np.zeros(n_envs, np.int64)

    @property
    def reachable(self) -> npt.NDArray[np.bool_]:
        """bool[height, width], the cells that an agent can stand on."""
        return self._world.reachable

    @abstractmethod
    def _start(self, rng: np.random.Generator) -> int:
        """Draw the pose that an episode begins in."""

    @abstractmethod
    def _draw(self, pose: int) -> npt.NDArray[np.uint8]:
        """Draw the world with one agent, uint8[H, W, 3]."""

    def _advance(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        self._poses = self._world.following[self._poses, self._actions]
        reached = self._world.is_goal[self._poses]
        return np.where(reached, goal_reward(self.lengths, self.max_steps), 0.0).astype(np.float32), reached

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"poses": self._poses.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self._poses = state["poses"].copy()

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Draw the world once for every agent."""
        return [self._draw(int(pose)) for pose in self._poses]

    def _begin(self, envs: IntArray) -> None:
        for env in envs:
            self._poses[env] = self._start(self._rngs[env])

    def _infos(self, envs: Rows) -> list[dict[str, Any]]:
        # One dict per agent is what the interface asks for; the positions are looked up for all at once.
        return [{"position": (x, y)} for x, y in self._world.positions[self._poses[envs]].tolist()]
