"""Ways of a robot over the crossings between its fragments."""

import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import dijkstra

from farl.agents.robot_map import RobotMap, canvas_of
from farl.slam.planning import clearance, cost_at, views, ways
from farl.slam.poses import compose

FloatArray = npt.NDArray[np.float64]

_DETOUR = 1.3  # how much longer ways are than straight lines, where they were never measured
_KEPT = 12  # views that are remembered of a stored fragment
_TOLL = 0.2  # metres that every change of fragment costs


class Taste(NamedTuple):
    """What makes a view worth it; see ``farl.agents.robot.FARMapRobot``.

    :ivar reluctance: metres added to every way
    :ivar least: square metres below which nothing is worth it
    :ivar reach: metres from a place that count as seen from there
    :ivar radius: metres, of the robot
    :ivar nearest: go to the nearest view, whatever it shows
    """

    reluctance: float
    least: float
    reach: float
    radius: float
    nearest: bool

    def worth(self, gain: FloatArray, metres: FloatArray) -> FloatArray:
        """What views are worth, by square metres to be seen and metres to drive, float64[N]."""
        return np.asarray((np.minimum(gain, 1.0) if self.nearest else gain) / (metres + self.reluctance))


class Goal(NamedTuple):
    """The best view outside the current fragment.

    :ivar fragment: has it; -1 for none
    :ivar number: the view's number among those that are remembered of the fragment
    :ivar worth: its worth
    :ivar hop: the fragment to go to first
    :ivar at: float64[2], where that is entered, in the current fragment; None: where the robot is
    """

    fragment: int
    number: int
    worth: float
    hop: int
    at: FloatArray | None


NOWHERE = Goal(-1, -1, 0.0, -1, None)


def look_through(robot: RobotMap, fragment: int, taste: Taste) -> None:
    """Note in a stored fragment its best views, and the ways in it.

    ``goals`` are x, y and square metres of the views, ``sides`` the fragments to which it has crossings, and ``metres``
    the ways from each crossing to all crossings and then to all goals.
    """
    stored = robot.memory[fragment]
    been = stored["been"].numpy()
    sides = [other for one, other in robot.crossings if one == fragment]
    places = [robot.crossings[fragment, other] for other in sides]
    roots = places or list(been[-1:])
    stored |= {"goals": [], "sides": sides, "metres": []}
    if not roots:
        return
    canvas = canvas_of(stored, robot.rules.resolution)
    canvas.surround(taste.reach)
    for at in roots:
        canvas.make_room(np.array([*at, 0.0]), 1.0)
    clear = clearance(canvas, taste.radius)
    costs = [ways(canvas, np.array([*at, 0.0]), taste.radius, clear) for at in roots]
    nearest = np.minimum.reduce(costs)
    found = views(canvas, nearest, robot.elsewhere(canvas, fragment), been, taste.reach, taste.least)
    goals = found[np.argsort(-found[:, 2], kind="stable")[:_KEPT], :3]
    ends = [*places, *goals[:, :2]]
    stored["goals"] = goals.tolist()
    stored["metres"] = [[cost_at(cost, canvas, end) for end in ends] for cost in costs[: len(sides)]]


def promising(robot: RobotMap, taste: Taste, least: float) -> list[int]:
    """The stored fragments of which a view might be worth more than ``least``, by the straight line to it."""
    pose = robot.world_pose
    found = []
    for other in robot.others:
        goals = _goals(robot, other)
        if len(goals):
            there = compose(robot.graph.poses[other], np.concatenate([goals[:, :2], np.zeros((len(goals), 1))], axis=1))
            if taste.worth(goals[:, 2], np.hypot(*(there[:, :2] - pose[:2]).T)).max() > least:
                found.append(other)
    return found


class Travel:
    """Ways from the robot to all fragments.

    Its vertices are both sides of every crossing and, at last, the robot. A fragment that knows the place where the
    robot is can be entered there.

    :param cost: cost of the ways in the current fragment
    :param barred: fragments that are not entered from here
    """

    def __init__(self, robot: RobotMap, cost: Any, taste: Taste, barred: Collection[int] = ()) -> None:
        self._robot = robot
        self._sides = list(robot.crossings)
        self._number = {side: i for i, side in enumerate(self._sides)}
        self._entered = dict(_entries(robot, taste, barred))
        n = len(self._sides)
        metres = np.full((n + 1, n + 1), np.inf)
        for i, (a, b) in enumerate(self._sides):
            metres[i, self._number[b, a]] = _TOLL
            for other, away in self._inside(a, b):
                metres[i, self._number[a, other]] = away
            if a == robot.fragment and b not in barred:
                metres[n, i] = cost_at(cost, robot.canvas, robot.crossings[a, b])
            elif a in self._entered:
                metres[n, i] = _TOLL + self._from_entry(a, robot.crossings[a, b])
        # What is 0 or infinite is no edge to SciPy.
        edges = np.where(np.isfinite(metres), metres + 1e-3, 0.0)
        self._from_here, self._before = dijkstra(edges, indices=n, return_predecessors=True)

    def best(self, fragments: Iterable[int], taste: Taste, wanted: int, bonus: float) -> Goal:
        """The best view of some stored fragments.

        :param wanted: the fragment whose views count for more
        :param bonus: how many times as much
        """
        found = NOWHERE
        for fragment in fragments:
            goals = _goals(self._robot, fragment)
            metres, first = self._to_goals(fragment, goals)
            worth = taste.worth(goals[:, 2], metres) * (bonus if fragment == wanted else 1.0)
            if len(worth) and worth.max() > found.worth:
                k = int(worth.argmax())
                found = Goal(fragment, k, float(worth[k]), *self._first_hop(fragment, int(first[k])))
        return found

    def _to_goals(self, fragment: int, goals: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Metres to the views of a fragment, and the side by which it is entered on the way; -1: here."""
        metres, first = np.full(len(goals), np.inf), np.full(len(goals), -1, np.int64)
        if fragment in self._entered:
            metres = _TOLL + np.array([self._from_entry(fragment, at) for at in goals[:, :2]])
        stored = self._robot.memory[fragment]
        for i, (one, other) in enumerate(self._sides):
            if one != fragment or not np.isfinite(self._from_here[i]):
                continue
            if other in stored["sides"]:
                inside = np.array(stored["metres"][stored["sides"].index(other)][len(stored["sides"]) :])
            else:
                inside = _DETOUR * np.hypot(*(goals[:, :2] - self._robot.crossings[one, other]).T)
            closer = self._from_here[i] + inside < metres
            metres[closer], first[closer] = (self._from_here[i] + inside)[closer], i
        return metres, first

    def _first_hop(self, fragment: int, side: int) -> tuple[int, FloatArray | None]:
        """The fragment that is entered first on the way to a side, and where."""
        if side < 0:
            return fragment, None
        at = side
        while self._before[at] != len(self._sides):
            at = int(self._before[at])
        one, other = self._sides[at]
        return (other, self._robot.crossings[one, other]) if one == self._robot.fragment else (one, None)

    def _inside(self, fragment: int, side: int) -> Iterator[tuple[int, float]]:
        """Ways in a fragment from one of its crossings to the others: to which, and metres."""
        stored = self._robot.memory[fragment] if fragment != self._robot.fragment else {}
        known = stored.get("sides", [])
        at = self._robot.crossings[fragment, side]
        for one, other in self._sides:
            if one != fragment or other == side:
                continue
            if side in known and other in known:
                yield other, stored["metres"][known.index(side)][known.index(other)]
            else:
                yield other, _DETOUR * math.dist(at, self._robot.crossings[fragment, other])

    def _from_entry(self, fragment: int, place: FloatArray) -> float:
        canvas, cost = self._entered[fragment]
        return cost_at(cost, canvas, place)


def _entries(robot: RobotMap, taste: Taste, barred: Collection[int]) -> Iterator[tuple[int, Any]]:
    """The stored fragments that can be entered where the robot is, with their maps and the ways in them."""
    for other, pose in robot.enterable():
        if other in barred:
            continue
        canvas = canvas_of(robot.memory[other], robot.rules.resolution)
        canvas.make_room(pose, 1.0)
        yield other, (canvas, ways(canvas, pose, taste.radius))


def _goals(robot: RobotMap, fragment: int) -> FloatArray:
    return np.array(robot.memory[fragment].get("goals", []), np.float64).reshape(-1, 3)
