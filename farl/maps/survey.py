"""What is measured in a fragment: its landmarks, its goals and what they would show, and the ways between them."""

from typing import Any

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS, UNKNOWN, Int32Array, IntArray
from farl.maps.known_cells import is_known, unknown_in_cone
from farl.maps.planner import first_heading, search
from farl.maps.roadmap import FAR, on_grid

BLOCK = 2
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
    label: Any, box: Any, bits: Any, down: int, across: int, landmarks: Any, widths: Any, scratch: Any
) -> tuple[IntArray, IntArray, Int32Array]:
    """Measure a fragment: its landmarks and goals, and the ways between them.

    Its landmarks are the cells of the grid that it knows as free (`on_grid`), and those of ``landmarks``.

    :param label: int32[S, S], its map on a canvas
    :param bits: the agent's index
    :param down: index row - canvas row
    :param across: index column - canvas column
    :param landmarks: int64[N, 2], canvas rows and columns of all that there are, in and out of the map
    :return: int64[K, 2], canvas rows and columns of the landmarks; int64[G, 4], canvas row, column, heading and gain
        of the goals; int32[K, K + G, 2], steps from each landmark to each landmark and goal, and the heading of the
        first one
    """
    centre = bits.shape[1] // 2
    stamp, distance, _, _, current = scratch
    current[0] += 1
    mark = current[0]
    cells = np.empty(((box[1] - box[0] + 1) * (box[3] - box[2] + 1), 2), np.int64)
    n = 0
    for i in range(len(landmarks)):
        row, col = landmarks[i]
        if box[0] <= row <= box[1] and box[2] <= col <= box[3] and label[row, col] == FREE:
            cells[n, 0], cells[n, 1] = row, col
            stamp[row, col] = mark
            n += 1
    n_rows, n_cols = (box[1] - box[0]) // BLOCK + 1, (box[3] - box[2]) // BLOCK + 1
    best = np.zeros((n_rows * n_cols, 4), np.int64)
    for row in range(box[0], box[1] + 1):
        for col in range(box[2], box[3] + 1):
            if label[row, col] != FREE:
                continue
            if on_grid(row + down - centre, col + across - centre) and stamp[row, col] != mark:
                cells[n, 0], cells[n, 1] = row, col
                n += 1
            for heading in range(4):
                gain = goal_gain(label, bits, down, across, row, col, heading, widths)
                if gain > 0:
                    r, c = row + STEP_ROWS[heading], col + STEP_COLS[heading]
                    block = (r - box[0]) // BLOCK * n_cols + (c - box[2]) // BLOCK
                    if gain > best[block, 3]:
                        best[block, 0], best[block, 1], best[block, 2], best[block, 3] = r, c, heading, gain
    cells, goals = cells[:n], best[best[:, 3] > 0]
    ways = np.full((n, n + len(goals), 2), FAR, np.int32)
    for i in range(n):
        search(label, cells[i, 0], cells[i, 1], -1, -1, scratch)
        for j in range(n + len(goals)):
            if j < n:
                row, col, last = cells[j, 0], cells[j, 1], -1
            else:
                # The last step to a goal comes from the cell behind it.
                last = goals[j - n, 2]
                row, col = goals[j - n, 0] - STEP_ROWS[last], goals[j - n, 1] - STEP_COLS[last]
            if stamp[row, col] == current[0]:
                first = first_heading(row, col, scratch)
                ways[i, j, 0] = distance[row, col] + (last >= 0)
                ways[i, j, 1] = last if first < 0 else first
    return cells, goals, ways
