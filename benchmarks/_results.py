"""From the rows of a benchmark to its summary, table and plots."""

import gzip
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from farl.experiment.files import write_atomically
from farl.experiment.statistics import estimate, interquartile_mean, mean

ROWS = "rows.json.gz"
_COLUMNS = 4
_BANDS = 8
"""Most methods of which a picture shows the range of the runs, too."""

Row = Mapping[str, Any]
Statistic = Literal["mean", "interquartile mean"]


def results_document(
    name: str,
    command: str,
    size: str,
    note: str,
    metrics: Mapping[str, str],
    seconds: float,
    rows: Sequence[Row],
    statistic: Statistic = "mean",
) -> dict[str, Any]:
    """What ``results.json`` holds."""
    # Here, because workers import this module too, and torch takes seconds.
    from farl.experiment.metrics import library_versions, machine_facts

    facts = machine_facts()
    return {
        "name": name,
        "command": command,
        "size": size,
        "note": note,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "cpu": facts["cpu"],
        "cores": facts["cpu_count"],
        "commits": commits(rows),
        "versions": library_versions(),
        "metrics": dict(metrics),
        "statistic": statistic,
        "summary": summarise(rows, metrics, statistic),
        "rows": list(rows),
    }


def write_results(document: Mapping[str, Any], out: Path) -> None:
    """Write ``results.json``, for people, and the runs themselves beside it as ``rows.json.gz``."""
    head = {name: value for name, value in document.items() if name != "rows"}
    write_atomically(out / "results.json", json.dumps(head, indent=2, allow_nan=False) + "\n")
    rows = "[\n" + ",\n".join(json.dumps(_shortened(row), allow_nan=False) for row in document["rows"]) + "\n]\n"
    handle, temporary = tempfile.mkstemp(dir=out, prefix=".rows.")
    with os.fdopen(handle, "wb") as stream:
        stream.write(gzip.compress(rows.encode(), mtime=0))  # the same rows are the same bytes
    Path(temporary).chmod(0o644)
    os.replace(temporary, out / ROWS)


def read_results(path: Path) -> dict[str, Any]:
    """What ``write_results`` wrote: ``results.json`` with its ``rows``."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "rows" not in document:  # files of before hold them
        document["rows"] = json.loads(gzip.decompress((path.parent / ROWS).read_bytes()))
    return document


def _shortened(row: Row) -> Row:
    if "curves" not in row:
        return row
    curves = {
        name: {axis: [float(f"{value:.6g}") for value in values] for axis, values in curve.items()}
        for name, curve in row["curves"].items()
    }
    return row | {"curves": curves}


def commits(rows: Sequence[Row]) -> dict[str, int]:
    """Version of the code, as ``git describe`` names it -> how many runs it made."""
    made = Counter(str(row.get("commit") or "unknown") for row in rows if "parameters" in row)
    return dict(sorted(made.items()))


def summarise(
    rows: Sequence[Row], metrics: Mapping[str, str], statistic: Statistic = "mean"
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """``summary[method][condition][metric] = {mean, low, high, n}``, with 95% bootstrap intervals of the mean.

    With ``statistic="interquartile mean"`` the entry ``mean`` is that of the middle half of the runs.

    Runs that failed or have no value are left out. The interval of a single run is the run itself: look at ``n``.
    """
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        for metric in metrics:
            if row.get(metric) is not None:
                of_method = values.setdefault(row["method"], {}).setdefault(row["condition"], {})
                of_method.setdefault(metric, []).append(float(row[metric]))
    return {
        method: {
            condition: {metric: _mean_and_interval(numbers, statistic) for metric, numbers in by_metric.items()}
            for condition, by_metric in by_condition.items()
        }
        for method, by_condition in values.items()
    }


def table(document: Mapping[str, Any]) -> str:
    """The summary as Markdown, one table per condition."""
    metrics = document["metrics"]
    lines = [
        f"# {document['name']}",
        "",
        f"Size: {document['size']}" + (f" ({document['note']})" if document["note"] else ""),
    ]
    lines += [
        f"Command: `{document['command']}`",
        f"{document['cpu']}, {document['cores']} cores, {document['date']}",
        "",
    ]
    made = document.get("commits") or {}
    if len(made) > 1:
        told = ", ".join(f"{commit} ({count})" for commit, count in made.items())
        lines += [f"**Runs of different commits together**: {told}.", ""]
    elif made:
        lines += [f"Commit: {next(iter(made))}", ""]
    statistic = document.get("statistic", "mean").capitalize()
    lines += [f"{statistic} over runs, 95% bootstrap interval, number of runs.", ""]
    for condition in _ordered(document, "condition"):
        lines += [f"## {condition}", "", f"| method | {' | '.join(metrics)} |", f"|---{'|---' * len(metrics)}|"]
        for method in _ordered(document, "method"):
            cells = document["summary"].get(method, {}).get(condition, {})
            lines.append(f"| {method} | {' | '.join(_cell(cells.get(metric)) for metric in metrics)} |")
        lines.append("")
    lines += [f"- {metric}: {meaning}" for metric, meaning in metrics.items()]
    failed = [row for row in document["rows"] if "error" in row]
    if failed:
        lines += [
            "",
            f"{len(failed)} of {len(document['rows'])} runs failed; they are in results.json and left out here.",
        ]
    return "\n".join(lines) + "\n"


def default_plots(document: Mapping[str, Any], x_label: str = "") -> dict[str, Figure]:
    """Bars with intervals for each metric, and lines over ``x_label`` for each curve that rows hold."""
    plots = {metric: bars(document, metric) for metric in document["metrics"] if _has(document, metric)}
    names = sorted({name for row in document["rows"] for name in row.get("curves", {})})
    return plots | {f"curve_{name}": curves(document, name, x_label) for name in names}


def bars(document: Mapping[str, Any], metric: str) -> Figure:
    """One group of bars per condition, one bar per method, whiskers for the interval."""
    methods, summary = _ordered(document, "method"), document["summary"]
    conditions = [
        condition
        for condition in _ordered(document, "condition")
        if any(metric in summary.get(method, {}).get(condition, {}) for method in methods)
    ]
    colors = method_colors(document)
    width = min(max(5.0, 2.5 + 0.35 * len(conditions) * len(methods)), 16.0)
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(methods)
    for index, method in enumerate(methods):
        cells = [summary.get(method, {}).get(condition, {}).get(metric) for condition in conditions]
        found = [(place, cell) for place, cell in enumerate(cells) if cell is not None]
        if not found:
            continue
        x = [place + (index - (len(methods) - 1) / 2) * width for place, _ in found]
        means = np.array([cell["mean"] for _, cell in found])
        ends = np.array([[cell["mean"] - cell["low"], cell["high"] - cell["mean"]] for _, cell in found]).T
        whiskers = np.maximum(ends, 0.0)
        axes.bar(x, means, width, yerr=whiskers, capsize=3, label=method, color=colors[method])
    name_conditions(axes, conditions)
    axes.set_ylabel(metric)
    axes.set_title(document["metrics"][metric], fontsize="medium", wrap=True)
    legend(figure)
    return figure


def curves(document: Mapping[str, Any], name: str, x_label: str = "", window: int = 1) -> Figure:
    """One panel per condition: the mean over runs of a curve per method; of few methods the range of the runs, too.

    ``window`` points are averaged into each, so that many noisy lines can be told apart.
    """
    conditions = [
        condition
        for condition in _ordered(document, "condition")
        if any(name in row.get("curves", {}) for row in document["rows"] if row["condition"] == condition)
    ]
    methods, colors = _ordered(document, "method"), method_colors(document)
    columns = min(len(conditions), _COLUMNS)
    lines = -(-len(conditions) // columns)
    figure = Figure(figsize=(1.8 + 4.2 * columns, 0.4 + 3.4 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).flat
    for axes, condition in zip(panels, conditions, strict=False):
        for method in methods:
            found = [
                row["curves"][name]
                for row in document["rows"]
                if (row["method"], row["condition"]) == (method, condition) and name in row.get("curves", {})
            ]
            if not found:
                continue
            # Runs may have stopped at different points: they are compared on the longest one's grid, where they exist.
            x = np.asarray(max((curve["x"] for curve in found), key=len), dtype=float)
            y = np.array([np.interp(x, curve["x"], curve["y"], right=np.nan) for curve in found], dtype=float)
            if window > 1:
                y = ndimage.uniform_filter1d(y, window, axis=1, mode="nearest")
            axes.plot(x, np.nanmean(y, axis=0), label=method, color=colors[method])
            if len(methods) <= _BANDS:
                low, high = np.nanmin(y, axis=0), np.nanmax(y, axis=0)
                axes.fill_between(x, low, high, alpha=0.2, color=colors[method], linewidth=0)
        axes.set_title(condition)
        axes.set_xlabel(x_label)
    for axes in list(panels)[len(conditions) :]:
        axes.set_axis_off()
    figure.axes[0].set_ylabel(name.replace("_", " "))
    legend(figure)
    return figure


def method_colors(document: Mapping[str, Any]) -> dict[str, Any]:
    """A colour for each method, the same in all pictures of a benchmark."""
    methods = _ordered(document, "method")
    palette = colormaps["tab10" if len(methods) <= 10 else "tab20"]
    return {method: palette(index % palette.N) for index, method in enumerate(methods)}


def name_conditions(axes: Axes, conditions: Sequence[str]) -> None:
    """Write the conditions below their groups of bars, aslant where they would run into one another."""
    crowded = len(conditions) > _COLUMNS
    axes.set_xticks(
        range(len(conditions)), conditions, rotation=30 if crowded else 0, ha="right" if crowded else "center"
    )


def legend(figure: Figure) -> None:
    """Beside the panels, so that it hides no line."""
    handles = {label: h for axes in figure.axes for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside right center", fontsize="small")


def _mean_and_interval(numbers: list[float], statistic: Statistic) -> dict[str, float]:
    found = estimate([np.asarray(numbers, dtype=np.float64)], mean if statistic == "mean" else interquartile_mean)
    return {"mean": found.value, "low": found.low, "high": found.high, "n": len(numbers)}


def _ordered(document: Mapping[str, Any], key: str) -> list[str]:
    """Methods or conditions in the order in which they were run."""
    return list(dict.fromkeys(row[key] for row in document["rows"]))


def _has(document: Mapping[str, Any], metric: str) -> bool:
    return any(metric in cells for by in document["summary"].values() for cells in by.values())


def _cell(cell: Mapping[str, float] | None) -> str:
    if cell is None:
        return "-"
    return f"{cell['mean']:.4g} [{cell['low']:.4g}, {cell['high']:.4g}] ({cell['n']})"
