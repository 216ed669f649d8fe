"""Procedural offices: corridors in loops, rooms with doors on both sides of them, furniture."""

import numpy as np

from farl.envs.map_world.occupancy import OPEN, WALL, Cells, OccupancyGrid

RESOLUTION = 0.05
"""Metres a cell."""
_WALL = 0.15  # metres, of a wall's thickness
_DOOR = (0.9, 1.2)
_CORRIDOR = (1.6, 2.4)
_ROOM_WIDTH = (3.0, 6.5)
_ROOM_DEPTH = (3.5, 6.0)


def generate_office(rng: np.random.Generator, floors: int | None = None, width: float | None = None) -> OccupancyGrid:
    """Draw one office: corridors side by side, joined at both ends, with a row of rooms on either side of each.

    :param floors: number of parallel corridors; None draws 1 to 3
    :param width: metres from side to side; None draws 18 to 40
    """
    n_corridors = int(rng.integers(1, 4)) if floors is None else floors
    across = float(rng.uniform(18.0, 40.0)) if width is None else width
    ends = rng.uniform(*_CORRIDOR, size=2)
    rows = [(rng.uniform(*_ROOM_DEPTH), rng.uniform(*_CORRIDOR), rng.uniform(*_ROOM_DEPTH)) for _ in range(n_corridors)]
    height = sum(below + corridor + above + 3 * _WALL for below, corridor, above in rows) + _WALL
    cells: Cells = np.full((_cells(height), _cells(across)), WALL, np.int8)
    left, right = _WALL + ends[0], across - _WALL - ends[1]
    y = _WALL
    corridors = []
    for below, corridor, above in rows:
        low, high = y + below + _WALL, y + below + _WALL + corridor
        corridors.append((low, high))
        _carve(cells, _WALL, low, across - _WALL, high)
        _rooms(rng, cells, left + _WALL, right - _WALL, (y, y + below), high_side=True)
        _rooms(rng, cells, left + _WALL, right - _WALL, (high + _WALL, high + _WALL + above), high_side=False)
        y = high + _WALL + above + _WALL
    for near, far in ((_WALL, left), (right, across - _WALL)):
        _carve(cells, near, corridors[0][0], far, corridors[-1][1])
    return OccupancyGrid(cells, RESOLUTION)


def _rooms(
    rng: np.random.Generator, cells: Cells, left: float, right: float, depth: tuple[float, float], high_side: bool
) -> None:
    """A row of rooms between two walls, each with a door to the corridor on its high or low side."""
    x, low, high = left, *depth
    while right - x >= _ROOM_WIDTH[0]:
        end = min(x + rng.uniform(*_ROOM_WIDTH), right)
        if right - end < _ROOM_WIDTH[0] + _WALL:
            end = right
        _carve(cells, x, low, end, high)
        _furnish(rng, cells, (x, low, end, high))
        door = rng.uniform(*_DOOR)
        at = rng.uniform(x + 0.2, end - 0.2 - door)
        gap = (high - _RIM, high + _WALL + _RIM) if high_side else (low - _WALL - _RIM, low + _RIM)
        _carve(cells, at, gap[0], at + door, gap[1])
        _carve(
            cells, at - 0.1, *((high - 1.0, at + door + 0.1, high) if high_side else (low, at + door + 0.1, low + 1.0))
        )
        if x > left and rng.random() < 0.25:  # a door to the room before
            side = rng.uniform(low + 0.3, high - 0.3 - door)
            _carve(cells, x - _WALL - 0.8, side, x + 0.8, side + door)
        x = end + _WALL


_RIM = 0.05  # metres by which openings reach into what they join


def _furnish(rng: np.random.Generator, cells: Cells, room: tuple[float, float, float, float]) -> None:
    """Some tables and shelves, with a way around them."""
    left, low, right, high = room
    for _ in range(int(rng.integers(0, 4))):
        wide, deep = rng.uniform(0.3, 1.4), rng.uniform(0.3, 0.8)
        if right - left < wide + 1.8 or high - low < deep + 1.8:
            continue
        x, y = rng.uniform(left + 0.9, right - 0.9 - wide), rng.uniform(low + 0.9, high - 0.9 - deep)
        cells[_cells(y) : _cells(y + deep), _cells(x) : _cells(x + wide)] = WALL


def _carve(cells: Cells, left: float, low: float, right: float, high: float) -> None:
    cells[_cells(low) : _cells(high), _cells(left) : _cells(right)] = OPEN


def _cells(metres: float) -> int:
    return max(round(float(metres) / RESOLUTION), 0)
