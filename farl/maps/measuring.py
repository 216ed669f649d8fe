"""What is measured in a fragment: its landmarks, its goals and what they would show, and the ways between them."""

from typing import Any, NamedTuple

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS, UNKNOWN, Int32Array, IntArray, WordArray
from farl.maps.known_cells import is_known, unknown_in_cone
from farl.maps.planner import Scratch, first_heading, search
from farl.maps.roadmap import FAR, on_grid

BLOCK = 2
"""Of the goals of a stored fragment, the best one of each block of so many cells a side is remembered."""


class Canvas(NamedTuple):
    """A fragment's map, and where it lies in the agent's index of known places.

    :ivar label: int32[S, S]
    :ivar box: int64[4], first and last row, first and last column of what is known
    :ivar down: index row - canvas row
    :ivar across: index column - canvas column
    """

    label: Int32Array
    box: IntArray
    down: int
    across: int


class Outlook(NamedTuple):
    """What an agent knows in any of its fragments, and how far it sees.

    :ivar bits: uint64[2, S, S / 64], its index of known places (``KnownCells``)
    :ivar widths: int32[V - 1], of its cone (``cone_widths``)
    """

    bits: WordArray
    widths: Int32Array


class Measured(NamedTuple):
    """A fragment as the roadmap takes it up.

    :ivar cells: int64[K, 2], canvas rows and columns of the landmarks
    :ivar goals: int64[G, 4], canvas row, column, heading and gain of the goals
    :ivar ways: int32[K, K + G, 2], steps from each landmark to each landmark and goal, and the heading of the first one
    """

    cells: IntArray
    goals: IntArray
    ways: Int32Array


@compiled
def goal_gain(canvas: Canvas, outlook: Outlook, row: int, col: int, heading: int) -> int:
    """What the state one step from (row, col) along ``heading`` would show; 0 if it is no goal.

    It is a goal if it stands on a known free cell and no fragment knows the cell ahead of it.
    """
    r, c = row + STEP_ROWS[heading], col + STEP_COLS[heading]
    if canvas.label[r, c] != FREE or canvas.label[r + STEP_ROWS[heading], c + STEP_COLS[heading]] != UNKNOWN:
        return 0
    return gain_now(outlook, r + canvas.down, c + canvas.across, heading)


@compiled
def gain_now(outlook: Outlook, row: int, col: int, heading: int) -> int:
    """What a state of the index would show: the unknown cells in the cone ahead, 0 if the first one is known."""
    if is_known(outlook.bits, row + STEP_ROWS[heading], col + STEP_COLS[heading]):
        return 0
    return unknown_in_cone(outlook.bits, row, col, heading, outlook.widths)


@compiled
def measure(canvas: Canvas, outlook: Outlook, landmarks: Any, scratch: Scratch) -> Measured:
    """Measure a fragment: its landmarks and goals, and the ways between them.

    Its landmarks are the cells of the grid that it knows as free (``on_grid``), and those of ``landmarks``.

    :param landmarks: int64[N, 2], canvas rows and columns of all that there are, in and out of the map
    """
    label, box = canvas.label, canvas.box
    centre = outlook.bits.shape[1] // 2
    stamp, distance, current = scratch.stamp, scratch.distance, scratch.current
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
            if on_grid(row + canvas.down - centre, col + canvas.across - centre) and stamp[row, col] != mark:
                cells[n, 0], cells[n, 1] = row, col
                n += 1
            for heading in range(4):
                gain = goal_gain(canvas, outlook, row, col, heading)
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
    return Measured(cells, goals, ways)
