"""A local map as an agent faces it: a square around it, turned so that what lies ahead is up."""

from typing import Any

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.frontiers import is_frontier
from farl.maps.geometry import FREE, RIGHT_COLS, RIGHT_ROWS, STEP_COLS, STEP_ROWS, UNKNOWN, Float32Array
from farl.maps.local_map import LocalMaps

N_CHANNELS = 4
"""Free, wall, frontier, confidence."""


def crop(maps: LocalMaps, size: int) -> Float32Array:
    """The cells around every agent, float32[E, 4, M, M] in [0, 1], the agent in the middle, looking up.

    The channels are the free cells, the walls, the frontier (unknown cells next to known free ones), and the confidence
    in what is known, decayed to now.

    :param size: M, odd
    """
    cells = np.zeros((maps.n_envs, N_CHANNELS, size, size), np.float32)
    _crop(maps.label, maps.value, maps.touched, maps.clock, maps.powers, maps.pose, cells)
    return cells


@compiled
def _crop(label: Any, value: Any, touched: Any, clock: Any, powers: Any, pose: Any, cells: Any) -> None:
    size, side = cells.shape[2], label.shape[1]
    half = size // 2
    for e in range(len(cells)):
        heading = pose[e, 2]
        for i in range(size):
            for j in range(size):
                row = pose[e, 0] + (half - i) * STEP_ROWS[heading] + (j - half) * RIGHT_ROWS[heading]
                col = pose[e, 1] + (half - i) * STEP_COLS[heading] + (j - half) * RIGHT_COLS[heading]
                # The outermost cells of a canvas are never known.
                if row < 1 or col < 1 or row >= side - 1 or col >= side - 1:
                    continue
                code = label[e, row, col]
                if code == UNKNOWN:
                    cells[e, 2, i, j] = is_frontier(label[e], row, col)
                    continue
                cells[e, 0 if code == FREE else 1, i, j] = 1.0
                age = clock[e] - touched[e, row, col]
                if age < len(powers):
                    cells[e, 3, i, j] = value[e, row, col] * powers[age]
