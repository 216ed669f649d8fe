"""What a MiniGrid agent sees, without MiniGrid's copies of the grid, and as networks read it."""

from typing import Any

import numpy as np
import numpy.typing as npt
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.world_object import Wall
from minigrid.minigrid_env import MiniGridEnv

from farl.envs.partial_views import FORWARD

__all__ = ["EMPTY", "ONES_PER_CELL", "OUTSIDE", "one_hot", "partial_view"]

OUTSIDE = (OBJECT_TO_IDX["wall"], COLOR_TO_IDX["grey"], 0)
"""Code of what lies beyond the world."""
EMPTY = (OBJECT_TO_IDX["empty"], 0, 0)
"""Code of a bare cell, and of the one that the agent stands on."""
_SIZES = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))
ONES_PER_CELL = sum(_SIZES)
"""Numbers that a cell takes in a one-hot vector: 11 for its object, 6 for its colour, 3 for its state."""
_FIRST = np.array([0, _SIZES[0], _SIZES[0] + _SIZES[1]])
_UNSEEN = (0, 0, 0)
_BEYOND = Wall()
_STEPS: list[tuple[int, int]] = [(int(x), int(y)) for x, y in FORWARD]


def partial_view(world: MiniGridEnv) -> npt.NDArray[np.uint8]:
    """Compute what the agent sees now, as ``MiniGridEnv.gen_obs`` shows it, cell by cell but once only.

    Sight spreads from the agent row by row, first to the right, then to the left (``Grid.process_vis``).

    :param world: its agent stands in the middle of the last row of the view and looks up
    :return: uint8 [view_size, view_size, 3]: column and row of the view, (object, colour, state)
    """
    size = world.agent_view_size
    grid: Any = world.grid
    width, height, objects = grid.width, grid.height, grid.grid
    (forward_x, forward_y), (x, y) = _STEPS[world.agent_dir], world.agent_pos
    right_x, right_y = -forward_y, forward_x
    x, y = x - size // 2 * right_x, y - size // 2 * right_y  # the left end of the agent's row
    sweeps = ((range(size - 1), 1), (range(size - 1, 0, -1), -1))
    seen = [column == size // 2 or world.see_through_walls for column in range(size)]
    rows = []
    for _ in range(size):
        if not any(seen):  # nor is anything behind this row
            rows.append([_UNSEEN] * size)
            continue
        cells = []
        for column in range(size):
            i, j = x + column * right_x, y + column * right_y
            cells.append(objects[j * width + i] if 0 <= i < width and 0 <= j < height else _BEYOND)
        clear = [cell is None or cell.see_behind() for cell in cells]
        following = [bool(world.see_through_walls)] * size
        for columns, side in sweeps:
            for column in columns:
                if seen[column] and clear[column]:
                    seen[column + side] = following[column] = following[column + side] = True
        shown = [
            (EMPTY if cell is None else cell.encode()) if s else _UNSEEN for cell, s in zip(cells, seen, strict=True)
        ]
        rows.append(shown)
        seen = following
        x, y = x + forward_x, y + forward_y
    carried: Any = world.carrying
    rows[0][size // 2] = carried.encode() if carried else EMPTY
    return np.array(rows[::-1], np.uint8).swapaxes(0, 1).copy()


def one_hot(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return views as networks read them: uint8[N, V, V, 3] to zeros and ones, float32[N, V * V * ONES_PER_CELL]."""
    ones = images.reshape(-1, 3) + _FIRST
    ones += ONES_PER_CELL * np.arange(len(ones))[:, None]
    seen = np.zeros(len(ones) * ONES_PER_CELL, np.float32)
    seen[ones] = 1.0
    return seen.reshape(len(images), -1)
