"""FARMap's world generator: rooms, corridors, merged rooms, and ragged walls."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from farl.maps.geometry import BoolArray, IntArray


@dataclass(frozen=True)
class WorldParameters:
    """Ranges (both ends included) from which a world is drawn; the defaults are the paper's (FARMap, appendix).

    :ivar rooms: rooms a side
    :ivar room_side: cells a side of a room
    :ivar corridor_length: cells between two rooms
    :ivar connect: probability that two neighbouring rooms are joined by a corridor
    :ivar merge: probability that the wall between them is taken out
    :ivar flip_rounds: rounds in which cells on the boundary of wall and free space change sides
    :ivar flip: probability of each such cell to change, per round
    :ivar keep: a connected part is a world if it has more free cells than this many rooms
    :ivar widest: most cells that a corridor is wide; None is one less than a room
    """

    rooms: tuple[int, int] = (3, 7)
    room_side: tuple[int, int] = (3, 7)
    corridor_length: tuple[int, int] = (1, 3)
    connect: float = 0.25
    merge: float = 0.25
    flip_rounds: tuple[int, int] = (0, 10)
    flip: float = 0.05
    keep: float = 3.0
    widest: int | None = None


@dataclass(frozen=True)
class WorldSize:
    """A registered size: parameters, and the range of the enlarged area (cells) that a world must fall into."""

    parameters: WorldParameters
    area: tuple[int, int]


SCALE = 3
"""The factor by which the paper enlarges its grids."""


class Layout(NamedTuple):
    """A world as it was drawn, not enlarged.

    :ivar walls: bool[H, W], True for wall
    :ivar rooms: int64[H, W], the room that each cell was drawn as part of, numbered row by row; -1 in walls, in
        corridors and where a wall between two rooms was taken out
    """

    walls: BoolArray
    rooms: IntArray


SIZES: dict[str, WorldSize] = {
    "small": WorldSize(WorldParameters(), (0, 3_000)),
    "medium": WorldSize(WorldParameters(), (3_001, 7_000)),
    "large": WorldSize(WorldParameters(), (7_001, 40_000)),
    # More links between rooms than in the paper: below half of them, a wide world falls into small parts.
    "huge": WorldSize(
        WorldParameters(rooms=(26, 26), room_side=(6, 6), corridor_length=(2, 2), connect=0.35, merge=0.25),
        (360_000, 400_000),
    ),
    "rooms": WorldSize(
        WorldParameters((3, 3), (7, 7), (1, 1), connect=0.8, widest=1, merge=0.0, flip_rounds=(0, 0), keep=9.0),
        (5_625, 5_625),
    ),
}
"""Small, medium and large are the paper's worlds by enlarged area; huge is 600 x 600 cells and more. ``rooms`` is nine
rooms of one size behind doorways of one cell, all of which can be reached."""


def generate_worlds(rng: np.random.Generator, parameters: WorldParameters | None = None) -> list[BoolArray]:
    """Draw one layout and return its connected parts as maps, bool[H, W], True for wall; possibly none.

    Each map is cropped to its part and has a border of wall.
    """
    return [layout.walls for layout in draw_layouts(rng, parameters or WorldParameters())]


def draw_layouts(rng: np.random.Generator, parameters: WorldParameters) -> list[Layout]:
    """Return the worlds of ``generate_worlds`` with their rooms."""
    n_rows, n_cols = (int(rng.integers(*parameters.rooms, endpoint=True)) for _ in range(2))
    side = int(rng.integers(*parameters.room_side, endpoint=True))
    gap = int(rng.integers(*parameters.corridor_length, endpoint=True))
    pitch = side + gap
    walls = np.ones((n_rows * pitch + 1, n_cols * pitch + 1), bool)
    rooms: IntArray = np.full(walls.shape, -1)
    for row in range(n_rows):
        for col in range(n_cols):
            top, left = 1 + row * pitch, 1 + col * pitch
            walls[top : top + side, left : left + side] = False
            rooms[top : top + side, left : left + side] = row * n_cols + col
            if col + 1 < n_cols:
                lo, hi = _opening(rng, side, parameters)
                walls[top + lo : top + hi, left + side : left + pitch] = False
            if row + 1 < n_rows:
                lo, hi = _opening(rng, side, parameters)
                walls[top + side : top + pitch, left + lo : left + hi] = False
    for _ in range(int(rng.integers(*parameters.flip_rounds, endpoint=True))):
        walls ^= _boundary(walls) & (rng.random(walls.shape) < parameters.flip)
    return _parts(walls, rooms, parameters.keep * side**2)


def generate_world(rng: np.random.Generator, size: str | WorldSize = "small") -> BoolArray:
    """Return the walls of a world that ``draw_layout`` draws, bool[H, W]."""
    return draw_layout(rng, size).walls


def draw_layout(rng: np.random.Generator, size: str | WorldSize = "small") -> Layout:
    """Draw worlds until one falls into the size's range of area, and return it.

    :param size: a name in ``SIZES``, or a size of your own
    :raises ValueError: if there is no such size, or 2 000 layouts held no world of that size
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise ValueError(f"no world size {size!r}; known: {', '.join(SIZES)}")
        size = SIZES[size]
    low, high = size.area
    for _ in range(2_000):
        drawn = draw_layouts(rng, size.parameters)
        fitting = [layout for layout in drawn if low <= layout.walls.size * SCALE**2 <= high]
        if fitting:
            return fitting[int(rng.integers(len(fitting)))]
    raise ValueError(
        f"no world of {low} to {high} cells came up: widen the range of the area, or change the parameters"
    )


def _opening(rng: np.random.Generator, side: int, parameters: WorldParameters) -> tuple[int, int]:
    """Return the span of the wall between two rooms that is open; an empty one if they are not joined."""
    draw = rng.random()
    width = int(rng.integers(1, side if parameters.widest is None else min(side, parameters.widest + 1)))
    start = int(rng.integers(0, side - width + 1))
    if draw < parameters.connect:
        return start, start + width
    return (0, side) if draw < parameters.connect + parameters.merge else (0, 0)


def _boundary(walls: BoolArray) -> BoolArray:
    """Cells with a neighbour, by an edge, of the other kind; never those on the rim."""
    boundary = np.zeros_like(walls)
    for axis in (0, 1):
        differs = np.diff(walls, axis=axis)
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        boundary[tuple(first)] |= differs
        boundary[tuple(second)] |= differs
    boundary[[0, -1]] = False
    boundary[:, [0, -1]] = False
    return boundary


def _parts(walls: BoolArray, rooms: IntArray, more_than: float) -> list[Layout]:
    """The connected parts of the free space with more than so many cells, cropped, each within walls."""
    from scipy import ndimage  # here, for it takes long to import

    labels, n_parts = ndimage.label(~walls)
    sizes = np.bincount(labels.ravel(), minlength=n_parts + 1)
    parts = []
    for part, span in enumerate(ndimage.find_objects(labels), 1):
        if sizes[part] > more_than:
            walled = labels[span] != part
            inside = np.where(walled, -1, rooms[span])
            parts.append(Layout(np.pad(walled, 1, constant_values=True), np.pad(inside, 1, constant_values=-1)))
    return parts
