"""The picture of a mapped world: fragments in colour, fracture points, the memory's graph, and the way walked."""

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from farl.exploration.colors import OTHERS, FragmentColors
from farl.figures.canvas import (
    HEAD,
    WIDTH,
    add_axes,
    ground,
    label,
    legend_below,
    marker,
    new_figure,
    plural,
    title,
    world_pixels,
)
from farl.figures.palette import INK
from farl.maps.geometry import FREE, BoolArray, IntArray

_SIDE, _FOOT = 0.12, 0.6
_AGENT, _FRACTURE = "#d1491b", "#ffffff"


def draw_explored(
    walls: BoolArray,
    start: Sequence[int],
    way: IntArray,
    fragments: Mapping[int, Mapping[str, Any]],
    graph: "nx.MultiGraph",
    complete: bool,
) -> Figure:
    """Draw one world with what an agent remembers of it: the fragments of most cells in colour, with their number.

    :param walls: bool[H, W], the world
    :param start: row and column in it where the odometry is 0
    :param way: int64[T, 2], rows and columns in the world
    :param fragments: the maps by id (``LocalMap``); cells that several know have the colour of the latest
    :param graph: joins fragments by edges with the ``position`` of the fracture points, by the odometry
    :param complete: whether this is how an episode ended
    """
    cells = {
        i: np.argwhere(np.asarray(stored["label"]) == FREE) + stored["corner"] + start
        for i, stored in fragments.items()
    }
    owner = np.full(walls.shape, -1)
    for fragment, known in sorted(cells.items()):
        owner[known[:, 0], known[:, 1]] = fragment
    owned = {int(i): np.argwhere(owner == i) for i in np.unique(owner[owner >= 0])}
    colors = FragmentColors().updated({i: float(len(known)) for i, known in owned.items()})
    height, width = walls.shape
    wide = WIDTH - 2 * _SIDE
    high = float(np.clip(wide * height / width, 0.5, WIDTH))
    figure = new_figure(WIDTH, HEAD + high + _FOOT)
    axes = add_axes(figure, (_SIDE, _FOOT, wide, high))
    pixels = world_pixels(~walls)
    pixels[owner >= 0] = colors.rgb(owner[owner >= 0])
    ground(axes, pixels)
    share = (owner >= 0).sum() / max(int((~walls).sum()), 1)
    which = "last complete episode" if complete else "the episode so far"
    detail = (
        f"{which}: {plural(len(way), 'step')}, {plural(len(fragments), 'fragment')}, {share:.0%} of the cells known"
    )
    title(figure, (_SIDE, 0.0, wide, HEAD + high + _FOOT), "What it knows of the first world", detail)
    axes.plot(way[:, 1], way[:, 0], color="white", linewidth=0.8, alpha=0.8)
    _draw_graph(axes, start, cells, graph)
    for fragment, known in owned.items():
        if fragment in colors:
            row, col = _middle(known)
            label(axes, col, row, fragment)
    axes.plot(start[1], start[0], marker="s", color="white", markeredgecolor=INK, markersize=6)
    if len(way):
        axes.plot(way[-1, 1], way[-1, 0], marker="o", color=_AGENT, markeredgecolor="white", markersize=8, zorder=6)
    handles: list[Any] = [marker("s", "white", "start"), marker("o", _AGENT, "agent at the end")]
    handles += [marker("D", _FRACTURE, "fracture"), Line2D([], [], color=INK, linewidth=1.0, label="joined")]
    handles += [Patch(color=OTHERS, label="other fragments")] if len(owned) > len(colors.slots) else []
    legend_below(axes, handles)
    return figure


def _draw_graph(axes: Axes, start: Sequence[int], cells: Mapping[int, IntArray], graph: "nx.MultiGraph") -> None:
    """Each edge runs from the middle of one fragment through the fracture point to the middle of the other."""
    for a, b, edge in graph.edges(data=True):
        if a in cells and b in cells and "position" in edge:
            place = (edge["position"][0] + start[0], edge["position"][1] + start[1])
            rows, cols = zip(_middle(cells[a]), place, _middle(cells[b]), strict=True)
            axes.plot(cols, rows, color=INK, linewidth=1.0, alpha=0.7)
            axes.plot(place[1], place[0], "D", color=_FRACTURE, markeredgecolor=INK, markersize=4)


def _middle(cells: IntArray) -> tuple[float, float]:
    """The cell, row and column, nearest to the middle of all, int64[N, 2]."""
    row, col = cells[((cells - cells.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return float(row), float(col)
