"""How well fragments agree with rooms, where an environment tells them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["RoomAgreement", "adjusted_rand_index"]

IntArray = npt.NDArray[np.int64]


def adjusted_rand_index(first: IntArray, second: IntArray) -> float:
    """Return how well two divisions of the same N things agree: 1 for equal ones, about 0 for unrelated ones.

    Hubert, Arabie, "Comparing partitions" (Journal of Classification 2, 1985), equation 5.

    :param first: int64[N], N > 0, the part of each thing
    :param second: int64[N]
    """
    (_, first), (parts, second) = (np.unique(each, return_inverse=True) for each in (first, second))
    sizes = (np.bincount(each) for each in (first * len(parts) + second, first, second))
    together, of_first, of_second = (float((n * (n - 1.0)).sum()) / 2.0 for n in sizes)
    expected = of_first * of_second / max(len(first) * (len(first) - 1.0) / 2.0, 1.0)
    largest = (of_first + of_second) / 2.0
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


class RoomAgreement:
    """Compares the active fragments with the rooms of one world, from one call of ``take`` to the next.

    :param room_of_cell: int64[H, W], the room of each cell, -1 outside of rooms
    """

    def __init__(self, room_of_cell: IntArray) -> None:
        self.room_of_cell = room_of_cell
        self._rooms: list[IntArray] = []
        self._fragments: list[IntArray] = []

    def add(self, positions: IntArray, active: IntArray) -> None:
        """Take in T steps of E environments.

        :param positions: int64[T, E, 2], cells (x, y)
        :param active: int64[T, E], fragments
        """
        rooms = self.room_of_cell[positions[..., 1], positions[..., 0]].ravel()
        self._rooms.append(rooms[rooms >= 0])
        self._fragments.append(active.ravel()[rooms >= 0])

    def state_dict(self) -> dict[str, Any]:
        """Return what was added since the last ``take``."""
        parts = {"rooms": self._rooms, "fragments": self._fragments}
        return {name: np.concatenate([np.empty(0, np.int64), *added]) for name, added in parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._rooms, self._fragments = ([np.asarray(state[name])] for name in ("rooms", "fragments"))

    def take(self) -> float | None:
        """Return the adjusted Rand index between rooms and fragments since the last call; None if nobody was in one."""
        rooms, fragments = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in (self._rooms, self._fragments))
        self._rooms, self._fragments = [], []
        return adjusted_rand_index(rooms, fragments) if len(rooms) else None
