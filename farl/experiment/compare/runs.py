"""Finds finished runs and groups them by what differs between them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farl.errors import ConfigError, did_you_mean
from farl.experiment.config import ExperimentConfig
from farl.experiment.run_directory import RUNS, RunDirectory

_DEEPEST = 4
_SEARCHES = ("optuna", "pbt")
"""Folders of searches, whose trials are no repetitions of one experiment."""
_NO_DIFFERENCE = ("seed", "name", "device", "torch_threads", "logging", "checkpoints", "sweep")
"""Sections that do not decide what is compared."""
_BY_NAME = {
    "algorithm": "algorithm.name",
    "environment": "environment.id",
    "module": "far.module.name",
    "criterion": "far.criterion.name",
}


@dataclass(frozen=True)
class Run:
    """A finished run."""

    path: Path
    settings: dict[str, Any]
    """Dotted key -> value."""
    metrics: dict[str, Any]

    @property
    def task(self) -> str:
        """What was to be solved."""
        return str(self.settings["environment.id"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.settings["seed"])


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but seed and environment."""

    name: str
    runs: list[Run]

    def on(self, task: str) -> list[Run]:
        """The runs in one environment."""
        return [run for run in self.runs if run.task == task]


@dataclass
class Collection:
    """What was found."""

    runs: list[Run] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    doubles: list[Path] = field(default_factory=list)
    """Runs with the settings and the seed of another one, which count once."""


def collect(references: Sequence[str]) -> Collection:
    """Read the runs in some folders.

    :param references: Run directories, folders of them such as ``runs/quickstart``, or names below ``runs``.
    :return: The finished ones, and what was left out.
    :raises ConfigError: a folder does not exist, or none of its runs is finished.
    """
    found = Collection()
    seen: dict[str, Path] = {}
    for reference in references:
        before = len(found.runs) + len(found.unfinished) + len(found.doubles)
        for path in _run_paths(_folder(reference)):
            if path.resolve() in {run.path.resolve() for run in found.runs}:
                continue
            run = _read(path)
            if run is None:
                found.unfinished.append(path)
                continue
            identity = json.dumps([run.settings["name"], _deciding(run.settings), run.seed], sort_keys=True)
            if identity in seen:
                found.doubles.append(path)
            else:
                seen[identity] = path
                found.runs.append(run)
        if len(found.runs) + len(found.unfinished) + len(found.doubles) == before:
            raise ConfigError(f"{reference}: holds no run; farl sweep makes some")
    if not found.runs:
        raise ConfigError(f"none of the {len(found.unfinished)} runs has finished; farl resume goes on with one")
    return found


def group_runs(runs: Sequence[Run], by: Sequence[str] | None = None) -> list[Group]:
    """Fold seeds and environments, and name groups by what differs.

    :param runs: Finished runs.
    :param by: Settings to group by, such as ``algorithm`` or ``far.module.name``; None takes all that differ.
    :return: Groups in the order of their first runs.
    :raises ConfigError: a setting of ``by`` is unknown.
    """
    keys = {key for run in runs for key in run.settings}
    if by is not None:
        chosen = [_BY_NAME.get(key, key) for key in by]
        for given, key in zip(by, chosen, strict=True):
            if key not in keys:
                raise ConfigError(f"--by {given}: no run has this setting{did_you_mean(given, keys | set(_BY_NAME))}")
        labels = [", ".join(f"{key}={run.settings.get(key)}" for key in chosen) for run in runs]
        if len(chosen) == 1:
            labels = [label.partition("=")[2] for label in labels]
    else:
        labels = _labels(runs)
    return [
        Group(label, [run for run, own in zip(runs, labels, strict=True) if own == label])
        for label in dict.fromkeys(labels)
    ]


def _labels(runs: Sequence[Run]) -> list[str]:
    """The name of the configuration, and the settings that differ between runs of one name."""
    names = [str(run.settings["name"]) for run in runs]
    keys: dict[str, None] = {}
    for name in dict.fromkeys(names):
        same = [_deciding(run.settings) for run, own in zip(runs, names, strict=True) if own == name]
        everything = dict.fromkeys(key for settings in same for key in settings)
        keys.update(
            dict.fromkeys(
                key
                for key in everything
                if key != "environment.id" and len({json.dumps(settings.get(key)) for settings in same}) > 1
            )
        )
    shown = names if len(set(names)) > 1 else [""] * len(runs)
    if not keys:
        return names
    parts = [[f"{_short(key, keys)}={run.settings[key]}" for key in keys if key in run.settings] for run in runs]
    return [", ".join(filter(None, [name, *part])) for name, part in zip(shown, parts, strict=True)]


def _short(key: str, keys: Iterable[str]) -> str:
    plain = key.removesuffix(".name")
    last = plain.rpartition(".")[2]
    return last if Counter(other.removesuffix(".name").rpartition(".")[2] for other in keys)[last] == 1 else plain


def _deciding(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in settings.items()
        if key.partition(".")[0] not in _NO_DIFFERENCE and key != "environment.folder"
    }


def _folder(reference: str) -> Path:
    path = Path(reference)
    if not path.exists() and (RUNS / path).is_dir():
        path = RUNS / path
    if not path.is_dir():
        known = [str(folder) for folder in RUNS.glob("*") if folder.is_dir()]
        raise ConfigError(f"{reference}: no such folder of runs{did_you_mean(reference, known)}")
    return path


def _run_paths(folder: Path, depth: int = 0) -> list[Path]:
    if RunDirectory(folder).config_file.is_file():
        return [folder]
    if depth == _DEEPEST:
        return []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path for inner in below if inner.name not in _SEARCHES for path in _run_paths(inner, depth + 1)]


def _read(path: Path) -> Run | None:
    from farl.experiment.yaml_source import read_yaml

    directory = RunDirectory(path)
    try:
        metrics = json.loads(directory.metrics_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory.metrics_file}: cannot be read: {error}") from None
    # Without the checks of load_config: what a run needed may not be installed where it is compared.
    config = ExperimentConfig.model_validate(read_yaml(directory.config_file).data)
    return Run(path, config.flat(), metrics)
