"""Maps of a world of cells: visits, fragments, what was measured in each cell, and ways."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from farl.exploration.colors import COLORS, OTHERS, FragmentColors
from farl.exploration.records import Cells, Episode, Visits
from farl.figures.canvas import (
    HEAD,
    WIDTH,
    Box,
    add_axes,
    ground,
    label,
    legend_below,
    marker,
    new_figure,
    plural,
    title,
    world_pixels,
)  # fmt: skip
from farl.figures.palette import DIVERGING, INK, MUTED, SEQUENTIAL

__all__ = ["cell_map", "episode_way", "fragment_map", "visit_map", "world_maps"]

_FRACTURE, _RECALL = "#ffffff", "#ffd54a"
_MARK_LIMIT = 40
_WORLD_LIMIT = 16
_SIDE, _BAR = 0.12, 0.62


def visit_map(visits: Visits, worlds_differ: bool = False) -> Figure:
    """Draw how often each cell was visited, on a logarithmic scale.

    :param worlds_differ: whether these are the visits to several worlds, laid over each other
    """
    total = visits.total.astype(float)
    figure, axes, box = _map_figure(visits.reachable, _BAR)
    which = "the cells of all worlds together" if worlds_differ else "the cells"
    title(figure, box, "Where the agent went", f"{visits.coverage:.1%} of {which}, {int(total.sum()):,} visits")
    total[total == 0] = np.nan
    highest = float(np.nanmax(total)) if np.isfinite(total).any() else 1.0
    _draw_values(figure, axes, visits.reachable, total, SEQUENTIAL, LogNorm(1, max(highest, 2)), "visits")
    return figure


def fragment_map(visits: Visits, colors: FragmentColors) -> Figure:
    """Draw which fragment was most active in each cell: the ten used most in colour, the others grey."""
    figure, axes, box = _map_figure(visits.reachable, 0.35)
    draw_fragments(figure, box, axes, visits, colors)
    return figure


def cell_map(cells: Cells, what: str) -> Figure | None:
    """Draw ``intrinsic_reward``, ``forgetting`` or ``first_visit`` of each cell; None where nothing was measured."""
    values: npt.NDArray[np.float64] = getattr(cells, what)
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    if what == "forgetting":
        widest = float(np.clip(np.abs(np.log2(known)).max(), 1.0, 4.0))
        norm: Normalize = LogNorm(2.0**-widest, 2.0**widest)
        mean = float(np.exp(np.log(known).mean()))
        texts = (
            "What it forgot",
            f"error on a return / at the visit before: {mean:.2g} (mean)",
            "above 1: forgotten",
            DIVERGING,
        )
    elif what == "first_visit":
        norm = Normalize(0.0, max(float(known.max()), 1.0))
        texts = ("When it came there first", f"the last new cell at {known.max():,.0f}", "timestep", SEQUENTIAL)
    else:
        norm = Normalize(0.0, max(float(np.quantile(known, 0.99)), 1e-9))
        texts = ("What it was paid", f"mean of the cells: {known.mean():.3g}", "mean intrinsic reward", SEQUENTIAL)
    figure, axes, box = _map_figure(cells.reachable, _BAR)
    title(figure, box, texts[0], texts[1])
    _draw_values(figure, axes, cells.reachable, values, texts[3], norm, texts[2])
    return figure


def episode_way(episode: Episode) -> Figure:
    """Draw the way of one episode, dark at its end, and where the agent ended."""
    figure, axes, box = _map_figure(episode.reachable, 0.35)
    what = "The last complete episode" if episode.complete else "The episode so far"
    steps = plural(max(len(episode.way) - 1, 0), "step")
    title(figure, box, what, f"{steps}, {episode.coverage:.0%} of the cells visited")
    ground(axes, world_pixels(episode.reachable))
    _draw_way(axes, episode.way)
    legend_below(axes, [marker("s", "white", "start"), marker("o", "#d1491b", "agent at the end")])
    return figure


def world_maps(episodes: Sequence[Episode]) -> Figure:
    """Draw all worlds of a batch side by side, each with its fragments, its way and its agent."""
    shown = list(episodes)[:_WORLD_LIMIT]
    columns = int(np.ceil(np.sqrt(len(shown)))) if len(shown) > 2 else len(shown)
    rows = -(-len(shown) // columns)
    wide = 7.0 if columns > 2 else WIDTH
    each = (wide - 0.1 * (columns + 1)) / columns
    high = max(min(each * max(e.reachable.shape[0] / e.reachable.shape[1] for e in shown), 1.4 * each), 0.5)
    figure = new_figure(wide, HEAD + rows * (high + 0.34) + 0.42)
    box = (0.1, 0.0, wide, float(figure.get_size_inches()[1]))
    coverage = [episode.coverage for episode in shown]
    done = sum(episode.complete for episode in shown)
    which = "last complete episodes" if done == len(shown) else f"{done} complete, the others still going on"
    title(figure, box, "All worlds", f"{which}; {np.mean(coverage):.0%} of the cells visited on average")
    for number, episode in enumerate(shown):
        row, column = divmod(number, columns)
        left, bottom = 0.1 + column * (each + 0.1), 0.42 + (rows - 1 - row) * (high + 0.34)
        axes = add_axes(figure, (left, bottom, each, high))
        pixels = world_pixels(episode.reachable)
        ids, sizes = np.unique(episode.fragments[episode.fragments >= 0], return_counts=True)
        colors = FragmentColors().updated(dict(zip(ids.tolist(), sizes.tolist(), strict=True)))
        seen = episode.fragments >= 0
        pixels[seen] = colors.rgb(episode.fragments[seen])
        ground(axes, pixels)
        _draw_ends(axes, episode.way, 5)
        text = f"{episode.coverage:.0%}, {plural(len(ids), 'fragment')}"
        axes.text(0, 1.02, text, transform=axes.transAxes, fontsize=8.5, color=INK, va="bottom")
    bottom_axes = add_axes(figure, (0.1, 0.38, wide - 0.2, 0.01))
    bottom_axes.axis("off")
    handles = [
        Patch(color=COLORS[0], label="its fragments, ten in colour"),
        Patch(color=OTHERS, label="others"),
        marker("s", "white", "start"),
        marker("o", "#d1491b", "agent"),
    ]
    legend_below(bottom_axes, handles)
    return figure


def draw_fragments(figure: Figure, box: Box, axes: Axes, visits: Visits, colors: FragmentColors) -> None:
    """Draw a map of fragments with its title, marks and legends into a box of a figure."""
    owner = visits.owner()
    pixels = world_pixels(visits.reachable)
    if len(visits.fragment_ids):
        pixels = np.where((owner >= 0)[..., None], colors.rgb(visits.fragment_ids)[owner], pixels)
    ground(axes, pixels)
    handles: list[Any] = []
    marks = (("fractures", visits.fractures, "D", _FRACTURE, 30.0), ("recalls", visits.recalls, "o", _RECALL, 22.0))
    for name, counts, shape, face, size in marks:
        if counts is None or not counts.any():
            continue
        y, x = np.nonzero(counts)
        # The most frequented cells; ties are broken at random, or one corner of a large map would get all the marks.
        often = np.lexsort((np.random.default_rng(0).random(len(x)), -counts[y, x]))[:_MARK_LIMIT]
        y, x = y[often], x[often]
        share = counts[y, x] / counts.max()
        axes.scatter(x, y, size * (0.3 + 0.7 * share), marker=shape, color=face, edgecolor=INK, linewidth=0.8, zorder=3)
        handles.append(marker(shape, face, f"{name}: {int(counts.sum()):,}"))
    sizes, total = visits.sizes(), max(float(visits.total.sum()), 1.0)
    owners = set(visits.fragment_ids[np.unique(owner[owner >= 0])].tolist())
    for fragment, (x_center, y_center) in visits.centers().items():
        if fragment in colors and fragment in owners:
            label(axes, x_center, y_center, fragment)
    shown = [i for i in colors.slots if i in sizes]
    others = 1.0 - sum(sizes[i] for i in shown) / total
    if others > 0.0005:
        handles.append(Patch(color=OTHERS, label=f"other fragments: {others:.0%} of the visits"))
    legend_below(axes, handles)
    n = visits.n_fragments if visits.n_fragments is not None else len(sizes)
    title(
        figure, box, "Where it fragmented", f"{plural(n, 'fragment')}; the ten used most in colour, with their number"
    )


def _map_figure(reachable: npt.NDArray[np.bool_], foot: float) -> tuple[Figure, Axes, Box]:
    height, width = reachable.shape
    wide = WIDTH - 2 * _SIDE
    high = float(np.clip(wide * height / width, 0.5, WIDTH))
    figure = new_figure(WIDTH, HEAD + high + foot)
    box = (_SIDE, 0.0, wide, HEAD + high + foot)
    return figure, add_axes(figure, (_SIDE, foot, wide, high)), box


def _draw_values(
    figure: Figure,
    axes: Axes,
    reachable: npt.NDArray[np.bool_],
    values: npt.NDArray[np.float64],
    colors: Colormap,
    norm: Normalize,
    text: str,
) -> None:
    ground(axes, world_pixels(reachable))
    image = ground(axes, values, cmap=colors, norm=norm)
    width, height = figure.get_size_inches()
    bar = figure.add_axes((0.9 / width, 0.44 / height, (width - 1.8) / width, 0.1 / height))
    figure.colorbar(image, cax=bar, orientation="horizontal")
    if isinstance(norm, LogNorm):
        ticks = _log_ticks(float(norm.vmin or 1.0), float(norm.vmax or 1.0))
        bar.xaxis.set_minor_locator(NullLocator())
        bar.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    else:  # few enough that long numbers stand apart
        bar.xaxis.set_major_locator(MaxNLocator(4))
        bar.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    bar.set_xlabel(text, fontsize=9, color=INK, labelpad=1)
    bar.tick_params(labelsize=8.5, colors=MUTED, length=2)
    bar.spines[:].set_visible(False)


def _log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten, or of two where these span little: as plain numbers they are set without mathematics."""
    base = 10.0 if high / low >= 100.0 else 2.0
    powers = np.arange(np.ceil(np.log(low) / np.log(base)), np.floor(np.log(high) / np.log(base)) + 1)
    return [float(base**power) for power in powers]


def _draw_way(axes: Axes, way: npt.NDArray[np.integer[Any]]) -> None:
    if not len(way):
        return
    # An agent goes over the same cells again and again: beside each other its ways show more.
    jitter = np.random.default_rng(0).uniform(-0.22, 0.22, way.shape)
    points = way + jitter
    points[0] = way[0]
    parts = np.stack([points[:-1], points[1:]], axis=1)
    near = np.abs(np.diff(way, axis=0)).max(axis=1, initial=0) <= 1
    lines = LineCollection(list(parts[near]), cmap=SEQUENTIAL, linewidths=1.6)
    lines.set_array(np.arange(len(parts))[near])
    axes.add_collection(lines)
    _draw_ends(axes, way, 7)


def _draw_ends(axes: Axes, way: npt.NDArray[np.integer[Any]], size: float) -> None:
    """Mark where a way began, and where the agent is at its end."""
    if len(way):
        axes.plot(*way[0], marker="s", color="white", markeredgecolor=INK, markersize=size)
        axes.plot(*way[-1], marker="o", color="#d1491b", markeredgecolor="white", markersize=size + 1)
