"""The memory graph: fragments, and the ways between them that were used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from farl.exploration.colors import FragmentColors
from farl.figures.canvas import HEAD, WIDTH, Box, add_axes, ground, label, legend_below, new_figure, plural, title
from farl.figures.layout import curve, spread, spring_layout
from farl.figures.palette import INK

__all__ = ["Ways", "memory_graph", "placed", "thinned"]

FloatArray = npt.NDArray[np.float64]

_NODE_LIMIT = 40
_LINKS_A_NODE = 2


@dataclass(frozen=True)
class Ways:
    """The part of a memory graph that is drawn.

    :param nodes: fragments, those used most first
    :param links: (a, b, whether it was opened by a recall) -> how many of the graph's edges say so
    :param left_out: fragments and links that are not drawn
    """

    nodes: tuple[int, ...]
    links: Mapping[tuple[int, int, bool], int]
    left_out: tuple[int, int]


def thinned(graph: "nx.Graph[int]", sizes: Mapping[int, float], known: Iterable[int] | None = None) -> Ways:
    """Choose the fragments used most, and of each the links to those used most.

    :param sizes: use of each fragment
    :param known: fragments that can be drawn; None is all
    """
    places = None if known is None else set(known)
    able = [node for node in graph.nodes if places is None or node in places]
    nodes = sorted(able, key=lambda node: (-sizes.get(node, 0.0), node))[:_NODE_LIMIT]
    kept = set(nodes)
    links: dict[tuple[int, int, bool], int] = {}
    for a, b, data in graph.edges(data=True):
        if a != b and a in kept and b in kept:
            way = (min(a, b), max(a, b), data.get("kind") == "recall")
            links[way] = links.get(way, 0) + 1
    n_links = len({(a, b) for a, b, _ in links})
    if len(nodes) > 12:
        links = _busiest(links, sizes)
    drawn = len({(a, b) for a, b, _ in links})
    return Ways(tuple(nodes), links, (graph.number_of_nodes() - len(nodes), n_links - drawn))


def memory_graph(
    graph: "nx.Graph[int]",
    colors: FragmentColors,
    sizes: Mapping[int, float] | None = None,
    positions: Mapping[int, tuple[float, float]] | None = None,
    reachable: npt.NDArray[np.bool_] | None = None,
    opened: int | None = None,
) -> Figure:
    """Draw the fragments in memory and the ways between them.

    :param graph: nodes are fragment ids; edges with ``kind="recall"`` are dashed, all others are fractures
    :param colors: the fragments' colours
    :param sizes: weight of each node, such as its visits; without it all are alike
    :param positions: (x, y) of each node in cells; nodes without one are left out. None lays the graph out by its edges
    :param reachable: bool[H, W], drawn faintly behind the nodes if there are positions
    :param opened: how many fragments there have been; None does not say
    """
    aspect = 0.8 if reachable is None or positions is None else reachable.shape[0] / reachable.shape[1]
    high = float(np.clip((WIDTH - 0.24) * aspect, 1.2, WIDTH))
    figure = new_figure(WIDTH, HEAD + high + 0.4)
    box = (0.12, 0.0, WIDTH - 0.24, HEAD + high + 0.4)
    axes = add_axes(figure, (0.12, 0.4, WIDTH - 0.24, high))
    draw_graph(figure, box, axes, graph, colors, sizes, positions, reachable, opened)
    return figure


def draw_graph(
    figure: Figure,
    box: Box,
    axes: Axes,
    graph: "nx.Graph[int]",
    colors: FragmentColors,
    sizes: Mapping[int, float] | None = None,
    positions: Mapping[int, tuple[float, float]] | None = None,
    reachable: npt.NDArray[np.bool_] | None = None,
    opened: int | None = None,
) -> None:
    """Draw a memory graph with its title into a box of a figure."""
    ways = thinned(graph, sizes or {}, positions)
    place = placed(ways, positions, None if reachable is None else reachable.shape)
    if positions is not None and reachable is not None:
        ground(axes, np.where(reachable[..., None], 0.985, 0.87) * np.ones(3))
    else:
        axes.margins(0.12)
        axes.axis("off")
    _draw_links(axes, ways, place)
    _draw_nodes(axes, ways, place, colors, sizes)
    title(figure, box, "What it remembers", _summary(graph, ways, bool(sizes), opened))


def _busiest(
    links: Mapping[tuple[int, int, bool], int], sizes: Mapping[int, float]
) -> dict[tuple[int, int, bool], int]:
    """Keep of each fragment the links to the fragments used most: a hairball shows nothing."""
    use = {(a, b): min(sizes.get(a, 0.0), sizes.get(b, 0.0)) for a, b, _ in links}
    kept: set[tuple[int, int]] = set()
    for node in {end for pair in use for end in pair}:
        mine = sorted((pair for pair in use if node in pair), key=lambda pair: (-use[pair], pair))
        kept.update(mine[:_LINKS_A_NODE])
    return {way: n for way, n in links.items() if way[:2] in kept}


def placed(
    ways: Ways,
    positions: Mapping[int, tuple[float, float]] | None,
    ground_shape: tuple[int, ...] | None,
) -> dict[int, FloatArray]:
    """Return where each fragment lies, (x, y), float64[2].

    :param positions: where the fragments are drawn; None places them by their links
    :param ground_shape: H and W, that they must not leave
    """
    if positions is None:
        drawn: nx.Graph[int] = nx.Graph()
        drawn.add_nodes_from(ways.nodes)
        drawn.add_edges_from((a, b) for a, b, _ in ways.links)
        found = spring_layout(drawn)
    else:
        found = spread(np.array([positions[i] for i in ways.nodes], np.float64).reshape(-1, 2), ground_shape)
    return dict(zip(ways.nodes, found, strict=True))


def _draw_links(axes: Axes, ways: Ways, place: Mapping[int, FloatArray]) -> None:
    handles = []
    for recall, style, name in ((False, (0, ()), "joined by a fracture"), (True, (0, (2, 1.5)), "by a recall")):
        lines = {(a, b): n for (a, b, kind), n in ways.links.items() if kind is recall}
        if not lines:
            continue
        bends = [curve(place[a], place[b], 0.12 if recall else 0.0) for a, b in lines]
        widths = [min(1.1 + 0.6 * np.log2(n), 4.0) for n in lines.values()]
        axes.add_collection(LineCollection(bends, linewidths=widths, linestyles=[style], colors=INK, alpha=0.55))
        handles.append(Line2D([], [], color=INK, linestyle=style, linewidth=1.2, label=name))
    legend_below(axes, handles)


def _draw_nodes(
    axes: Axes, ways: Ways, place: Mapping[int, FloatArray], colors: FragmentColors, sizes: Mapping[int, float] | None
) -> None:
    if not ways.nodes:
        return
    weight = np.array([(sizes or {}).get(node, 0.0 if sizes else 1.0) for node in ways.nodes])
    area = 110 + 460 * weight / max(weight.max(initial=0.0), 1e-12)
    area += np.array([130.0 if node in colors else 0.0 for node in ways.nodes])  # room around the number
    at = np.array([place[node] for node in ways.nodes])
    axes.scatter(at[:, 0], at[:, 1], area, color=colors.rgb(ways.nodes), edgecolor="white", linewidth=1.2, zorder=3)
    for node in ways.nodes:
        if node in colors:
            label(axes, float(place[node][0]), float(place[node][1]), node)


def _summary(graph: "nx.Graph[int]", ways: Ways, weighed: bool, opened: int | None) -> str:
    held = graph.number_of_nodes()
    text = plural(held, "fragment") + (f" of {opened:,} opened" if opened is not None and opened > held else "")
    text += f", {plural(len({(a, b) for a, b, _ in ways.links}), 'link')}"
    if ways.left_out[0] or ways.left_out[1]:
        text += "; those used most"
    return text + ("; size: visits" if weighed else "")
