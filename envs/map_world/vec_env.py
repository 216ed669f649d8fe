"""Many worlds at once as a Stable-Baselines3 VecEnv, without a loop over environments in any step."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from farl.envs.batched import BatchedVecEnv
from farl.envs.map_world.env import Maps, map_sources, observation_space
from farl.envs.map_world.occupancy import Dark
from farl.envs.map_world.render import draw_world
from farl.envs.map_world.worlds import MapWorlds
from farl.envs.vector import BatchedVectorEnv
from farl.maps.geometry import decode


class MapWorldVecEnv(BatchedVecEnv):
    """E worlds in one compiled step; spaces, rewards and infos as in ``MapWorldEnv``, whose parameters it takes.

    World e with seed s does what a ``MapWorldEnv`` with seed s + e does. Worlds that end are reset at once; their infos
    then hold ``terminal_observation``, ``TimeLimit.truncated`` and ``episode`` (return, length), as a ``VecMonitor``
    would write it.

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
        render_mode: str | None = None,
    ) -> None:
        if n_envs < 1 or max_steps < 1:
            raise ValueError(f"n_envs and max_steps must be at least 1; got {n_envs} and {max_steps}")
        reading = {"threshold": threshold, "dark": dark, "resolution": resolution}
        sources = map_sources(size, maps, map_name, scale, n_envs, **reading)
        self.worlds = MapWorlds(sources, scale, view_size, cone_ratio, recolour, obstacles)
        self.until_covered, self.max_steps = until_covered, max_steps
        self.world_changes = maps is None or any(len(source) != 1 for source in sources)
        """Whether an episode can be in another world than the one before."""
        self.render_mode = render_mode
        super().__init__(n_envs, observation_space(view_size), spaces.Discrete(4))
        self._rngs = [np.random.default_rng() for _ in range(n_envs)]

    def reset(self) -> VecEnvObs:
        """Start an episode in every world."""
        for env, seed in enumerate(self._seeds):
            if seed is not None:
                self._rngs[env] = np.random.default_rng(seed)
            self._restart(env)
        self.reset_infos = self._infos()
        self._reset_seeds()
        self._reset_options()
        return self._observation()

    def step_wait(self) -> VecEnvStepReturn:
        """Step every world."""
        rewards = self.worlds.step(self._actions) / self.worlds.n_countable
        self.lengths += 1
        self.returns += rewards
        covered = (self.worlds.n_seen == self.worlds.n_countable) & self.until_covered
        truncated = self.lengths >= self.max_steps
        dones = covered | truncated
        infos = self._infos()
        observation = self._observation()
        for env in np.flatnonzero(dones):
            last = {key: value[env].copy() for key, value in observation.items()}
            infos[env] |= self.finish(int(env), last, bool(truncated[env] and not covered[env]))
            self._restart(int(env))
        if dones.any():
            observation, starts = self._observation(), self._infos()
            for env in np.flatnonzero(dones):
                self.reset_infos[env] = starts[env]
        return observation, rewards.astype(np.float32), dones, infos

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"worlds": self.worlds.get_state(), "rngs": copy.deepcopy(self._rngs)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self.worlds.set_state(state["worlds"])
        self._rngs = copy.deepcopy(state["rngs"])

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Draw every world."""
        return [draw_world(self.worlds, env) for env in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute once per world; ``reachable`` and ``plan`` are the world's own."""
        own = {"reachable": self.worlds.free, "plan": self.worlds.plan}.get(attr_name)
        if own is not None:
            return [own(env) for env in self._get_indices(indices)]
        return super().get_attr(attr_name, indices)

    def _restart(self, env: int) -> None:
        self.worlds.reset(env, self._rngs[env])
        self.lengths[env], self.returns[env] = 0, 0.0

    def _observation(self) -> dict[str, npt.NDArray[Any]]:
        view = np.empty((*self.worlds.views.shape, 3), np.uint8)
        decode(self.worlds.views, view)
        return {"view": view, "odometry": self.worlds.odometry}

    def _infos(self) -> list[dict[str, Any]]:
        # One dict per world is what the interface asks for; everything in them is computed for all worlds at once.
        rows = zip(self.worlds.pose.tolist(), self.worlds.coverage.tolist(), strict=True)
        return [{"position": (col, row), "heading": heading, "coverage": share} for (row, col, heading), share in rows]


class MapWorldVectorEnv(BatchedVectorEnv):
    """``MapWorldVecEnv`` as ``gymnasium.make_vec`` makes it."""

    batched = MapWorldVecEnv
