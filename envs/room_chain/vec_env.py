"""Many agents in one chain of rooms as a Stable-Baselines3 VecEnv."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from farl.envs.episodic_vec_env import IntArray, Rows
from farl.envs.pose_vec_env import PoseVecEnv
from farl.envs.pose_world import LEFT_RIGHT_AHEAD
from farl.envs.room_chain.env import Start, start_poses
from farl.envs.room_chain.layout import VIEW_WIDTH, Look, RoomChain
from farl.envs.room_chain.noise import NoiseState, ViewNoise
from farl.envs.room_chain.render import draw_rooms
from farl.envs.vector import BatchedVectorEnv


class RoomChainVecEnv(PoseVecEnv):
    """E agents in one world; spaces, rewards and infos as in ``RoomChainEnv``, whose parameters it takes.

    Without noise, agent e with seed s does what a ``RoomChainEnv`` with seed s + e does; the noise of all agents is
    drawn from the first one's generator.

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
        self.world = RoomChain(rows, cols, look, layout_seed, goal, plan=plan)
        self.noise = ViewNoise(noise)
        self.starts = start_poses(self.world, start)
        view = spaces.Box(0.0, 1.0, (VIEW_WIDTH,), np.float32)
        super().__init__(n_envs, self.world, view, spaces.Discrete(LEFT_RIGHT_AHEAD), max_steps, render_mode)
        self._noise_state = self.noise.start(n_envs, np.random.default_rng(0))

    @property
    def room_of_cell(self) -> npt.NDArray[np.int64]:
        """int64[height, width], the room of each cell, -1 outside of rooms."""
        return self.world.room_of_cell

    def _advance(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        self._noise_state = self.noise.step(self._noise_state, self._rngs[0])
        return super()._advance()

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"noise": tuple(self._noise_state)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self._noise_state = NoiseState(*state["noise"])

    def _begin(self, envs: IntArray) -> None:
        super()._begin(envs)
        for env in envs:
            fresh = self.noise.start(1, self._rngs[env])
            self._noise_state.light[env], self._noise_state.passing[env] = fresh.light[0], fresh.passing[0]

    def _start(self, rng: np.random.Generator) -> int:
        return int(rng.choice(self.starts))

    def _look(self, envs: Rows) -> npt.NDArray[np.float32]:
        state = NoiseState(self._noise_state.light[envs], self._noise_state.passing[envs])
        return self.noise.views(self.world.codes_seen(self._poses[envs]), state, self._rngs[0])

    def _draw(self, pose: int) -> npt.NDArray[np.uint8]:
        return draw_rooms(self.world, pose)


class RoomChainVectorEnv(BatchedVectorEnv):
    """``RoomChainVecEnv`` as ``gymnasium.make_vec`` makes it."""

    batched = RoomChainVecEnv
