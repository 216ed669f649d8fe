"""Writes a comparison: CSV for other programs, pictures, and one page."""

import base64
import csv
import html
import io
from pathlib import Path

from farl.experiment.compare.comparison import Comparison, Row, verdicts
from farl.experiment.compare.figures import draw
from farl.experiment.files import write_atomically
from farl.experiment.statistics import Estimate

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
td + td { font-variant-numeric: tabular-nums; } img { max-width: 100%; }
.note { background: #fff4d6; padding: .5rem 1rem; }
@media (prefers-color-scheme: dark) {
  body { background: #16181c; color: #ddd; } th, td { border-color: #444; }
  .note { background: #4a3b10; } img { background: #fff; border-radius: 4px; }
}
"""
COLUMNS = ("group", "runs", "interquartile mean", "median", "mean", "optimality gap")


def write(comparison: Comparison, out: Path) -> Path:
    """Write ``comparison.csv``, ``runs.csv``, pictures and ``comparison.html``.

    :param comparison: What was found out.
    :param out: Folder; made where it is missing.
    :return: The page.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "comparison.csv", _statistics_csv(comparison))
    write_atomically(out / "runs.csv", _runs_csv(comparison))
    pictures: dict[str, bytes] = {}
    for name, figure in draw(comparison).items():
        stream = io.BytesIO()
        figure.savefig(stream, dpi=150, format="png")
        pictures[name] = stream.getvalue()
        (out / f"{name}.png").write_bytes(pictures[name])
    page = out / "comparison.html"
    write_atomically(page, _page(comparison, pictures))
    return page


def table_rows(comparison: Comparison, task: str) -> list[list[str]]:
    """The rows of one environment as text, in the order of ``COLUMNS``."""
    return [_cells(row) for row in comparison.rows if row.task == task]


def sections(comparison: Comparison) -> list[str]:
    """The environments that have rows."""
    return list(dict.fromkeys(row.task for row in comparison.rows))


def _cells(row: Row) -> list[str]:
    return [row.group, str(row.runs), str(row.iqm), str(row.median), str(row.mean), str(row.gap) if row.gap else "-"]


def _statistics_csv(comparison: Comparison) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = ("iqm", "median", "mean", "optimality_gap")
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    writer.writerow(["environment", "group", "metric", "runs", *ends])
    for row in comparison.rows:
        numbers = [_numbers(estimate) for estimate in (row.iqm, row.median, row.mean, row.gap)]
        writer.writerow(
            [row.task, row.group, comparison.metric, row.runs, *(end for three in numbers for end in three)]
        )
    return stream.getvalue()


def _numbers(estimate: Estimate | None) -> list[float | str]:
    return ["", "", ""] if estimate is None else [estimate.value, estimate.low, estimate.high]


def _runs_csv(comparison: Comparison) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", "environment", "group", "seed", comparison.metric])
    for group in comparison.groups:
        for run in group.runs:
            writer.writerow([run.path, run.task, group.name, run.seed, run.metrics.get(comparison.metric, "")])
    return stream.getvalue()


def _page(comparison: Comparison, pictures: dict[str, bytes]) -> str:
    title = html.escape(f"{comparison.metric}: {len(comparison.groups)} groups")
    body = [f"<h1>{title}</h1>"]
    body += [f"<p class='note'>{html.escape(note)}</p>" for note in comparison.notes]
    for task in sections(comparison):
        body.append(f"<h2>{html.escape(task)}</h2>")
        head = "".join(f"<th>{column}</th>" for column in COLUMNS)
        lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in table_rows(comparison, task)]
        body.append(f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>")
    body.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in verdicts(comparison)) + "</ul>")
    for name, picture in pictures.items():
        body.append(f"<img alt='{name}' src='data:image/png;base64,{base64.b64encode(picture).decode()}'>")
    body.append(
        "<p>Brackets are 95% percentile bootstrap intervals over runs. Optimality gap: how far runs stay below "
        f"{comparison.target:g} on average.</p>"
        if comparison.target is not None
        else "<p>Brackets are 95% percentile bootstrap intervals over runs.</p>"
    )
    head = f"<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>{title}</title>\n"
    head += f"<meta name='viewport' content='width=device-width'>\n<style>{_STYLE}</style>\n"
    return head + "\n".join(body) + "\n</html>\n"
