"""Runs jobs on all cores, keeps each finished one on disk, and outlives jobs that crash."""

import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from farl.errors import ConfigError
from farl.experiment.files import write_atomically

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


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    name: str, run: Callable[[Any], dict[str, Any]], jobs: Sequence[JobLike], folder: Path, processes: int
) -> list[Row]:
    """Run the jobs that are not finished yet and return the rows of all, in the order of ``jobs``.

    A job that raises, or whose process dies, gives a row with an ``error`` and is tried again by the next command.
    """
    rows = {job.key: row for job in jobs if (row := _read(folder / f"{job.key}.json")) is not None}
    waiting = [job for job in jobs if job.key not in rows]
    with _progress(name, len(jobs), len(rows)) as advance:
        for job, row in _completed(run, waiting, min(processes, max(len(waiting), 1))):
            rows[job.key] = row
            if "error" not in row:
                write_atomically(folder / f"{job.key}.json", json.dumps(row, allow_nan=False))
            advance(job.label)
    return [rows[job.key] for job in jobs]


def _completed(
    run: Callable[[Any], dict[str, Any]], jobs: Sequence[JobLike], processes: int
) -> Iterator[tuple[JobLike, Row]]:
    """Yield jobs as they finish. When a process dies, the jobs it may have taken along run again one by one."""
    waiting, suspects = list(jobs), []
    while waiting or suspects:
        batch, one_by_one = ([suspects.pop(0)], True) if suspects else (waiting, False)
        in_flight: dict[Future[Row], JobLike] = {}
        pool = _pool(1 if one_by_one else processes)
        try:
            while batch or in_flight:
                while batch and len(in_flight) < processes:
                    in_flight[pool.submit(_guarded, run, batch[0])] = batch[0]
                    batch.pop(0)
                for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                    row = future.result()
                    yield in_flight.pop(future), row
        except BrokenProcessPool:
            if one_by_one:
                job = next(iter(in_flight.values()))
                yield job, {**_identity(job), "error": "its process died (out of memory?)"}
            else:
                suspects = [*in_flight.values()]
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C does
    os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is first imported
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A parent that is killed tells nobody: without this, its workers would go on to the end of their runs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _guarded(run: Callable[[Any], dict[str, Any]], job: JobLike) -> Row:
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
