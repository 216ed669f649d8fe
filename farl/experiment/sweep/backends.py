"""Where the runs of a sweep are done: processes of this machine, SLURM through submitit, or Ray."""

import importlib.util
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farl.errors import ConfigError
from farl.experiment.pool import run_in_processes
from farl.experiment.sweep.execution import Outcome, Task, execute

_SECONDS_BETWEEN_LOOKS = 0.5
_DIED = Outcome("failed", error="its process died (out of memory?)")


@dataclass(frozen=True)
class Resources:
    """What a backend may use."""

    jobs: int
    """Runs at once."""
    threads: int
    """CPU threads of each."""
    folder: Path
    """For the backend's own files."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the backend: parameters of submitit's executor, or of ``ray.init``."""


Backend = Callable[[Iterable[Task], Resources, Callable[[], None], Callable[[], bool]], Iterator[tuple[Task, Outcome]]]
"""Yields tasks with their outcomes as they end; calls the third about twice a second, and starts no further run once
the fourth returns true."""


def local(
    tasks: Iterable[Task], resources: Resources, tick: Callable[[], None], stopped: Callable[[], bool]
) -> Iterator[tuple[Task, Outcome]]:
    """Processes of this machine."""
    for task, outcome in run_in_processes(execute, tasks, resources.jobs, resources.threads, tick, stopped):
        yield task, outcome or _DIED


class _Resumable:
    """``execute`` as submitit wants it: a job that is preempted, or at its time limit, is queued again and goes on."""

    def __call__(self, task: Task) -> Outcome:
        return execute(task)

    def checkpoint(self, task: Task) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self, task)


def slurm(
    tasks: Iterable[Task], resources: Resources, tick: Callable[[], None], stopped: Callable[[], bool]
) -> Iterator[tuple[Task, Outcome]]:
    """Jobs of a SLURM cluster; with the option ``cluster=local`` submitit's processes on this machine.

    :raises ConfigError: submitit or SLURM is missing, or submitit does not know an option.
    """
    _require("submitit", "slurm")
    import submitit

    options = dict(resources.options)
    cluster = str(options.pop("cluster", "slurm"))
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ConfigError("--backend slurm: there is no sbatch here; run it on a login node, or use --backend local")
    defaults: dict[str, Any] = {"timeout_min": 24 * 60, "cpus_per_task": resources.threads}
    try:
        executor = submitit.AutoExecutor(folder=resources.folder / "submitit", cluster=cluster)
        executor.update_parameters(**defaults | options)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigError(f"--option: submitit refuses it: {' '.join(str(error).split())}") from None
    waiting, running, more = iter(tasks), dict[Any, Task](), True
    try:
        while running or more:
            stopping = stopped()
            for task in itertools.islice(waiting, 0 if stopping else resources.jobs - len(running)):
                running[executor.submit(_Resumable(), task)] = task
            more = not stopping and len(running) >= resources.jobs
            for job in [job for job in running if job.done()]:
                task = running.pop(job)
                yield task, _submitit_outcome(job)
            if stopping:
                for job in [job for job in running if job.state in ("PENDING", "UNKNOWN") and cluster == "slurm"]:
                    job.cancel()
                    running.pop(job)
            tick()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    except BaseException:
        for job in running:
            job.cancel()
        raise


def _submitit_outcome(job: Any) -> Outcome:
    error = job.exception()
    if error is None:
        outcome: Outcome = job.result()
        return outcome
    lines = str(error).strip().splitlines()
    return Outcome("failed", error=f"its job ended: {lines[-1] if lines else type(error).__name__}")


def ray(
    tasks: Iterable[Task], resources: Resources, tick: Callable[[], None], stopped: Callable[[], bool]
) -> Iterator[tuple[Task, Outcome]]:
    """Tasks of Ray: on the cluster that ``address`` names, else on workers of this machine.

    :raises ConfigError: Ray is missing or cannot be reached.
    """
    _require("ray", "ray")
    import ray

    with start_ray(resources):
        remote = ray.remote(num_cpus=resources.threads, max_retries=0)(execute)
        waiting, running, more = iter(tasks), dict[Any, Task](), True
        while running or more:
            stopping = stopped()
            for task in itertools.islice(waiting, 0 if stopping else resources.jobs - len(running)):
                running[remote.remote(task)] = task
            more = not stopping and len(running) >= resources.jobs
            done, _ = ray.wait(list(running), timeout=_SECONDS_BETWEEN_LOOKS) if running else ([], [])
            for reference in done:
                task = running.pop(reference)
                try:
                    yield task, ray.get(reference)
                except ray.exceptions.RayError:
                    yield task, _DIED
            tick()


@contextmanager
def start_ray(resources: Resources) -> Iterator[None]:
    """Ray while the block runs: the cluster that ``address`` names, else workers of this machine.

    :raises ConfigError: Ray cannot be reached.
    """
    import ray

    arguments: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if "address" not in resources.options and "RAY_ADDRESS" not in os.environ:
        arguments["num_cpus"] = resources.jobs * resources.threads
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: on a busy machine its workers would starve
    try:
        ray.init(**arguments | dict(resources.options))
    except (TypeError, ValueError, ConnectionError, RuntimeError) as error:
        raise ConfigError(f"--backend ray: Ray cannot be reached: {' '.join(str(error).split())}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"--backend {extra} needs {package}: pip install 'farl[{extra}]'")


BACKENDS: dict[str, Backend] = {"local": local, "slurm": slurm, "ray": ray}
"""Name -> backend."""
