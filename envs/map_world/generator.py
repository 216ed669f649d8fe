"""FARMap's world generator: rooms, corridors, merged rooms, and ragged walls."""

from dataclasses import dataclass

import numpy as np

from farl.maps.geometry import BoolArray


@dataclass(frozen=True)
class WorldParameters:
    """Ranges (both ends included) from which a world is drawn; the defaults are the paper's (FARMap, appendix).

    :ivar rooms: rooms a side
    :ivar room_side: cells a side of a room
    :ivar corridor_length: cells between two rooms
    :ivar connect: probability that two neighbouring rooms are joined by a corridor, of a width from 1 to room_side - 1
    :ivar merge: probability that the wall between them is taken out
    :ivar flip_rounds: rounds in which cells on the boundary of wall and free space change sides
    :ivar flip: probability of each such cell to change, per round
    :ivar keep: a connected part is a world if it has more free cells than this many rooms
    """

    rooms: tuple[int, int] = (3, 7)
    room_side: tuple[int, int] = (3, 7)
    corridor_length: tuple[int, int] = (1, 3)
    connect: float = 0.25
    merge: float = 0.25
    flip_rounds: tuple[int, int] = (0, 10)
    flip: float = 0.05
    keep: float = 3.0


@dataclass(frozen=True)
class WorldSize:
    """A registered size: parameters, and the range of the enlarged area (cells) that a world must fall into."""

    parameters: WorldParameters
    area: tuple[int, int]


SCALE = 3
"""The factor by which the paper enlarges its grids."""

SIZES: dict[str, WorldSize] = {
    "small": WorldSize(WorldParameters(), (0, 3_000)),
    "medium": WorldSize(WorldParameters(), (3_001, 7_000)),
    "large": WorldSize(WorldParameters(), (7_001, 40_000)),
    # More links between rooms than in the paper: below half of them, a wide world falls into small parts.
    "huge": WorldSize(
        WorldParameters(rooms=(26, 26), room_side=(6, 6), corridor_length=(2, 2), connect=0.35, merge=0.25),
        (360_000, 400_000),
    ),
}
"""Small, medium and large are the paper's worlds by enlarged area; huge is 600 x 600 cells and more."""


def generate_worlds(rng: np.random.Generator, parameters: WorldParameters | None = None) -> list[BoolArray]:
    """Draw one layout and return its connected parts as maps, bool[H, W], True for wall; possibly none.

    Each map is cropped to its part and has a border of wall.
    """
    parameters = parameters or WorldParameters()
    n_rows, n_cols = (int(rng.integers(*parameters.rooms, endpoint=True)) for _ in range(2))
    side = int(rng.integers(*parameters.room_side, endpoint=True))
    gap = int(rng.integers(*parameters.corridor_length, endpoint=True))
    pitch = side + gap
    walls = np.ones((n_rows * pitch + 1, n_cols * pitch + 1), bool)
    for row in range(n_rows):
        for col in range(n_cols):
            top, left = 1 + row * pitch, 1 + col * pitch
            walls[top : top + side, left : left + side] = False
            if col + 1 < n_cols:
                lo, hi = _opening(rng, side, parameters)
                walls[top + lo : top + hi, left + side : left + pitch] = False
            if row + 1 < n_rows:
                lo, hi = _opening(rng, side, parameters)
                walls[top + side : top + pitch, left + lo : left + hi] = False
    for _ in range(int(rng.integers(*parameters.flip_rounds, endpoint=True))):
        walls ^= _boundary(walls) & (rng.random(walls.shape) < parameters.flip)
    return _parts(walls, parameters.keep * side**2)


def generate_world(rng: np.random.Generator, size: str | WorldSize = "small") -> BoolArray:
    """Draw worlds until one falls into the size's range of area, and return it: bool[H, W], True for wall, not
    enlarged.

    :param size: a name in ``SIZES``, or a size of your own
    :raises ValueError: if there is no such size, or 2 000 layouts held no world of that size
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise ValueError(f"no world size {size!r}; known: {', '.join(SIZES)}")
        size = SIZES[size]
    low, high = size.area
    for _ in range(2_000):
        fitting = [world for world in generate_worlds(rng, size.parameters) if low <= world.size * SCALE**2 <= high]
        if fitting:
            return fitting[int(rng.integers(len(fitting)))]
    raise ValueError(
        f"no world of {low} to {high} cells came up: widen the range of the area, or change the parameters"
    )


def _opening(rng: np.random.Generator, side: int, parameters: WorldParameters) -> tuple[int, int]:
    """Return the span of the wall between two rooms that is open; an empty one if they are not joined."""
    draw = rng.random()
    width = int(rng.integers(1, side))
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


def _parts(walls: BoolArray, more_than: float) -> list[BoolArray]:
    """The connected parts of the free space with more than so many cells, cropped, each within walls."""
    from scipy import ndimage  # here, for it takes long to import

    labels, n_parts = ndimage.label(~walls)
    sizes = np.bincount(labels.ravel(), minlength=n_parts + 1)
    return [
        np.pad(labels[span] != part, 1, constant_values=True)
        for part, span in enumerate(ndimage.find_objects(labels), 1)
        if sizes[part] > more_than
    ]
