"""What is measured in a fragment: its goals, what they would show, and the steps between portals and goals."""

from typing import Any

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS, UNKNOWN, Int32Array, IntArray
from farl.maps.known_cells import is_known, unknown_in_cone
from farl.maps.planner import search
from farl.maps.roadmap import FAR

BLOCK = 6
"""Of the goals of a stored fragment, the best one of each block of so many cells a side is remembered."""


@compiled
def goal_gain(label: Any, bits: Any, down: int, across: int, row: int, col: int, heading: int, widths: Any) -> int:
    """What the state one step from (row, col) along ``heading`` would show; 0 if it is no goal.

    It is a goal if it stands on a known free cell and no fragment knows the cell ahead of it.

    :param label: int32[S, S], a map on a canvas
    :param bits: the agent's index
    :param down: index row - canvas row
    :param across: index column - canvas column
    """
    r, c = row + STEP_ROWS[heading], col + STEP_COLS[heading]
    if label[r, c] != FREE or label[r + STEP_ROWS[heading], c + STEP_COLS[heading]] != UNKNOWN:
        return 0
    return gain_now(bits, r + down, c + across, heading, widths)


@compiled
def gain_now(bits: Any, row: int, col: int, heading: int, widths: Any) -> int:
    """What a state of the index would show: the unknown cells in the cone ahead, 0 if the first one is known."""
    if is_known(bits, row + STEP_ROWS[heading], col + STEP_COLS[heading]):
        return 0
    return unknown_in_cone(bits, row, col, heading, widths)


@compiled
def survey(
    label: Any, box: Any, bits: Any, down: int, across: int, cells: Any, widths: Any, scratch: Any
) -> tuple[Int32Array, IntArray, Int32Array]:
    """Measure a fragment: steps between its portals, its goals, and the steps from portals to goals.

    :param label: int32[S, S], its map on a canvas
    :param cells: int64[K, 2], canvas rows and columns of its portals
    :return: int32[K, K]; int64[G, 4], canvas row, column, heading and gain; int32[K, G]
    """
    n_rows, n_cols = (box[1] - box[0]) // BLOCK + 1, (box[3] - box[2]) // BLOCK + 1
    best = np.zeros((n_rows * n_cols, 4), np.int64)
    for row in range(box[0], box[1] + 1):
        for col in range(box[2], box[3] + 1):
            if label[row, col] != FREE:
                continue
            for heading in range(4):
                gain = goal_gain(label, bits, down, across, row, col, heading, widths)
                if gain > 0:
                    r, c = row + STEP_ROWS[heading], col + STEP_COLS[heading]
                    block = (r - box[0]) // BLOCK * n_cols + (c - box[2]) // BLOCK
                    if gain > best[block, 3]:
                        best[block, 0], best[block, 1], best[block, 2], best[block, 3] = r, c, heading, gain
    goals = best[best[:, 3] > 0]
    n = len(cells)
    between = np.full((n, n), FAR, np.int32)
    to_goals = np.full((n, len(goals)), FAR, np.int32)
    for k in range(n):
        search(label, cells[k, 0], cells[k, 1], -1, -1, scratch)
        _read(cells, goals, scratch, between[k], to_goals[k])
    return between, goals, to_goals


@compiled
def survey_stored(
    label: Any, row: int, col: int, cells: Any, goals: Any, scratch: Any
) -> tuple[Int32Array, Int32Array]:
    """Steps from one cell of a stored map to its portals, int32[K], and its goals, int32[G].

    :param label: int32[S, S], the map with a margin of unknown cells
    :param goals: int64[G, 4], rows and columns on the same canvas
    """
    between, to_goals = np.full(len(cells), FAR, np.int32), np.full(len(goals), FAR, np.int32)
    search(label, row, col, -1, -1, scratch)
    _read(cells, goals, scratch, between, to_goals)
    return between, to_goals


@compiled
def shared_cell(label: Any, corner: Any, other: Any, other_corner: Any) -> tuple[int, int]:
    """The cell, by the odometry, that is free in two maps nearest to the middle of all those; FAR, FAR if none is."""
    top, left = max(corner[0], other_corner[0]), max(corner[1], other_corner[1])
    bottom = min(corner[0] + label.shape[0], other_corner[0] + other.shape[0])
    right = min(corner[1] + label.shape[1], other_corner[1] + other.shape[1])
    n, sum_row, sum_col = 0, 0.0, 0.0
    for row in range(top, bottom):
        for col in range(left, right):
            if (
                label[row - corner[0], col - corner[1]] == FREE
                and other[row - other_corner[0], col - other_corner[1]] == FREE
            ):
                n += 1
                sum_row += row
                sum_col += col
    found_row, found_col, best = FAR, FAR, 1e18
    for row in range(top, bottom):
        for col in range(left, right):
            if (
                label[row - corner[0], col - corner[1]] == FREE
                and other[row - other_corner[0], col - other_corner[1]] == FREE
            ):
                away = (row - sum_row / n) ** 2 + (col - sum_col / n) ** 2
                if away < best:
                    found_row, found_col, best = row, col, away
    return found_row, found_col


@compiled
def _read(cells: Any, goals: Any, scratch: Any, between: Any, to_goals: Any) -> None:
    stamp, distance, _, _, current = scratch
    for k in range(len(cells)):
        if stamp[cells[k, 0], cells[k, 1]] == current[0]:
            between[k] = distance[cells[k, 0], cells[k, 1]]
    for g in range(len(goals)):
        # The last step of the way comes from the cell behind the goal.
        row, col = goals[g, 0] - STEP_ROWS[goals[g, 2]], goals[g, 1] - STEP_COLS[goals[g, 2]]
        if stamp[row, col] == current[0]:
            to_goals[g] = distance[row, col] + 1
