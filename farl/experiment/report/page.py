"""Puts a report's page together: everything is in it, and it asks for nothing from a network."""

import html
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farl.experiment.files import write_atomically
from farl.experiment.report.data import curves, exploration, picture_uri, read_metrics, read_record
from farl.experiment.report.summary import summary_rows
from farl.experiment.run_directory import RunDirectory

__all__ = ["write_comparison", "write_report"]

TITLES = {
    "visits": "Where the agent went",
    "fragment_map": "Where it fragmented",
    "intrinsic_reward": "What it was paid",
    "forgetting": "What it forgot",
    "first_visit": "When it came there first",
    "last_episode": "The last episode",
    "worlds": "All worlds",
    "map": "What it knows of the first world",
    "surprisal": "What surprised it",
    "timeline": "Which fragment was active when",
    "memory_graph": "What it remembers",
    "gallery": "What it saw where it fragmented",
    "particles": "Particles",
    "task_matrix": "What became of each task",
}
"""The pictures in the order of the page; the overview shows what others show, and is left out."""
_LARGEST_VIDEO = 8 * 2**20
_VIDEOS = {".mp4": "video/mp4", ".gif": "image/gif"}


def write_report(run: RunDirectory, metrics: dict[str, Any]) -> None:
    """Write ``report.html`` from the metrics and what lies in the run directory."""
    record = read_record(run)
    explored = {} if record is None else exploration(record)
    tasks = metrics.get("sequence_returns") or []
    data = {"curves": curves({run.path.name: run}), "tasks": tasks if any(tasks) else [], **explored}
    body = [
        _table(summary_rows(metrics)),
        _explored(explored),
        _section("Curves", "<div id='curves' class='grid'></div>") if data["curves"] else "",
        _section("What became of each task", "<div id='tasks' class='plot'></div>") if data["tasks"] else "",
        _pictures(run),
        _video(run),
        _section("Configuration", f"<pre>{html.escape(run.config_file.read_text(encoding='utf-8'))}</pre>"),
        _section("Versions and machine", _table({**metrics["versions"], **metrics["machine"]})),
    ]
    write_atomically(run.report_file, _page(f"{metrics['name']}, seed {metrics['seed']}", body, data))


def write_comparison(runs: Mapping[str, RunDirectory], out: Path) -> None:
    """Write a page with the curves and the metrics of several runs beside each other.

    :param runs: their data, by the name that they have on the page
    :param out: the page
    """
    rows = {}
    for name, run in runs.items():
        metrics = read_metrics(run.metrics_file)
        rows[name] = summary_rows(metrics) if metrics is not None else {"timesteps": "has not ended yet"}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    head = "".join(f"<th scope='col'>{html.escape(column)}</th>" for column in ("run", *columns))
    lines = [
        f"<tr><th scope='row'>{html.escape(name)}</th>"
        + "".join(f"<td>{html.escape(row.get(column, ''))}</td>" for column in columns)
        + "</tr>"
        for name, row in rows.items()
    ]
    table = f"<div class='wide'><table><tr>{head}</tr>{''.join(lines)}</table></div>"
    data = {"curves": curves(runs), "tasks": []}
    body = [table, _section("Curves", "<div id='curves' class='grid'></div>") if data["curves"] else ""]
    write_atomically(out, _page(f"{len(runs)} runs", body, data))


def _page(title: str, body: list[str], data: dict[str, Any]) -> str:
    # "</script" would end the script, and "<!--" open a comment, wherever they stand.
    numbers = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    here = importlib.resources.files("farl.experiment.report")
    return "\n".join(
        [
            "<!doctype html>",
            "<html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>{html.escape(title)}</title>",
            f"<style>{(here / 'page.css').read_text(encoding='utf-8')}</style></head><body><main>",
            f"<h1>{html.escape(title)}</h1>",
            *body,
            f"</main><script type='application/json' id='data'>{numbers}</script>",
            f"<script>{_plotly()}</script>",
            f"<script>{(here / 'page.js').read_text(encoding='utf-8')}</script>",
            "</body></html>\n",
        ]
    )


def _plotly() -> str:
    return (importlib.resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>" if content else ""


def _explored(explored: Mapping[str, Any]) -> str:
    parts = []
    if "trace" in explored:
        world = "<div id='map' class='plot'></div>" if "map" in explored else ""
        slider = (
            "<label for='time'>Training, from its beginning to its end</label>"
            "<input type='range' id='time' min='0' value='0'><p id='now' aria-live='polite'></p>"
        )
        content = f"{slider}<div class='pair'>{world}<div id='trace' class='plot'></div></div>"
        parts.append(_section("Exploration over training", content))
    if "graph" in explored:
        content = (
            "<p>Click a fragment, or choose it here: <select id='choose' aria-label='fragment'></select></p>"
            "<div class='pair'><div id='graph' class='plot'></div><div id='fragment' aria-live='polite'></div></div>"
        )
        parts.append(_section("Memory", content))
    return "".join(parts)


def _pictures(run: RunDirectory) -> str:
    files = {path.stem: path for path in run.exploration.glob("*.png") if path.stem != "overview"}
    names = [*(name for name in TITLES if name in files), *sorted(set(files) - set(TITLES))]
    shown = [
        f"<figure><img alt='{html.escape(TITLES.get(name, name))}' loading='lazy' "
        f"src='{picture_uri(files[name].read_bytes())}'></figure>"
        for name in names
    ]
    shown += [
        f"<figure><img alt='{html.escape(TITLES.get(path.stem, path.stem))}, as it grew' loading='lazy' "
        f"src='{picture_uri(path.read_bytes(), _VIDEOS['.gif'])}'></figure>"
        for path in sorted(run.exploration.glob("*.gif"))
    ]
    return _section("Pictures", f"<div class='grid'>{''.join(shown)}</div>" if shown else "")


def _video(run: RunDirectory) -> str:
    files = [path for path in run.path.iterdir() if path.stem.startswith("recording") and path.suffix in _VIDEOS]
    small = [
        path for path in sorted(files, key=lambda path: path.stat().st_mtime) if path.stat().st_size <= _LARGEST_VIDEO
    ]
    if not small:
        return ""
    path = small[-1]
    source = picture_uri(path.read_bytes(), _VIDEOS[path.suffix])
    if path.suffix == ".gif":
        return _section("Video", f"<img alt='the agent' src='{source}'>")
    return _section("Video", f"<video controls loop muted src='{source}'></video>")


def _table(rows: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<tr><th scope='row'>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{cells}</table>"
