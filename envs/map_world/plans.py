"""Floor plans like those in which grid-cell maps of rats were recorded: a hairpin maze and compartments.

In both, the maps fragment: at the turns of the hairpin (Derdikman et al. 2009) and at the doorways between compartments
(Carpenter et al. 2015).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from farl.maps.geometry import BoolArray, IntArray


class Plan(NamedTuple):
    """A floor plan, its landmarks and its rooms.

    :ivar walls: bool[H, W], True for wall, not enlarged
    :ivar landmarks: bool[H, W], the cells of its turns or doorways
    :ivar rooms: int64[H, W], the compartment or corridor of each cell, -1 in walls and landmarks
    """

    walls: BoolArray
    landmarks: BoolArray
    rooms: IntArray


def hairpin(arms: int = 8, length: int = 14) -> Plan:
    """Parallel corridors, one cell wide, joined end to end in turn; the landmarks are the cells that join them.

    :param arms: number of corridors
    :param length: cells of each
    :raises ValueError: if there are fewer than two corridors or three cells
    """
    if arms < 2 or length < 3:
        raise ValueError(f"a hairpin has at least 2 arms of 3 cells; got {arms} of {length}")
    walls = np.ones((length + 2, 2 * arms + 1), bool)
    landmarks = np.zeros_like(walls)
    walls[1:-1, 1::2] = False
    for arm in range(arms - 1):
        row = 1 if arm % 2 else length
        walls[row, 2 * arm + 2] = False
        landmarks[row, 2 * arm + 1 : 2 * arm + 4] = True
    rooms = np.full(walls.shape, -1)
    rooms[1:-1, 1::2] = np.arange(arms)
    return Plan(walls, landmarks, np.where(landmarks, -1, rooms))


def compartments(rows: int = 2, cols: int = 3, side: int = 7) -> Plan:
    """Rooms of ``side`` x ``side`` cells with doorways of one cell between neighbours; the landmarks are the doorways.

    :raises ValueError: if there is no room, or it has fewer than three cells a side
    """
    if rows < 1 or cols < 1 or side < 3:
        raise ValueError(f"at least one room of 3 x 3 cells is needed; got {rows} x {cols} rooms of {side} cells")
    pitch = side + 1
    walls = np.ones((rows * pitch + 1, cols * pitch + 1), bool)
    landmarks, rooms = np.zeros_like(walls), np.full(walls.shape, -1)
    for row in range(rows):
        for col in range(cols):
            room = np.s_[row * pitch + 1 : (row + 1) * pitch, col * pitch + 1 : (col + 1) * pitch]
            walls[room], rooms[room] = False, row * cols + col
    middle = np.arange(rows) * pitch + 1 + side // 2, np.arange(cols) * pitch + 1 + side // 2
    landmarks[np.ix_(middle[0], np.arange(1, cols) * pitch)] = True
    landmarks[np.ix_(np.arange(1, rows) * pitch, middle[1])] = True
    return Plan(walls & ~landmarks, landmarks, rooms)


PLANS: dict[str, Callable[..., Plan]] = {"hairpin": hairpin, "compartments": compartments}
"""The plans by the name that ``MapWorldEnv`` takes for ``maps``."""
