"""Where a robot goes next: views in its fragment, views in others, and the ways between them by the crossings."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import dijkstra

from farl.agents.robot_driving import Course
from farl.agents.robot_map import RobotMap, canvas_of
from farl.slam.merging import merged
from farl.slam.occupancy import Canvas
from farl.slam.planning import path_to, views, ways
from farl.slam.poses import compose, inverse

FloatArray = npt.NDArray[np.float64]


class Taste(NamedTuple):
    """What makes a view worth it; see `farl.agents.robot.FARMapRobot`.

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


_DETOUR = 1.3  # how much longer ways are than straight lines
_KEPT = 12  # views that are remembered of a stored fragment


def choose(robot: RobotMap, course: Course, taste: Taste, stale: set[int]) -> bool:
    """Choose the way to the best view; False where there is none, in any fragment.

    :param stale: fragments whose remembered views have to be looked through again; changed
    """
    cost = ways(robot.canvas, robot.pose, taste.radius)
    mask = robot.elsewhere(robot.canvas, robot.fragment)
    here = views(robot.canvas, cost, mask, np.array(robot.been).reshape(-1, 2), taste.reach, taste.least)
    worth = _worth(here[:, 2], here[:, 3], taste)
    order = np.argsort(-worth)
    best = worth[order[0]] if len(order) else 0.0
    while robot.others:
        travel = _Travel(robot, cost)
        target, value = _best_elsewhere(robot, travel, taste)
        if target < 0 or value <= best:
            break
        if target in stale:
            stale.discard(target)
            robot.memory[target]["goals"] = look_through(robot, target, taste)
            continue
        hop, at = travel.first_hop(target)
        way = path_to(cost, robot.canvas, float(at[0]), float(at[1])) if hop >= 0 else np.zeros((0, 2))
        if len(way):
            course.follow(way, hop)
            return True
        robot.memory[target]["goals"] = np.zeros((0, 3)).tolist()  # no way leads there
    for k in order:
        way = path_to(cost, robot.canvas, float(here[k, 0]), float(here[k, 1]))
        if len(way):
            course.follow(way)
            return True
    return False


def choose_globally(robot: RobotMap, course: Course, taste: Taste) -> tuple[bool, int]:
    """Choose the way to the best view on one map, of all fragments as the graph lays them.

    :return: whether there is one, and cells of that map's bounding box
    """
    resolution = robot.rules.resolution
    whole = Canvas.of(*merged(robot.fragments(0).items(), robot.graph, resolution), resolution)
    whole.make_room(robot.world_pose, 1.0)
    places = [np.array(robot.been).reshape(-1, 2), *(robot.memory[other]["been"].numpy() for other in robot.others)]
    frames = [robot.fragment, *robot.others]
    been = np.concatenate([_placed(robot.graph.poses[frame], at) for frame, at in zip(frames, places, strict=True)])
    cost = ways(whole, robot.world_pose, taste.radius)
    nothing = np.zeros(whole.cells.shape, np.uint8)
    found = views(whole, cost, nothing, been, taste.reach, taste.least)
    for k in np.argsort(-_worth(found[:, 2], found[:, 3], taste)):
        way = path_to(cost, whole, float(found[k, 0]), float(found[k, 1]))
        if len(way):
            course.follow(_placed(inverse(robot.graph.poses[robot.fragment]), way))
            return True, whole.area
    return False, whole.area


def _placed(pose: FloatArray, places: FloatArray) -> FloatArray:
    """Places in a frame at a pose, float64[n, 2], in the frame that the pose is given in."""
    return compose(pose, np.concatenate([places, np.zeros((len(places), 1))], axis=1))[:, :2]


def look_through(robot: RobotMap, fragment: int, taste: Taste) -> list[list[float]]:
    """The best views of a stored fragment: x, y and square metres of each."""
    stored = robot.memory[fragment]
    been = stored["been"].numpy()
    if not len(been):
        return []
    canvas = canvas_of(stored, robot.rules.resolution)
    canvas.make_room(np.array([*been[-1], 0.0]), 1.0)
    cost = ways(canvas, np.array([*been[-1], 0.0]), taste.radius)
    found = views(canvas, cost, robot.elsewhere(canvas, fragment), been, taste.reach, taste.least)
    best: list[list[float]] = found[np.argsort(-found[:, 2])[:_KEPT], :3].tolist()
    return best


def _worth(gain: FloatArray, metres: FloatArray, taste: Taste) -> FloatArray:
    return np.asarray((1.0 if taste.nearest else gain) / (metres + taste.reluctance))


def _best_elsewhere(robot: RobotMap, travel: "_Travel", taste: Taste) -> tuple[int, float]:
    best, target = 0.0, -1
    for other in robot.others:
        goals = np.array(robot.memory[other].get("goals", []), np.float64).reshape(-1, 3)
        if len(goals):
            metres = travel.metres(other, goals[:, :2])
            value = float(_worth(goals[:, 2], metres, taste).max())
            if np.isfinite(metres).any() and value > best:
                best, target = value, other
    return target, best


class _Travel:
    """Ways over the crossings: in the current fragment as measured, in the others by straight lines."""

    def __init__(self, robot: RobotMap, cost: Any) -> None:
        self._robot = robot
        self._pairs = list(robot.crossings)
        n = len(self._pairs)
        where = np.array([compose(robot.graph.poses[a], [*at, 0.0])[:2] for (a, _), at in robot.crossings.items()])
        # A vertex for each side of a crossing, and the last one for the robot.
        metres = np.zeros((n + 1, n + 1))
        for i, (a, b) in enumerate(self._pairs):
            metres[i, self._pairs.index((b, a))] = 0.01
            for j, (c, _) in enumerate(self._pairs):
                if a == c and i != j:
                    metres[i, j] = _DETOUR * np.hypot(*(where[i] - where[j])) + 0.01
            if a == robot.fragment:
                way = _cost_at(cost, robot, robot.crossings[a, b])
                metres[n, i] = way + 0.01 if way < 1e8 else 0.0
        self._from_here, self._before = dijkstra(metres, indices=n, return_predecessors=True)

    def metres(self, fragment: int, places: FloatArray) -> FloatArray:
        """float64[n], to places in the frame of a fragment, float64[n, 2]."""
        best = np.full(len(places), np.inf)
        for i, (a, _) in enumerate(self._pairs):
            if a == fragment and np.isfinite(self._from_here[i]):
                straight = np.hypot(*(places - self._robot.crossings[self._pairs[i]]).T)
                best = np.minimum(best, self._from_here[i] + _DETOUR * straight)
        return best

    def first_hop(self, fragment: int) -> tuple[int, FloatArray]:
        """The fragment that is entered first on the way to another, and where, float64[2]; -1 for no way."""
        ends = [i for i, (a, _) in enumerate(self._pairs) if a == fragment and np.isfinite(self._from_here[i])]
        if not ends:
            return -1, np.zeros(2)
        at = min(ends, key=lambda i: self._from_here[i])
        while self._before[at] != len(self._pairs) and self._before[at] >= 0:
            at = int(self._before[at])
        pair = self._pairs[at]
        return (pair[1], self._robot.crossings[pair]) if pair[0] == self._robot.fragment else (-1, np.zeros(2))


def _cost_at(cost: Any, robot: RobotMap, place: FloatArray) -> float:
    col = int(place[0] / robot.rules.resolution - robot.canvas.corner[1])
    row = int(place[1] / robot.rules.resolution - robot.canvas.corner[0])
    inside = 0 <= row < cost.shape[0] and 0 <= col < cost.shape[1]
    return float(cost[row, col]) if inside else 1e9
