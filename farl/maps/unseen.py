"""The last resort of exploration: whatever of a known map could still show something unseen, the nearest first.

Goals are states that look ahead at an unknown cell, or past a known free one at an unknown cell beside it. What no
state shows is found out by trying to step there: an agent sees nothing of the cells beside its own, and cannot turn on
the spot. Every connected world is explored to its end this way.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, RIGHT_COLS, RIGHT_ROWS, STEP_COLS, STEP_ROWS, UNKNOWN, Int32Array, IntArray
from farl.maps.local_map import LocalMap
from farl.maps.planner import search, trace

_MARGIN = 2  # unknown cells around what is known


def joined(
    maps: Iterable[LocalMap], margin: int = _MARGIN, place: IntArray | None = None
) -> tuple[Int32Array, IntArray]:
    """Lay stored maps into one; of a cell that several know, the last of them counts.

    :param place: int64[2], row and column by the odometry of a cell that lies in it, too, whether it is known or not
    :return: int32[H, W], colour codes with ``margin`` unknown cells around them, and int64[2], row and column of the
        first cell by the odometry
    """
    known = [(stored["label"].numpy(), np.array(stored["corner"], np.int64)) for stored in maps]
    known = [(label, corner) for label, corner in known if label.size]
    corners = [(corner, corner + label.shape) for label, corner in known]
    if place is not None:
        corners.append((place, place + 1))
    if not corners:
        return np.zeros((2 * margin, 2 * margin), np.int32), np.zeros(2, np.int64)
    first = np.min([begin for begin, _ in corners], axis=0) - margin
    last = np.max([end for _, end in corners], axis=0) + margin
    whole: Int32Array = np.zeros(last - first, np.int32)
    for label, corner in known:
        row, col = corner - first
        part = whole[row : row + label.shape[0], col : col + label.shape[1]]
        np.copyto(part, label, where=label != UNKNOWN)
    return whole, first


@compiled
def plan_to_unseen(label: Any, row: int, col: int, scratch: Any, plan: Any) -> tuple[int, int]:
    """Plan to the nearest state that shows something unknown, or else to the nearest cell beside an unknown one.

    :param label: int32[H, W], with two unknown cells around what is known
    :param plan: int8[L], written
    :return: the plan's length, and the heading of an unknown cell to step to; -1 where a plan leads on. 0 and -1 where
        nothing is left to see
    """
    n = search(label, row, col, -1, -1, scratch)
    queue = scratch.queue
    for i in range(n):
        r0, c0 = queue[i]
        for heading in range(4):
            r, c = r0 + STEP_ROWS[heading], c0 + STEP_COLS[heading]
            if label[r, c] == FREE and _shows_unknown(label, r, c, heading):
                length = trace(r0, c0, scratch, plan)
                if length < len(plan):
                    plan[length] = heading
                    length += 1
                return length, -1
    for i in range(n):
        r0, c0 = queue[i]
        for heading in range(4):
            if label[r0 + STEP_ROWS[heading], c0 + STEP_COLS[heading]] == UNKNOWN:
                length = trace(r0, c0, scratch, plan)
                return (length, -1) if length > 0 else (0, heading)
    return 0, -1


@compiled
def _shows_unknown(label: Any, row: int, col: int, heading: int) -> bool:
    ahead_row, ahead_col = row + STEP_ROWS[heading], col + STEP_COLS[heading]
    if label[ahead_row, ahead_col] == UNKNOWN:
        return True
    if label[ahead_row, ahead_col] != FREE:
        return False
    for side in (-1, 1):
        if label[ahead_row + side * RIGHT_ROWS[heading], ahead_col + side * RIGHT_COLS[heading]] == UNKNOWN:
            return True
    return False
