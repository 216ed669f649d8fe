"""Fragments of a graph of places: regions that are dense within and thinly joined, as rooms are by their doorways."""

import random
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import torch

from farl.recognition.graph import PlaceGraph

IntArray = npt.NDArray[np.int64]

NONE = -1
_SEED = 0  # of the order in which Leiden visits places: the same graph has the same regions in every run
_GROWTH = 1.05  # a graph that is not this much larger is not divided anew
_PER_STEP = 4  # places and edges that are divided anew, at most, for each step of an agent since the last time


class Division(NamedTuple):
    """How places fall into regions.

    :ivar region: int64[N], the region of each place, numbered from 0
    :ivar fragment_ids: int64[R], the fragment that each region was so far, -1 for a new one
    :ivar parents: int64[R], the fragment that most of its places were so far, -1 if none was any
    """

    region: IntArray
    fragment_ids: IntArray
    parents: IntArray


class Regions:
    """Which fragment each place belongs to.

    A new place belongs to the fragment of whoever saw it first. As the graph of the places grows, it is divided anew,
    and a region that only grew stays the fragment that it was. A large graph is divided the more rarely: what it costs
    is a small part of what the steps cost in which it grew, even where every view is a new place.

    :param resolution: ways per pair of places above which two parts of the graph are one region; see ``find_regions``
    """

    def __init__(self, resolution: float) -> None:
        self.resolution = resolution
        self._fragment_of: IntArray = np.empty(0, np.int64)
        self._divided = 0  # size of the graph that was divided last, in places and edges
        self._steps = 0  # of all agents, since then

    def of(self, places: IntArray) -> IntArray:
        """Return the fragment of each place, int64[E] -> int64[E]; -1 where it has none or the place is not known."""
        return _of(self._fragment_of, places)

    def claim(self, places: IntArray, fragment_ids: IntArray) -> None:
        """Let places, int64[E], that belong to no fragment belong to those of the agents that are there, int64[E]."""
        self._steps += len(places)
        free = (places >= 0) & (self.of(places) == NONE)
        if free.any():
            more = int(places.max()) + 1 - len(self._fragment_of)
            if more > 0:
                self._fragment_of = np.append(self._fragment_of, np.full(max(more, len(self._fragment_of)), NONE))
            self._fragment_of[places[free][::-1]] = fragment_ids[free][::-1]  # of several agents the first

    def divide(self, graph: PlaceGraph, n_places: int, most: int) -> Division | None:
        """Divide the places anew; None if the graph has hardly grown since the last time, or few steps were taken.

        Nothing changes until ``settle``.

        :param graph: graph of the places
        :param n_places: number of places there are
        :param most: regions at most, at least 1; were there more, the smallest ones are one
        """
        size = n_places + int((graph.successor[:n_places] >= 0).sum())
        if n_places == 0 or size < _GROWTH * self._divided or size > _PER_STEP * self._steps:
            return None
        self._divided, self._steps = size, 0
        region = _at_most(most, find_regions(graph, n_places, self.resolution))
        former = self.of(np.arange(n_places))
        shared, names = _shared(region, former)
        parents = np.full(len(shared), NONE)
        if len(names):
            parents = np.where(shared.any(axis=1), names[shared.argmax(axis=1)], NONE)
        return Division(region, _keep_names(shared, names), parents)

    def settle(self, division: Division, fragment_ids: IntArray) -> None:
        """Let places belong to the fragments that their regions have become, int64[R]."""
        self._fragment_of = fragment_ids[division.region]

    def merge(self, become: IntArray, n_places: int) -> None:
        """Let places be what they have become, int64[n]; what falls together belongs to where its first part did."""
        merged = np.full(n_places, NONE)
        merged[become[::-1]] = self.of(np.arange(len(become)))[::-1]
        self._fragment_of, self._divided = merged, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the fragment of each place."""
        return {
            "fragment_of": torch.from_numpy(self._fragment_of.copy()),
            "divided": self._divided,
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._fragment_of, self._divided = state["fragment_of"].cpu().numpy().copy(), int(state["divided"])
        self._steps = int(state.get("steps", 0))  # a file of before has none


@numba.njit(cache=True)
def _of(fragment_of: IntArray, places: IntArray) -> IntArray:
    found = np.full(len(places), NONE)
    for row in range(len(places)):
        if 0 <= places[row] < len(fragment_of):
            found[row] = fragment_of[places[row]]
    return found


def find_regions(graph: PlaceGraph, n_places: int, resolution: float) -> IntArray:
    """Divide places so that ways within a region are many and ways between regions few.

    The constant Potts model (Traag, Van Dooren, Nesterov, "Narrow scope for resolution-limit-free community detection",
    Physical Review E 84, 2011, equation 6): the number of ways within all regions, less ``resolution / 2`` times the
    sum of their squared sizes, is largest; found by the Leiden algorithm (Traag, Waltman, van Eck, Scientific Reports
    9, 2019). Two parts of n and m places stay one region where more than ``resolution * n * m`` ways join them, however
    large the rest of the world is.

    :param graph: its edges count once, in whichever direction they were passed
    :param n_places: number of places N
    :param resolution: ways per pair of places above which they belong together
    :return: int64[N], the region of each place, numbered from 0
    """
    import igraph  # here, for it takes long to import

    successor = graph.successor[:n_places]
    before, action = np.nonzero(successor >= 0)
    after = successor[before, action].astype(np.int64)
    ways = np.unique(np.sort(np.stack([before, after], axis=1)[before != after], axis=1), axis=0)
    drawn = igraph.Graph(n=n_places, edges=ways)
    igraph.set_random_number_generator(random.Random(_SEED))
    try:
        found = drawn.community_leiden("CPM", resolution=resolution, n_iterations=-1)
    finally:
        igraph.set_random_number_generator(random)  # its default
    return np.asarray(found.membership, np.int64)


def _at_most(most: int, region: IntArray) -> IntArray:
    """Number regions, int64[N], by their size, the largest first; all beyond the last number allowed are one."""
    rank = np.empty(region.max() + 1, np.int64)
    rank[np.argsort(-np.bincount(region), kind="stable")] = np.arange(len(rank))
    return np.minimum(rank, most - 1)[region]


def _shared(region: IntArray, former: IntArray) -> tuple[npt.NDArray[np.float64], IntArray]:
    """Return how many places each region shares with each former fragment, float64[R, F], and which these are."""
    named = former >= 0
    names, at = np.unique(former[named], return_inverse=True)
    rows, columns = int(region.max()) + 1, len(names)
    shared = np.bincount(region[named] * columns + at, minlength=rows * columns)
    return shared.reshape(rows, columns).astype(np.float64), names


def _keep_names(shared: npt.NDArray[np.float64], names: IntArray) -> IntArray:
    """Return the former fragment of each region, int64[R], so that most places stay where they are; -1 for new ones."""
    from scipy.optimize import linear_sum_assignment  # here, for it takes long to import

    kept = np.full(len(shared), NONE)
    region, name = linear_sum_assignment(shared, maximize=True)
    together = shared[region, name] > 0
    kept[region[together]] = names[name[together]]
    return kept
