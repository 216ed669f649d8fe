"""Where agents are: by what they see, and by where their last step should have led."""

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import torch

from farl.recognition.graph import PlaceGraph
from farl.recognition.layouts import Layouts
from farl.recognition.place_index import Nearest
from farl.recognition.places import Keys, PlaceStore, Similarity

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

LOST = -1
_EQUAL = 1.0 - 1e-5
"""Similarity of what is the same but for rounding."""
_OF_AGENTS = ("here", "_unseen", "_put")


class Located(NamedTuple):
    """Where E agents have come to.

    :ivar places: int64[E]
    :ivar found: bool[E], which of these places were new
    :ivar merged: int64[n], what each of the n places so far has become, where the store was full; None where all are
        what they were
    """

    places: IntArray
    found: BoolArray
    merged: IntArray | None


class Localiser:
    """Follows agents from place to place, and notes in a graph which ways they took.

    Under noise a view alone does not tell a known place from a new one: two views of one place differ by as much as
    views of two places of which little is to be seen. So the graph is asked as well, as in localisation on a
    topological map (Thrun, Burgard, Fox, "Probabilistic Robotics", 2005, chapter 8): the place to which the last action
    has led so far is believed, if the view could be of it. In this order, an agent is

    1. where its action should have led, if the view resembles that place, and no other place for certain
    2. at the place that the view resembles for certain
    3. where its action should have led, though the view does not show it: once, and only where there is noise that may
       have spoilt the view
    4. at a new place

    Who was taken to be somewhere by rule 3 tells nothing of ways until it is seen again.

    :param places: what can be recognised
    :param graph: graph of the same places
    """

    def __init__(self, places: PlaceStore, graph: PlaceGraph) -> None:
        self.places = places
        self.graph = graph
        self.layouts = Layouts(graph.n_actions)
        """Whether ways hold from episode to episode."""
        self.start(0)

    def start(self, n_envs: int) -> None:
        """Begin with E agents, none of which is known to be anywhere."""
        self.here: IntArray = np.full(n_envs, LOST)
        """int64[E], the place of each agent, -1 while it is not known."""
        self._unseen = np.zeros(n_envs, bool)  # where rule 3 was the last to say where an agent is
        self._put = np.zeros(n_envs, bool)  # since the last step
        self.layouts.start(n_envs)

    def put(self, envs: IntArray, keys: Keys) -> IntArray | None:
        """Take note of where some agents have been put, by what they see there.

        :param envs: int64[n], the agents
        :param keys: float32[n, d], each of length 1
        :return: what places have become, as in ``Located``
        """
        recognised = self.places.recognise(keys)
        self._follow_merge(recognised.merged)
        self.graph.make_room(len(self.places))
        self.here[envs], self._unseen[envs], self._put[envs] = recognised.places, False, True
        return recognised.merged

    def follow(self, keys: Keys, actions: IntArray, starts: BoolArray) -> Located:
        """Take in one step of all agents.

        :param keys: float32[E, d], of what they see now, each of length 1
        :param actions: int64[E], what they did
        :param starts: bool[E], where this step was the first of an episode
        """
        before = np.where(starts & ~self._put, LOST, self.here)
        known = len(self.places)
        self.graph.make_room(known)
        expected, is_sure = self.graph.expect(before, actions)
        self.layouts.make_room(known)
        similarity = self.places.similarity(expected, keys)
        if similarity.min() >= max(_EQUAL, self.places.possible):  # nothing else can be as alike
            self.places.refine(expected, keys)
            self.graph.record(before, actions, expected, known)
            self.layouts.observe(before, actions, expected, expected, starts)
            self.here, self._unseen, self._put = expected, np.zeros(len(keys), bool), np.zeros(len(keys), bool)
            return Located(self.here, np.zeros(len(keys), bool), None)
        nearest = self._nearest(keys, expected, similarity)
        is_certain = self.places.is_certain(nearest)
        resembles = similarity >= self.places.possible

        places, as_expected, unseen, is_new = _decide(
            expected, nearest.places, resembles, is_certain, is_sure, self._unseen, self.places.is_noisy
        )
        if is_new.any():
            places[is_new] = self.places.add(keys[is_new], nearest.similarity[is_new])
        seen = ~(is_new | unseen)
        self.places.refine(places[seen], keys[seen])

        self.graph.weaken(before[unseen], actions[unseen])
        tells = as_expected | ~(unseen | self._unseen)
        self.graph.record(np.where(tells, before, LOST), actions, places, len(self.places))
        self.layouts.observe(before, actions, expected, places, starts)
        self.here, self._unseen, self._put = places, unseen, np.zeros(len(places), bool)

        merged = self.places.merge_if_full()
        self._follow_merge(merged)
        return Located(self.here, places >= known, merged)

    def _nearest(self, keys: Keys, expected: IntArray, similarity: Similarity) -> Nearest:
        """Return what keys resemble most: not sought where they equal what was expected, as they mostly do."""
        sought = similarity < _EQUAL
        nearest = Nearest(expected.copy(), similarity.copy(), np.full(len(keys), -1.0, np.float32))
        if sought.any():
            found = self.places.nearest(keys[sought])
            nearest.places[sought] = found.places
            nearest.similarity[sought], nearest.second[sought] = found.similarity, found.second
        return nearest

    def state_dict(self) -> dict[str, Any]:
        """Return where the agents are; places and graph have states of their own."""
        agents = {name: torch.from_numpy(getattr(self, name).copy()) for name in _OF_AGENTS}
        return agents | {"layouts": self.layouts.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name in _OF_AGENTS:
            setattr(self, name, state[name].cpu().numpy().copy())
        if "layouts" in state:  # a file of before has none
            self.layouts.load_state_dict(state["layouts"])

    def _follow_merge(self, merged: IntArray | None) -> None:
        if merged is not None:
            self.graph.merge(merged, len(self.places))
            self.layouts.merge(len(self.places))
            self.here = np.where(self.here >= 0, merged[self.here], LOST)


@numba.njit(cache=True)
def _decide(
    expected: IntArray,
    nearest: IntArray,
    resembles: BoolArray,
    is_certain: BoolArray,
    is_sure: BoolArray,
    unseen_before: BoolArray,
    is_noisy: bool,
) -> tuple[IntArray, BoolArray, BoolArray, BoolArray]:
    """Apply the four rules to E agents; return their places, and by which of the rules 1, 3 and 4 each is there.

    :param expected: int64[E], where their actions should have led
    :param nearest: int64[E], the places that their views resemble most
    :param resembles: bool[E], whether the view resembles what was expected
    :param is_certain: bool[E], whether it is that of the nearest place for certain
    :param is_sure: bool[E], whether votes are left for what was expected
    """
    places = nearest.copy()
    as_expected, unseen = np.zeros(len(places), np.bool_), np.zeros(len(places), np.bool_)
    is_new = np.zeros(len(places), np.bool_)
    for env in range(len(places)):
        if resembles[env] and (nearest[env] == expected[env] or not is_certain[env]):
            as_expected[env], places[env] = True, expected[env]
        elif is_certain[env]:
            continue
        elif is_noisy and is_sure[env] and not unseen_before[env]:
            unseen[env], places[env] = True, expected[env]
        else:
            is_new[env] = True
    return places, as_expected, unseen, is_new
