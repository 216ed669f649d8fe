"""Pictures of an exploration: where the agent went, what surprised it, and how its memory is connected.

Everything is drawn on `matplotlib.figure.Figure` objects, without pyplot and its global state, so it works without a
display and in many processes. A fragment has the same colour in every picture, and each picture is a handful of artists
however large the map is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from scipy import ndimage

from farl.graph_layout import GOLDEN_RATIO, curve, spread, spring_layout

__all__ = [
    "Trace",
    "Visits",
    "exploration_overview",
    "figure_array",
    "fragment_colors",
    "memory_graph",
    "surprisal_trace",
    "visitation_map",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Blue, orange, green, purple, vermilion, sky, pink and olive stay apart for the colour-blind too (after Okabe and Ito).
_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#7B4FA3", "#D1491B", "#4FB3E8", "#D177A8", "#8C8A1E")
_INK, _WALL, _UNVISITED, _OTHERS = "#22272e", "#3d444d", "#f3f2ee", "#9a9a9a"
_FRACTURE, _ELSEWHERE, _RECALL = "#ffffff", "#8b949e", "#ffd54a"
_LEGEND_LIMIT = 10
_LABEL_LIMIT = 24
_MARK_LIMIT = 60


@dataclass(frozen=True)
class Visits:
    """How often each fragment was active in each cell.

    :param counts: int [F, H, W], visits by fragment, row y and column x
    :param fragment_ids: int [F], the id of each layer; -1 for a layer that sums up fragments not kept apart
    :param reachable: bool [H, W], the cells the agent can stand on; the others are drawn as walls
    :param fractures: int [H, W], how often a new fragment was opened in a cell
    :param recalls: int [H, W], how often a stored fragment was recalled in a cell
    :raises ValueError: if the shapes do not belong together
    """

    counts: npt.NDArray[np.integer[Any]]
    fragment_ids: npt.NDArray[np.integer[Any]]
    reachable: BoolArray
    fractures: npt.NDArray[np.integer[Any]] | None = None
    recalls: npt.NDArray[np.integer[Any]] | None = None

    def __post_init__(self) -> None:
        expected = (len(self.fragment_ids), *self.reachable.shape)
        if self.counts.shape != expected:
            raise ValueError(f"counts must have the shape [fragments, H, W] = {expected}, got {self.counts.shape}")
        for name, marks in (("fractures", self.fractures), ("recalls", self.recalls)):
            if marks is not None and marks.shape != self.reachable.shape:
                raise ValueError(f"{name} must have the shape [H, W] = {self.reachable.shape}, got {marks.shape}")

    @property
    def total(self) -> npt.NDArray[np.int64]:
        """Visits of each cell, int64 [H, W]."""
        return np.asarray(self.counts.sum(axis=0, dtype=np.int64))

    @property
    def coverage(self) -> float:
        """Part of the reachable cells that were visited, in [0, 1]."""
        return float(np.count_nonzero(self.total[self.reachable]) / max(np.count_nonzero(self.reachable), 1))

    def sizes(self) -> dict[int, float]:
        """Visits of each fragment that was active at all."""
        sums = self.counts.sum(axis=(1, 2), dtype=np.int64)
        return {int(i): float(n) for i, n in zip(self.fragment_ids, sums, strict=True) if n and i >= 0}

    def centers(self) -> dict[int, tuple[float, float]]:
        """The heart (x, y) of each fragment: a cell it owns on the map, with most of its cells around.

        A fragment that owns none has its heart among all cells it was active in.
        """
        owner = self.owner()
        window = max(3, max(self.reachable.shape) // 6 | 1)  # odd, so that it is centred
        centers = {}
        for layer, fragment in enumerate(self.fragment_ids.tolist()):
            cells = owner == layer
            if not cells.any():
                cells = self.counts[layer] > 0
            if fragment >= 0 and cells.any():
                density = cells.astype(np.float64)
                for _ in range(2):  # one pass would leave plateaus
                    density = ndimage.uniform_filter(density, window, mode="constant")
                y, x = np.unravel_index(np.where(cells, density, -1.0).argmax(), cells.shape)
                centers[fragment] = (float(x), float(y))
        return centers

    def owner(self) -> npt.NDArray[np.int64]:
        """The layer with the most visits of each cell, -1 where there were none, int64 [H, W]."""
        if not len(self.counts):
            return np.full(self.reachable.shape, -1)
        return np.where(self.total > 0, self.counts.argmax(axis=0), -1)


@dataclass(frozen=True)
class Trace:
    """Surprisal over time in one environment, each of T points summing up one step or several.

    :param steps: int [T], the first step of each point, ascending
    :param surprisal: float [T], the highest
    :param mean: float [T]
    :param fragments: int [T], the active fragment at the end
    :param fractures: int [T], how often a new fragment was opened
    :param recalls: int [T], how often a stored fragment was recalled
    :param fractures_elsewhere: int [T], fractures in other environments that share the memory
    :raises ValueError: if the lengths differ
    """

    steps: npt.NDArray[np.integer[Any]]
    surprisal: npt.NDArray[np.floating[Any]]
    mean: npt.NDArray[np.floating[Any]]
    fragments: npt.NDArray[np.integer[Any]]
    fractures: npt.NDArray[np.integer[Any]]
    recalls: npt.NDArray[np.integer[Any]]
    fractures_elsewhere: npt.NDArray[np.integer[Any]]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in vars(self).values()}
        if len(lengths) != 1:
            raise ValueError(f"the arrays of a trace must have one length, got {sorted(lengths)}")


def fragment_colors(fragment_ids: Iterable[int]) -> FloatArray:
    """Return the colour of each fragment, float64 [F, 3] in [0, 1].

    The colour depends on the id alone: the first eight are told apart by the colour-blind, later ones walk the colour
    circle in steps of the golden ratio. A negative id, for fragments not kept apart, is grey.
    """
    return np.array([_color(int(i)) for i in fragment_ids], np.float64).reshape(-1, 3)


def visitation_map(visits: Visits) -> Figure:
    """Draw which fragment was active where: hue by fragment, strength by the logarithm of visits."""
    height, width = visits.reachable.shape
    figure = _figure(7.0, float(np.clip(6.4 * height / width, 2.4, 9.0)) + 1.0)
    axes = figure.add_subplot()
    _draw_map(axes, visits)
    _fragment_legend(figure, visits)
    return figure


def surprisal_trace(trace: Trace) -> Figure:
    """Draw surprisal over time, with fractures and recalls marked and the active fragment as a coloured strip."""
    figure = _figure(9.0, 3.2)
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=(12, 1))
    _draw_trace(axes, strip, trace)
    return figure


def memory_graph(
    graph: "nx.Graph[int]",
    sizes: Mapping[int, float] | None = None,
    positions: Mapping[int, tuple[float, float]] | None = None,
    reachable: BoolArray | None = None,
) -> Figure:
    """Draw the fragments in memory and the ways between them.

    :param graph: nodes are fragment ids; edges with `kind="recall"` are dashed, all others are fractures
    :param sizes: weight of each node, such as its visits (`Visits.sizes`); without it all are alike
    :param positions: (x, y) of each node in cells (`Visits.centers`); nodes without one are left out. Without positions
        the graph is laid out by its edges
    :param reachable: bool [H, W], drawn faintly behind the nodes if there are positions
    """
    figure = _figure(5.6, 4.6)
    _draw_graph(figure.add_subplot(), graph, sizes, positions, reachable)
    return figure


def exploration_overview(visits: Visits | None, trace: Trace | None, graph: "nx.Graph[int] | None") -> Figure:
    """Draw all there is in one picture: the map, the memory graph on the same ground, and the surprisal trace.

    :raises ValueError: if there is nothing to draw
    """
    if visits is None and trace is None and graph is None:
        raise ValueError("nothing to draw: give visits, a trace or a graph")
    aspect = visits.reachable.shape[0] / visits.reachable.shape[1] if visits is not None else 0.7
    n_panels = (visits is not None) + (graph is not None)
    # A map that is much wider than high gets the whole width, and the graph its own row below.
    grid = (1, n_panels) if aspect > 0.4 else (n_panels, 1)
    panel = float(np.clip(9.6 / max(grid[1], 1) * aspect, 0.6, 6.0)) + 1.1
    rows = [panel * grid[0]] * (n_panels > 0) + [2.7] * (trace is not None)
    figure = _figure(10.0, sum(rows))
    parts = iter(figure.subfigures(len(rows), 1, height_ratios=rows, squeeze=False).ravel())
    if n_panels:
        panels = iter(next(parts).subplots(*grid, squeeze=False).ravel())
        if visits is not None:
            _draw_map(next(panels), visits)
        if graph is not None:
            known = (visits.sizes(), visits.centers(), visits.reachable) if visits is not None else (None, None, None)
            _draw_graph(next(panels), graph, *known)
    if trace is not None:
        axes, strip = next(parts).subplots(2, 1, sharex=True, height_ratios=(9, 1))
        _draw_trace(axes, strip, trace)
    return figure


def figure_array(figure: Figure) -> npt.NDArray[np.uint8]:
    """Render a figure to pixels, uint8 [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _color(fragment: int) -> tuple[float, ...]:
    if fragment < 0:
        return to_rgb(_OTHERS)
    if fragment < len(_PALETTE):
        return to_rgb(_PALETTE[fragment])
    saturation, value = ((0.75, 0.72), (0.5, 0.85), (0.85, 0.5))[fragment % 3]
    return tuple(hsv_to_rgb((fragment * GOLDEN_RATIO % 1.0, saturation, value)))


def _figure(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
    return Figure((width, height), dpi=180, layout=layout, facecolor="white")


def _title(axes: Axes, title: str, detail: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=_INK, pad=20)
    axes.annotate(
        detail, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=9, color="#57606a", annotation_clip=False
    )


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _ground(axes: Axes, pixels: npt.NDArray[np.floating[Any]]) -> None:
    axes.imshow(pixels, interpolation="nearest" if max(pixels.shape) <= 256 else "antialiased")
    axes.set(xticks=[], yticks=[], autoscale_on=False)
    axes.spines[:].set_visible(False)


def _draw_map(axes: Axes, visits: Visits) -> None:
    total, owner = visits.total, visits.owner()
    strength = np.log1p(total) / np.log1p(max(total.max(initial=0), 1))
    strength = (0.35 + 0.65 * strength)[..., None]
    pixels = np.where(visits.reachable[..., None], to_rgb(_UNVISITED), to_rgb(_WALL))
    if len(visits.fragment_ids):
        colors = fragment_colors(visits.fragment_ids)[owner]
        pixels = np.where((owner >= 0)[..., None], strength * colors + (1 - strength), pixels)
    _ground(axes, pixels)

    marks = (("fractures", visits.fractures, "D", _FRACTURE, 26.0), ("recalls", visits.recalls, "o", _RECALL, 20.0))
    handles = []
    for name, counts, marker, face, size in marks:
        if counts is None or not counts.any():
            continue
        y, x = np.nonzero(counts)
        # The most frequented cells; ties are broken at random, or one corner of a large map would get all the marks.
        often = np.lexsort((np.random.default_rng(0).random(len(x)), -counts[y, x]))[:_MARK_LIMIT]
        y, x = y[often], x[often]
        share = counts[y, x] / counts.max()
        axes.scatter(
            x, y, size * (0.4 + 0.6 * share), marker=marker, color=face, edgecolor=_INK, linewidth=0.9, zorder=3
        )
        handles.append(_marker(marker, face, f"{name}: {int(counts.sum()):,}"))
    sizes = visits.sizes()
    if len(sizes) <= _LABEL_LIMIT:
        owners = set(visits.fragment_ids[np.unique(owner[owner >= 0])].tolist())
        for fragment, (x_center, y_center) in visits.centers().items():
            if fragment in owners:
                _label(axes, x_center, y_center, fragment)
    if handles:
        _legend_below(axes, handles)
    detail = f"{visits.coverage:.0%} of the cells visited, {_plural(len(sizes), 'fragment')}"
    _title(axes, "Where the agent went", f"{detail}; stronger colour: more visits")


def _draw_trace(axes: Axes, strip: Axes, trace: Trace) -> None:
    steps, surprisal = trace.steps, trace.surprisal.astype(np.float64)
    first, last = (float(steps[0]), float(steps[-1])) if len(steps) > 1 else (0.0, 1.0)
    axes.set_xlim(first, last)
    axes.plot(steps, surprisal, color="#b6bec9", linewidth=0.6, zorder=1)
    if len(steps):
        axes.plot(steps, _rolling_mean(trace.mean, max(len(steps) // 60, 1)), color=_INK, linewidth=1.2, zorder=2)
    at = trace.fractures > 0
    axes.scatter(steps[at], surprisal[at], 26, marker="D", color=_FRACTURE, edgecolor=_INK, linewidth=0.9, zorder=3)
    edge = axes.get_xaxis_transform()
    elsewhere = steps[trace.fractures_elsewhere > 0]
    axes.scatter(
        elsewhere,
        np.full(len(elsewhere), 0.98),
        9,
        marker="D",
        color=_ELSEWHERE,
        transform=edge,
        clip_on=False,
        zorder=3,
    )
    # There may be thousands of recalls: a rug of ticks at the foot instead of marks that would hide the curve.
    axes.vlines(steps[trace.recalls > 0], 0.0, 0.07, color=_INK, linewidth=0.5, alpha=0.7, transform=edge, zorder=3)
    if len(surprisal) and surprisal.min() > 0:
        axes.set_yscale("log")
        wide = surprisal.max() > 100 * surprisal.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("surprisal", fontsize=9, color=_INK)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.6)
    axes.tick_params(labelsize=8, colors="#57606a", bottom=False)
    handles = [_marker("D", _FRACTURE, "fracture"), _marker("|", _INK, "recall")]
    if len(elsewhere):
        handles.insert(1, _marker("D", _ELSEWHERE, "fracture in another environment", 3, _ELSEWHERE))
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=9, frameon=False,
        handletextpad=0.1, borderaxespad=0.2,
    )  # fmt: skip
    counts = f"{_plural(int(trace.fractures.sum()), 'fracture')}, {_plural(int(trace.recalls.sum()), 'recall')}"
    _title(axes, "What surprised it", f"first environment: {counts}")

    if len(steps):
        extent = (first, last, 0.0, 1.0)
        strip.imshow(fragment_colors(trace.fragments)[None], aspect="auto", extent=extent, interpolation="nearest")
    strip.set(yticks=[])
    strip.spines[:].set_visible(False)
    strip.set_ylabel("active\nfragment", fontsize=8, color=_INK, rotation=0, ha="right", va="center")
    strip.set_xlabel("timesteps", fontsize=9, color=_INK)
    strip.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    strip.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    strip.tick_params(labelsize=8, colors="#57606a")


def _draw_graph(
    axes: Axes,
    graph: "nx.Graph[int]",
    sizes: Mapping[int, float] | None,
    positions: Mapping[int, tuple[float, float]] | None,
    reachable: BoolArray | None,
) -> None:
    nodes = [node for node in graph.nodes if positions is None or node in positions]
    if positions is None:
        place = spring_layout(graph)
    else:
        ground = None if reachable is None else reachable.shape
        place = spread(np.array([positions[node] for node in nodes], np.float64).reshape(-1, 2), ground)
    if positions is not None and reachable is not None:
        _ground(axes, np.where(reachable[..., None], to_rgb("#fbfbf9"), to_rgb("#dcdfe3")))
    else:
        axes.margins(0.15)
        axes.axis("off")

    row = {node: i for i, node in enumerate(nodes)}
    ways: dict[tuple[int, int, bool], int] = {}
    for a, b, data in graph.edges(data=True):
        if a != b and a in row and b in row:
            way = (min(row[a], row[b]), max(row[a], row[b]), data.get("kind") == "recall")
            ways[way] = ways.get(way, 0) + 1
    handles = []
    for recall, style, name in ((False, (0, ()), "fracture"), (True, (0, (2, 1.5)), "recall")):
        lines = {(a, b): n for (a, b, kind), n in ways.items() if kind is recall}
        if lines:
            bends = [curve(place[a], place[b], 0.12 if recall else 0.0) for a, b in lines]
            widths = [min(1.2 + 0.6 * np.log2(n), 4.0) for n in lines.values()]
            axes.add_collection(LineCollection(bends, linewidths=widths, linestyles=[style], colors=_INK, alpha=0.75))
            handles.append(Line2D([], [], color=_INK, linestyle=style, linewidth=1.2, label=f"joined by a {name}"))
    weight = np.array([(sizes or {}).get(node, 0.0 if sizes else 1.0) for node in nodes])
    area = 130 + 420 * np.sqrt(weight / max(weight.max(initial=0.0), 1e-12))
    if len(nodes) > _LABEL_LIMIT:
        area *= _LABEL_LIMIT / len(nodes)
    axes.scatter(
        place[:, 0], place[:, 1], area, color=fragment_colors(nodes), edgecolor="white", linewidth=1.5, zorder=3
    )
    if len(nodes) <= _LABEL_LIMIT:
        for node, (x, y) in zip(nodes, place, strict=True):
            _label(axes, float(x), float(y), node)
    if handles:
        _legend_below(axes, handles)
    links = len({(a, b) for a, b, _ in ways})
    size = "; larger: more visits" if sizes else ""
    _title(axes, "What it remembers", f"{_plural(graph.number_of_nodes(), 'fragment')}, {_plural(links, 'link')}{size}")


def _rolling_mean(values: npt.NDArray[np.floating[Any]], window: int) -> FloatArray:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.clip(np.arange(len(values)) - window // 2, 0, None)
    high = np.clip(np.arange(len(values)) + window // 2 + 1, None, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))


def _label(axes: Axes, x: float, y: float, fragment: int) -> None:
    axes.text(
        x, y, str(fragment), ha="center", va="center", fontsize=9, fontweight="bold", color="white", zorder=5,
        path_effects=[withStroke(linewidth=2, foreground=_INK)],
    )  # fmt: skip


def _marker(marker: str, face: str, label: str, size: float = 5, edge: str = _INK) -> Line2D:
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=size, markerfacecolor=face, markeredgecolor=edge, label=label
    )


def _legend_below(axes: Axes, handles: list[Line2D]) -> None:
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(handles), fontsize=9, frameon=False,
        borderaxespad=0.3,
    )  # fmt: skip


def _fragment_legend(figure: Figure, visits: Visits) -> None:
    sizes = sorted(visits.sizes().items(), key=lambda item: -item[1])
    if not sizes:
        return
    total = max(float(visits.total.sum()), 1.0)
    shown = sizes[:_LEGEND_LIMIT]
    patches = [
        Patch(facecolor=color, label=f"fragment {fragment}  ({size / total:.0%})")
        for (fragment, size), color in zip(shown, fragment_colors(i for i, _ in shown), strict=True)
    ]
    rest = total - sum(size for _, size in shown)
    if rest > 0:
        patches.append(Patch(facecolor=_OTHERS, label=f"others  ({rest / total:.0%})"))
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=8, frameon=False, handlelength=1)
