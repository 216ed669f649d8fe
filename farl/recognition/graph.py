"""What each action led to from each place, and the shortest ways along it."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

UNTRIED = -1

_TESTED = 64
"""Pairs of steps without which nothing is said of what undoes an action."""
_UNDONE = 0.75
"""Share of them that come back, where one action undoes another."""
_ARRAYS = ("successor", "lead", "picked", "undone_by", "_tested", "_came_back")


class PlaceGraph:
    """A directed graph: nodes are places, edges what an action led to in most cases.

    The majority is kept in constant memory (Boyer, Moore, "MJRTY: a fast majority vote algorithm", 1991): an outcome
    that agrees adds to its lead, one that does not takes from it, and replaces it where there is none left.

    Which action undoes which, such as turning right what turning left has done, is learnt from ways there and back. The
    way back from a new place is then known without having been tried; it has no vote, so that the first outcome counts.

    :param n_actions: number of actions A
    """

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions
        self.successor: Int32Array = np.full((0, n_actions), UNTRIED, np.int32)
        """int32[n, A], the place that each action leads to, -1 where it was never tried. Rows may be spare room."""
        self.lead: Int32Array = np.zeros((0, n_actions), np.int32)
        """int32[n, A], votes by which that place leads."""
        self.picked: Int32Array = np.zeros(0, np.int32)
        """int32[n], how often a place was picked as a target."""
        self.changes = 0
        """Goes up whenever an edge changes."""
        self.undone_by: IntArray = np.full(n_actions, UNTRIED)
        """int64[A], the action that undoes each, -1 where none does, or none is known to."""
        self._tested, self._came_back = (np.zeros((n_actions, n_actions), np.int64) for _ in range(2))

    def record(self, before: IntArray, actions: IntArray, after: IntArray, n_places: int) -> None:
        """Take in one step of E agents; those whose place before is -1 are left out.

        :param before: int64[E], places
        :param actions: int64[E]
        :param after: int64[E], places
        :param n_places: number of places there are by now
        """
        self.make_room(n_places)
        self.changes += _vote(self.successor, self.lead, before, actions, after)
        if _compare(self.successor, self.lead, before, actions, after, self._tested, self._came_back, self.undone_by):
            before, actions = np.nonzero(self.successor >= 0)
            after = self.successor[before, actions].astype(np.int64)
        self.changes += _know_way_back(self.successor, self.undone_by, before, actions, after)

    def expect(self, places: IntArray, actions: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """Return where actions lead, int64[E], -1 where they were never tried, and where votes for it are left,
        bool[E].

        :param places: int64[E], -1 where it is not known
        :param actions: int64[E]
        """
        if not len(self.picked):
            return np.full(len(places), UNTRIED), np.zeros(len(places), bool)
        return _expect(self.successor, self.lead, places, actions)

    def weaken(self, places: IntArray, actions: IntArray) -> None:
        """Take a vote from what actions, int64[n], lead to from places, int64[n], all of them tried."""
        np.subtract.at(self.lead, (places, actions), 1)
        self.lead[places, actions] = np.maximum(self.lead[places, actions], 0)

    def close(self, places: IntArray, allowed: npt.NDArray[np.bool_]) -> None:
        """Let untried actions that cannot be taken lead nowhere from where they cannot; they are open again once they
        can.

        :param places: int64[E], -1 where it is not known
        :param allowed: bool[E, A]
        """
        known = places >= 0
        rows, is_open = places[known], allowed[known]
        env, action = np.nonzero(~is_open & (self.successor[rows] == UNTRIED))
        self.successor[rows[env], action] = rows[env]  # without a vote: the first outcome takes its place
        env, action = np.nonzero(is_open & (self.successor[rows] == rows[:, None]) & (self.lead[rows] == 0))
        self.successor[rows[env], action] = UNTRIED
        self.changes += len(env)

    def make_room(self, n_places: int) -> None:
        """Hold at least so many places."""
        if n_places > len(self.picked):
            more = max(n_places - len(self.picked), len(self.picked), 256)
            self.successor = np.concatenate([self.successor, np.full((more, self.n_actions), UNTRIED, np.int32)])
            self.lead = np.concatenate([self.lead, np.zeros((more, self.n_actions), np.int32)])
            self.picked = np.concatenate([self.picked, np.zeros(more, np.int32)])

    def merge(self, become: IntArray, n_places: int) -> None:
        """Let places be what they have become, int64[n]; of edges that fall together the one with the larger lead
        stays."""
        old = self.successor[: len(become)], self.lead[: len(become)], self.picked[: len(become)]
        order = np.argsort(old[1].max(axis=1, initial=0), kind="stable")  # the largest lead is written last
        self.successor = np.full((n_places, self.n_actions), UNTRIED, np.int32)
        self.lead, self.picked = np.zeros((n_places, self.n_actions), np.int32), np.zeros(n_places, np.int32)
        for row in order[order < len(old[2])]:
            tried = old[0][row] >= 0
            self.successor[become[row], tried] = become[old[0][row][tried]]
            self.lead[become[row], tried] = old[1][row][tried]
            self.picked[become[row]] += old[2][row]
        self.changes += 1

    def state_dict(self) -> dict[str, Any]:
        """Return all edges and counts."""
        arrays = {name.strip("_"): torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}
        return arrays | {"changes": self.changes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name in _ARRAYS:
            if name.strip("_") in state:  # a file of before knows nothing of what undoes an action
                setattr(self, name, state[name.strip("_")].cpu().numpy().copy())
        self.changes = int(state["changes"])


@numba.njit(cache=True)
def _expect(
    successor: Int32Array, lead: Int32Array, places: IntArray, actions: IntArray
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    expected, is_sure = np.full(len(places), UNTRIED), np.zeros(len(places), np.bool_)
    for env in range(len(places)):
        if places[env] >= 0:
            expected[env] = successor[places[env], actions[env]]
            is_sure[env] = expected[env] >= 0 and lead[places[env], actions[env]] > 0
    return expected, is_sure


@numba.njit(cache=True)
def _vote(successor: Int32Array, lead: Int32Array, before: IntArray, actions: IntArray, after: IntArray) -> int:
    changes = 0
    for env in range(len(before)):
        place, action = before[env], actions[env]
        if place < 0 or after[env] < 0:
            continue
        if successor[place, action] == after[env]:
            lead[place, action] += 1
        elif lead[place, action] > 0:
            lead[place, action] -= 1
        else:
            successor[place, action], lead[place, action] = after[env], 1
            changes += 1
    return changes


@numba.njit(cache=True)
def _compare(
    successor: Int32Array,
    lead: Int32Array,
    before: IntArray,
    actions: IntArray,
    after: IntArray,
    tested: IntArray,
    came_back: IntArray,
    undone_by: IntArray,
) -> bool:
    """Count which actions lead back to where each of E agents has just come from, as far as they were tried; return
    whether what undoes some action is another than it was."""
    changed = False
    for env in range(len(before)):
        place, following, action = before[env], after[env], actions[env]
        if place < 0 or following < 0 or place == following:
            continue
        undoes, best = UNTRIED, _UNDONE
        for back in range(successor.shape[1]):
            if lead[following, back] > 0:
                tested[action, back] += 1
                came_back[action, back] += successor[following, back] == place
            if tested[action, back] >= _TESTED and came_back[action, back] >= best * tested[action, back]:
                undoes, best = back, came_back[action, back] / tested[action, back]
        changed |= undoes != undone_by[action]
        undone_by[action] = undoes
    return changed


@numba.njit(cache=True)
def _know_way_back(
    successor: Int32Array, undone_by: IntArray, before: IntArray, actions: IntArray, after: IntArray
) -> int:
    """Let untried actions lead back that undo what led somewhere, and return how many."""
    changes = 0
    for row in range(len(before)):
        place, following, back = before[row], after[row], undone_by[actions[row]]
        if place >= 0 and following >= 0 and place != following and back >= 0 and successor[following, back] == UNTRIED:
            successor[following, back] = place
            changes += 1
    return changes


@numba.njit(cache=True)
def reversed_edges(successor: Int32Array) -> tuple[Int32Array, Int32Array]:
    """Return which edges lead to each place: those of place p are ``edges[first[p]:first[p + 1]]``, edge ``q * A + a``
    being action a at place q."""
    n_places, n_actions = successor.shape
    first = np.zeros(n_places + 1, np.int32)
    for place in range(n_places):
        for action in range(n_actions):
            if successor[place, action] >= 0:
                first[successor[place, action] + 1] += 1
    for place in range(n_places):
        first[place + 1] += first[place]
    edges = np.empty(first[n_places], np.int32)
    filled = first[:-1].copy()
    for place in range(n_places):
        for action in range(n_actions):
            following = successor[place, action]
            if following >= 0:
                edges[filled[following]] = place * n_actions + action
                filled[following] += 1
    return first, edges
