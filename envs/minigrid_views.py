"""Every partial view of a MiniGrid world at once: replaces `gen_obs`, which walks each view cell by cell."""

import numpy as np
import numpy.typing as npt
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.grid import Grid

from farl.envs.partial_views import partial_views

__all__ = ["all_partial_views"]

_OUTSIDE = (OBJECT_TO_IDX["wall"], COLOR_TO_IDX["grey"], 0)
_EMPTY = (OBJECT_TO_IDX["empty"], 0, 0)


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
