"""Every partial view of a MiniGrid world at once, in numpy.

In a world that does not change, what the agent sees depends on its cell and its direction alone. One table of all
views, built once, replaces `MiniGridEnv.gen_obs`, which walks the view cell by cell in Python on every step.
"""

import numpy as np
import numpy.typing as npt
from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, OBJECT_TO_IDX
from minigrid.core.grid import Grid

__all__ = ["all_partial_views"]

_FORWARD = np.array(DIR_TO_VEC)  # [4, 2]
_RIGHT = np.stack([-_FORWARD[:, 1], _FORWARD[:, 0]], axis=1)
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
    # The world inside a frame of walls as wide as the view, so that no view leaves the array.
    pad = view_size
    codes = np.empty((width + 2 * pad, height + 2 * pad, 3), np.uint8)
    codes[:] = _OUTSIDE
    codes[pad:-pad, pad:-pad] = grid.encode()
    transparent = np.zeros(codes.shape[:2], bool)
    transparent[pad:-pad, pad:-pad] = (
        np.array([cell is None or cell.see_behind() for cell in grid.grid], dtype=bool).reshape(height, width).T
    )

    x, y, direction = (axis.ravel() for axis in np.indices((width, height, 4)))
    forward, right = _FORWARD[direction], _RIGHT[direction]  # [N, 2]
    column, row = np.indices((view_size, view_size))
    ahead = (view_size - 1 - row)[..., None]  # the agent stands in the middle of the last row and looks up
    aside = (column - view_size // 2)[..., None]
    cells = (
        np.stack([x, y], axis=1)[:, None, None] + ahead * forward[:, None, None] + aside * right[:, None, None] + pad
    )
    views: npt.NDArray[np.uint8] = codes[cells[..., 0], cells[..., 1]]

    visible = _visible(transparent[cells[..., 0], cells[..., 1]])
    views[~visible] = 0
    views[:, view_size // 2, view_size - 1] = _EMPTY  # the agent hides what it stands on
    return views.reshape(width, height, 4, view_size, view_size, 3)


def _visible(transparent: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the cells seen in each of N views: `Grid.process_vis`, over all views at once.

    Sight spreads from the agent row by row, first to the right, then to the left.
    """
    size = transparent.shape[1]
    visible = np.zeros_like(transparent)
    visible[:, size // 2, size - 1] = True
    for row in reversed(range(size)):
        sweeps = ((range(size - 1), 1), (reversed(range(1, size)), -1))
        for columns, side in sweeps:
            for column in columns:
                passes = visible[:, column, row] & transparent[:, column, row]
                visible[:, column + side, row] |= passes
                if row > 0:
                    visible[:, column + side, row - 1] |= passes
                    visible[:, column, row - 1] |= passes
    return visible
