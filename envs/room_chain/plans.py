"""Plans of rooms: which places of a grid hold a room, and which neighbours a doorway joins."""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

Place = tuple[int, int]
Pair = tuple[int, int]

_MOST_ROOMS = 10_000


class Plan(NamedTuple):
    """Rooms and doorways, before anything is painted.

    :ivar places: row and column of each room, in a grid of rooms
    :ivar doorways: pairs of rooms, by number, that a doorway joins; they are neighbours in the grid
    """

    places: tuple[Place, ...]
    doorways: tuple[Pair, ...]

    @property
    def shape(self) -> Place:
        """Rows and columns of the grid."""
        return 1 + max(row for row, _ in self.places), 1 + max(col for _, col in self.places)

    @property
    def farthest(self) -> int:
        """The room that is the most doorways away from the first; of several the last."""
        distance = {0: 0}
        reached = [0]
        for room in reached:
            for a, b in self.doorways:
                for here, there in ((a, b), (b, a)):
                    if here == room and there not in distance:
                        distance[there] = distance[room] + 1
                        reached.append(there)
        return max(range(len(self.places)), key=lambda room: (distance[room], room))


def grid(rows: int, cols: int) -> Plan:
    """Rooms in a grid, or a row, counted row by row; all neighbours are joined."""
    places = [(row, col) for row in range(rows) for col in range(cols)]
    return Plan(tuple(places), tuple(_all_neighbours(places)))


def hub(hubs: int, length: int) -> Plan:
    """``hubs`` rooms in a row, and a branch of ``length`` rooms from every side of them: ``2 hubs + 2`` branches.

    The hub rooms come first; then the branches, each from the hub outwards.
    """
    row, first = length, length
    places = [(row, first + index) for index in range(hubs)]
    doorways = [(index, index + 1) for index in range(hubs - 1)]
    branches = [(index, step) for index in range(hubs) for step in ((-1, 0), (1, 0))]
    for root, (down, right) in [(0, (0, -1)), (hubs - 1, (0, 1)), *branches]:
        here = root
        for far in range(1, length + 1):
            places.append((places[root][0] + far * down, places[root][1] + far * right))
            doorways.append((here, len(places) - 1))
            here = len(places) - 1
    return Plan(tuple(places), tuple(doorways))


def tree(rows: int, cols: int, rng: np.random.Generator) -> Plan:
    """Rooms in a grid that are joined by a random tree: there is one way from each room to each other.

    Drawn by random walks that erase their loops (Wilson, "Generating random spanning trees more quickly than the cover
    time", STOC 1996), so that all trees are equally likely.
    """
    everywhere = grid(rows, cols)
    beside: dict[int, list[int]] = {room: [] for room in range(rows * cols)}
    for a, b in everywhere.doorways:
        beside[a].append(b)
        beside[b].append(a)
    joined = {0}
    doorways: list[Pair] = []
    for room in range(rows * cols):
        way = [room]
        while way[-1] not in joined:
            there = int(rng.choice(beside[way[-1]]))
            way = way[: way.index(there) + 1] if there in way else [*way, there]
        joined.update(way)
        doorways += [(min(pair), max(pair)) for pair in pairwise(way)]
    return Plan(everywhere.places, tuple(doorways))


def ring(rows: int, cols: int) -> Plan:
    """The outer rooms of a grid: one loop."""
    top = [(0, col) for col in range(cols)]
    right = [(row, cols - 1) for row in range(1, rows)]
    bottom = [(rows - 1, col) for col in reversed(range(cols - 1))]
    left = [(row, 0) for row in reversed(range(1, rows - 1))]
    places = [*top, *right, *bottom, *left]
    doorways = [(room, (room + 1) % len(places)) for room in range(len(places))]
    return Plan(tuple(places), tuple(doorways))


_PLANS: dict[str, tuple[str, int, int, Callable[..., Plan]]] = {
    "chain": ("chain-N", 1, 1, lambda rng, n: grid(1, n)),
    "grid": ("grid-ROWS-COLS", 2, 1, lambda rng, rows, cols: grid(rows, cols)),
    "hub": ("hub-HUBS-LENGTH", 2, 1, lambda rng, hubs, length: hub(hubs, length)),
    "tree": ("tree-ROWS-COLS", 2, 1, lambda rng, rows, cols: tree(rows, cols, rng)),
    "ring": ("ring-ROWS-COLS", 2, 2, lambda rng, rows, cols: ring(rows, cols)),
}
"""Name -> how it is written, how many numbers it takes, the least of each, and what draws it."""


def parse_plan(text: str, rng: np.random.Generator) -> Plan:
    """Read a plan as it is written in a configuration, such as ``hub-2-5``.

    :param text: ``chain-N``, ``grid-ROWS-COLS``, ``hub-HUBS-LENGTH``, ``tree-ROWS-COLS`` or ``ring-ROWS-COLS``
    :param rng: draws what is left to chance, which are the trees
    :raises ValueError: if it is anything else
    """
    name, *numbers = text.split("-") if isinstance(text, str) else [""]
    form, count, least, draw = _PLANS.get(name, ("", -1, 0, lambda rng: grid(1, 1)))
    sizes = [int(number) for number in numbers if re.fullmatch(r"[0-9]{1,4}", number)]
    if len(numbers) != count or len(sizes) != count or min(sizes) < least:
        forms = form or ", ".join(row[0] for row in _PLANS.values())
        raise ValueError(f"plan: expected {forms} with numbers of at least {max(least, 1)}, got {text!r}")
    if np.prod([max(size, 1) for size in sizes], dtype=np.int64) > _MOST_ROOMS:
        raise ValueError(f"plan {text}: more than {_MOST_ROOMS} rooms")
    plan: Plan = draw(rng, *sizes)
    return plan


def _all_neighbours(places: Iterable[Place]) -> Iterable[Pair]:
    number = {place: room for room, place in enumerate(places)}
    for (row, col), room in number.items():
        for beside in ((row, col + 1), (row + 1, col)):
            if beside in number:
                yield room, number[beside]
