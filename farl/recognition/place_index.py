"""Finding the most similar of many keys without looking at all of them."""

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Keys = npt.NDArray[np.float32]
Similarity = npt.NDArray[np.float32]

_FROM = 4_096  # keys from which on it pays; below, all are compared
_PROBES = 16  # groups that are looked into
_GROUPS = 4  # times the root of the number of keys
_ROUNDS, _SAMPLE = 2, 64  # of k-means, and keys a group that it looks at
_WAIT = 1_024  # most keys that belong to no group yet; all of these are compared
_AGAIN = 2  # times as many keys, and the groups are found anew


class Nearest(NamedTuple):
    """What E keys resemble most.

    :ivar places: int64[E], the most similar place, -1 if there is none
    :ivar similarity: float32[E], to that place, -1 if there is none
    :ivar second: float32[E], to the next one, -1 if there is none
    """

    places: IntArray
    similarity: Similarity
    second: Similarity


class PlaceIndex:
    """An inverted file over keys of length 1: they fall into groups of like ones, and only the nearest are looked into.

    Sivic, Zisserman, "Video Google" (ICCV 2003); in the words of Jegou, Douze, Schmid, "Product quantization for
    nearest neighbor search" (IEEE Transactions on Pattern Analysis and Machine Intelligence 33, 2011, section IV), a
    coarse quantiser of ``4 sqrt(n)`` centroids of which 16 are visited. Up to 4 096 keys all are compared. Nothing is
    drawn at random: the same keys in the same order are found in the same way. Keys that belong to groups are held a
    second time, group by group: looked up one by one in a large store, most of the time would go into waiting for them.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all groups, as when keys have changed their numbers."""
        self._centres: Keys = np.empty((0, 0), np.float32)
        self._group_of: Int32Array = np.empty(0, np.int32)
        self._learnt_from = 0  # keys there were when the groups were found
        self._set_out(self._centres)

    def nearest(self, keys: Keys, stored: Keys) -> Nearest:
        """Return what keys, float32[E, d], resemble most among those stored, float32[n, d], n > 0; exactly, or with
        more than 4 096 very nearly so."""
        if len(stored) < _FROM:
            return _nearest_of_all(keys, stored)
        if len(stored) >= _AGAIN * self._learnt_from:
            self._find_groups(stored)
        elif len(stored) - len(self._group_of) > _WAIT:
            self._group_of = np.append(self._group_of, self._groups(stored[len(self._group_of) :]))
            self._set_out(stored)
        grouped = len(self._group_of)
        likeness = (torch.from_numpy(keys) @ torch.from_numpy(self._centres).T).numpy()
        found = Nearest(*_look_into(keys, self._grouped, likeness, self._first, self._members, _PROBES))
        if grouped == len(stored):
            return found
        rest = _nearest_of_all(keys, stored[grouped:])
        better = rest.similarity > found.similarity
        return Nearest(
            np.where(better, rest.places + grouped, found.places),
            np.where(better, rest.similarity, found.similarity),
            np.maximum(
                np.where(better, found.similarity, rest.similarity), np.where(better, rest.second, found.second)
            ),
        )

    def refresh(self, places: IntArray, stored: Keys) -> None:
        """Take note of keys that have changed, those of places, int64[n]."""
        if len(self._slot_of):
            known = places[places < len(self._slot_of)]
            self._grouped[self._slot_of[known]] = stored[known]

    def state_dict(self) -> dict[str, Any]:
        """Return the groups."""
        parts = {"centres": self._centres, "group_of": self._group_of}
        return {name: torch.from_numpy(part.copy()) for name, part in parts.items()} | {
            "learnt_from": self._learnt_from
        }

    def load_state_dict(self, state: dict[str, Any], stored: Keys) -> None:
        """Restore what ``state_dict`` returned, of the same keys, float32[n, d]."""
        self._centres, self._group_of = (state[name].cpu().numpy().copy() for name in ("centres", "group_of"))
        self._learnt_from = int(state["learnt_from"])
        self._set_out(stored)

    def _find_groups(self, stored: Keys) -> None:
        """Find groups of like keys by k-means on the sphere (Dhillon, Modha, Machine Learning 42, 2001)."""
        count = int(_GROUPS * len(stored) ** 0.5)
        sample = stored[:: max(1, len(stored) // (_SAMPLE * count))]
        self._centres = sample[np.linspace(0, len(sample) - 1, count).astype(np.int64)].copy()
        for _ in range(_ROUNDS):
            self._centres = _means(sample, self._groups(sample), self._centres)
        self._group_of, self._learnt_from = self._groups(stored), len(stored)
        self._set_out(stored)

    def _groups(self, keys: Keys) -> Int32Array:
        """Return the group of each of N keys, int32[N]."""
        centres = torch.from_numpy(self._centres).T
        parts = [(part @ centres).argmax(dim=1) for part in torch.split(torch.from_numpy(keys), 4_096)]
        groups: Int32Array = torch.cat(parts).numpy().astype(np.int32)
        return groups

    def _set_out(self, stored: Keys) -> None:
        """Sort keys by their groups: those of group g are ``members[first[g]:first[g + 1]]``."""
        self._members = np.argsort(self._group_of, kind="stable").astype(np.int32)
        self._slot_of = np.argsort(self._members).astype(np.int32)  # where each key stands among the members
        self._grouped = stored[self._members]
        sizes = np.bincount(self._group_of, minlength=len(self._centres))
        self._first = np.concatenate([[0], np.cumsum(sizes)])


def _nearest_of_all(keys: Keys, stored: Keys) -> Nearest:
    product = torch.from_numpy(keys) @ torch.from_numpy(stored).T
    return Nearest(*_best_two(product.numpy()))


_compiled = numba.njit(cache=True, fastmath={"reassoc", "contract"})  # sums in any order


@_compiled
def _best_two(likeness: Similarity) -> tuple[IntArray, Similarity, Similarity]:
    """Return what ``Nearest`` has, of all: float32[E, n]."""
    places, best = np.zeros(len(likeness), np.int64), likeness[:, 0].copy()
    second = np.full(len(likeness), np.float32(-1.0))
    for row in range(len(likeness)):
        for column in range(1, likeness.shape[1]):
            value = likeness[row, column]
            if value > best[row]:
                places[row], best[row], second[row] = column, value, best[row]
            elif value > second[row]:
                second[row] = value
    return places, best, second


@_compiled
def _means(keys: Keys, groups: Int32Array, centres: Keys) -> Keys:
    """Return the direction of the mean of each group of keys; of an empty one the centre it had."""
    means = np.zeros_like(centres)
    for row in range(len(keys)):
        for number in range(keys.shape[1]):
            means[groups[row], number] += keys[row, number]
    for group in range(len(means)):
        length = np.sqrt((means[group] * means[group]).sum())
        if length > 0.0:
            means[group] /= length
        else:
            means[group] = centres[group]
    return means


@_compiled
def _look_into(
    keys: Keys, grouped: Keys, likeness: Similarity, first: IntArray, members: Int32Array, probes: int
) -> tuple[IntArray, Similarity, Similarity]:
    """Return what ``Nearest`` has, of the keys in the groups that each key is most like: float32[E, G].

    :param grouped: float32[m, d], the keys of the members, in their order
    """
    places, best = np.full(len(keys), -1), np.full(len(keys), -1.0, np.float32)
    second = best.copy()
    probes = min(probes, likeness.shape[1])
    chosen, how = np.empty(probes, np.int64), np.empty(probes, np.float32)
    for row in range(len(keys)):
        held = 0
        for group in range(likeness.shape[1]):
            value = likeness[row, group]
            if held == probes and value <= how[held - 1]:
                continue
            at = min(held, probes - 1)
            while at > 0 and how[at - 1] < value:
                chosen[at], how[at] = chosen[at - 1], how[at - 1]
                at -= 1
            chosen[at], how[at] = group, value
            held = min(held + 1, probes)
        for probed in chosen:
            for member in range(first[probed], first[probed + 1]):
                product = np.float32(0.0)
                for number in range(keys.shape[1]):
                    product += keys[row, number] * grouped[member, number]
                if product > best[row]:
                    places[row], best[row], second[row] = members[member], product, best[row]
                elif product > second[row]:
                    second[row] = product
    return places, best, second
