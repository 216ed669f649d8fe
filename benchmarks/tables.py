"""Tables of the README and the docs, written from ``benchmarks/results`` so that no number is typed.

    python -m benchmarks.tables            # writes them anew
    python -m benchmarks.tables --check    # fails where one is not what the results say

A table stands between two comments, of which the first says in YAML what it shows::

    <!-- results
    from: quickstart
    rows: {far: PPO + FAR, rnd: PPO + RND}
    columns:
      - {metric: coverage, condition: layout-0, title: cells covered}
    -->
    ...
    <!-- /results -->

``rows`` are methods with their titles. Or each row is a measurement of its own, and columns are its methods::

    columns: [fragmented, not fragmented]
    rows:
      - {title: cells covered, from: quickstart, condition: layout-1, metric: coverage, methods: [far, rnd]}

A column, or such a row, may name another folder with ``from``, scale its numbers with ``times``
(1000 makes thousands of what is counted in ones, if ``unit: k`` says so), and leave out the interval with
``interval: false``. Below each table stands where its numbers come from.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks._results import read_results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_BLOCK = re.compile(r"(<!-- results\n(.*?)-->\n)(.*?)(<!-- /results -->)", re.DOTALL)
_FEWEST_SEEDS = 5


def pages() -> list[Path]:
    """The README and every page of the docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rewritten(text: str) -> str:
    """The text with every table as the results have it."""
    return _BLOCK.sub(lambda match: f"{match[1]}{_table(yaml.safe_load(match[2]))}{match[4]}", text)


@cache
def document(name: str) -> dict[str, Any]:
    """What a benchmark came to."""
    return read_results(RESULTS / name / "results.json")


def number(value: float) -> str:
    """A number to three significant digits, as people write it."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def cell(entry: Mapping[str, float] | None, column: Mapping[str, Any]) -> str:
    """A mean with its interval; the number of runs where there are fewer than five."""
    if entry is None:
        return "not run"
    scale, unit = float(column.get("times", 1)), column.get("unit", "")
    text = f"{number(entry['mean'] * scale)}{unit}"
    if column.get("interval", True) and entry["n"] > 1:
        text += f" [{number(entry['low'] * scale)}, {number(entry['high'] * scale)}]"
    return text if entry["n"] >= _FEWEST_SEEDS else f"{text} ({entry['n']:.0f} run{'s' * (entry['n'] > 1)})"


def source(names: Sequence[str]) -> str:
    """Where numbers come from: command, date, machine, statistic, version of the code."""
    parts = []
    for name in dict.fromkeys(names):
        found = document(name)
        commit = "".join(f", commit {made}" for made in found.get("commits") or {})
        told = re.sub(r" --out \S+", "", found["command"])
        parts.append(f"`{told}`, {found['date'][:10]}, {found['cpu']}{commit}")
    return "; ".join(parts)


def _table(spec: Mapping[str, Any]) -> str:
    return _measurements(spec) if isinstance(spec["rows"], list) else _methods(spec)


def _measurements(spec: Mapping[str, Any]) -> str:
    """A row for each measurement, a column for each of its methods, and a last one that links to the results."""
    lines = [f"| | {' | '.join(spec['columns'])} | |", f"|---{'|---' * len(spec['columns'])}|---|"]
    for row in spec["rows"]:
        summary = document(row["from"])["summary"]
        cells = [
            cell(summary[method][row["condition"]].get(row["metric"]), row) if method is not None else "-"
            for method in row["methods"]
        ]
        date = document(row["from"])["date"][:10]
        link = f"[{row['from']}](benchmarks/results/{row['from']}/table.md), {date}"
        lines.append(f"| {row['title']} | {' | '.join(cells)} | {link} |")
    return "\n".join(lines) + "\n"


def _methods(spec: Mapping[str, Any]) -> str:
    """A row for each method, a column for each measurement."""
    columns = spec["columns"]
    lines = [f"| | {' | '.join(str(column['title']) for column in columns)} |", f"|---{'|---' * len(columns)}|"]
    for method, title in spec["rows"].items():
        cells = []
        for column in columns:
            summary = document(column.get("from", spec.get("from")))["summary"]
            known = summary.get(column.get("methods", {}).get(method, method), {}).get(column["condition"], {})
            cells.append(cell(known.get(column["metric"]), column))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    names = [column.get("from", spec.get("from")) for column in columns]
    statistics = {document(name).get("statistic", "mean") for name in names}
    said = f"{' and '.join(sorted(statistics)).capitalize()} over runs, 95% bootstrap interval: {source(names)}."
    lines += ["", textwrap.fill(said, 150, break_long_words=False, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables, or with ``--check`` say which are out of date; returns 1 then."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description="Tables from benchmarks/results.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a table is out of date")
    options = parser.parse_args(arguments)
    stale = []
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = rewritten(before)
        if before != after:
            stale.append(page)
            if not options.check:
                page.write_text(after, encoding="utf-8")
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'out of date' if options.check else 'written'}", file=sys.stderr)
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
