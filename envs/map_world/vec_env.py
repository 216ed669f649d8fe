"""Many worlds at once as a Stable-Baselines3 VecEnv, without a loop over environments in any step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from farl.envs.episodic_vec_env import EpisodicVecEnv, IntArray, Rows
from farl.envs.map_world.env import Maps, Observed, default_start, look, map_sources, observation_space, observed
from farl.envs.map_world.occupancy import Dark
from farl.envs.map_world.render import draw_world
from farl.envs.map_world.worlds import MapWorlds, Start
from farl.envs.vector import BatchedVectorEnv


class MapWorldVecEnv(EpisodicVecEnv):
    """E worlds in one compiled step; spaces, rewards and infos as in ``MapWorldEnv``, whose parameters it takes.

    :param n_envs: number of worlds E
    :raises ConfigError: if a map is malformed
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        n_envs: int,
        size: str = "small",
        maps: Maps | None = None,
        map_name: str | None = None,
        threshold: float = 0.5,
        dark: Dark = "wall",
        resolution: float | None = None,
        scale: int = 3,
        view_size: int = 15,
        cone_ratio: float = 0.25,
        recolour: bool = False,
        obstacles: int = 0,
        until_covered: bool = True,
        max_steps: int = 5_000,
        layout_seed: int | None = None,
        start: Start | None = None,
        observation: Observed = "parts",
        render_mode: str | None = None,
    ) -> None:
        if n_envs < 1 or max_steps < 1:
            raise ValueError(f"n_envs and max_steps must be at least 1; got {n_envs} and {max_steps}")
        reading = {"threshold": threshold, "dark": dark, "resolution": resolution}
        sources = map_sources(size, maps, map_name, scale, n_envs, layout_seed, **reading)
        held = layout_seed, default_start(start, layout_seed)
        self.worlds = MapWorlds(sources, scale, view_size, cone_ratio, recolour, obstacles, *held)
        self.until_covered = until_covered
        self.world_changes = any(len(source) != 1 for source in sources)
        """Whether an episode can be in another world than the one before."""
        self.observed = observed(observation)
        space = observation_space(view_size, self.observed)
        super().__init__(n_envs, space, spaces.Discrete(4), max_steps, render_mode)

    def _begin(self, envs: IntArray) -> None:
        for env in envs:
            self.worlds.reset(int(env), self._rngs[env])

    def _advance(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        rewards = self.worlds.step(self._actions) / self.worlds.n_countable
        return rewards, (self.worlds.n_seen == self.worlds.n_countable) & self.until_covered

    def _look(self, envs: Rows) -> Any:
        return look(self.worlds, envs, self.observed)

    def _infos(self, envs: Rows) -> list[dict[str, Any]]:
        # One dict per world is what the interface asks for; everything in them is computed for all worlds at once.
        rows = zip(self.worlds.pose[envs].tolist(), self.worlds.coverage[envs].tolist(), strict=True)
        return [{"position": (col, row), "heading": heading, "coverage": share} for (row, col, heading), share in rows]

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"worlds": self.worlds.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self.worlds.set_state(state["worlds"])

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Draw every world."""
        return [draw_world(self.worlds, env) for env in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute once per world; ``reachable``, ``plan`` and ``room_of_cell`` are the world's own."""
        worlds: dict[str, Callable[[int], Any]] = {
            "reachable": self.worlds.free,
            "plan": self.worlds.plan,
            "room_of_cell": self.worlds.room_of_cell,
        }
        if (own := worlds.get(attr_name)) is not None:
            return [own(env) for env in self._get_indices(indices)]
        return super().get_attr(attr_name, indices)


class MapWorldVectorEnv(BatchedVectorEnv):
    """``MapWorldVecEnv`` as ``gymnasium.make_vec`` makes it."""

    batched = MapWorldVecEnv
