"""Surprisal over time, with the threshold, fractures and recalls; and which fragment was active when."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from farl.exploration.colors import OTHERS, FragmentColors
from farl.exploration.records import Trace
from farl.figures.canvas import HEAD, Box, add_axes, legend_below, marker, new_figure, plural, timesteps_axis, title
from farl.figures.palette import INK, MUTED

__all__ = ["fragment_timeline", "surprisal_trace"]

FloatArray = npt.NDArray[np.float64]

_LABELS = 0.72  # inches left of the axes: numbers as long as 1e-05, and what they are

_FRACTURE, _ELSEWHERE, _MEAN, _THRESHOLD = "#ffffff", "#8b949e", "#0b4fae", "#b3500b"


def surprisal_trace(trace: Trace, colors: FragmentColors) -> Figure:
    """Draw surprisal over time, its threshold, fractures and recalls, and the active fragment as a coloured strip."""
    figure = new_figure(6.0, 3.6)
    draw_trace(figure, (0.1, 0.0, 5.8, 3.6), trace, colors)
    return figure


def draw_trace(figure: Figure, box: Box, trace: Trace, colors: FragmentColors) -> None:
    """Draw a trace with its strip into a box of a figure."""
    left, bottom, width, height = box
    counts = f"{plural(int(trace.fractures.sum()), 'fracture')}, {plural(int(trace.recalls.sum()), 'recall')}"
    title(figure, box, "What surprised it", f"first environment: {counts}")
    strip = add_axes(figure, (left + _LABELS, bottom + 0.78, width - _LABELS - 0.2, 0.14))
    axes = add_axes(figure, (left + _LABELS, bottom + 0.98, width - _LABELS - 0.2, height - 0.98 - HEAD))
    steps, surprisal = trace.steps, trace.surprisal.astype(np.float64)
    first, last = (float(steps[0]), float(steps[-1])) if len(steps) > 1 else (0.0, 1.0)
    axes.plot(steps, surprisal, color="#b6bec9", linewidth=0.6, zorder=1)
    if len(steps):
        axes.plot(steps, _rolling_mean(trace.mean, max(len(steps) // 60, 1)), color=_MEAN, linewidth=1.4, zorder=2)
    handles = [Line2D([], [], color=_MEAN, label="mean")]
    if trace.threshold is not None and np.isfinite(trace.threshold).any():
        axes.plot(steps, trace.threshold, color=_THRESHOLD, linewidth=0.9, linestyle=(0, (3, 1.5)), zorder=2)
        handles.append(Line2D([], [], color=_THRESHOLD, linestyle=(0, (3, 1.5)), label="threshold"))
    _draw_events(axes, trace, surprisal)
    _scale(axes, surprisal)
    axes.set_ylabel("surprisal", fontsize=9, color=INK)
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.6)
    axes.set_xlim(first, max(last, first + 1))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(labelsize=8.5, colors=MUTED, bottom=False, labelbottom=False)
    if len(steps):
        pixels = colors.rgb(trace.fragments)[None]
        strip.imshow(pixels, aspect="auto", extent=(first, max(last, first + 1), 0.0, 1.0), interpolation="nearest")
    strip.set(yticks=[])
    timesteps_axis(strip, first, last)
    strip.spines[:].set_visible(False)
    strip.set_ylabel("active\nfragment", fontsize=8, color=INK, rotation=0, ha="right", va="center")
    handles += [marker("D", _FRACTURE, "fracture"), marker("|", INK, "recall")]
    if trace.fractures_elsewhere.any():
        handles.append(marker("D", _ELSEWHERE, "fracture elsewhere", 3.5, _ELSEWHERE))
    foot = add_axes(figure, (left, bottom + 0.33, width, 0.01))
    foot.axis("off")
    legend_below(foot, handles)


def fragment_timeline(trace: Trace, colors: FragmentColors) -> Figure:
    """Draw when each fragment was active in the first environment, a row for each of the ten used most."""
    usage = trace.usage()
    rows = sorted((i for i in usage if i in colors), key=lambda i: -usage[i])
    others = len(usage) - len(rows)
    names = [str(i) for i in rows] + (["others"] if others else [])
    row_of = {fragment: row for row, fragment in enumerate(rows)}
    figure = new_figure(6.0, HEAD + 0.24 * max(len(names), 1) + 0.55)
    box = (0.1, 0.0, 5.8, float(figure.get_size_inches()[1]))
    title(figure, box, "Which fragment was active when", f"first environment: {plural(len(usage), 'fragment')}")
    axes = add_axes(figure, (0.65, 0.5, 5.2, 0.24 * max(len(names), 1)))
    steps = trace.steps.astype(np.float64)
    first, last = (float(steps[0]), float(steps[-1])) if len(steps) > 1 else (0.0, 1.0)
    if len(steps):
        pixels = np.ones((len(names), len(steps), 3))
        active = np.array([row_of.get(int(i), len(rows)) for i in trace.fragments])
        pixels[active, np.arange(len(steps))] = colors.rgb(trace.fragments)
        extent = (first, max(last, first + 1), len(names) - 0.5, -0.5)
        axes.imshow(pixels, aspect="auto", extent=extent, interpolation="nearest")
    axes.set_yticks(range(len(names)), names)
    for place, name in zip(axes.get_yticklabels(), names, strict=True):
        place.set_color(OTHERS if name == "others" else INK)
    axes.hlines(np.arange(len(names) - 1) + 0.5, first, max(last, first + 1), color="#e6e8eb", linewidth=0.6)
    timesteps_axis(axes, first, last)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("fragment", fontsize=9, color=INK)
    return figure


def _draw_events(axes: Axes, trace: Trace, surprisal: FloatArray) -> None:
    at = trace.fractures > 0
    axes.scatter(
        trace.steps[at], surprisal[at], 26, marker="D", color=_FRACTURE, edgecolor=INK, linewidth=0.9, zorder=3
    )
    edge = axes.get_xaxis_transform()
    elsewhere = trace.steps[trace.fractures_elsewhere > 0]
    top = np.full(len(elsewhere), 0.98)
    axes.scatter(elsewhere, top, 9, marker="D", color=_ELSEWHERE, transform=edge, clip_on=False, zorder=3)
    # There may be thousands of recalls: a rug of ticks at the foot instead of marks that would hide the curve.
    axes.vlines(
        trace.steps[trace.recalls > 0], 0.0, 0.07, color=INK, linewidth=0.5, alpha=0.7, transform=edge, zorder=3
    )


def _scale(axes: Axes, surprisal: FloatArray) -> None:
    """A logarithmic axis where all is positive."""
    if not len(surprisal) or surprisal.min() <= 0:
        return
    axes.set_yscale("log")
    wide = surprisal.max() > 100 * surprisal.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _rolling_mean(values: npt.NDArray[np.floating[Any]], window: int) -> FloatArray:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.clip(np.arange(len(values)) - window // 2, 0, None)
    high = np.clip(np.arange(len(values)) + window // 2 + 1, None, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))
