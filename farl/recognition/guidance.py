"""The loops of ``Guide``, compiled: over agents, and over the places around each."""

import numba
import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

_PATIENCE_PER_HOP, _PATIENCE = 2, 20


@numba.njit(cache=True)
def choose(
    successor: Int32Array,
    picked: Int32Array,
    places: IntArray,
    starts: BoolArray,
    found: BoolArray,
    worth: npt.NDArray[np.float64],
    gamma: float,
    targets: IntArray,
    distance: IntArray,
    patience: IntArray,
    hops: Int32Array,
    exhausted: BoolArray,
    away: Int32Array,
    queue: Int32Array,
    gained: npt.NDArray[np.float64],
) -> BoolArray:
    """Choose targets for those of E agents that need one, in turn; return whose way has to be found, bool[E].

    :param exhausted: bool[n], from where no untried action can be reached; written
    :param away: int32[n], -1 everywhere; room to search in, as is ``queue``, int32[n]
    :param gained: float64[E], zeros; written
    """
    anew = np.zeros(len(places), np.bool_)
    for env in range(len(places)):
        place = places[env]
        if place < 0:
            continue
        far = np.int64(hops[env, place]) if targets[env] >= 0 else -1
        if not (starts[env] or far < 0 or distance[env] == 0 or patience[env] <= 0):
            gained[env] = distance[env] - far
            distance[env] = far
            continue
        if targets[env] >= 0 and found[env] and not starts[env]:
            picked[targets[env]] -= 1  # not in vain
        target = -1
        if not exhausted[place]:
            target = pick_target(successor, picked, worth, place, gamma, exhausted, away, queue)
        targets[env], distance[env] = target, -1
        if target >= 0:
            picked[target] += 1
            if target == place:
                distance[env] = 0  # the next step picks anew: no way is needed
            else:
                anew[env] = True
    return anew


@numba.njit(cache=True)
def lead(
    envs: IntArray,
    places: IntArray,
    n_actions: int,
    first: Int32Array,
    edges: Int32Array,
    targets: IntArray,
    distance: IntArray,
    patience: IntArray,
    hops: Int32Array,
    ways: Int32Array,
) -> None:
    """Find the ways of some agents, int64[n], to their new targets; ``first`` and ``edges`` as for ``ways_to``."""
    for env in envs:
        ways_to(targets[env], n_actions, first, edges, hops[env], ways[env])
        distance[env] = hops[env, places[env]]
        patience[env] = _PATIENCE_PER_HOP * distance[env] + _PATIENCE


@numba.njit(cache=True)
def say(
    successor: Int32Array,
    places: IntArray,
    preferred: IntArray,
    distance: IntArray,
    ways: Int32Array,
    actions: IntArray,
) -> None:
    """Write what E agents are to do, into int64[E] of -1: the way on, or at its end what was not tried there."""
    n_actions = successor.shape[1]
    for env in range(len(places)):
        place = places[env]
        if place < 0:
            continue
        if distance[env] > 0:
            actions[env] = ways[env, place]
        elif distance[env] == 0:
            for later in range(n_actions):  # none is left, if another agent was quicker
                action = (preferred[env] + later) % n_actions
                if successor[place, action] < 0:
                    actions[env] = action
                    break


@numba.njit(cache=True)
def pick_target(
    successor: Int32Array,
    picked: Int32Array,
    worth: npt.NDArray[np.float64],
    start: int,
    gamma: float,
    exhausted: BoolArray,
    away: Int32Array,
    queue: Int32Array,
) -> int:
    """Return the best place with an untried action that can be reached from ``start``, -1 if there is none.

    The best has the largest ``worth * gamma ** distance / sqrt(1 + 4 times picked)``: near ones, and of those that
    were picked before the fresher ones. Where there is none, all places that can be reached are marked as exhausted.

    :param worth: float64[A], positive and at most 1, of each action; a place is worth its best untried one
    :param exhausted: bool[n], written
    :param away: int32[n], -1 everywhere, and so again in the end: many places are known, few are looked at
    :param queue: int32[n], written
    """
    n_actions = successor.shape[1]
    queue[0], away[start] = start, 0
    head, tail = 0, 1
    best, best_score = -1, 0.0
    while head < tail:
        place = queue[head]
        head += 1
        promise = gamma ** away[place]
        if promise <= best_score:
            break  # whatever comes is farther
        best_untried = 0.0
        for action in range(n_actions):
            following = successor[place, action]
            if following < 0:
                best_untried = max(best_untried, worth[action])
            elif away[following] < 0:
                away[following] = away[place] + 1
                queue[tail] = following
                tail += 1
        if best_untried > 0.0:
            score = best_untried * promise / np.sqrt(1.0 + 4.0 * picked[place])
            if score > best_score:
                best, best_score = place, score
    if best < 0 and head == tail:
        for number in range(tail):
            exhausted[queue[number]] = True
    for number in range(tail):
        away[queue[number]] = -1
    return best


@numba.njit(cache=True)
def ways_to(
    target: int, n_actions: int, first: Int32Array, edges: Int32Array, hops: Int32Array, ways: Int32Array
) -> None:
    """Write how far it is to a place from each other, and the first action of the shortest way; -1 where there is none.

    :param first: as ``reversed_edges`` returns it, with ``edges``
    :param hops: int32[n], written
    :param ways: int32[n], written
    """
    hops[:] = -1
    ways[:] = -1
    queue = np.empty(len(first) - 1, np.int32)
    queue[0], hops[target] = target, 0
    head, tail = 0, 1
    while head < tail:
        place = queue[head]
        head += 1
        for number in range(first[place], first[place + 1]):
            source, action = edges[number] // n_actions, edges[number] % n_actions
            if hops[source] < 0:
                hops[source], ways[source] = hops[place] + 1, action
                queue[tail] = source
                tail += 1
