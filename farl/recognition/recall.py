"""Fragments that are the regions of a graph of places."""

from typing import Any

import numpy as np
import torch

from farl.fragmentation.recall import Recall, Recognition, Reorganisation
from farl.fragmentation.sight import Sight
from farl.memory import LongTermMemory
from farl.recognition.graph import PlaceGraph
from farl.recognition.places import PlaceStore
from farl.recognition.regions import NONE, IntArray, Regions


class RegionRecall(Recall):
    """An environment is in the fragment of the place that it is at.

    What was never seen before belongs to the fragment from which it was seen. Between rollouts fragments become the
    regions of the graph that has been walked by then: one that turned out to be several rooms is divided, several that
    turned out to be one room are joined. No criterion has to notice a border in the moment it is passed.

    :param memory: what holds the fragments
    :param places: what can be recognised
    :param graph: which place each action leads to
    :param regions: the fragment of each place
    """

    def __init__(self, memory: LongTermMemory[Any], places: PlaceStore, graph: PlaceGraph, regions: Regions) -> None:
        self.memory = memory
        self.places = places
        self.graph = graph
        self.regions = regions
        self._here: IntArray = np.empty(0, np.int64)

    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        """Return the fragment of the place of each environment, where it is another than the active one."""
        found = self.regions.of(_places(sight)[envs])
        return Recognition(np.where(found == active[envs], NONE, found))

    def advance(self, sight: Sight, active: IntArray, recognition: Recognition) -> None:
        """Let new places belong to the fragments in which they were seen."""
        self._here = _places(sight)
        self.regions.claim(self._here, active)

    def reorganise(self, active: IntArray) -> Reorganisation:
        """Let fragments be the regions of the graph, if it has grown."""
        most = len(self.places)
        if self.memory.capacity is not None:  # fragments in use may be none of the regions
            most = max(1, self.memory.capacity - len(set(active.tolist())))
        division = self.regions.divide(self.graph, len(self.places), most)
        if division is None or len(self._here) != len(active):
            return Reorganisation(active, [])
        fragment_ids, opened = division.fragment_ids.copy(), []
        kept = [*active.tolist(), *fragment_ids[fragment_ids != NONE].tolist()]
        for region in np.flatnonzero(fragment_ids == NONE).tolist():
            fragment_ids[region] = new = self.memory.open(keep=kept)
            kept.append(new)
            parent = int(division.parents[region])
            opened.append((new, int(active[0]) if parent == NONE else parent))
        self.regions.settle(division, fragment_ids)
        here = self.regions.of(self._here)
        now = np.where(here == NONE, active, here)
        for fragment_id in set(self.memory.ids) - set(fragment_ids.tolist()) - set(now.tolist()):
            self.memory.evict(fragment_id)
        return Reorganisation(now, opened)

    def state_dict(self) -> dict[str, Any]:
        """Return the fragment of each place, and where the environments are."""
        return {"regions": self.regions.state_dict(), "here": torch.from_numpy(self._here.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.regions.load_state_dict(state["regions"])
        self._here = state["here"].cpu().numpy().copy()


def _places(sight: Sight) -> IntArray:
    if sight.places is None:
        raise ValueError("recall by regions needs places, one for each environment")
    return sight.places
