"""The numbers that a report's plots are drawn from, as plain lists."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farl.experiment.logs import CHARTS
from farl.experiment.run_directory import RunDirectory
from farl.experiment.tables import read_table
from farl.exploration import ExplorationRecord
from farl.exploration.colors import COLORS, OTHERS
from farl.memory.storage import load_state

__all__ = ["curves", "exploration", "picture_uri", "read_record"]

_POINTS = 600
_FRAGMENTS = 64


def curves(runs: Mapping[str, RunDirectory]) -> list[dict[str, Any]]:
    """Return the charts of the runs' ``progress.csv``: title and series, each with name, x and y.

    :param runs: their data, by the name that they have in the legend
    """
    tables = {name: read_table(run.progress_file) for name, run in runs.items()}
    charts = []
    for group in CHARTS.values():
        for title, patterns in group.items():
            series = [
                {
                    "name": tag if len(runs) == 1 else f"{name}: {tag}",
                    "run": name,
                    **_thinned(table["timesteps"], table[tag]),
                }
                for name, table in tables.items()
                for tag in _matching(table, patterns)
            ]
            if series:
                charts.append({"title": title, "series": series})
    return charts


def read_record(run: RunDirectory) -> ExplorationRecord | None:
    """Return what was recorded of the exploration; None if there is no record that can be read."""
    if not run.record_file.is_file():
        return None
    try:
        return ExplorationRecord.from_state_dict(load_state(run.record_file))
    except (ValueError, KeyError, OSError):
        return None


def exploration(record: ExplorationRecord) -> dict[str, Any]:
    """Return trace, map and graph of a record, as far as there are any."""
    found: dict[str, Any] = {"colors": dict(zip(record.colors.slots, COLORS, strict=True)), "others": OTHERS}
    if record.trace is not None:
        trace = record.trace.snapshot()
        found["trace"] = {
            "steps": trace.steps.tolist(),
            "surprisal": _plain(trace.surprisal),
            "mean": _plain(trace.mean),
            "threshold": _plain(trace.threshold),
            "fragments": trace.fragments.tolist(),
            "fractures": trace.fractures.tolist(),
            "recalls": trace.recalls.tolist(),
        }
    centers: Mapping[int, tuple[float, float]] | None = None
    if record.visits is not None and record.cells is not None:
        visits = record.visits.snapshot()
        owner = np.array([*visits.fragment_ids, -2])[visits.owner()]
        first = record.cells.snapshot().first_visit
        centers = visits.centers()
        found["map"] = {
            "reachable": visits.reachable.astype(int).tolist(),
            "owner": owner.tolist(),
            "first": [_plain(row) for row in first],
            "cells": int(np.count_nonzero(visits.reachable)),
        }
    if record.graph is not None and len(record.graph) > 1:
        found["graph"] = _graph(record, centers)
    return found


def picture_uri(content: bytes, kind: str = "image/png") -> str:
    """Return a picture or a film as text that can stand in a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _graph(record: ExplorationRecord, centers: Mapping[int, tuple[float, float]] | None) -> dict[str, Any]:
    from farl.figures.graph import placed, thinned

    assert record.graph is not None
    ways = thinned(record.graph, record.sizes, centers)
    place = placed(ways, centers, None if record.visits is None else record.visits.reachable.shape)
    used = {} if record.use is None else {each.fragment: each for each in record.use.snapshot()}
    nodes = []
    for fragment in ways.nodes[:_FRAGMENTS]:
        node: dict[str, Any] = {"id": fragment, "x": float(place[fragment][0]), "y": float(place[fragment][1])}
        if fragment in used:
            each = used[fragment]
            surprisal = each.surprisal if np.isfinite(each.surprisal) else None
            node |= {"visits": each.visits, "recalls": each.recalls, "surprisal": surprisal}
            if each.frame is not None:
                node["frame"] = picture_uri(_png(each.frame))
        nodes.append(node)
    row = {node["id"]: number for number, node in enumerate(nodes)}
    links = [[row[a], row[b], recall] for a, b, recall in ways.links if a in row and b in row]
    return {"nodes": nodes, "links": links, "held": record.graph.number_of_nodes(), "opened": record.opened}


def _png(frame: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(frame).save(content, "PNG")
    return content.getvalue()


def _matching(table: Mapping[str, Any], patterns: Sequence[str]) -> list[str]:
    return [tag for pattern in patterns for tag in sorted(table) if re.fullmatch(pattern, tag)]


def _thinned(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> dict[str, Any]:
    known = np.flatnonzero(np.isfinite(y) & np.isfinite(x))
    if len(known) > _POINTS:
        known = known[np.linspace(0, len(known) - 1, _POINTS).astype(int)]
    return {"x": _plain(x[known]), "y": _plain(y[known])}


def _plain(values: Any) -> list[float | None]:
    """JSON has no NaN."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in np.asarray(values, float).tolist()]


def read_metrics(path: Path) -> dict[str, Any] | None:
    """Return ``metrics.json``; None while a run has none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
