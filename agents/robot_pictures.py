"""Pictures of what a robot believes."""

from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from farl.agents.robot_map import RobotMap
from farl.envs.robot.render import Belief
from farl.exploration.colors import FragmentColors
from farl.slam.merging import merged
from farl.slam.occupancy import IS_FREE, IS_OCCUPIED
from farl.slam.poses import compose

FloatArray = npt.NDArray[np.float64]


def known_cells(robot: RobotMap, cell: float, wanted: str) -> dict[int, FloatArray]:
    """x and y of free or occupied cells of each fragment, float64[n, 2], in the frame of the robot's start.

    :param wanted: ``free`` or ``occupied``
    """
    found = {}
    for frame, one in robot.fragments(0).items():
        odds = one["cells"].numpy()
        rows, cols = np.nonzero(odds < IS_FREE if wanted == "free" else odds > IS_OCCUPIED)
        inside = np.stack([(cols + 0.5 + one["corner"][1]) * cell, (rows + 0.5 + one["corner"][0]) * cell], axis=1)
        headed = np.concatenate([inside, np.zeros((len(inside), 1))], axis=1)
        found[frame] = compose(robot.graph.poses[frame], headed)[:, :2]
    return found


def belief_of(robot: RobotMap, start: FloatArray, cell: float) -> Belief:
    """What a robot believes, in the frame of its building's plan, for the environment's picture.

    :param start: float64[3], its true start
    """
    cells = known_cells(robot, cell, "free")
    where = np.concatenate(list(cells.values()))
    colors = np.concatenate(
        [
            np.tile((255 * color).astype(np.uint8), (len(at), 1))
            for color, at in zip(_colors(cells), cells.values(), strict=True)
        ]
    )
    placed = compose(start, np.concatenate([where, np.zeros((len(where), 1))], axis=1))[:, :2]
    return Belief(compose(start, robot.world_pose), placed, colors, cell)


def _colors(cells: dict[int, FloatArray]) -> FloatArray:
    """A colour for each fragment, float64[F, 3]: the ten largest have colours of their own."""
    return FragmentColors().updated({frame: float(len(at)) for frame, at in cells.items()}).rgb(cells)


def robot_map_figure(robot: RobotMap, cell: float, graph: "nx.MultiGraph") -> Figure:
    """Draw a robot's map: fragments in colour, walls dark, places where one fragment became another, and the robot."""
    odds, corner = merged(robot.fragments(0).items(), robot.graph, cell)
    height, width = odds.shape
    figure = Figure(figsize=(7.0, float(np.clip(7.0 * height / width, 3.0, 9.0))), layout="constrained")
    axes = figure.add_subplot()
    picture = np.full((height, width, 3), (0.93, 0.92, 0.9))
    cells = known_cells(robot, cell, "free")
    for color, at in zip(_colors(cells), cells.values(), strict=True):
        cols, rows = np.floor(at / cell).astype(np.int64).T
        rows, cols = (rows - corner[0]).clip(0, height - 1), (cols - corner[1]).clip(0, width - 1)
        picture[rows, cols] = 0.35 + 0.65 * color
    picture[odds > IS_OCCUPIED] = (0.24, 0.27, 0.3)
    left, low = corner[1] * cell, corner[0] * cell
    axes.imshow(
        np.clip(picture, 0.0, 1.0),
        origin="lower",
        interpolation="nearest",
        extent=(left, left + width * cell, low, low + height * cell),
    )
    middles: dict[int, Any] = {}
    for frame, at in cells.items():
        if len(at):
            middles[frame] = at[((at - at.mean(axis=0)) ** 2).sum(axis=1).argmin()]
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
