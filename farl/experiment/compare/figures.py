"""Pictures of a comparison."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from farl.experiment.compare.comparison import Comparison
from farl.experiment.compare.curves import TAGS, band
from farl.experiment.statistics import performance_profile

_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000", "#f0e442")
"""The palette of Okabe and Ito, which colour-blind people can tell apart."""
_DASHES = ("-", "--", ":", "-.")
_THRESHOLDS = 101


def draw(comparison: Comparison) -> dict[str, Figure]:
    """File name -> picture: learning curves, scores with intervals, performance profiles, chances of improvement."""
    pictures = {"scores": _scores(comparison), "profile": _profile(comparison)}
    curves = _curves(comparison)
    if curves is not None:
        pictures = {"curves": curves, **pictures}
    if comparison.pairs:
        pictures["improvement"] = _improvement(comparison)
    return pictures


def _style(index: int) -> dict[str, Any]:
    return {"color": _COLORS[index % len(_COLORS)], "linestyle": _DASHES[index // len(_COLORS) % len(_DASHES)]}


def _panels(comparison: Comparison) -> tuple[Figure, dict[str, Axes]]:
    tasks = comparison.tasks
    figure = Figure(figsize=(5.5 * min(len(tasks), 3), 3.8 * -(-len(tasks) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(tasks) // 3), min(len(tasks), 3), squeeze=False).flat
    panels = {}
    for task, panel in zip(tasks, axes, strict=False):
        panel.set_title(task)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        panels[task] = panel
    return figure, panels


def _curves(comparison: Comparison) -> Figure | None:
    tag = TAGS.get(comparison.metric)
    if tag is None:
        return None
    figure, panels = _panels(comparison)
    drawn = False
    for task, panel in panels.items():
        for index, group in enumerate(comparison.groups):
            found = band(group, task, tag)
            if found is None:
                continue
            drawn = True
            steps, middle, low, high = found
            panel.plot(steps, middle, label=group.name, **_style(index))
            panel.fill_between(steps, low, high, color=_style(index)["color"], alpha=0.15, linewidth=0)
        panel.set_xlabel("timesteps")
        panel.set_ylabel(comparison.metric)
        panel.ticklabel_format(axis="x", style="sci", scilimits=(-3, 6))
    if not drawn:
        return None
    next(iter(panels.values())).legend(frameon=False, fontsize="small")
    figure.suptitle("interquartile mean over runs, 95% bootstrap interval", fontsize="small")
    return figure


def _scores(comparison: Comparison) -> Figure:
    rows = comparison.rows
    names = [group.name for group in comparison.groups]
    figure = Figure(figsize=(8, 1.2 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        color = _style(names.index(row.group))["color"]
        axes.plot([row.iqm.low, row.iqm.high], [place, place], color=color, linewidth=8, alpha=0.35)
        axes.plot(row.iqm.value, place, marker="|", markersize=14, markeredgewidth=3, color=color)
        group = comparison.groups[names.index(row.group)]
        if row.task in comparison.tasks:
            values = comparison.values(group, row.task)
            axes.plot(values, np.full(len(values), place), "o", color=color, markersize=3, alpha=0.8)
    several = len(comparison.tasks) > 1
    labels = [f"{row.group} ({row.runs})" + (f"\n{row.task}" if several else "") for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(f"{comparison.metric}: interquartile mean, 95% interval, single runs as dots")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _profile(comparison: Comparison) -> Figure:
    figure, panels = _panels(comparison)
    for task, panel in panels.items():
        samples = {group.name: comparison.values(group, task) for group in comparison.groups}
        everything = np.concatenate([values for values in samples.values() if len(values)])
        thresholds = np.linspace(everything.min(), everything.max(), _THRESHOLDS)
        for index, values in enumerate(samples.values()):
            if not len(values):
                continue
            share, low, high = performance_profile([values], thresholds)
            panel.plot(thresholds, share, label=comparison.groups[index].name, drawstyle="steps-post", **_style(index))
            panel.fill_between(
                thresholds, low, high, color=_style(index)["color"], alpha=0.15, step="post", linewidth=0
            )
        panel.set_xlabel(comparison.metric)
        panel.set_ylabel("share of runs above")
    next(iter(panels.values())).legend(frameon=False, fontsize="small")
    figure.suptitle("performance profile", fontsize="small")
    return figure


def _improvement(comparison: Comparison) -> Figure:
    pairs = comparison.pairs
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    for place, pair in enumerate(pairs):
        axes.plot(
            [pair.probability.low, pair.probability.high], [place, place], color=_COLORS[0], linewidth=8, alpha=0.35
        )
        axes.plot(pair.probability.value, place, marker="|", markersize=14, markeredgewidth=3, color=_COLORS[0])
    several = len(comparison.tasks) > 1
    labels = [f"{pair.first} > {pair.second}" + (f"\n{pair.task}" if several else "") for pair in pairs]
    axes.set_yticks(range(len(pairs)), labels)
    axes.invert_yaxis()
    axes.axvline(0.5, color="grey", linewidth=1)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("probability that a run of the first is above one of the second, 95% interval")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
