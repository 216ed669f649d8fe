"""The ways between fragments: portals, the distances between them, and the goals that stored fragments hold.

A portal is a free cell that two fragments share. What lies between the portals and the goals of one fragment is
measured once, when the fragment is left; the ways across fragments are put together from that (as in hierarchical
path planning: Botea, Mueller and Schaeffer 2004).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from farl.maps.compiled import compiled
from farl.maps.geometry import Int32Array, IntArray

CROSSING = 3
"""Steps that every portal on the way counts for. Recalling a fragment costs a step or two; and without it, ways of
the same length through different fragments would make agents turn back and forth between them."""
FAR = 1 << 28
"""Distance of what cannot be reached."""


class Portal(NamedTuple):
    """A free cell that two fragments share; row and column by the odometry."""

    first: int
    second: int
    row: int
    col: int

    def other(self, fragment_id: int) -> int:
        """The fragment on the other side."""
        return self.second if fragment_id == self.first else self.first


class Routes(NamedTuple):
    """What can be reached from a fragment through its portals.

    :ivar portals: int64[K, 3], row and column of each portal of the fragment, and the fragment behind it
    :ivar goals: int64[G, 4], row, column, heading and gain of the goals in all other fragments
    :ivar steps: int32[K, G], steps from each portal to each goal
    """

    portals: IntArray
    goals: IntArray
    steps: Int32Array


class Roadmap:
    """The portals and goals of one agent's fragments."""

    def __init__(self) -> None:
        self.portals: dict[int, Portal] = {}
        """The portals by number; numbers are rows of the distances."""
        self._of_fragment: dict[int, list[int]] = {}
        self._goals: dict[int, IntArray] = {}
        self._to_goals: dict[int, Int32Array] = {}
        self._steps: Int32Array = np.full((16, 16), FAR, np.int32)

    def add(self, portal: Portal) -> int:
        """Add a portal and return its number; its distances are unknown yet."""
        number = next(i for i in range(len(self.portals) + 1) if i not in self.portals)
        if number == len(self._steps):
            self._steps = np.pad(self._steps, ((0, number), (0, number)), constant_values=FAR)
        self.portals[number] = portal
        self._steps[number], self._steps[:, number] = FAR, FAR
        for fragment_id in portal[:2]:
            self._of_fragment.setdefault(fragment_id, []).append(number)
            if fragment_id in self._to_goals:
                self._to_goals[fragment_id] = np.pad(self._to_goals[fragment_id], ((0, 1), (0, 0)), constant_values=FAR)
        return number

    def numbers(self, fragment_id: int) -> list[int]:
        """The numbers of a fragment's portals."""
        return self._of_fragment.get(fragment_id, [])

    def cells(self, fragment_id: int) -> IntArray:
        """int64[K, 2], the cells of a fragment's portals."""
        return np.array([self.portals[number][2:] for number in self.numbers(fragment_id)], np.int64).reshape(-1, 2)

    def joined(self, a: int, b: int) -> bool:
        """Whether two fragments share a portal."""
        return any(b in self.portals[number][:2] for number in self.numbers(a))

    def goals(self, fragment_id: int) -> IntArray:
        """int64[G, 4], the goals of a stored fragment."""
        return self._goals.get(fragment_id, np.zeros((0, 4), np.int64))

    def survey(self, fragment_id: int, between: Int32Array, goals: IntArray, to_goals: Int32Array) -> None:
        """Take in what was measured in a fragment that is left.

        :param between: int32[K, K], steps between its portals
        :param goals: int64[G, 4], row, column, heading and gain of its goals
        :param to_goals: int32[K, G], steps from its portals to its goals
        """
        numbers = self.numbers(fragment_id)
        self._steps[np.ix_(numbers, numbers)] = np.minimum(self._steps[np.ix_(numbers, numbers)], between)
        self._goals[fragment_id], self._to_goals[fragment_id] = goals, to_goals

    def survey_portal(self, fragment_id: int, number: int, between: Int32Array, to_goals: Int32Array) -> None:
        """Take in what was measured in a stored fragment from a portal that was added to it: int32[K] and int32[G]."""
        numbers = self.numbers(fragment_id)
        self._steps[number, numbers] = np.minimum(self._steps[number, numbers], between)
        self._steps[numbers, number] = self._steps[number, numbers]
        self._to_goals[fragment_id][numbers.index(number)] = to_goals

    def enter(self, fragment_id: int) -> None:
        """A fragment is taken up: its goals are now looked for in its map."""
        self._goals.pop(fragment_id, None)
        self._to_goals.pop(fragment_id, None)

    def forget(self, fragment_id: int) -> None:
        """Take a fragment out, with its portals and goals."""
        self.enter(fragment_id)
        for number in self._of_fragment.pop(fragment_id, []):
            portal = self.portals.pop(number)
            other = portal.other(fragment_id)
            row = self._of_fragment[other].index(number)
            del self._of_fragment[other][row]
            if other in self._to_goals:
                self._to_goals[other] = np.delete(self._to_goals[other], row, axis=0)
            self._steps[number], self._steps[:, number] = FAR, FAR

    def routes(self, fragment_id: int) -> Routes:
        """Work out the shortest ways from a fragment's portals to the goals of all others."""
        sources = self.numbers(fragment_id)
        holders = [holder for holder, goals in self._goals.items() if len(goals) and holder != fragment_id]
        portals = np.array(
            [(*self.portals[number][2:], self.portals[number].other(fragment_id)) for number in sources], np.int64
        ).reshape(-1, 3)
        if not holders or not sources:
            return Routes(portals, np.zeros((0, 4), np.int64), np.zeros((len(sources), 0), np.int32))
        n = max(self.portals) + 1
        outside = self._steps[:n, :n].copy()
        # Ways through the fragment itself begin with another of its portals: left in, they would tie, and agents turn
        # back.
        outside[np.ix_(sources, sources)] = FAR
        reach = _shortest(outside, np.array(sources))
        steps = [
            (reach[:, self.numbers(holder), None] + self._to_goals[holder][None]).min(axis=1)
            if self.numbers(holder)
            else np.full((len(sources), len(self._goals[holder])), FAR, np.int32)
            for holder in holders
        ]
        return Routes(portals, np.concatenate([self._goals[h] for h in holders]), np.concatenate(steps, axis=1))

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as tensors and lists."""
        return {
            "portals": {number: list(portal) for number, portal in self.portals.items()},
            "steps": torch.from_numpy(self._steps.copy()),
            "of_fragment": {fragment_id: list(numbers) for fragment_id, numbers in self._of_fragment.items()},
            "goals": {fragment_id: torch.from_numpy(goals.copy()) for fragment_id, goals in self._goals.items()},
            "to_goals": {fragment_id: torch.from_numpy(steps.copy()) for fragment_id, steps in self._to_goals.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.portals = {number: Portal(*portal) for number, portal in state["portals"].items()}
        self._steps = state["steps"].numpy().copy()
        self._of_fragment = {fragment_id: list(numbers) for fragment_id, numbers in state["of_fragment"].items()}
        self._goals = {fragment_id: goals.numpy().copy() for fragment_id, goals in state["goals"].items()}
        self._to_goals = {fragment_id: steps.numpy().copy() for fragment_id, steps in state["to_goals"].items()}


@compiled
def _shortest(steps: Any, sources: Any) -> Any:
    """Dijkstra's algorithm over a dense matrix, int32[P, P], from each source: int32[K, P]."""
    n = len(steps)
    reach = np.full((len(sources), n), FAR, np.int32)
    done = np.empty(n, np.bool_)
    for i in range(len(sources)):
        done[:] = False
        row = reach[i]
        row[sources[i]] = 0
        while True:
            nearest, best = -1, FAR
            for j in range(n):
                if not done[j] and row[j] < best:
                    nearest, best = j, row[j]
            if nearest < 0:
                break
            done[nearest] = True
            for j in range(n):
                through = best + steps[nearest, j] + CROSSING
                if through < row[j]:
                    row[j] = through
    return reach
