"""A store of places: one key each, found again by similarity, in bounded memory."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]
Keys = npt.NDArray[np.float32]

_FIRST_ROOM = 1024
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
    """Places, each with the key of its first view. A key is of the place whose key it resembles most, if it resembles
    it enough; otherwise it is a new place.

    As a store of episodic memory: Savinov et al., "Episodic curiosity through reachability" (ICLR 2019). Where it would
    outgrow its capacity, the threshold is lowered until half as many places cover all that have been, so that nothing
    that was known becomes unknown: only finer differences are lost (the doubling algorithm of Charikar, Chekuri, Feder,
    Motwani, "Incremental clustering and dynamic information retrieval", SIAM Journal on Computing 33, 2004).

    :param threshold: cosine similarity from which on two keys are of one place
    :param capacity: most places
    """

    def __init__(self, threshold: float, capacity: int) -> None:
        self.threshold = threshold
        self.capacity = capacity
        self._keys = torch.empty((0, 0))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Keys:
        """float32[n, d], the key of each place, of length 1."""
        keys: Keys = self._keys[: self._count].numpy()
        return keys

    def nearest(self, keys: Keys) -> tuple[IntArray, npt.NDArray[np.float32]]:
        """Return the most similar place to each key and how similar it is: int64[E], float32[E]; -1 and -1 if there is
        none.

        :param keys: float32[E, d], each of length 1
        """
        if self._count == 0:
            return np.full(len(keys), -1, np.int64), np.full(len(keys), -1.0, np.float32)
        similarity, places = (self._keys[: self._count] @ torch.from_numpy(keys).T).max(dim=0)
        return places.numpy(), similarity.numpy()

    def recognise(self, keys: Keys) -> Recognised:
        """Return the place of each key; keys of no known place become places, of like keys of one batch one.

        :param keys: float32[E, d], each of length 1
        """
        places, similarity = self.nearest(keys)
        places = places.copy()
        first_new = self._count
        for row in np.flatnonzero(similarity < self.threshold):
            if self._count > first_new:
                alike = self._keys[first_new : self._count] @ torch.from_numpy(keys[row])
                best = int(alike.argmax())
                if float(alike[best]) >= self.threshold:
                    places[row] = first_new + best
                    continue
            places[row] = self._add(keys[row])
        merged = None
        if self._count > self.capacity:
            merged = self._merge()
            places = merged[places]
        return Recognised(places, merged)

    def state_dict(self) -> dict[str, Any]:
        """Return keys and threshold."""
        return {"keys": self._keys[: self._count].clone(), "threshold": self.threshold, "room": len(self._keys)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._keys, self.threshold = state["keys"].cpu().clone(), float(state["threshold"])
        self._count = len(self._keys)
        self._make_room(int(state.get("room", 0)))

    def _add(self, key: Keys) -> int:
        if self._count == len(self._keys):
            if not self._count:
                self._keys = torch.empty((0, len(key)))
            self._make_room(max(_FIRST_ROOM, 2 * self._count))
        self._keys[self._count] = torch.from_numpy(key)
        self._count += 1
        return self._count - 1

    def _make_room(self, rows: int) -> None:
        if rows > len(self._keys):
            grown = torch.empty((rows, self._keys.shape[1]))
            grown[: self._count] = self._keys[: self._count]
            self._keys = grown

    def _merge(self) -> IntArray:
        """Lower the threshold until at most half the capacity is needed; return what each place has become."""
        keys = self.keys.copy()
        while True:
            # In angles: twice as wide, up to where everything is one place.
            self.threshold = float(np.cos(min(1.25 * np.arccos(min(self.threshold, 1.0 - 1e-6)) + 1e-3, np.pi)))
            self._count = 0
            become = np.array([self._place_of(key) for key in keys])
            if self._count <= max(1, self.capacity // 2):
                return become

    def _place_of(self, key: Keys) -> int:
        (place,), (similarity,) = self.nearest(key[None])
        return int(place) if similarity >= self.threshold else self._add(key)


def unit(keys: Keys) -> Keys:
    """Scale keys, float32[E, d], to length 1."""
    scaled: Keys = keys / np.maximum(np.sqrt(np.einsum("ed,ed->e", keys, keys)), _TINY)[:, None]
    return scaled
