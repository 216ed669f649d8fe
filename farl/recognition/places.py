"""A store of places: one key each, found again by similarity, in bounded memory."""

from bisect import bisect_left
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import torch

from farl.recognition.place_index import Nearest, PlaceIndex

IntArray = npt.NDArray[np.int64]
Keys = npt.NDArray[np.float32]

Similarity = npt.NDArray[np.float32]

_FIRST_ROOM = 1024
_MOST_VIEWS = 64
"""Views from which on the mean key of a place forgets its first ones."""
_PART = 1024
_ANY = -1.1  # below all similarities, even those that rounding takes below -1
_RATIO = 0.56
"""Of squared distances: a key is of the place nearest to it, if the next one is a third farther away."""
_TINY = float(np.finfo(np.float32).tiny)


class Recognised(NamedTuple):
    """What a batch of keys turned out to be.

    :ivar places: int64[E], the place of each
    :ivar merged: int64[n], the place that each of the n places so far has become, where the store was full and some had
        to be merged; None where all are what they were
    """

    places: IntArray
    merged: IntArray | None


class PlaceStore:
    """Places, each with the mean key of the views of it. A key may be of a place that it resembles, and is of the place
    it resembles most for certain if it resembles it much, or much more than the next one.

    As a store of episodic memory: Savinov et al., "Episodic curiosity through reachability" (ICLR 2019). The comparison
    with the next one is Lowe's ("Distinctive image features from scale-invariant keypoints", International Journal of
    Computer Vision 60, 2004, section 7.1): a view of much that is spoilt is still unlike all others, one of little, a
    wall, is not. Where the store would outgrow its capacity, similarities that were not enough become enough, until
    half as many places cover all that have been, so that nothing that was known becomes unknown: only finer differences
    are lost (the doubling algorithm of Charikar, Chekuri, Feder, Motwani, "Incremental clustering and dynamic
    information retrieval", SIAM Journal on Computing 33, 2004).

    :param certain: cosine similarity from which on a key is of a place, whatever else it resembles
    :param possible: similarity from which on a key may be of a place; None is ``certain``
    :param capacity: most places
    """

    def __init__(self, certain: float, possible: float | None = None, *, capacity: int) -> None:
        self.certain = certain
        self.possible = certain if possible is None else possible
        self.capacity = capacity
        self._keys: Keys = np.empty((0, 0), np.float32)
        self._views: IntArray = np.empty(0, np.int64)  # of which each key is the mean
        self._count = 0
        self._index = PlaceIndex()

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Keys:
        """float32[n, d], the key of each place, of length 1."""
        return self._keys[: self._count]

    @property
    def is_noisy(self) -> bool:
        """Whether views of one place differ."""
        return self.possible < self.certain

    def nearest(self, keys: Keys) -> Nearest:
        """Return what keys, float32[E, d], each of length 1, resemble most; see ``PlaceIndex``."""
        missing = np.full(len(keys), -1.0, np.float32)
        if self._count == 0:
            return Nearest(np.full(len(keys), -1, np.int64), missing, missing)
        return self._index.nearest(keys, self.keys)

    def is_certain(self, nearest: Nearest) -> npt.NDArray[np.bool_]:
        """Return which keys are of the place that they resemble most, bool[E]."""
        return self._enough(nearest.similarity, nearest.second)

    def similarity(self, places: IntArray, keys: Keys) -> Similarity:
        """Return how much keys, float32[E, d], resemble places, int64[E]: float32[E], -1 for place -1."""
        if self._count == 0:
            return np.full(len(keys), -1.0, np.float32)
        return _similarity(self._keys, places, keys)

    def recognise(self, keys: Keys) -> Recognised:
        """Return the place of each key by its looks alone; those that can be of no known place become new ones.

        :param keys: float32[E, d], each of length 1
        """
        nearest = self.nearest(keys)
        places = nearest.places.copy()
        new = (nearest.similarity < self.possible) & ~self.is_certain(nearest)
        if new.any():
            places[new] = self.add(keys[new], nearest.similarity[new])
        merged = self.merge_if_full()
        return Recognised(places if merged is None else merged[places], merged)

    def add(self, keys: Keys, similarity: Similarity) -> IntArray:
        """Make places of keys that are of none so far, of like ones one, and return them, int64[n].

        :param keys: float32[n, d]
        :param similarity: float32[n], of each to what it resembles most among the known ones
        """
        if self._count + len(keys) > len(self._keys):
            if not self._count:
                self._keys = np.empty((0, keys.shape[1]), np.float32)
            self._make_room(max(_FIRST_ROOM, 2 * self._count, self._count + len(keys)))
        places = np.empty(len(keys), np.int64)
        thresholds = float(self.certain), float(self.possible)
        self._count = _add(self._keys, self._views, self._count, keys, similarity, *thresholds, places)
        return places

    def refine(self, places: IntArray, keys: Keys) -> None:
        """Take further views of places, int64[n], into their keys, float32[n, d]: noise averages out.

        Of several views of one place the last counts.
        """
        _refine(self._keys, self._views, places, keys)
        self._index.refresh(places, self._keys)

    def merge_if_full(self) -> IntArray | None:
        """Merge places if there are more than the capacity; return what each has become, int64[n], or None."""
        return self._merge() if self._count > self.capacity else None

    def state_dict(self) -> dict[str, Any]:
        """Return keys and thresholds."""
        return {
            "keys": torch.from_numpy(self.keys.copy()),
            "views": torch.from_numpy(self._views[: self._count].copy()),
            "certain": self.certain,
            "possible": self.possible,
            "room": len(self._keys),
            "index": self._index.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._keys, self._views = state["keys"].cpu().numpy().copy(), state["views"].cpu().numpy().copy()
        self.certain, self.possible = float(state["certain"]), float(state["possible"])
        self._count = len(self._keys)
        self._make_room(int(state.get("room", 0)))
        self._index.clear()
        if "index" in state:  # a file of before has none
            self._index.load_state_dict(state["index"], self.keys)

    def _enough(self, similarity: Similarity, second: Similarity) -> npt.NDArray[np.bool_]:
        stands_out = (1.0 - similarity) <= _RATIO * (1.0 - second)
        return np.asarray((similarity >= self.certain) | ((similarity >= self.possible) & stands_out))

    def _make_room(self, rows: int) -> None:
        if rows > len(self._keys):
            grown, views = np.empty((rows, self._keys.shape[1]), np.float32), np.ones(rows, np.int64)
            grown[: self._count], views[: self._count] = self._keys[: self._count], self._views[: self._count]
            self._keys, self._views = grown, views

    def _merge(self) -> IntArray:
        """Lower the thresholds until half the capacity covers all that is known; return what each place has become.

        Where so low a threshold needs far fewer places, as of views that are all equally unlike, others stay as well,
        until there are as many: what can be told apart still is.
        """
        keys, most = self.keys.copy(), min(self.capacity, max(2, self.capacity // 2))
        levels = [self.possible]
        while levels[-1] > -1.0:
            levels.append(_wider(levels[-1]))
        first = bisect_left(levels, True, lo=1, key=lambda level: self._covers(keys, level, most))
        self._covers(keys, levels[first], most)
        self._cover(keys, levels[first - 1], most)
        self._count = min(self._count, most)
        self.certain = self.possible = levels[first]
        return np.concatenate([self.nearest(part).places for part in _parts(keys)])

    def _covers(self, keys: Keys, similarity: float, most: int) -> bool:
        """Begin anew with as many places as it takes for all keys to resemble one by so much; return whether it takes
        no more than allowed."""
        self._count = 0
        self._index.clear()
        self._cover(keys, similarity, most)
        return self._count <= most

    def _cover(self, keys: Keys, similarity: float, most: int) -> None:
        """Let keys be places that resemble none so far by so much, as long as there are no more than allowed."""
        self.certain = self.possible = similarity
        for part in _parts(keys):
            nearest = self.nearest(part)
            new = nearest.similarity < similarity
            self.add(part[new], nearest.similarity[new])
            if self._count > most:
                break


def _parts(keys: Keys) -> list[Keys]:
    """Cut keys, float32[n, d], into parts of which each is compared with all places at once."""
    return np.split(keys, range(_PART, len(keys), _PART))


def _wider(similarity: float) -> float:
    """Return a lower similarity: an angle wider by a quarter, up to where everything is alike."""
    angle = 1.25 * np.arccos(min(similarity, 1.0 - 1e-6)) + 1e-3
    return float(np.cos(angle)) if angle < np.pi else _ANY


def unit(keys: Keys) -> Keys:
    """Scale keys, float32[E, d], to length 1; those without any length, as of blank views, become the first axis."""
    return _unit(keys)


_compiled = numba.njit(cache=True, fastmath={"reassoc", "contract"})  # sums in any order


@_compiled
def _unit(keys: Keys) -> Keys:
    scaled = np.empty_like(keys)
    for row in range(len(keys)):
        squares = np.float32(0.0)
        for number in range(keys.shape[1]):
            squares += keys[row, number] * keys[row, number]
        length = np.sqrt(squares)
        for number in range(keys.shape[1]):
            scaled[row, number] = keys[row, number] / length if length > _TINY else np.float32(number == 0)
    return scaled


@_compiled
def _similarity(stored: Keys, places: IntArray, keys: Keys) -> Similarity:
    found = np.full(len(places), -1.0, np.float32)
    for row in range(len(places)):
        if places[row] >= 0:
            product = np.float32(0.0)
            for number in range(keys.shape[1]):
                product += stored[places[row], number] * keys[row, number]
            found[row] = product
    return found


@_compiled
def _refine(stored: Keys, views: IntArray, places: IntArray, keys: Keys) -> None:
    for row in range(len(places)):
        place, last = places[row], True
        for later in range(row + 1, len(places)):
            last = last and places[later] != place
        if not last:
            continue
        views[place] = min(views[place] + 1, _MOST_VIEWS)
        share, squares = np.float32(1.0 / views[place]), np.float32(0.0)
        for number in range(keys.shape[1]):
            stored[place, number] += share * (keys[row, number] - stored[place, number])
            squares += stored[place, number] * stored[place, number]
        scale = np.float32(1.0) / max(np.sqrt(squares), np.float32(_TINY))
        for number in range(keys.shape[1]):
            stored[place, number] *= scale


@_compiled
def _add(
    stored: Keys,
    views: IntArray,
    count: int,
    keys: Keys,
    similarity: Similarity,
    certain: float,
    possible: float,
    places: IntArray,
) -> int:
    """Do what ``PlaceStore.add`` does, where there is room, and return how many places there are then."""
    first_new = count
    for row in range(len(keys)):
        alike, how = -1, np.float32(-1.0)
        for place in range(first_new, count):
            product = np.float32(0.0)
            for number in range(keys.shape[1]):
                product += keys[row, number] * stored[place, number]
            if product > how:
                alike, how = place, product
        stands_out = 1.0 - how <= _RATIO * (1.0 - similarity[row])
        if alike >= 0 and (how >= certain or (how >= possible and stands_out)):
            places[row] = alike
            continue
        stored[count], views[count] = keys[row], 1
        places[row] = count
        count += 1
    return count
