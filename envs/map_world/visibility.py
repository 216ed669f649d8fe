"""What can be seen from a cell: shadows, the cone and connection, precomputed as bit rows.

A view of V x V cells has the agent in the middle of its bottom row, looking up. Here a row ``f`` counts the cells ahead
of the agent (0 is its own), and a column ``s`` the cells to its right (from -(V // 2)); a row is one machine word with
bit ``s + V // 2``.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import WordArray

LARGEST_VIEW = 63


@dataclass(frozen=True)
class Visibility:
    """Tables for one size of view.

    :ivar size: V, cells a side
    :ivar cone: uint64[V], the cells inside the field of view, one word per row ahead
    :ivar shadow: uint64[V, V, V]: ``shadow[f, s + V // 2]`` is what a wall in that cell hides
    """

    size: int
    cone: WordArray
    shadow: WordArray


@lru_cache(maxsize=8)
def visibility(size: int = 15, cone_ratio: float = 0.25) -> Visibility:
    """Compute the tables for a view of ``size`` x ``size`` cells.

    :param cone_ratio: share of the view's height at which the cone reaches its full width: 0.25 is about 130 degrees,
        0 sees the whole square (FARMap, appendix: environments)
    :raises ValueError: if the size is even, below 3 or above 63, or the ratio outside [0, 1]
    """
    if size % 2 == 0 or not 3 <= size <= LARGEST_VIEW:
        raise ValueError(f"view_size must be odd and lie in [3, {LARGEST_VIEW}]; got {size}")
    if not 0.0 <= cone_ratio <= 1.0:
        raise ValueError(f"cone_ratio must lie in [0, 1]; got {cone_ratio}")
    ahead, aside = np.meshgrid(np.arange(size), np.arange(size) - size // 2, indexing="ij")
    inside = (np.abs(aside) * cone_ratio * size <= size / 2 * (ahead + 1)) & ((ahead > 0) | (cone_ratio == 0.0))
    inside[0, size // 2] = True
    shadow = np.zeros((size, size, size), np.uint64)
    for f in range(size):
        shadow[f] = _words(_hidden_by_row(f, ahead, aside))
    for table in (cone := _words(inside), shadow):
        table.setflags(write=False)
    return Visibility(size, cone, shadow)


def _hidden_by_row(f: int, ahead: Any, aside: Any) -> Any:
    """bool[V, V, V]: for each wall cell of row ``f``, the cells whose centre lies behind it.

    Behind means farther away, and strictly between the rays from the agent's centre through the wall cell's corners.
    Everything is doubled, so that corners have whole coordinates and the test is exact.
    """
    wall_s = aside[0][:, None, None]
    left = np.zeros((len(ahead), *ahead.shape), bool)
    right = left.copy()
    for corner_f in (2 * f - 1, 2 * f + 1):
        for corner_s in (2 * wall_s - 1, 2 * wall_s + 1):
            cross = corner_f * 2 * aside - corner_s * 2 * ahead
            left |= cross < 0
            right |= cross > 0
    farther = ahead**2 + aside**2 > f**2 + wall_s**2
    same_side = ahead * f + aside * wall_s > 0
    return left & right & farther & same_side


def _words(bits: Any) -> WordArray:
    """Pack the last axis into words: bool[..., V] -> uint64[...]."""
    weights = np.left_shift(np.uint64(1), np.arange(bits.shape[-1], dtype=np.uint64))
    return np.asarray((bits * weights).sum(axis=-1, dtype=np.uint64))


@compiled
def visible_rows(walls: Any, cone: Any, shadow: Any, seen: Any) -> None:
    """Write what is visible among ``walls`` into ``seen``; both uint64[V], one word per row ahead.

    A free cell is visible if it is inside the cone, in no wall's shadow, and joined to the agent through such cells; a
    wall cell if it is inside the cone and touches a visible free cell, by an edge or a corner.
    """
    size = len(walls)
    one = np.uint64(1)
    dark = np.zeros(size, np.uint64)
    for f in range(size):
        word = walls[f]
        s = 0
        while word:
            if word & one:
                for g in range(size):
                    dark[g] |= shadow[f, s, g]
            word >>= one
            s += 1
    lit = cone & ~dark & ~walls
    seen[:] = 0
    seen[0] = one << np.uint64(size // 2)
    lit[0] |= seen[0]
    changed = True
    while changed:
        changed = False
        for sweep in range(2):
            for i in range(size):
                f = i if sweep == 0 else size - 1 - i
                word = seen[f]
                if f > 0:
                    word |= seen[f - 1]
                if f < size - 1:
                    word |= seen[f + 1]
                word &= lit[f]
                before = np.uint64(0)
                while word != before:
                    before = word
                    word |= ((word << one) | (word >> one)) & lit[f]
                if word != seen[f]:
                    seen[f] = word
                    changed = True
    touched = np.zeros(size, np.uint64)
    for f in range(size):
        word = seen[f] | (seen[f] << one) | (seen[f] >> one)
        for g in range(max(f - 1, 0), min(f + 2, size)):
            touched[g] |= word
    for f in range(size):
        seen[f] |= touched[f] & walls[f] & cone[f]
