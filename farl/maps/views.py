"""Goals by path length and by what they would show: the nearest frontier, and the next best view.

A goal is a state (row, column, heading) on a known free cell whose cell ahead is unknown.
"""

from typing import Any

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS, UNKNOWN, Int32Array
from farl.maps.planner import search, trace


def cone_widths(view_size: int, cone_ratio: float = 0.25) -> Int32Array:
    """int32[V - 1]: how far to either side a view of V cells reaches, 1, 2, ... V - 1 cells ahead."""
    ahead = np.arange(1, view_size)
    if cone_ratio == 0.0:
        return np.full(len(ahead), view_size // 2, np.int32)
    return np.minimum((ahead + 1) / (2 * cone_ratio), view_size // 2).astype(np.int32)


@compiled
def cone_cells(widths: Any) -> int:
    """Number of cells in the cone ahead, that of the agent not counted."""
    n = 0
    for width in widths:
        n += 2 * width + 1
    return n


@compiled
def plan_to_nearest(label: Any, pose: Any, scratch: Any, plan: Any) -> int:
    """Plan to the nearest goal by path length; return the plan's length, 0 if there is no goal."""
    n = search(label, pose[0], pose[1], -1, -1, scratch)
    queue = scratch.queue
    for i in range(n):
        row, col = queue[i]
        for heading in range(4):
            r, c = row + STEP_ROWS[heading], col + STEP_COLS[heading]
            if label[r, c] == FREE and label[r + STEP_ROWS[heading], c + STEP_COLS[heading]] == UNKNOWN:
                length = trace(row, col, scratch, plan)
                if length < len(plan):
                    plan[length] = heading
                    length += 1
                return length
    return 0


@compiled
def count_known(label: Any, box: Any, by_row: Any, by_col: Any) -> None:
    """Running counts of the known cells in ``box``, along rows and along columns, int32[S, S]: entry i is before i."""
    for row in range(box[0], box[1] + 1):
        by_row[row, box[2]] = 0
        for col in range(box[2], box[3] + 1):
            by_row[row, col + 1] = by_row[row, col] + (label[row, col] != UNKNOWN)
    for col in range(box[2], box[3] + 1):
        by_col[box[0], col] = 0
    for row in range(box[0], box[1] + 1):
        for col in range(box[2], box[3] + 1):
            by_col[row + 1, col] = by_col[row, col] + (label[row, col] != UNKNOWN)


@compiled
def unknown_ahead(row: int, col: int, heading: int, box: Any, by_row: Any, by_col: Any, widths: Any) -> int:
    """Number of unknown cells in the cone ahead of a state, whatever walls hide; counts as in ``count_known``."""
    gain = 0
    for i in range(len(widths)):
        width = widths[i]
        gain += 2 * width + 1
        if heading < 2:
            r = row + (i + 1) * STEP_ROWS[heading]
            first, last = max(col - width, box[2]), min(col + width, box[3])
            if box[0] <= r <= box[1] and first <= last:
                gain -= by_row[r, last + 1] - by_row[r, first]
        else:
            c = col + (i + 1) * STEP_COLS[heading]
            first, last = max(row - width, box[0]), min(row + width, box[1])
            if box[2] <= c <= box[3] and first <= last:
                gain -= by_col[last + 1, c] - by_col[first, c]
    return gain


@compiled
def plan_to_best_view(
    label: Any, pose: Any, box: Any, widths: Any, reluctance: float, counts: Any, scratch: Any, plan: Any
) -> int:
    """Plan to the goal with the highest gain / (path + reluctance); return the plan's length, 0 if there is no goal.

    The gain is the number of unknown cells in the cone ahead of the goal (next best view, Gonzalez-Banos and Latombe
    2002).
    """
    by_row, by_col = counts
    count_known(label, box, by_row, by_col)
    n = search(label, pose[0], pose[1], -1, -1, scratch)
    distance, queue = scratch.distance, scratch.queue
    best, best_row, best_col, best_heading = 0.0, -1, -1, -1
    most = cone_cells(widths)
    for i in range(n):
        row, col = queue[i]
        if most <= best * (distance[row, col] + 1 + reluctance):
            break  # nearest first: even a view of nothing but unknown cells would not make up for the way
        for heading in range(4):
            r, c = row + STEP_ROWS[heading], col + STEP_COLS[heading]
            if label[r, c] == FREE and label[r + STEP_ROWS[heading], c + STEP_COLS[heading]] == UNKNOWN:
                gain = unknown_ahead(r, c, heading, box, by_row, by_col, widths)
                score = gain / (distance[row, col] + 1 + reluctance)
                if score > best:
                    best, best_row, best_col, best_heading = score, row, col, heading
    if best_heading < 0:
        return 0
    length = trace(best_row, best_col, scratch, plan)
    if length < len(plan):
        plan[length] = best_heading
        length += 1
    return length
