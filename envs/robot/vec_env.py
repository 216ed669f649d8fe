"""Many robots at once as a Stable-Baselines3 VecEnv."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from farl.envs.episodic_vec_env import EpisodicVecEnv, IntArray, Rows
from farl.envs.map_world.env import Maps
from farl.envs.map_world.occupancy import Dark
from farl.envs.robot.buildings import sources
from farl.envs.robot.env import checked, infos, observations, reachable
from farl.envs.robot.render import Belief, draw_robot
from farl.envs.robot.settings import action_space, check_episode, check_ranges, make_settings, observation_space
from farl.envs.robot.worlds import RobotWorlds
from farl.envs.vector import BatchedVectorEnv


class RobotVecEnv(EpisodicVecEnv):
    """E robots in one compiled step; spaces, rewards and infos as in ``RobotEnv``, whose parameters it takes.

    :param n_envs: number of robots E
    :raises ConfigError: if a plan is malformed or too narrow, or a value is out of range
    """

    def __init__(
        self,
        n_envs: int,
        maps: Maps | None = None,
        world: str = "office",
        resolution: float | None = None,
        threshold: float = 0.5,
        dark: Dark = "wall",
        start: Sequence[float] | None = None,
        until_covered: float | None = 0.99,
        max_steps: int = 20_000,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        self.settings = make_settings(settings)
        check_ranges({"n_envs": n_envs}, {"n_envs": (1, 100_000, False)}, ("n_envs",))
        check_episode(until_covered, max_steps)
        given = sources(maps, world, resolution, self.settings, n_envs, threshold=threshold, dark=dark)
        self.worlds = RobotWorlds(given, self.settings)
        self.start, self.until_covered = start, until_covered
        self.world_changes = any(len(source) != 1 for source in given)
        """Whether an episode can be in another building than the one before."""
        self._belief: Belief | None = None
        super().__init__(n_envs, observation_space(self.settings), action_space(), max_steps, render_mode)

    @property
    def true_start(self) -> npt.NDArray[np.float64]:
        """float64[3], the first robot's true pose at the start of its episode."""
        start: npt.NDArray[np.float64] = self.worlds.start[0]
        return start

    def believe(self, belief: Belief | None) -> None:
        """Draw what the first robot's agent believes into the pictures from now on."""
        self._belief = belief

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions, float[E, 2].

        :raises ValueError: if they are not two finite numbers for each robot
        """
        self._velocities = checked(actions, self.num_envs)

    def _begin(self, envs: IntArray) -> None:
        for env in envs:
            self.worlds.reset(int(env), self._rngs[env], self.start)

    def _advance(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        rewards = self.worlds.step(self._velocities) / self.worlds.n_countable
        return rewards, self.worlds.coverage >= (np.inf if self.until_covered is None else self.until_covered)

    def _look(self, envs: Rows) -> dict[str, npt.NDArray[Any]]:
        return {name: rows[envs] for name, rows in observations(self.worlds).items()}

    def _infos(self, envs: Rows) -> list[dict[str, Any]]:
        told = infos(self.worlds)
        return [told[env] for env in self._all[envs]]

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"worlds": self.worlds.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self.worlds.set_state(state["worlds"])

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Draw every robot."""
        return [draw_robot(self.worlds, env, self._belief if env == 0 else None) for env in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute once per robot; ``reachable`` and ``plan`` are its building's own."""
        if attr_name in ("reachable", "plan"):
            buildings = [self.worlds.building(env) for env in self._get_indices(indices)]
            return [reachable(one) if attr_name == "reachable" else one.grid for one in buildings]
        return super().get_attr(attr_name, indices)


class RobotVectorEnv(BatchedVectorEnv):
    """``RobotVecEnv`` as ``gymnasium.make_vec`` makes it."""

    batched = RobotVecEnv
