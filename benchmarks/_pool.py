"""Runs jobs on all cores, keeps each finished one on disk, and outlives jobs that crash."""

import json
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from farl.errors import ConfigError
from farl.experiment.files import write_atomically
from farl.experiment.pool import run_in_processes

Row = dict[str, Any]


class JobLike(Protocol):
    """What the pool has to know of a job."""

    method: str
    condition: str
    seed: int
    parameters: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Names the job's file."""

    @property
    def label(self) -> str:
        """For people."""


def run_all(
    name: str, run: Callable[[Any], dict[str, Any]], jobs: Sequence[JobLike], folder: Path, processes: int
) -> list[Row]:
    """Run the jobs that are not finished yet and return the rows of all, in the order of ``jobs``.

    A job that raises, or whose process dies, gives a row with an ``error`` and is tried again by the next command.
    """
    rows = {job.key: row for job in jobs if (row := _read(folder / f"{job.key}.json")) is not None}
    waiting = [job for job in jobs if job.key not in rows]
    commit = code_version()
    with _progress(name, len(jobs), len(rows)) as advance:
        for (_, job), found in run_in_processes(_guarded, [(run, job) for job in waiting], processes):
            row = found or {**_identity(job), "error": "its process died (out of memory?)"}
            row["commit"] = commit
            rows[job.key] = row
            if "error" not in row:
                write_atomically(folder / f"{job.key}.json", json.dumps(row, allow_nan=False))
            advance(job.label)
    return [rows[job.key] for job in jobs]


def code_version() -> str | None:
    """Commit of the code that runs, with ``-dirty`` where files differ from it; None outside of a repository."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def _guarded(task: tuple[Callable[[Any], dict[str, Any]], JobLike]) -> Row:
    run, job = task
    began = time.monotonic()
    try:
        outcome = run(job)
        return {**_identity(job), "job_seconds": round(time.monotonic() - began, 3), **_finite(outcome)}
    except Exception as error:  # one job must not take the others along
        told = str(error) if isinstance(error, ConfigError) else f"\n{traceback.format_exc()}"
        print(f"{job.label}: {told}", file=sys.stderr)
        return {**_identity(job), "error": f"{type(error).__name__}: {error}"}


def _identity(job: JobLike) -> Row:
    return {"method": job.method, "condition": job.condition, "seed": job.seed, "parameters": dict(job.parameters)}


def _finite(value: Any) -> Any:
    """Numbers as JSON can hold them: numpy scalars become Python's, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _read(path: Path) -> Row | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) else None


@contextmanager
def _progress(name: str, total: int, done: int) -> Iterator[Callable[[str], None]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        count = done
        if done:
            console.print(f"{name}: {done} of {total} runs were finished before", highlight=False)

        def say(label: str) -> None:
            nonlocal count
            count += 1
            console.print(f"{name}: {count} of {total}: {label}", highlight=False, soft_wrap=True)

        yield say
        return
    columns = (
        TextColumn(name),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=total, completed=done, last="")
        yield lambda label: progress.update(task, advance=1, last=label)
