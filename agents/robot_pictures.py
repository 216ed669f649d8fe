"""Pictures of what a robot believes."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from farl.agents.robot_map import RobotMap
from farl.envs.robot.render import Belief
from farl.exploration.colors import in_turn
from farl.slam.merging import WALL, owners
from farl.slam.poses import compose

FloatArray = npt.NDArray[np.float64]


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
    """Draw a robot's map: fragments in colour, walls dark, places where one fragment became another, and the robot."""
    labels, corner = owners(robot.fragments(0), robot.graph, cell, robot.fragment)
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
    middles = {}
    for name in names[names >= 0].tolist():
        rows, cols = np.nonzero(labels == name)
        k = ((rows - rows.mean()) ** 2 + (cols - cols.mean()) ** 2).argmin()
        middles[name] = (left + (cols[k] + 0.5) * cell, low + (rows[k] + 0.5) * cell)
    for (a, b), place in robot.crossings.items():
        if a < b and a in middles and b in middles:
            x, y, _ = compose(robot.graph.poses[a], [*place, 0.0])
            axes.plot([middles[a][0], x, middles[b][0]], [middles[a][1], y, middles[b][1]], "k-", lw=0.8, alpha=0.6)
            axes.plot(x, y, "o", color="#D1491B", markeredgecolor="white", markersize=4)
    x, y, heading = robot.world_pose
    axes.plot(x, y, "o", color="#14964A", markersize=6)
    axes.plot([x, x + 0.6 * np.cos(heading)], [y, y + 0.6 * np.sin(heading)], color="#14964A", lw=2)
    axes.set_axis_off()
    return figure
