"""``farl compare``: what runs came to, with intervals."""

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  farl compare runs/quickstart                          the groups of a sweep, seeds folded
  farl compare runs/study/* --metric coverage           three experiments
  farl compare runs/study --by algorithm,far.module.name
  farl compare runs/study --metric coverage_90_timesteps --lower-is-better --out results
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories, or folders of them")
    parser.add_argument("--by", metavar="KEY,KEY", help="settings to group by (default: all that differ)")
    parser.add_argument("--metric", default="auto", metavar="NAME", help="coverage, return, evaluation_return, ...")
    parser.add_argument("--target", type=float, metavar="X", help="the value that the optimality gap is measured to")
    parser.add_argument("--lower-is-better", action="store_true", help="the metric should be small")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison"),
        metavar="DIR",
        help="for CSV, PNG and HTML (default: comparison)",
    )


def run(options: argparse.Namespace) -> int:
    """Compare runs, with intervals."""
    from rich.console import Console
    from rich.table import Table

    from farl.errors import ConfigError
    from farl.experiment.compare.comparison import compare, verdicts
    from farl.experiment.compare.output import COLUMNS, sections, table_rows, write
    from farl.experiment.compare.runs import collect, group_runs

    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out}: is a file; give a folder")
    found = collect(options.runs)
    by = [key.strip() for key in options.by.split(",")] if options.by is not None else None
    comparison = compare(found, group_runs(found.runs, by), options.metric, options.target, options.lower_is_better)
    console = Console()
    for task in sections(comparison):
        table = Table(title=f"{comparison.metric} in {task}", title_justify="left")
        rows = table_rows(comparison, task)
        # Names are told apart by their ends: they fold only where they leave no room for the numbers.
        table.add_column(COLUMNS[0], overflow="fold", no_wrap=max(len(row[0]) for row in rows) <= 32)
        for column in COLUMNS[1:]:
            table.add_column(column.replace("interquartile mean", "IQM"))
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for sentence in verdicts(comparison):
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)
    for note in comparison.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True, markup=False)
    page = write(comparison, options.out)
    console.print(f"page: {page}", highlight=False, soft_wrap=True)
    return 0
