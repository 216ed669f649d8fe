"""The picture of a mapped world: fragments in colour, fracture points, the memory graph, and the way walked."""

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from farl.figures import fragment_colors
from farl.maps.geometry import FREE, BoolArray, IntArray

_WALL = (0.24, 0.27, 0.3)
_NOT_SEEN = (0.93, 0.92, 0.9)


def fragment_map(
    walls: BoolArray,
    start: Sequence[int],
    fragments: Mapping[int, Mapping[str, Any]],
    graph: "nx.MultiGraph",
    trajectory: IntArray | None = None,
) -> Figure:
    """Draw one world with what an agent remembers of it.

    :param walls: bool[H, W], the world
    :param start: row and column in it where the odometry is 0
    :param fragments: the stored maps by id (`LocalMap`); cells that several know have the colour of the latest
    :param graph: joins fragments by edges with `row` and `col` of the fracture points, by the odometry
    :param trajectory: int64[T, 2], rows and columns in the world
    """
    height, width = walls.shape
    figure = Figure(figsize=(7.0, float(np.clip(7.0 * height / width, 3.0, 9.0))), layout="constrained")
    axes = figure.add_subplot()
    picture = np.where(walls[..., None], _WALL, _NOT_SEEN)
    for fragment_id, stored in sorted(fragments.items()):
        label = stored["label"].numpy()
        rows, cols = np.nonzero(label == FREE)
        rows, cols = rows + stored["corner"][0] + start[0], cols + stored["corner"][1] + start[1]
        picture[rows, cols] = 0.35 + 0.65 * fragment_colors([fragment_id])[0]
    axes.imshow(np.clip(picture, 0.0, 1.0), interpolation="nearest")
    if trajectory is not None and len(trajectory):
        axes.plot(trajectory[:, 1], trajectory[:, 0], color="white", linewidth=0.6, alpha=0.8)
    _draw_graph(axes, start, fragments, graph)
    axes.set_axis_off()
    return figure


def _draw_graph(
    axes: Axes, start: Sequence[int], fragments: Mapping[int, Mapping[str, Any]], graph: "nx.MultiGraph"
) -> None:
    """Each edge runs from the middle of one fragment through the fracture point to the middle of the other."""
    middles = {fragment_id: _middle(stored, start) for fragment_id, stored in fragments.items()}
    for a, b, edge in graph.edges(data=True):
        if a in middles and b in middles and "position" in edge:
            place = (edge["position"][0] + start[0], edge["position"][1] + start[1])
            rows, cols = zip(middles[a], place, middles[b], strict=True)
            axes.plot(cols, rows, color="black", linewidth=0.8, alpha=0.6)
            axes.plot(place[1], place[0], "o", color="#D1491B", markeredgecolor="white", markersize=4)
    for row, col in middles.values():
        axes.plot(col, row, "s", color="black", markersize=3)


def _middle(stored: Mapping[str, Any], start: Sequence[int]) -> tuple[float, float]:
    """The free cell nearest to the middle of all free cells of a stored map."""
    cells = np.argwhere(stored["label"].numpy() == FREE)
    nearest = cells[((cells - cells.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return (
        float(nearest[0] + stored["corner"][0] + start[0]),
        float(nearest[1] + stored["corner"][1] + start[1]),
    )
