"""``farl sweep``: many runs with one command."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farl.commands import count
from farl.errors import FAILED, INTERRUPTED, ConfigError

if TYPE_CHECKING:
    from farl.experiment.sweep.backends import Resources
    from farl.experiment.sweep.plan import PlannedRun

_PROBE_SECONDS = 5.0

EXAMPLES = """\
examples:
  farl sweep quickstart --seeds 0-4                     five seeds, in runs/quickstart/seed=0, ...
  farl sweep quickstart --seeds 0-2 --grid far.module.graph.prior=0,1,3
                                                        nine runs: runs/quickstart/prior=1,seed=1, ...
  farl sweep quickstart rnd_baseline ppo_baseline --seeds 0-4 --out runs/study
                                                        a study; then: farl compare runs/study
  farl sweep my.yaml --dry-run                          what would be run, and for how long
  farl sweep my.yaml --retry                            try again what failed
  farl sweep my.yaml --optuna 50 --search algorithm.hyperparameters.learning_rate='{log: [1e-5, 1e-3]}'
  farl sweep my.yaml --seeds 0-9 --backend slurm --option slurm_partition=cpu --option timeout_min=120

The same command continues: finished runs are kept, interrupted ones go on. Ctrl-C saves first.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    from farl.experiment.pool import available_cores

    parser.add_argument(
        "words",
        metavar="CONFIG [key=value]",
        nargs="+",
        help="YAML files or names, and settings for all; key=a,b is a grid",
    )
    parser.set_defaults(overrides=[])
    runs = parser.add_argument_group("what is run")
    runs.add_argument("--seeds", metavar="0-4", help="single seeds and ranges, such as 0-4 or 0,3,7-9")
    runs.add_argument(
        "--grid", action="append", default=[], metavar="KEY=A,B", help="a setting and its values; may be repeated"
    )
    runs.add_argument("--out", type=Path, metavar="DIR", help="folder of the runs (default: runs)")
    runs.add_argument("--dry-run", action="store_true", help="list the runs and the estimated time; train nothing")
    runs.add_argument(
        "--retry",
        type=count,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="try failed runs again, up to N times (1)",
    )
    where = parser.add_argument_group("where it runs")
    cores = available_cores()
    where.add_argument("--jobs", type=count, metavar="N", help=f"runs at once (default: one per core, {cores} here)")
    where.add_argument("--threads", type=count, default=1, metavar="N", help="CPU threads of each run (default: 1)")
    where.add_argument("--backend", choices=("local", "slurm", "ray"), default="local", help="default: local")
    where.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for the backend: a parameter of submitit's executor (cluster=local runs without SLURM) or of ray.init",
    )
    search = parser.add_argument_group("searching")
    search.add_argument("--optuna", type=count, metavar="N", help="look for good settings in N trials")
    search.add_argument("--pbt", type=count, metavar="N", help="train a population of N with Ray Tune")
    search.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="KEY=SPACE",
        help="{log: [1e-5, 1e-3]}, {uniform: [0, 1]}, {integer: [1, 9]} or [a, b, c]; may be repeated",
    )
    search.add_argument("--metric", metavar="NAME", help="coverage, evaluation_return, return, ... (default: auto)")


def run(options: argparse.Namespace) -> int:
    """Run seeds, grids and searches, and continue them."""
    from farl.experiment.sweep.settings import parse_seeds

    references = [word for word in options.words if "=" not in word]
    overrides = [word for word in options.words if "=" in word] + options.overrides
    if not references:
        raise ConfigError("give a CONFIG, a YAML file or a name from: farl list configs")
    seeds = parse_seeds(options.seeds) if options.seeds is not None else None
    if options.optuna is not None or options.pbt is not None:
        from farl.commands.search import run_search

        return run_search(options, references, overrides, seeds, _resources(options))

    from farl.experiment.sweep.plan import plan_runs

    grid = dict(_key_and_values(text) for text in options.grid)
    runs = plan_runs(references, overrides, seeds, grid, options.out)
    resources = _resources(options)
    if options.dry_run:
        return _dry_run(runs, resources)
    return _train(runs, options, resources)


def _train(runs: "list[PlannedRun]", options: argparse.Namespace, resources: "Resources") -> int:
    from rich.console import Console

    from farl.experiment.sweep.run import run_sweep

    outcomes = run_sweep(runs, options.backend, resources, options.retry, Console(stderr=True))
    failed = {label: outcome for label, outcome in outcomes.items() if outcome.state == "failed"}
    finished = sum(outcome.state == "finished" for outcome in outcomes.values())
    paths = {run.label: run.path for run in runs}
    for label, outcome in failed.items():
        print(f"failed: {label}: {outcome.error}; see {paths[label]}/error.txt", file=sys.stderr)
    print(f"{finished} of {len(runs)} runs finished, {len(failed)} failed")
    folders = sorted({str(run.path.parent) for run in runs})
    if finished + len(failed) < len(runs):
        print("interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    if failed:
        print("the same command with --retry tries them again", file=sys.stderr)
    if finished > 1:
        print(f"compare them: farl compare {' '.join(folders)}")
    return FAILED if failed else 0


def _dry_run(runs: "list[PlannedRun]", resources: "Resources") -> int:
    from rich.console import Console
    from rich.table import Table

    from farl.experiment.sweep.run import known_outcome

    outcomes = [known_outcome(run) for run in runs]
    table = Table(title=f"{len(runs)} runs", title_justify="left")
    for column in ("directory", "timesteps", "state"):
        table.add_column(column)
    for run_, outcome in zip(runs, outcomes, strict=True):
        table.add_row(str(run_.path), f"{run_.config.total_timesteps:,}", outcome.state)
    Console().print(table)
    left = [run_ for run_, outcome in zip(runs, outcomes, strict=True) if outcome.state != "finished"]
    known = [outcome.metrics["steps_per_second"] for outcome in outcomes if outcome.metrics is not None]
    if left:
        rate = sum(known) / len(known) if known else _measured_rate(left[0])
        source = "as those that finished" if known else f"as measured for {_PROBE_SECONDS:.0f} s with the first"
        seconds = sum(run_.config.total_timesteps for run_ in left) / max(rate, 1e-9)
        per_core = seconds / min(resources.jobs, len(left))
        print(f"about {duration(per_core)} with {resources.jobs} at once, at {rate:,.0f} steps/s {source}")
    else:
        print("nothing is left to do")
    return 0


def _measured_rate(run_: "PlannedRun") -> float:
    """Steps a second of the first seconds of a run, of which nothing is kept."""
    from farl.experiment.interruption import TrainingInterrupted
    from farl.experiment.run import train
    from farl.experiment.sweep.probe import SpeedProbe

    probe = SpeedProbe(_PROBE_SECONDS)
    try:
        metrics = train(run_.config.model_copy(update={"torch_threads": run_.config.torch_threads or 1}), None, probe)
        return float(metrics["steps_per_second"])
    except TrainingInterrupted:
        return probe.rate


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _key_and_values(text: str) -> tuple[str, list[str]]:
    from farl.experiment.sweep.settings import split_values

    key, equals, values = text.partition("=")
    if not equals or not key or not all(split_values(values)):
        raise ConfigError(f"--grid {text}: write KEY=A,B, such as far.criterion.threshold=2,4,8")
    return key, split_values(values)


def _resources(options: argparse.Namespace) -> "Resources":
    from farl.experiment.pool import available_cores
    from farl.experiment.run_directory import RUNS
    from farl.experiment.sweep.backends import Resources
    from farl.experiment.yaml_source import parse_value

    given: dict[str, Any] = {}
    for text in options.option:
        key, equals, value = text.partition("=")
        if not equals or not key or options.backend == "local":
            fix = "write KEY=VALUE" if options.backend != "local" else "the backend local has no options"
            raise ConfigError(f"--option {text}: {fix}")
        given[key] = parse_value(value, key)
    jobs = options.jobs or max(available_cores() // options.threads, 1)
    return Resources(jobs, options.threads, options.out if options.out is not None else RUNS, given)
