"""The world of heterogeneous rooms: drawn as a MiniGrid grid, and kept as tables."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from minigrid.core.constants import COLOR_NAMES
from minigrid.core.grid import Grid
from minigrid.core.world_object import Floor, Goal, Wall

from farl.envs.minigrid_views import EMPTY, OUTSIDE
from farl.envs.pose_world import PoseWorld, check_at_least, check_choice

__all__ = ["Doorways", "HeteroRooms", "Texture"]

Texture = Literal["none", "color", "texture"]
Doorways = Literal["middle", "random"]


class HeteroRooms(PoseWorld):
    """A grid of square rooms. Each has a ring of walls, so that a doorway between two is two cells deep.

    :param rows: rows of rooms
    :param cols: columns of rooms
    :param room_size: side of a room in cells, walls not counted
    :param texture: how rooms differ: ``"none"``, ``"color"`` or ``"texture"``
    :param doorways: where doorways are: in the ``"middle"`` of the walls or at ``"random"`` places
    :param goal: whether there is a goal in the farthest room
    :param layout_seed: decides colours, patterns and doorways
    :param view_size: side of the partial view in cells, odd
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        room_size: int,
        texture: Texture,
        doorways: Doorways,
        goal: bool,
        layout_seed: int,
        view_size: int,
    ) -> None:
        least = {"rows": (rows, 1), "cols": (cols, 1), "room_size": (room_size, 3), "layout_seed": (layout_seed, 0)}
        check_at_least(least | {"agent_view_size": (view_size, 3)})
        check_choice("texture", texture, get_args(Texture))
        check_choice("doorways", doorways, get_args(Doorways))
        if view_size % 2 == 0:
            raise ValueError(f"agent_view_size must be odd, got {view_size}")
        if goal and rows * cols == 1:
            raise ValueError("goal=True needs at least two rooms: raise rows or cols")
        self.rows, self.cols, self.room_size = int(rows), int(cols), int(room_size)
        self.goal = self.room_center(self.rows - 1, self.cols - 1) if goal else None
        """The goal's cell, x and y."""
        self.grid = self._draw(texture, doorways, np.random.default_rng(layout_seed))
        """It never changes: all episodes share it."""
        shape = (self.grid.height, self.grid.width)
        free = np.array([cell is None or cell.can_overlap() for cell in self.grid.grid], bool).reshape(shape).T
        clear = np.array([cell is None or cell.see_behind() for cell in self.grid.grid], bool).reshape(shape).T
        super().__init__(self.grid.encode(), free, clear, self.goal, int(view_size), OUTSIDE, EMPTY)

    @property
    def room_of_cell(self) -> npt.NDArray[np.int64]:
        """int64[height, width], the room of each cell, -1 for walls and doorways."""
        pitch = self.room_size + 2
        y, x = np.indices((self.grid.height, self.grid.width))
        inside = (y % pitch % (pitch - 1) > 0) & (x % pitch % (pitch - 1) > 0)
        return np.where(inside, y // pitch * self.cols + x // pitch, -1)

    def room_center(self, row: int, col: int) -> tuple[int, int]:
        """Return the cell in the middle of a room, x and y."""
        pitch = self.room_size + 2
        return col * pitch + 1 + self.room_size // 2, row * pitch + 1 + self.room_size // 2

    def draw_start(self, random: bool, rng: np.random.Generator) -> tuple[int, int, int]:
        """Return x, y and direction of an episode's start: in the middle of the first room, or anywhere in it."""
        if not random:
            return *self.room_center(0, 0), 0
        x, y, direction = (int(number) for number in rng.integers([self.room_size, self.room_size, 4]))
        return 1 + x, 1 + y, direction

    def _draw(self, texture: Texture, doorways: Doorways, rng: np.random.Generator) -> Grid:
        """Draw walls, floors, doorways and goal."""
        pitch = self.room_size + 2
        grid = Grid(self.cols * pitch, self.rows * pitch)
        colors = [str(color) for color in rng.permutation(COLOR_NAMES)]
        for room in range(self.rows * self.cols):
            left, top = room % self.cols * pitch, room // self.cols * pitch
            # A wall colour of its own for the first six rooms, a pair (wall, floor) of its own for the first 36.
            wall, *floors = (colors[(room + shift) % 6] for shift in (0, 1 + room // 6, 3 + room // 6))
            pattern = rng.integers(3, size=(self.room_size, self.room_size))
            for x, y in np.ndindex(pitch, pitch):
                if x in (0, pitch - 1) or y in (0, pitch - 1):
                    grid.set(left + x, top + y, Wall("grey" if texture == "none" else wall))
                elif texture == "color":
                    grid.set(left + x, top + y, Floor(floors[0]))
                elif texture == "texture" and pattern[x - 1, y - 1]:
                    grid.set(left + x, top + y, Floor(floors[pattern[x - 1, y - 1] - 1]))

        places = rng.integers(self.room_size, size=(self.rows, self.cols, 2))
        if doorways == "middle":
            places[:] = self.room_size // 2
        for row, col in np.ndindex(self.rows, self.cols):
            right, bottom = (col + 1) * pitch, (row + 1) * pitch
            aside, below = (int(place) for place in places[row, col])
            if col + 1 < self.cols:
                grid.set(right - 1, row * pitch + 1 + aside, None)
                grid.set(right, row * pitch + 1 + aside, None)
            if row + 1 < self.rows:
                grid.set(col * pitch + 1 + below, bottom - 1, None)
                grid.set(col * pitch + 1 + below, bottom, None)
        if self.goal is not None:
            grid.set(*self.goal, Goal())
        return grid
