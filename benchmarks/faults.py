"""What happens to runs when things go wrong.

``--part kill``: SIGKILL at random moments, also in the middle of the writing of a checkpoint, each time followed by
``farl resume``; at the end every logged value and every weight has to be that of a run in one go.

    python -m benchmarks.faults --part kill            20 kills for each kind of agent
    python -m benchmarks.faults --part kill --short    3 kills for three kinds
    python -m benchmarks.faults --part faults          each fault once: what the user sees, and what is lost
"""

import argparse
import json
import logging
import tempfile
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

RESULTS = Path(__file__).parent / "results"
SHORT = ("FAR(PPO)", "DQN", "FARMap")


def kill(short: bool) -> list[dict[str, Any]]:
    """Return a row for each kind of agent."""
    rows = []
    for kind in SHORT if short else KINDS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(kill_and_compare(kind, 3 if short else 20, Path(folder)))
        logging.info("%s", rows[-1])
    return rows


def faults(short: bool) -> list[dict[str, Any]]:
    """Return a row for each fault."""
    with tempfile.TemporaryDirectory() as folder:
        return inject(short, Path(folder))


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
    rows = PARTS[options.part](options.short)
    table = Table(*(name for name in rows[0]))
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    document = {
        "command": f"python -m benchmarks.faults --part {options.part}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine_facts(),
        "versions": library_versions(),
        "rows": rows,
    }
    if not options.short:
        folder = RESULTS / f"faults-{options.part}"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "faults.json", json.dumps(document, indent=1) + "\n")
    return int(any(row["equal"] < row["runs"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
