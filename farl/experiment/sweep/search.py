"""Looks for good settings with Optuna: each trial is a run of the sweep, its metric what Optuna is told.

This process asks and tells; the runs are done by any backend. The study lies in a journal file beside the runs, so that
the same command continues it.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout
from rich.console import Console

from farl.errors import ConfigError
from farl.experiment.config import ExperimentConfig
from farl.experiment.files import write_atomically
from farl.experiment.interruption import StopRequest, stop_on_signals
from farl.experiment.loading import parse_config, resolved_yaml
from farl.experiment.run_directory import RunDirectory
from farl.experiment.sweep.backends import BACKENDS, Resources
from farl.experiment.sweep.execution import (
    Outcome,
    Task,
    finished_metrics,
    own_stop_file,
    read_progress,
)
from farl.experiment.sweep.objective import metric_value
from farl.experiment.sweep.settings import SearchSpace
from farl.experiment.sweep.table import SweepTable

if TYPE_CHECKING:
    import optuna

_STARTUP_TRIALS = 5
_WARMUP = 0.25
"""Part of a run before which it is not pruned."""
_PROGRESS_KEYS = {"coverage": "coverage", "return": "return", "ep_rew_mean": "return"}


@dataclass(frozen=True)
class Search:
    """What is searched, and how far."""

    config: ExperimentConfig
    spaces: Mapping[str, SearchSpace]
    """Setting -> where to look."""
    trials: int
    """How many in all, those of earlier commands included."""
    seeds: Sequence[int]
    """Seeds of each trial, whose mean counts. With more than one nothing is pruned."""
    metric: str
    direction: Literal["maximize", "minimize"]
    folder: Path
    """Holds the study and a run directory for each trial and seed."""


@dataclass
class _Trial:
    """A trial and its runs."""

    trial: "optuna.Trial"
    tasks: list[Task]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    pruned: bool = False


@dataclass(frozen=True)
class Best:
    """What came out best."""

    value: float
    settings: dict[str, Any]
    config_file: Path
    finished: int
    pruned: int
    failed: int


def search(plan: Search, backend: str, resources: Resources, console: Console) -> Best | None:
    """Run trials until ``plan.trials`` have ended, or Ctrl-C; write the best configuration as ``best.yaml``.

    :param plan: What is searched.
    :param backend: A name of ``BACKENDS``.
    :param resources: What the backend may use.
    :param console: Where progress is shown.
    :return: The best so far; None where no trial finished.
    :raises ConfigError: Optuna is missing, the study was made for other settings, or is in use.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("--optuna needs Optuna: pip install 'farl[sweep]'")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(plan.folder / "study.lock", timeout=0), stop_on_signals() as stop:
            study = _open_study(plan)
            _run_trials(plan, study, BACKENDS[backend], resources, console, stop)
            return _best(plan, study)
    except Timeout:
        raise ConfigError(f"{plan.folder}: another farl sweep runs this search; give that one more --jobs") from None


def _open_study(plan: Search) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(plan.folder / "study.log")))
    pruner = optuna.pruners.MedianPruner(_STARTUP_TRIALS, n_warmup_steps=int(_WARMUP * plan.config.total_timesteps))
    study = optuna.create_study(
        storage=storage,
        study_name=plan.config.name,
        direction=plan.direction,
        pruner=pruner if len(plan.seeds) == 1 else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    # A sampler begins its random numbers anew with each command: with one seed it would draw the first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=plan.config.seed + len(study.trials), constant_liar=True)
    asked = {
        "spaces": {key: space.model_dump(mode="json") for key, space in plan.spaces.items()},
        "config": plan.config.model_dump(mode="json"),
        "seeds": list(plan.seeds),
        "metric": plan.metric,
    }
    before = study.user_attrs.get("asked")
    if before is not None and before != asked:
        changed = ", ".join(key for key in asked if before.get(key) != asked[key])
        raise ConfigError(f"{plan.folder}: holds a search with another {changed}; choose another folder with --out")
    study.set_user_attr("asked", asked)
    return study


def _run_trials(
    plan: Search,
    study: "optuna.Study",
    backend: Callable[..., Iterator[tuple[Task, Outcome]]],
    resources: Resources,
    console: Console,
    stop: StopRequest,
) -> None:
    stop_file = (plan.folder / ".stop").resolve()
    stop_file.unlink(missing_ok=True)
    trials: dict[int, _Trial] = {}
    of_task: dict[str, _Trial] = {}
    labels = [_label(plan, number, seed) for number in range(plan.trials) for seed in plan.seeds]

    def stopped() -> bool:
        if stop.requested and not stop_file.exists():
            stop_file.touch()
            console.print("stopping: every run saves first", highlight=False)
        return stop.requested

    with SweepTable(labels, console) as table:

        def tick() -> None:
            table.look([task for entry in trials.values() for task in entry.tasks])
            for entry in trials.values():
                _maybe_prune(plan, entry)

        def tasks() -> Iterator[Task]:
            for entry in _trials(plan, study, resources.threads, stop_file):
                trials[entry.trial.number] = entry
                for task in entry.tasks:
                    of_task[task.label] = entry
                    yield task

        for frozen in study.trials:
            if frozen.state.is_finished():
                for seed in plan.seeds:
                    table.known(_label(plan, frozen.number, seed), _recorded(plan, frozen, seed))
        try:
            for task, outcome in backend(tasks(), resources, tick, stopped):
                entry = of_task[task.label]
                own_stop_file(task.path).unlink(missing_ok=True)
                entry.outcomes[task.label] = outcome
                table.ended(task.label, Outcome("interrupted", error="pruned") if entry.pruned else outcome)
                if len(entry.outcomes) == len(entry.tasks):
                    _tell(plan, study, entry)
                    del trials[entry.trial.number]
        finally:
            stop_file.unlink(missing_ok=True)


def _trials(plan: Search, study: "optuna.Study", threads: int, stop_file: Path) -> Iterator[_Trial]:
    """First the trials that an earlier command left unfinished, then new ones."""
    import optuna

    distributions = {key: _distribution(space) for key, space in plan.spaces.items()}
    trials = [optuna.Trial(study, frozen._trial_id) for frozen in study.trials if not frozen.state.is_finished()]
    while trials or len(study.get_trials(deepcopy=False)) < plan.trials:
        trial = trials.pop(0) if trials else study.ask(distributions)
        try:
            config = with_settings(plan.config, _decoded(plan, trial.params))
        except ConfigError as error:  # values that do not fit together
            trial.set_user_attr("refused", error.problems[0])
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        labels = [(_label(plan, trial.number, seed), seed) for seed in plan.seeds]
        yield _Trial(
            trial,
            [
                Task(
                    label, (plan.folder / label).resolve(), config.model_copy(update={"seed": seed}), threads, stop_file
                )
                for label, seed in labels
            ],
        )


def with_settings(config: ExperimentConfig, settings: Mapping[str, Any]) -> ExperimentConfig:
    """A configuration with other values.

    :param settings: Dotted key -> value.
    :raises ConfigError: the values do not fit together.
    """
    data = config.model_dump(mode="json")
    for key, value in settings.items():
        *path, last = key.split(".")
        section = data
        for word in path:
            if not isinstance(section.get(word), dict):
                section[word] = {}
            section = section[word]
        section[last] = value
    return parse_config(data)


def _maybe_prune(plan: Search, entry: _Trial) -> None:
    if entry.pruned or len(entry.tasks) > 1:
        return
    progress = read_progress(entry.tasks[0].path)
    if progress is None:
        return
    key = _PROGRESS_KEYS.get(plan.metric)
    if plan.metric == "auto" and plan.config.evaluation is None:
        key = "coverage" if progress.get("coverage") is not None else "return"
    value = progress.get(key) if key is not None else None
    if value is None:
        return
    entry.trial.report(float(value), int(progress["timesteps"]))
    if entry.trial.should_prune():
        entry.pruned = True
        own_stop_file(entry.tasks[0].path).touch()


def _tell(plan: Search, study: "optuna.Study", entry: _Trial) -> None:
    import optuna

    outcomes = list(entry.outcomes.values())
    if any(outcome.state == "failed" for outcome in outcomes):
        study.tell(entry.trial, state=optuna.trial.TrialState.FAIL)
    elif all(outcome.metrics is not None for outcome in outcomes):
        values = [metric_value(plan.metric, outcome.metrics or {}) for outcome in outcomes]
        study.tell(entry.trial, sum(values) / len(values))
    elif entry.pruned:
        study.tell(entry.trial, state=optuna.trial.TrialState.PRUNED)
    # Else it was interrupted: it stays unfinished, and the next command goes on with it.


def _recorded(plan: Search, frozen: "optuna.trial.FrozenTrial", seed: int) -> Outcome:
    metrics = finished_metrics(RunDirectory(plan.folder / _label(plan, frozen.number, seed)))
    if metrics is not None:
        return Outcome("finished", metrics)
    return Outcome("failed" if frozen.state.name == "FAIL" else "interrupted", error=frozen.state.name.lower())


def _best(plan: Search, study: "optuna.Study") -> Best | None:
    from optuna.trial import TrialState

    counts = {state: sum(trial.state == state for trial in study.trials) for state in TrialState}
    if not counts[TrialState.COMPLETE]:
        return None
    best = study.best_trial
    settings = _decoded(plan, best.params)
    config = with_settings(plan.config, settings).model_copy(update={"name": f"{plan.config.name}-best"})
    path = plan.folder / "best.yaml"
    write_atomically(path, resolved_yaml(config))
    return Best(
        study.best_value,
        settings,
        path,
        counts[TrialState.COMPLETE],
        counts[TrialState.PRUNED],
        counts[TrialState.FAIL],
    )


def _distribution(space: SearchSpace) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if space.log is not None:
        return FloatDistribution(*space.log, log=True)
    if space.uniform is not None:
        return FloatDistribution(*space.uniform)
    if space.integer is not None:
        return IntDistribution(*space.integer)
    return CategoricalDistribution([json.dumps(value) for value in space.choice or []])


def _decoded(plan: Search, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Choices as they were written: Optuna holds them as JSON text, since it takes no lists."""
    return {key: json.loads(value) if plan.spaces[key].choice is not None else value for key, value in settings.items()}


def _label(plan: Search, number: int, seed: int) -> str:
    return f"trial={number}" if len(plan.seeds) == 1 else f"trial={number},seed={seed}"
