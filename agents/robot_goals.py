"""Where a robot goes next: views in its fragment, and views in others by the crossings."""

from typing import Any

import numpy as np
import numpy.typing as npt

from farl.agents.robot_driving import Course
from farl.agents.robot_map import RobotMap
from farl.agents.robot_travel import NOWHERE, Taste, Travel, look_through, promising
from farl.slam.merging import merged
from farl.slam.occupancy import Canvas
from farl.slam.planning import path_to, views, ways
from farl.slam.poses import compose, inverse

FloatArray = npt.NDArray[np.float64]

_CONSTANT = 1.2  # how much more a view counts that is in the fragment that was chosen before


def choose(robot: RobotMap, course: Course, taste: Taste, stale: set[int]) -> bool:
    """Choose the way to the best view; False where there is none, in any fragment.

    :param stale: fragments whose remembered views have to be looked through again; changed
    """
    robot.canvas.surround(taste.reach)
    cost = ways(robot.canvas, robot.pose, taste.radius)
    mask = robot.elsewhere(robot.canvas, robot.fragment)
    here = views(robot.canvas, cost, mask, np.array(robot.been).reshape(-1, 2), taste.reach, taste.least)
    worth = taste.worth(here[:, 2], here[:, 3])
    best = float(worth.max(initial=0.0)) * (_CONSTANT if course.bound == robot.fragment else 1.0)
    goal = NOWHERE
    while others := promising(robot, taste, best / _CONSTANT):
        goal = Travel(robot, cost, taste, course.passed - {robot.fragment}).best(others, taste, course.bound, _CONSTANT)
        if goal.worth <= best or goal.fragment not in stale:
            break
        stale.discard(goal.fragment)
        look_through(robot, goal.fragment, taste)
    if goal.worth > best:
        way = np.zeros((0, 2)) if goal.at is None else path_to(cost, robot.canvas, *goal.at.tolist())
        course.follow(way, goal.hop, goal.fragment)
        return True
    return _follow_best(course, robot.canvas, cost, here, worth, robot.fragment)


def choose_globally(robot: RobotMap, course: Course, taste: Taste) -> tuple[bool, int]:
    """Choose the way to the best view on one map, of all fragments as the graph lays them.

    :return: whether there is one, and cells of that map's bounding box
    """
    resolution = robot.rules.resolution
    whole = Canvas.of(*merged(robot.fragments(0).items(), robot.graph, resolution), resolution)
    area = whole.area
    whole.surround(taste.reach)
    whole.make_room(robot.world_pose, 1.0)
    places = [np.array(robot.been).reshape(-1, 2), *(robot.memory[other]["been"].numpy() for other in robot.others)]
    frames = [robot.fragment, *robot.others]
    been = np.concatenate([_placed(robot.graph.poses[frame], at) for frame, at in zip(frames, places, strict=True)])
    cost = ways(whole, robot.world_pose, taste.radius)
    nothing = np.zeros(whole.cells.shape, np.uint8)
    found = views(whole, cost, nothing, been, taste.reach, taste.least)
    chosen = _follow_best(course, whole, cost, found, taste.worth(found[:, 2], found[:, 3]), -1)
    course.way = _placed(inverse(robot.graph.poses[robot.fragment]), course.way)
    return chosen, area


def _follow_best(
    course: Course, canvas: Canvas, cost: Any, found: FloatArray, worth: FloatArray, fragment: int
) -> bool:  # fmt: skip
    """Take the way to the best of some views on a map; False where there is none."""
    for k in np.argsort(-worth, kind="stable"):
        way = path_to(cost, canvas, float(found[k, 0]), float(found[k, 1]))
        if len(way):
            course.follow(way, bound=fragment)
            return True
    return False


def _placed(pose: FloatArray, places: FloatArray) -> FloatArray:
    """Places in a frame at a pose, float64[n, 2], in the frame that the pose is given in."""
    return compose(pose, np.concatenate([places, np.zeros((len(places), 1))], axis=1))[:, :2]
