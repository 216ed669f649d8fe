"""The convention of all benchmarks: arguments, jobs, continuing, and what is written.

A benchmark is a module with a ``BENCHMARK`` and a guard::

    def run(job: Job) -> dict[str, Any]:
        return {"coverage": explore(job.method, job.condition, job.seed, steps=job.parameters["steps"])}

    BENCHMARK = Benchmark(
        name="exploration",
        methods=("ppo", "far"),
        conditions=("rooms",),
        metrics={"coverage": "part of the cells visited"},
        run=run,
        sizes={
            "quick": Size(seeds=1, parameters={"steps": 1_000}, note="1 000 steps"),
            "default": Size(seeds=3, parameters={"steps": 100_000}, note="a tenth of the steps"),
            "full": Size(seeds=10, parameters={"steps": 1_000_000}),
        },
    )

    if __name__ == "__main__":
        sys.exit(main(BENCHMARK))

``python -m benchmarks.NAME --out DIR [--methods a,b] [--conditions x,y] [--seeds 0-4] [--quick | --full] [--jobs N]``
then writes ``results.json``, ``rows.json.gz`` (the runs), ``table.md`` and plots to DIR. Each finished run is a small
file under ``DIR/rows``, so an interrupted benchmark continues where it was; a run whose parameters changed is done
again. ``--continue-from results.json`` counts the runs of that file as finished, so that a part of a long benchmark can
be published and the rest added later, on a machine without those small files. Each run names the commit that made it,
and the table says so where several stand together.
"""

import argparse
import hashlib
import itertools
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from matplotlib.figure import Figure

from benchmarks._pool import run_all
from benchmarks._results import Statistic, default_plots, read_results, results_document, table, write_results
from farl.errors import ConfigError, did_you_mean
from farl.experiment.files import write_atomically
from farl.experiment.pool import available_cores
from farl.experiment.sweep.settings import parse_seeds

SizeName = Literal["quick", "default", "full"]

BAD_INPUT = 2
INTERRUPTED = 130
SOME_FAILED = 1

_LISTED = 30
"""Most names in the help."""


@dataclass(frozen=True)
class Size:
    """How large a benchmark is run.

    - ``seeds``: how many, counted from 0
    - ``parameters``: settings of each job, as JSON could hold them; they decide whether a finished run still counts
    - ``note``: what is smaller than in the full size, said in the table
    - ``methods``, ``conditions``: a part of them; None is all
    """

    seeds: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    methods: Sequence[str] | None = None
    conditions: Sequence[str] | None = None


@dataclass(frozen=True)
class Job:
    """One run: a method under a condition with a seed."""

    benchmark: str
    method: str
    condition: str
    seed: int
    parameters: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Changes with anything that decides the outcome; names the job's file."""
        text = json.dumps(
            [self.benchmark, self.method, self.condition, self.seed, dict(self.parameters)], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.method}, {self.condition}, seed {self.seed}"


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark compares, and how one run of it is done.

    - ``metrics``: name -> what it is, with its unit; those that ``run`` returns under these names are summarised
    - ``run``: a module-level function, called in a process of its own with one torch thread; returns the metrics, and
      if it likes ``"curves": {name: {"x": [...], "y": [...]}}``, and anything else that belongs in ``results.json``
    - ``further``: whether a condition can be run though it is not listed, for there are more than can be
    - ``alone``: nothing else runs beside these jobs, which run in order: for timing
    - ``statistic``: that summarises the runs
    - ``plot``: makes ``{file name: figure}`` from the document that goes into ``results.json``
    - ``derive``: makes further rows from those of the runs, such as groups pooled or paired differences
    - ``add_arguments``, ``parameters``: options of its own, and the job parameters that follow from them
    """

    name: str
    methods: Sequence[str]
    conditions: Sequence[str]
    metrics: Mapping[str, str]
    run: Callable[[Job], dict[str, Any]]
    sizes: Mapping[SizeName, Size]
    further: Callable[[str], bool] | None = None
    alone: bool = False
    statistic: Statistic = "mean"
    plot: Callable[[Mapping[str, Any]], Mapping[str, Figure]] = default_plots
    derive: Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]] | None = None
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    parameters: Callable[[argparse.Namespace], Mapping[str, Any]] | None = None


def main(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark from the command line; returns 0, 1 when runs failed, 2 for bad input, 130 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["python", "-m", f"benchmarks.{benchmark.name}", *given])
    try:
        return _run(benchmark, _parse(benchmark, given), command)
    except ConfigError as error:
        for problem in error.problems:
            print("error:", problem, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"interrupted; continue with the same command: {command}", file=sys.stderr)
        return INTERRUPTED


def make_jobs(benchmark: Benchmark, options: argparse.Namespace) -> list[Job]:
    """The chosen runs, seed by seed, so that each seed sees all methods under the same state of the machine.

    :raises ConfigError: an unknown method or condition, or seeds that cannot be read
    """
    size = benchmark.sizes[options.size]
    extra = benchmark.parameters(options) if benchmark.parameters is not None else {}
    parameters = {**size.parameters, **extra}
    methods = _chosen("method", options.methods, benchmark.methods, size.methods)
    conditions = _chosen("condition", options.conditions, benchmark.conditions, size.conditions, benchmark.further)
    seeds = parse_seeds(options.seeds) if options.seeds is not None else range(size.seeds)
    return [
        Job(benchmark.name, method, condition, seed, parameters)
        for seed, condition, method in itertools.product(seeds, conditions, methods)
    ]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parse(benchmark: Benchmark, arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=f"python -m benchmarks.{benchmark.name}",
        description=sys.modules[benchmark.run.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out = Path("runs") / "benchmarks" / benchmark.name
    parser.add_argument(
        "--out", type=Path, default=out, metavar="DIR", help=f"where results go, and continue (default: {out})"
    )
    parser.add_argument("--methods", metavar="A,B", help=f"some of: {_listed(benchmark.methods)}")
    parser.add_argument("--conditions", metavar="X,Y", help=f"some of: {_listed(benchmark.conditions)}")
    parser.add_argument("--seeds", metavar="0-4", help="single seeds and ranges")
    parser.add_argument("--jobs", type=int, default=available_cores(), metavar="N", help="processes (default: cores)")
    parser.add_argument("--continue-from", type=Path, metavar="FILE", help="a results.json whose runs are finished")
    sizes = parser.add_mutually_exclusive_group()
    for name, help_text in (("quick", "under a minute: does it run?"), ("full", "the size of the paper")):
        sizes.add_argument(f"--{name}", dest="size", action="store_const", const=name, help=help_text)
    parser.set_defaults(size="default")
    if benchmark.add_arguments is not None:
        benchmark.add_arguments(parser)
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: must be at least 1")
    return options


def _listed(names: Sequence[str]) -> str:
    """List names, of very many the first ones."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f", and {more} more of their kind" if more > 0 else "")


def _chosen(
    kind: str,
    text: str | None,
    known: Sequence[str],
    default: Sequence[str] | None,
    further: Callable[[str], bool] | None = None,
) -> Sequence[str]:
    if text is None:
        return known if default is None else default
    names = [name.strip() for name in text.split(",") if name.strip()]
    problems = [
        f"unknown {kind} {name!r}{did_you_mean(name, known, limit=20)}"
        for name in names
        if name not in known and not (further is not None and further(name))
    ]
    if not names:
        problems = [f"no {kind} given; known: {', '.join(known)}"]
    if problems:
        raise ConfigError(*problems)
    return list(dict.fromkeys(names))


def _restore(benchmark: Benchmark, results: Path, rows_folder: Path) -> None:
    """Write the small files of the finished runs in a ``results.json``, where they are missing."""
    try:
        document = read_results(results)
        name, rows = document["name"], document["rows"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"--continue-from {results}: cannot be read as a results.json: {error}") from None
    if name != benchmark.name:
        raise ConfigError(f"--continue-from {results}: holds results of {name}, not of {benchmark.name}")
    for row in rows:
        if "parameters" in row and "error" not in row:  # others were derived from rows, or failed
            job = Job(benchmark.name, row["method"], row["condition"], row["seed"], row["parameters"])
            path = rows_folder / f"{job.key}.json"
            if not path.exists():
                write_atomically(path, json.dumps(row, allow_nan=False))


def _run(benchmark: Benchmark, options: argparse.Namespace, command: str) -> int:
    jobs = make_jobs(benchmark, options)
    out: Path = options.out
    rows_folder = out / "rows"
    try:
        rows_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {(error.strerror or str(error)).lower()}") from None
    if options.continue_from is not None:
        _restore(benchmark, options.continue_from, rows_folder)
    began = time.monotonic()
    rows = run_all(benchmark.name, benchmark.run, jobs, rows_folder, 1 if benchmark.alone else options.jobs)
    if benchmark.derive is not None:
        rows = [*rows, *benchmark.derive(rows)]
    document = results_document(
        name=benchmark.name,
        command=command,
        size=options.size,
        note=benchmark.sizes[options.size].note,
        metrics=benchmark.metrics,
        statistic=benchmark.statistic,
        seconds=time.monotonic() - began,
        rows=rows,
    )
    write_results(document, out)
    text = table(document)
    write_atomically(out / "table.md", text)
    for name, figure in benchmark.plot(document).items():
        figure.savefig(out / f"{name}.png", dpi=120)
    print(text)
    if len(document["commits"]) > 1:
        made = ", ".join(f"{commit} ({count} runs)" for commit, count in document["commits"].items())
        print(
            f"note: runs of different commits stand together: {made}; remove {rows_folder} to begin anew",
            file=sys.stderr,
        )
    failed = [row for row in rows if "error" in row]
    for row in failed:
        print(f"failed: {row['method']}, {row['condition']}, seed {row['seed']}: {row['error']}", file=sys.stderr)
    print(f"written to {out}: results.json, rows.json.gz, table.md and plots", file=sys.stderr)
    return SOME_FAILED if failed else 0
