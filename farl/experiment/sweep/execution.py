"""One run of a sweep, in whatever process: begun, continued or left as it is, and its state on disk meanwhile.

The state of a run is what its directory holds, so that it is the same for processes here, on a cluster and on Ray:
``metrics.json`` where it is finished, ``error.txt`` where it failed, ``.progress.json`` while it goes on.
"""

import json
import shutil
import signal
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from farl.errors import ConfigError
from farl.experiment.config import ExperimentConfig
from farl.experiment.files import write_atomically
from farl.experiment.pool import set_threads
from farl.experiment.run_directory import RunDirectory

if TYPE_CHECKING:
    from farl.experiment.callbacks import Status

State = Literal["waiting", "running", "finished", "interrupted", "failed"]
_SECONDS_BETWEEN_REPORTS = 1.0


@dataclass(frozen=True)
class Task:
    """What a worker needs to know. It can be pickled."""

    label: str
    path: Path
    """The run directory, absolute."""
    config: ExperimentConfig
    threads: int
    """CPU threads of torch, where the configuration leaves them open."""
    stop_file: Path
    """Where this file appears, the run saves and stops; so it does where ``.stop`` appears in its own directory."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    state: State
    metrics: dict[str, Any] | None = None
    error: str | None = None


def execute(task: Task) -> Outcome:
    """Train a run, go on with it, or return what it came to before; raises nothing."""
    run = RunDirectory(task.path)
    if (metrics := finished_metrics(run)) is not None:
        return Outcome("finished", metrics)
    set_threads(task.threads)
    from farl.experiment.failure import TrainingFailed
    from farl.experiment.interruption import TrainingInterrupted

    observer = _StateOnDisk(task)
    try:
        metrics = _train_or_resume(task, run, observer)
        run.error_file.unlink(missing_ok=True)
        return Outcome("finished", metrics)
    except TrainingInterrupted:
        return Outcome("interrupted")
    except TrainingFailed as failure:
        return Outcome("failed", error=failure.reason)
    except Exception as error:  # one run must not take the others along
        task.path.mkdir(parents=True, exist_ok=True)
        write_atomically(run.error_file, traceback.format_exc())
        told = error.problems[0] if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        return Outcome("failed", error=" ".join(told.split()))
    finally:
        progress_file(run).unlink(missing_ok=True)


def _train_or_resume(task: Task, run: RunDirectory, observer: "_StateOnDisk") -> dict[str, Any]:
    from farl.experiment.checkpoint import latest_checkpoint
    from farl.experiment.run import resume, train

    saved = run.checkpoints.is_dir() and any(run.checkpoints.glob("step_*"))
    if saved and latest_checkpoint(run.checkpoints).timesteps < task.config.total_timesteps:
        return resume(task.path, observer=observer)
    # It was stopped before its first checkpoint, or after the last one and before its metrics: from the start.
    if task.path.is_dir():
        shutil.rmtree(task.path)
    task.path.mkdir(parents=True)
    run.write_config(task.config)
    return train(task.config, task.path, observer)


def progress_file(run: RunDirectory) -> Path:
    """How far a run of a sweep is."""
    return run.path / ".progress.json"


def own_stop_file(path: Path) -> Path:
    """Where this file appears in a run directory, that run alone stops."""
    return path / ".stop"


def finished_metrics(run: RunDirectory) -> dict[str, Any] | None:
    """What a run came to, or None where it is not finished."""
    return _read(run.metrics_file)


def read_progress(path: Path) -> dict[str, Any] | None:
    """The last report of the run in a directory: ``timesteps``, ``total_timesteps``, ``line``, ``time``; or None."""
    return _read(progress_file(RunDirectory(path)))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


class _StateOnDisk:
    """Observer that writes how far the run is, and stops it where the sweep is to stop."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._written = 0.0
        self._stopped = False

    def started(self, timesteps: int, total_timesteps: int) -> None:
        """Training begins."""
        self._write({"timesteps": timesteps, "total_timesteps": total_timesteps, "line": "", "rate": 0.0})

    def progressed(self, status: "Status") -> None:
        """Write once a second, and look whether to stop."""
        from farl.experiment.progress import describe

        now = time.monotonic()
        if now - self._written < _SECONDS_BETWEEN_REPORTS:
            return
        self._written = now
        self._write(
            {
                "timesteps": status.timesteps,
                "total_timesteps": status.total_timesteps,
                "line": describe(status),
                "return": status.ep_rew_mean,
                "coverage": status.coverage,
                "rate": status.steps_per_second,
            }
        )
        asked = self._task.stop_file.exists() or own_stop_file(self._task.path).exists()
        if asked and not self._stopped:
            self._stopped = True
            signal.raise_signal(signal.SIGTERM)  # as any other stop: training saves first

    def finished(self) -> None:
        """Training is over."""

    def _write(self, progress: dict[str, Any]) -> None:
        write_atomically(progress_file(RunDirectory(self._task.path)), json.dumps(progress))
