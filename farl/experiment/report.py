"""One self-contained HTML page about a run: metrics, pictures, configuration."""

import base64
import html
from pathlib import Path
from typing import Any

from farl.experiment.files import write_atomically
from farl.experiment.run_directory import RunDirectory

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td { padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd; }
td + td { font-variant-numeric: tabular-nums; } img { max-width: 100%; } pre { background: #f6f6f6; padding: 1rem; }
"""


def write_report(run: RunDirectory, metrics: dict[str, Any]) -> None:
    """Write ``report.html`` from the metrics and what lies in the run directory."""
    pictures = sorted(run.exploration.glob("*.png"), key=lambda path: (path.stem not in ("map", "overview"), path.stem))
    title = html.escape(f"{metrics['name']}, seed {metrics['seed']}")
    body = [
        f"<h1>{title}</h1>",
        _table(summary_rows(metrics)),
        *(_figure(picture) for picture in pictures),
        "<h2>Configuration</h2>",
        f"<pre>{html.escape(run.config_file.read_text(encoding='utf-8'))}</pre>",
        "<h2>Versions and machine</h2>",
        _table({**metrics["versions"], **metrics["machine"]}),
    ]
    page = f"<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>{title}</title>\n<style>{_STYLE}</style>\n"
    write_atomically(run.report_file, page + "\n".join(body) + "\n</html>\n")


def summary_rows(metrics: dict[str, Any]) -> dict[str, str]:
    """The metrics that have a value, in words and with units."""
    shown = {
        "algorithm": metrics["algorithm"],
        "environment": metrics["environment"],
        "timesteps": f"{metrics['total_timesteps']:,}",
        "wall-clock time": _duration(metrics["wall_seconds"]),
        "steps per second": f"{metrics['steps_per_second']:,.0f}",
        "mean return": _number(metrics["ep_rew_mean"], ".3g"),
        "mean return in evaluation": _number(metrics["evaluation_ep_rew_mean"], ".3g"),
        "success rate": _number(metrics["success_rate"], ".0%"),
        "coverage": _number(metrics["coverage"], ".1%"),
        "90% covered after": _number(metrics["coverage_90_timesteps"], ",", " timesteps"),
        "fragments": _number(metrics["fragments"], ","),
        "recalls": _number(metrics["recalls"], ","),
        "long-term memory": _number((metrics["ltm_bytes"] or 0) / 2**20 or None, ".2f", " MiB"),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _number(value: float | None, form: str, unit: str = "") -> str | None:
    return None if value is None else f"{value:{form}}{unit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _table(rows: dict[str, Any]) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items()
    )
    return f"<table>{cells}</table>"


def _figure(picture: Path) -> str:
    name = picture.stem.replace("_", " ").replace("-", " ")
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    return (
        f"<h2>{html.escape(name.capitalize())}</h2>\n<img alt='{html.escape(name)}' src='data:image/png;base64,{data}'>"
    )
