"""What happens to runs when things go wrong.

``--part kill``: SIGKILL at random moments, also in the middle of the writing of a checkpoint, each time followed by
``farl resume``; at the end every logged value and every weight has to be that of a run in one go.

    python -m benchmarks.faults --part kill            20 kills for each kind of agent; goes on where it was stopped
    python -m benchmarks.faults --part kill --short    3 kills for three kinds
    python -m benchmarks.faults --part faults          each fault once: what the user sees, and what is lost
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks._injected import inject
from benchmarks._kills import kill_and_compare
from benchmarks._small_runs import KINDS
from farl.experiment.files import write_atomically
from farl.experiment.metrics import library_versions, machine_facts

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
SHORT = ("FAR(PPO)", "DQN", "FARMap")


def kill(short: bool, known: Sequence[Row]) -> Iterator[Row]:
    """Return a row for each kind of agent that has none yet."""
    done = {row["kind"] for row in known}
    for kind in SHORT if short else KINDS:
        if kind not in done:
            with tempfile.TemporaryDirectory() as folder:
                row = kill_and_compare(kind, 3 if short else 20, Path(folder))
            logging.info("%s", row)
            yield row


def faults(short: bool, known: Sequence[Row]) -> Iterator[Row]:
    """Return a row for each fault, all of them anew."""
    with tempfile.TemporaryDirectory() as folder:
        yield from inject(short, Path(folder))


PARTS = {"kill": kill, "faults": faults}


def main() -> int:
    """Run a part; 1 if a run was not what it had to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="kill")
    parser.add_argument("--short", action="store_true", help="in about a minute, for every change")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("farl").setLevel(logging.ERROR if options.part == "kill" else logging.WARNING)
    torch.set_num_threads(1)  # processes are forked
    file = RESULTS / f"faults-{options.part}" / "faults.json"
    rows = [] if options.short or options.part == "faults" else _unfinished(file)
    for row in PARTS[options.part](options.short, tuple(rows)):
        rows.append(row)
        if not options.short:
            _write(file, options.part, rows)
    table = Table(*(name for name in rows[0]))
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    return int(any(row["equal"] < row["runs"] for row in rows))


def _unfinished(file: Path) -> list[Row]:
    """What a run of all kinds has found that was stopped before its end; nothing of one that is complete."""
    rows: list[Row] = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    return rows if len(rows) < len(KINDS) else []


def _write(file: Path, part: str, rows: Sequence[Row]) -> None:
    document = {
        "command": f"python -m benchmarks.faults --part {part}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine_facts(),
        "versions": library_versions(),
        "rows": rows,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
