"""What agents with a direction see of a grid world, for many poses at once, in numpy.

In a world that does not change, what the agent sees depends on its cell and its direction alone. A table of all views,
built once, replaces a computation in every step.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["FORWARD", "partial_views"]

IntArray = npt.NDArray[np.int64]

FORWARD: IntArray = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""int64[4, 2], the step (x, y) of each direction: right, down, left, up."""
_RIGHT = np.stack([-FORWARD[:, 1], FORWARD[:, 0]], axis=1)


def partial_views(
    codes: npt.NDArray[np.uint8],
    transparent: npt.NDArray[np.bool_],
    cells: IntArray,
    directions: IntArray,
    view_size: int,
    outside: Sequence[int],
    under: Sequence[int],
) -> npt.NDArray[np.uint8]:
    """Compute what is seen from N poses, as MiniGrid's ``gen_obs`` would show it: 0 is what cannot be seen.

    :param codes: uint8 [width, height, C], what each cell looks like
    :param transparent: bool [width, height], which cells can be seen through
    :param cells: int64 [N, 2], x and y
    :param directions: int64 [N], 0 right, 1 down, 2 left, 3 up
    :param view_size: side of the square view in cells, odd. The agent stands in the middle of its last row and looks
        up.
    :param outside: code of what lies beyond the world, C numbers
    :param under: code of the cell the agent stands on, which it hides, C numbers
    :return: uint8 [N, view_size, view_size, C]: column and row of the view, code
    """
    # The world inside a frame as wide as the view, so that no view leaves the array.
    pad = view_size
    framed = np.empty((codes.shape[0] + 2 * pad, codes.shape[1] + 2 * pad, codes.shape[2]), np.uint8)
    framed[:] = outside
    framed[pad:-pad, pad:-pad] = codes
    see_through = np.zeros(framed.shape[:2], bool)
    see_through[pad:-pad, pad:-pad] = transparent

    forward, right = FORWARD[directions], _RIGHT[directions]  # [N, 2]
    column, row = np.indices((view_size, view_size))
    ahead = (view_size - 1 - row)[..., None]
    aside = (column - view_size // 2)[..., None]
    seen = cells[:, None, None] + ahead * forward[:, None, None] + aside * right[:, None, None] + pad
    views: npt.NDArray[np.uint8] = framed[seen[..., 0], seen[..., 1]]
    views[~_visible(see_through[seen[..., 0], seen[..., 1]])] = 0
    views[:, view_size // 2, view_size - 1] = under
    return views


def _visible(transparent: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the cells seen in each of N views: MiniGrid's ``Grid.process_vis``, over all views at once.

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
