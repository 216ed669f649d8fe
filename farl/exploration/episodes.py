"""The present and the last complete episode of each world of a batch."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.exploration.records import Episode

__all__ = ["Episodes"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_LONGEST = 20_000  # cells of a way that are kept: an episode may go on for ever


@dataclass
class _World:
    """What is recorded of the episode that goes on in one world."""

    reachable: BoolArray
    counts: npt.NDArray[np.int32] = field(init=False)
    fragments: npt.NDArray[np.int32] = field(init=False)
    way: list[IntArray] = field(init=False)
    length: int = field(init=False)  # cells of the way

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.reachable.shape, np.int32)
        self.fragments = np.full(self.reachable.shape, -1, np.int32)
        self.way, self.length = [], 0

    def add(self, fragments: IntArray, positions: IntArray) -> None:
        x, y = positions.T
        np.add.at(self.counts, (y, x), 1)
        self.fragments[y, x] = fragments
        self.way.append(positions)
        self.length += len(positions)
        if self.length > 2 * _LONGEST:  # an episode that never ends does not fill the memory
            self.way, self.length = [self._way()], _LONGEST

    def _way(self) -> IntArray:
        return np.concatenate(self.way)[-_LONGEST:] if self.way else np.zeros((0, 2), np.int64)

    def episode(self, complete: bool) -> Episode:
        return Episode(self.reachable, self.counts.copy(), self.fragments.copy(), self._way(), complete)


class Episodes:
    """Follows the episodes of up to ``limit`` worlds, which may all differ and change with each episode.

    :param limit: worlds that are recorded, the first ones of a batch
    """

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self.procedural = False
        """Whether worlds have differed, among each other or from one episode to the next."""
        self.coverages: list[float] = []
        """Coverage of the episodes that have ended since this was last emptied."""
        self._worlds: dict[int, _World] = {}
        self._complete: dict[int, Episode] = {}
        self._first: BoolArray | None = None

    def begin(self, env: int, reachable: BoolArray, start: IntArray | None) -> None:
        """An episode begins.

        :param env: its number in the batch
        :param reachable: bool[H, W], of its world
        :param start: int64[2], the cell (x, y), where it is known
        """
        reachable = np.array(reachable, bool)
        if self._first is None:
            self._first = reachable
        self.procedural |= not np.array_equal(self._first, reachable)
        self._worlds[env] = _World(reachable)
        if start is not None:
            self._worlds[env].add(np.full(1, -1), start[None])

    def add(self, fragments: IntArray, positions: IntArray) -> None:
        """Take in T steps of E environments, none of which ends an episode.

        :param fragments: int64[T, E], the active fragments
        :param positions: int64[T, E, 2], cells (x, y)
        """
        for env, world in self._worlds.items():
            world.add(fragments[:, env], positions[:, env])

    def end(self, env: int) -> None:
        """The episode of an environment has ended."""
        if env in self._worlds:
            self._complete[env] = self._worlds[env].episode(True)
            self.coverages.append(self._complete[env].coverage)

    def snapshot(self) -> list[Episode]:
        """Return the last complete episode of each world, or the present one where none is complete yet."""
        return [self._complete.get(env) or world.episode(False) for env, world in sorted(self._worlds.items())]

    def state_dict(self) -> dict[str, Any]:
        """Return all episodes as tensors."""
        present = {env: world.episode(False) for env, world in self._worlds.items()}
        return {
            "limit": self.limit,
            "procedural": self.procedural,
            "coverages": list(self.coverages),
            "first": None if self._first is None else torch.from_numpy(self._first.copy()),
            "present": {str(env): _pack(episode) for env, episode in present.items()},
            "complete": {str(env): _pack(episode) for env, episode in self._complete.items()},
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Episodes":
        """Restore what ``state_dict`` returned."""
        episodes = cls(int(state["limit"]))
        episodes.procedural, episodes.coverages = bool(state["procedural"]), list(state["coverages"])
        episodes._first = None if state["first"] is None else state["first"].cpu().numpy().copy()
        for env, packed in state["present"].items():
            episode = _unpack(packed, False)
            world = episodes._worlds[int(env)] = _World(episode.reachable)
            world.counts, world.fragments = episode.counts, episode.fragments  # type: ignore[assignment]
            world.way, world.length = [np.asarray(episode.way, np.int64)], len(episode.way)
        episodes._complete = {int(env): _unpack(packed, True) for env, packed in state["complete"].items()}
        return episodes


def _pack(episode: Episode) -> dict[str, torch.Tensor]:
    arrays = {name: getattr(episode, name) for name in ("reachable", "counts", "fragments", "way")}
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _unpack(packed: dict[str, torch.Tensor], complete: bool) -> Episode:
    return Episode(complete=complete, **{name: tensor.cpu().numpy().copy() for name, tensor in packed.items()})
