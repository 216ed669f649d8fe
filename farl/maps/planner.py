"""Shortest paths over (row, column, heading) through known free cells.

A step sets the heading and there is no turning on the spot. So the last step into a state (row, column, heading)
comes from the cell behind it, and the shortest path to the state is the shortest path to that cell and one step: a
search over cells answers for all headings.
"""

from typing import Any, NamedTuple

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS, Int32Array


class Scratch(NamedTuple):
    """Work space of the searches, for one map at a time: a cell counts as reached when it bears the current stamp.

    :ivar stamp: int32[S, S], the search that reached the cell last
    :ivar distance: int32[S, S], steps from the agent
    :ivar came: int32[S, S], the heading of the last step
    :ivar queue: int32[S S, 2], the cells reached, nearest first
    :ivar current: int32[1], the stamp of the current search
    """

    stamp: Int32Array
    distance: Int32Array
    came: Int32Array
    queue: Int32Array
    current: Int32Array

    @classmethod
    def of(cls, side: int) -> "Scratch":
        """Return a work space for maps of ``side`` x ``side`` cells."""
        stamp, distance, came = np.zeros((3, side, side), np.int32)
        return cls(stamp, distance, came, np.zeros((side * side, 2), np.int32), np.zeros(1, np.int32))


@compiled
def search(label: Any, row: int, col: int, to_row: int, to_col: int, scratch: Any) -> int:
    """Reach the known free cells of ``label``, int32[S, S], in breadth-first order from a cell.

    Stops early at (to_row, to_col); with -1, -1 it reaches all. Returns how many cells the queue holds.
    """
    stamp, distance, came, queue, current = scratch
    current[0] += 1
    mark = current[0]
    stamp[row, col] = mark
    distance[row, col] = 0
    came[row, col] = -1
    queue[0, 0], queue[0, 1] = row, col
    head, tail = 0, 1
    if row == to_row and col == to_col:
        return tail
    while head < tail:
        r, c = np.int64(queue[head, 0]), np.int64(queue[head, 1])
        head += 1
        further = distance[r, c] + 1
        for heading in range(4):
            rr, cc = r + STEP_ROWS[heading], c + STEP_COLS[heading]
            # Unsigned indices need no check for negative ones: that makes the search several times as fast.
            i, j = np.uint64(rr), np.uint64(cc)
            if label[i, j] == FREE and stamp[i, j] != mark:
                stamp[i, j] = mark
                distance[i, j] = further
                came[i, j] = heading
                queue[tail, 0], queue[tail, 1] = rr, cc
                tail += 1
                if rr == to_row and cc == to_col:
                    return tail
    return tail


@compiled
def trace(row: int, col: int, scratch: Any, plan: Any) -> int:
    """Write the steps that lead to a reached cell into ``plan``, int8[L]; return their number, at most L.

    Of a longer path it keeps the first L steps.
    """
    came, length = scratch.came, scratch.distance[row, col]
    for i in range(length - 1, -1, -1):
        heading = came[row, col]
        if i < len(plan):
            plan[i] = heading
        row, col = row - STEP_ROWS[heading], col - STEP_COLS[heading]
    return int(min(length, len(plan)))


@compiled
def first_heading(row: int, col: int, scratch: Any) -> int:
    """The first step of the way to a reached cell; -1 if that is where the search began."""
    came = scratch.came
    first = -1
    while came[row, col] >= 0:
        first = came[row, col]
        row, col = row - STEP_ROWS[first], col - STEP_COLS[first]
    return int(first)


@compiled
def plan_to_state(label: Any, pose: Any, row: int, col: int, heading: int, scratch: Any, plan: Any) -> int:
    """Plan the shortest path to a cell with a heading; return its length, -1 if there is none.

    Where that heading cannot be had (a wall behind the cell), the one to its left or right, or the reverse, is taken.
    """
    if pose[0] == row and pose[1] == col and pose[2] == heading:
        return 0
    order = (heading, heading ^ 2, heading ^ 3, heading ^ 1)
    for i in range(4):
        last = order[i]
        back_row, back_col = row - STEP_ROWS[last], col - STEP_COLS[last]
        if label[back_row, back_col] != FREE:
            continue
        search(label, pose[0], pose[1], back_row, back_col, scratch)
        if scratch.stamp[back_row, back_col] != scratch.current[0]:
            return -1  # its cells are one connected part: none of them is reached from any side
        length = trace(back_row, back_col, scratch, plan)
        if length < len(plan):
            plan[length] = last
            length += 1
        return length
    return -1
