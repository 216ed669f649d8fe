"""Pictures of what a robot believes."""

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from farl.agents.robot_map import Fragment, RobotMap
from farl.envs.robot.render import Belief
from farl.exploration.colors import in_turn
from farl.slam.merging import WALL, owners
from farl.slam.poses import compose

FloatArray = npt.NDArray[np.float64]

_APART, _LEAST_APART = 4.0, 0.3  # median distances of scans, and metres, above which two were not on one way


def belief_of(robot: RobotMap, start: FloatArray, cell: float) -> Belief:
    """What a robot believes, in the frame of its building's plan, for the environment's picture.

    :param start: float64[3], its true start
    """
    labels, corner = owners(robot.fragments(0), robot.graph, cell, robot.fragment)
    rows, cols = np.nonzero(labels >= 0)
    inside = np.stack([(cols + 0.5 + corner[1]) * cell, (rows + 0.5 + corner[0]) * cell, np.zeros(len(rows))], axis=1)
    colors = (255 * in_turn(labels[rows, cols])).astype(np.uint8)
    return Belief(compose(start, robot.world_pose), compose(start, inside)[:, :2], colors, cell)


def robot_map_figure(robot: RobotMap, cell: float) -> Figure:
    """Draw a robot's map: fragments in colour, walls dark, its way, where fragments became others, and the robot."""
    fragments = robot.fragments(0)
    labels, corner = owners(fragments, robot.graph, cell, robot.fragment)
    height, width = labels.shape
    figure = Figure(figsize=(7.0, float(np.clip(7.0 * height / width, 3.0, 9.0))), layout="constrained")
    axes = figure.add_subplot()
    names, at = np.unique(labels, return_inverse=True)
    palette = 0.35 + 0.65 * in_turn(names)
    palette[names == -1], palette[names == WALL] = (0.93, 0.92, 0.9), (0.24, 0.27, 0.3)
    left, low = corner[1] * cell, corner[0] * cell
    axes.imshow(
        palette[at.reshape(labels.shape)],
        origin="lower",
        interpolation="nearest",
        extent=(left, left + width * cell, low, low + height * cell),
    )
    pieces = [piece for name, one in fragments.items() for piece in way_of(one, robot.graph.poses[name])]
    axes.add_collection(LineCollection(pieces, colors="k", linewidths=0.6, alpha=0.5))
    for (a, b), place in robot.crossings.items():
        if a < b:
            x, y, _ = compose(robot.graph.poses[a], [*place, 0.0])
            axes.plot(x, y, "o", color="#D1491B", markeredgecolor="white", markersize=4)
    x, y, heading = robot.world_pose
    axes.plot(x, y, "o", color="#14964A", markersize=6)
    axes.plot([x, x + 0.6 * np.cos(heading)], [y, y + 0.6 * np.sin(heading)], color="#14964A", lw=2)
    axes.set_axis_off()
    return figure


def way_of(fragment: Fragment, pose: FloatArray) -> list[FloatArray]:
    """The way through a fragment, float64[n, 2] for each piece, x and y in the frame of the first fragment.

    A piece ends where the robot was elsewhere before the next scan in this fragment: no line leads through walls.

    :param pose: float64[3], of the fragment
    """
    been = fragment["been"].numpy()
    if len(been) < 2:
        return []
    placed = compose(pose, np.column_stack([been, np.zeros(len(been))]))[:, :2]
    steps = np.hypot(*np.diff(placed, axis=0).T)
    apart = np.flatnonzero(steps > max(_APART * float(np.median(steps)), _LEAST_APART)) + 1
    return np.split(placed, apart)
