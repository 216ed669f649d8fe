"""Ray casting in an occupancy grid: every ray leaps over the square of cells around it that is known to be free."""

from typing import Any

import numpy as np
from scipy import ndimage

from farl.maps.compiled import compiled
from farl.maps.geometry import BoolArray, ByteArray


def leaps(obstacles: BoolArray) -> ByteArray:
    """Chebyshev distance of every cell to the nearest obstacle, uint8[H, W], 0 in obstacles, at most 255.

    :param obstacles: bool[H, W]
    """
    return np.asarray(np.minimum(ndimage.distance_transform_cdt(~obstacles, "chessboard"), 255), np.uint8)


@compiled
def cast(leap: Any, x: float, y: float, across: float, along: float, furthest: float) -> float:
    """Distance in cells to the first obstacle along a ray, ``furthest`` where there is none so near.

    :param leap: uint8[H, W], see ``leaps``; its rim must be obstacle, or the ray must end before it
    :param x: columns, with row 0 at y 0
    :param y: rows
    :param across: cosine of the ray's angle
    :param along: sine of it
    """
    # A ray along one axis never leaves a cell by the other: its share of the way there is without end.
    per_col = 1.0 / across if abs(across) > 1e-12 else 1e12
    per_row = 1.0 / along if abs(along) > 1e-12 else 1e12
    col, row, gone = int(x), int(y), 0.0
    height, width = leap.shape
    for _ in range(height + width):
        if row < 0 or col < 0 or row >= height or col >= width:
            return gone
        free: Any = np.int64(leap[row, col])
        if free == 0 or gone >= furthest:
            break
        edge_col = col + free if across > 0.0 else col - free + 1
        edge_row = row + free if along > 0.0 else row - free + 1
        to_col, to_row = abs((edge_col - x) * per_col), abs((edge_row - y) * per_row)
        # The side that is left is known exactly. Only the other coordinate is computed, and never goes back: rounding
        # would let a ray run to and fro at a corner.
        if to_col < to_row:
            gone = to_col
            col = edge_col if across > 0.0 else edge_col - 1
            at = int(y + gone * along)
            row = max(row, at) if along > 0.0 else min(row, at)
        else:
            gone = to_row
            row = edge_row if along > 0.0 else edge_row - 1
            at = int(x + gone * across)
            col = max(col, at) if across > 0.0 else min(col, at)
    return min(gone, furthest)
