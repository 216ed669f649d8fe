"""A world of rooms as tables: where each action leads from each pose, and what is seen there."""

from typing import Literal, get_args

import numba
import numpy as np
import numpy.typing as npt

from farl.envs.partial_views import IntArray
from farl.envs.pose_world import PoseWorld, check_at_least, check_choice
from farl.envs.room_chain.plans import Plan, grid, parse_plan

Look = Literal["alike", "color", "texture"]

UNSEEN, WALL, FLOOR, GOAL = range(4)
"""Kinds of cells as views show them."""
COLORS = 7
"""Number of colours: 0 is bare (grey walls, plain floor), 1 to 6 are paints."""
VIEW_SIZE = 7
"""Side of the square view in cells."""
LEFT, RIGHT, AHEAD = range(3)
"""Actions: turn left, turn right, move forward."""

_PER_CELL = GOAL + 1 + COLORS
VIEW_WIDTH = VIEW_SIZE**2 * _PER_CELL
"""Length of an observation: of each cell in view its kind and its colour, one-hot."""


def one_hot(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return views as networks read them: uint8[N, VIEW_SIZE ** 2, 2] to zeros and ones, float32[N, VIEW_WIDTH]."""
    seen = np.zeros((len(codes), VIEW_WIDTH), np.float32)
    _write_ones(codes, seen)
    return seen


@numba.njit(cache=True)
def _write_ones(codes: npt.NDArray[np.uint8], seen: npt.NDArray[np.float32]) -> None:
    for view in range(codes.shape[0]):
        for cell in range(codes.shape[1]):
            seen[view, cell * _PER_CELL + codes[view, cell, 0]] = 1.0
            seen[view, cell * _PER_CELL + GOAL + 1 + codes[view, cell, 1]] = 1.0


class RoomChain(PoseWorld):
    """Square rooms in a row, a grid, a hub with branches, a tree or a ring. Those that are joined share a doorway of
    one cell in the middle of their wall.

    - ``alike``: grey walls, bare floors
    - ``color``: each room has walls of one colour and a floor of another; pairs differ among the first 30 rooms
    - ``texture``: as ``color``, and the floor is a random pattern of bare tiles and tiles in two colours

    :param rows: rows of rooms
    :param cols: columns of rooms
    :param look: how rooms differ
    :param layout_seed: decides colours and patterns, and the plan where that is random
    :param goal: whether there is a goal, in the middle of the room that is the most doorways away from the first
    :param room_size: side of a room in cells, odd, walls not counted
    :param plan: takes the place of rows and columns: ``hub-2-5`` and the like, as ``parse_plan`` reads it
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        rows: int = 1,
        cols: int = 6,
        look: Look = "texture",
        layout_seed: int = 0,
        goal: bool = False,
        room_size: int = 7,
        plan: str | None = None,
    ) -> None:
        least = {"rows": (rows, 1), "cols": (cols, 1), "layout_seed": (layout_seed, 0), "room_size": (room_size, 3)}
        check_at_least(least)
        check_choice("look", look, get_args(Look))
        if room_size % 2 == 0:
            raise ValueError(f"room_size must be odd, so that a wall has a middle; got {room_size}")
        # A stream of its own: the plan does not change how rooms are painted.
        rng = np.random.default_rng([layout_seed, 1])
        self.plan: Plan = grid(int(rows), int(cols)) if plan is None else parse_plan(plan, rng)
        """Where the rooms are, and which are joined."""
        if goal and len(self.plan.places) == 1:
            raise ValueError("goal=True needs at least two rooms: raise rows or cols")
        (self.rows, self.cols), self.room_size = self.plan.shape, int(room_size)
        codes = self._paint(look, np.random.default_rng(layout_seed), goal)
        free = codes[..., 0] != WALL
        farthest = self._cell_of(*self.plan.places[self.plan.farthest]) if goal else None
        super().__init__(codes, free, free, farthest, VIEW_SIZE, outside=(WALL, 0), under=(FLOOR, 0))
        self.rooms: IntArray = self._room_of(self.positions)
        """int64[P], room of each pose, by its number in the plan; -1 in a doorway."""
        self.room_of_cell: IntArray = np.full(self.reachable.shape, -1)
        """int64[height, width], the room of each cell, -1 in doorways and walls."""
        self.room_of_cell[self.positions[:, 1], self.positions[:, 0]] = self.rooms
        self.start = self.pose_at(*self.plan.places[0], direction=0)
        """The middle of the first room, facing right."""

    @property
    def n_rooms(self) -> int:
        """Number of rooms."""
        return len(self.plan.places)

    def pose_at(self, row: int, col: int, direction: int) -> int:
        """Return the pose in the middle of a room."""
        return self.pose(*self._cell_of(row, col), direction)

    def views(self, poses: IntArray) -> npt.NDArray[np.float32]:
        """Return what is seen from each pose, float32[N, VIEW_WIDTH] of zeros and ones."""
        return one_hot(self.codes_seen(poses))

    def codes_seen(self, poses: IntArray) -> npt.NDArray[np.uint8]:
        """Return kind and colour of each cell in view, uint8[N, VIEW_SIZE ** 2, 2]."""
        return self.views_of[poses].reshape(len(poses), -1, 2)

    def _cell_of(self, row: int, col: int) -> tuple[int, int]:
        """The middle of a room, x and y."""
        return self._middle(col), self._middle(row)

    def _middle(self, index: int) -> int:
        return index * (self.room_size + 1) + 1 + self.room_size // 2

    def _paint(self, look: Look, rng: np.random.Generator, goal: bool) -> npt.NDArray[np.uint8]:
        pitch = self.room_size + 1
        codes = np.zeros((self.cols * pitch + 1, self.rows * pitch + 1, 2), np.uint8)
        codes[..., 0] = WALL
        paints = 1 + rng.permutation(COLORS - 1)
        for room, (row, col) in enumerate(self.plan.places):
            left, top = col * pitch, row * pitch
            inside = codes[left + 1 : left + pitch, top + 1 : top + pitch]
            inside[..., 0] = FLOOR
            if look == "alike":
                continue
            # Six wall colours in turn; with every round the floor's colour moves on by one against them.
            wall, floor, second = (paints[(room + shift) % 6] for shift in (0, 1 + room // 6 % 5, 3 + room // 6 % 5))
            # Neighbours share a wall: it takes the colour of the later room on their left and upper side.
            frame = codes[left : left + pitch + 1, top : top + pitch + 1]
            frame[..., 1] = np.where(frame[..., 0] == WALL, wall, frame[..., 1])
            inside[..., 1] = floor
            if look == "texture":
                inside[..., 1] = rng.choice([0, floor, second], size=inside.shape[:2])
        for pair in self.plan.doorways:
            (row, col), (below, right) = sorted(self.plan.places[room] for room in pair)
            if row == below:
                codes[right * pitch, self._middle(row)] = (FLOOR, 0)
            else:
                codes[self._middle(col), below * pitch] = (FLOOR, 0)
        if goal:
            row, col = self.plan.places[self.plan.farthest]
            codes[self._middle(col), self._middle(row)] = (GOAL, 0)
        return codes

    def _room_of(self, cells: IntArray) -> IntArray:
        (col, row), (x, y) = np.divmod(cells.T, self.room_size + 1)
        number = np.full((self.rows + 1, self.cols + 1), -1)
        number[tuple(np.array(self.plan.places).T)] = np.arange(self.n_rooms)
        return np.where((x == 0) | (y == 0), -1, number[row, col])
