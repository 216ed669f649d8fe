"""What a MiniGrid agent sees, without MiniGrid's copies of the grid: from one pose, or from all of them at once."""

from typing import Any

import numpy as np
import numpy.typing as npt
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Wall
from minigrid.minigrid_env import MiniGridEnv

from farl.envs.partial_views import FORWARD, partial_views

__all__ = ["all_partial_views", "partial_view"]

_OUTSIDE = (OBJECT_TO_IDX["wall"], COLOR_TO_IDX["grey"], 0)
_EMPTY = (OBJECT_TO_IDX["empty"], 0, 0)
_UNSEEN = (0, 0, 0)
_BEYOND = Wall()
_STEPS: list[tuple[int, int]] = [(int(x), int(y)) for x, y in FORWARD]


def all_partial_views(grid: Grid, view_size: int) -> npt.NDArray[np.uint8]:
    """Compute what the agent sees from every cell in every direction, as `MiniGridEnv.gen_obs` would show it.

    Args:
        grid: The world. Nothing is carried, and the agent sees nothing behind walls and closed doors.
        view_size: Side of the square view in cells, odd.

    Returns:
        uint8 [width, height, 4, view_size, view_size, 3], indexed by x, y, direction, and then as MiniGrid's images
        are: column and row of the view, (object, colour, state).
    """
    width, height = grid.width, grid.height
    see_behind = np.array([cell is None or cell.see_behind() for cell in grid.grid], dtype=bool)
    x, y, direction = (axis.ravel() for axis in np.indices((width, height, 4)))
    views = partial_views(
        grid.encode(),
        see_behind.reshape(height, width).T,
        np.stack([x, y], axis=1),
        direction,
        view_size,
        outside=_OUTSIDE,
        under=_EMPTY,
    )
    return views.reshape(width, height, 4, view_size, view_size, 3)


def partial_view(world: MiniGridEnv) -> npt.NDArray[np.uint8]:
    """Compute what the agent sees now, as `MiniGridEnv.gen_obs` shows it, cell by cell but once only.

    Sight spreads from the agent row by row, first to the right, then to the left (`Grid.process_vis`).

    Args:
        world: Its agent stands in the middle of the last row of the view and looks up.

    Returns:
        uint8 [view_size, view_size, 3]: column and row of the view, (object, colour, state).
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
            (_EMPTY if cell is None else cell.encode()) if s else _UNSEEN for cell, s in zip(cells, seen, strict=True)
        ]
        rows.append(shown)
        seen = following
        x, y = x + forward_x, y + forward_y
    carried: Any = world.carrying
    rows[0][size // 2] = carried.encode() if carried else _EMPTY
    return np.array(rows[::-1], np.uint8).swapaxes(0, 1).copy()
