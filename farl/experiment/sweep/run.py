"""Does the runs of a plan that are not done yet."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from farl.errors import ConfigError
from farl.experiment.config import ExperimentConfig
from farl.experiment.interruption import stop_on_signals
from farl.experiment.run_directory import RunDirectory
from farl.experiment.sweep.backends import BACKENDS, Resources
from farl.experiment.sweep.execution import Outcome, Task, finished_metrics
from farl.experiment.sweep.plan import PlannedRun
from farl.experiment.sweep.table import SweepTable


def run_sweep(
    runs: Sequence[PlannedRun], backend: str, resources: Resources, retries: int, console: Console
) -> dict[str, Outcome]:
    """Train what is not finished; what was interrupted goes on, what failed stays as it is unless retried.

    Ctrl-C lets every run save, and returns; the same call continues.

    :param runs: The plan.
    :param backend: A name of ``BACKENDS``.
    :param resources: What the backend may use.
    :param retries: How often a run that fails, or has failed before, is tried again.
    :param console: Where progress is shown.
    :return: Label of a run -> how it ended; runs that never began are ``waiting``.
    :raises ConfigError: a run directory holds another experiment, or the backend cannot be used.
    """
    problems = [problem for run in runs if (problem := _foreign(run)) is not None]
    if problems:
        raise ConfigError(*problems)
    resources.folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=resources.folder, prefix=".sweep-"))
    tasks = {
        run.label: Task(run.label, run.path.resolve(), run.config, resources.threads, (scratch / "stop").resolve())
        for run in runs
    }
    outcomes = {run.label: known_outcome(run) for run in runs}
    tries = dict.fromkeys(tasks, retries)
    try:
        with stop_on_signals() as stop, SweepTable(list(tasks), console) as table:

            def stopped() -> bool:
                if stop.requested and not (scratch / "stop").exists():
                    (scratch / "stop").touch()
                    console.print("stopping: every run saves first (Ctrl-C again ends them at once)", highlight=False)
                return stop.requested

            for label, outcome in outcomes.items():
                table.known(label, outcome)
            while todo := [task for label, task in tasks.items() if _is_open(outcomes[label], tries[label])]:
                for task in todo:
                    if outcomes[task.label].state == "failed":
                        tries[task.label] -= 1
                        outcomes[task.label] = Outcome("waiting")
                        table.known(task.label, outcomes[task.label])
                for task, outcome in BACKENDS[backend](todo, resources, lambda: table.look(todo), stopped):
                    outcomes[task.label] = outcome
                    table.ended(task.label, outcome)
                if stop.requested:
                    break
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return outcomes


def known_outcome(run: PlannedRun) -> Outcome:
    """How a run ended before, from what its directory holds."""
    directory = RunDirectory(run.path)
    metrics = finished_metrics(directory)
    if metrics is not None:
        return Outcome("finished", metrics)
    if directory.error_file.is_file():
        lines = directory.error_file.read_text(encoding="utf-8").strip().splitlines()
        return Outcome("failed", error=f"failed before: {lines[-1] if lines else 'unknown'}")
    return Outcome("interrupted") if directory.config_file.is_file() else Outcome("waiting")


def _is_open(outcome: Outcome, tries: int) -> bool:
    return outcome.state in ("waiting", "interrupted") or (outcome.state == "failed" and tries > 0)


def _foreign(run: PlannedRun) -> str | None:
    """Why a directory cannot be this run's: a sweep continues its own runs, and never writes over another's."""
    directory = RunDirectory(run.path)
    if not directory.config_file.is_file():
        if run.path.exists() and not (run.path.is_dir() and {file.name for file in run.path.iterdir()} <= _OURS):
            return f"{run.path}: is in the way; choose another folder with --out"
        return None
    try:
        before = directory.read_config()
    except ConfigError as error:
        return f"{run.path}: holds a run that cannot be read ({error.problems[0]}); choose another folder with --out"
    changed = _difference(before, run.config)
    if changed is None:
        return None
    return f"{run.path}: was run with {changed}; choose another folder with --out, or remove it"


_OURS = {"error.txt", ".progress.json"}


def _difference(before: ExperimentConfig, now: ExperimentConfig) -> str | None:
    old, new = (config.flat() for config in (before, now))
    keys = [
        key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and key != "environment.folder"
    ]
    if not keys:
        return None
    told = f"{keys[0]}={old.get(keys[0])} instead of {new.get(keys[0])}"
    return told if len(keys) == 1 else f"{told}, and {len(keys) - 1} other settings"
