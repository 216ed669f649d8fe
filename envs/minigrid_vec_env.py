"""Many agents in one world of heterogeneous rooms as a Stable-Baselines3 VecEnv."""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from farl.envs.episodic_vec_env import IntArray, Rows
from farl.envs.hetero_rooms import Doorways, HeteroRooms, Texture
from farl.envs.minigrid import Start
from farl.envs.minigrid_views import ONES_PER_CELL, one_hot
from farl.envs.pose_vec_env import PoseVecEnv
from farl.envs.pose_world import LEFT_RIGHT_AHEAD, check_choice
from farl.envs.vector import BatchedVectorEnv

__all__ = ["HeteroRoomsVecEnv", "HeteroRoomsVectorEnv"]

Shown = Literal["symbolic", "one_hot"]


class HeteroRoomsVecEnv(PoseVecEnv):
    """E agents in one world, as so many ``HeteroRoomsEnv`` in ``ImgObsWrapper`` or ``OneHotObs``, whose parameters it
    takes.

    :param n_envs: number of agents E
    :param observation: the partial view as its raw symbols, uint8[7, 7, 3], or as a one-hot vector, float32[980]
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        n_envs: int,
        rows: int = 2,
        cols: int = 3,
        room_size: int = 7,
        texture: Texture = "texture",
        doorways: Doorways = "random",
        goal: bool = False,
        start: Start = "fixed",
        max_steps: int = 500,
        layout_seed: int = 0,
        agent_view_size: int = 7,
        observation: Shown = "symbolic",
        render_mode: str | None = None,
    ) -> None:
        check_choice("start", start, get_args(Start))
        check_choice("observation", observation, get_args(Shown))
        self.world = HeteroRooms(rows, cols, room_size, texture, doorways, goal, layout_seed, agent_view_size)
        self._random, self._one_hot = start == "random", observation == "one_hot"
        cells = agent_view_size**2
        view = (
            spaces.Box(0.0, 1.0, (cells * ONES_PER_CELL,), np.float32)
            if self._one_hot
            else spaces.Box(0, 255, (agent_view_size, agent_view_size, 3), np.uint8)
        )
        self.room_of_cell: IntArray = self.world.room_of_cell
        """int64[height, width], the room of each cell, -1 for walls and doorways."""
        super().__init__(n_envs, self.world, view, spaces.Discrete(LEFT_RIGHT_AHEAD), max_steps, render_mode)

    def _start(self, rng: np.random.Generator) -> int:
        return self.world.pose(*self.world.draw_start(self._random, rng))

    def _look(self, envs: Rows) -> npt.NDArray[Any]:
        views: npt.NDArray[np.uint8] = self.world.views_of[self._poses[envs]]
        return one_hot(views) if self._one_hot else views

    def _draw(self, pose: int) -> npt.NDArray[np.uint8]:
        picture: npt.NDArray[np.uint8] = self.world.grid.render(
            32, tuple(self.world.positions[pose]), int(self.world.directions[pose])
        )
        return picture


class HeteroRoomsVectorEnv(BatchedVectorEnv):
    """``HeteroRoomsVecEnv`` as ``gymnasium.make_vec`` makes it; it shows the partial view alone."""

    batched = HeteroRoomsVecEnv
