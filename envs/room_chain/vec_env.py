"""Many agents in one chain of rooms as a Stable-Baselines3 VecEnv, without a loop over environments in any step."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from farl.envs.batched import BatchedVecEnv
from farl.envs.room_chain.env import Start, checked_max_steps, goal_reward, start_poses
from farl.envs.room_chain.layout import VIEW_WIDTH, Look, RoomChain
from farl.envs.room_chain.noise import NoiseState, ViewNoise
from farl.envs.room_chain.render import draw_rooms


class RoomChainVecEnv(BatchedVecEnv):
    """E agents in one world; spaces, rewards and infos as in `RoomChainEnv`, whose parameters it takes.

    Agents whose episode ends are reset at once; their infos then hold `terminal_observation`, `TimeLimit.truncated`
    and `episode` (return, length), as a `VecMonitor` would write it. Random starts of all agents come from one stream,
    seeded with the first agent's seed.

    :param n_envs: number of agents E
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        n_envs: int,
        rows: int = 1,
        cols: int = 6,
        look: Look = "texture",
        layout_seed: int = 0,
        goal: bool = False,
        start: Start = "fixed",
        max_steps: int | None = 500,
        plan: str | None = None,
        noise: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        if n_envs < 1:
            raise ValueError(f"n_envs must be at least 1; got {n_envs}")
        self.world = RoomChain(rows, cols, look, layout_seed, goal, plan=plan)
        self.noise = ViewNoise(noise)
        self.starts = start_poses(self.world, start)
        self.max_steps = checked_max_steps(max_steps)
        self.render_mode = render_mode
        super().__init__(n_envs, spaces.Box(0.0, 1.0, (VIEW_WIDTH,), np.float32), spaces.Discrete(3))
        self._rng = np.random.default_rng()
        self._noise_state = self.noise.start(n_envs, self._rng)
        self._poses = np.full(n_envs, self.world.start)

    @property
    def reachable(self) -> npt.NDArray[np.bool_]:
        """bool[height, width], the cells that an agent can stand on."""
        return self.world.reachable

    @property
    def room_of_cell(self) -> npt.NDArray[np.int64]:
        """int64[height, width], the room of each cell, -1 outside of rooms."""
        return self.world.room_of_cell

    def reset(self) -> VecEnvObs:
        """Start an episode of every agent."""
        if self._seeds[0] is not None:
            self._rng = np.random.default_rng(self._seeds[0])
        self._restart(np.arange(self.num_envs))
        self._noise_state = self.noise.start(self.num_envs, self._rng)
        self.reset_infos = self._infos()
        self._reset_seeds()
        self._reset_options()
        return self._views(np.arange(self.num_envs))

    def step_wait(self) -> VecEnvStepReturn:
        """Move every agent."""
        self._poses = self.world.following[self._poses, self._actions]
        self.lengths += 1
        reached = self.world.is_goal[self._poses]
        rewards = np.where(reached, goal_reward(self.lengths, self.max_steps), 0.0).astype(np.float32)
        self.returns += rewards
        dones = reached if self.max_steps is None else reached | (self.lengths >= self.max_steps)
        infos = self._infos()
        self._noise_state = self.noise.step(self._noise_state, self._rng)
        observations = self._views(np.arange(self.num_envs))
        if dones.any():
            ended = np.flatnonzero(dones)
            for env, last in zip(ended, observations[ended], strict=True):  # a dict each; episodes end rarely
                infos[env] |= self.finish(int(env), last, truncated=not reached[env])
            self._restart(ended)
            observations[ended] = self._views(ended)
            starts = self._infos()
            for env in ended:
                self.reset_infos[env] = starts[env]
        return observations, rewards, dones, infos

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {
            "poses": self._poses.copy(),
            "noise": tuple(self._noise_state),
            "rng": copy.deepcopy(self._rng),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        super().set_state(state)
        self._poses, self._rng = state["poses"].copy(), copy.deepcopy(state["rng"])
        self._noise_state = NoiseState(*state["noise"])

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Draw the world once for every agent."""
        return [draw_rooms(self.world, int(pose)) for pose in self._poses]

    def _restart(self, envs: npt.NDArray[np.int64]) -> None:
        self._poses[envs] = self._rng.choice(self.starts, len(envs))
        self.lengths[envs], self.returns[envs] = 0, 0.0

    def _views(self, envs: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        state = NoiseState(self._noise_state.light[envs], self._noise_state.passing[envs])
        return self.noise.views(self.world.codes_seen(self._poses[envs]), state, self._rng)

    def _infos(self) -> list[dict[str, Any]]:
        # One dict per agent is what the interface asks for; the positions are looked up for all at once.
        return [{"position": (x, y)} for x, y in self.world.positions[self._poses].tolist()]
