"""From what was asked for to the runs that are to be done: their settings, checked, and their directories."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from farl.errors import ConfigError
from farl.experiment.config import ExperimentConfig
from farl.experiment.loading import load_config
from farl.experiment.run_directory import RUNS, RunDirectory
from farl.experiment.sweep.settings import split_values
from farl.experiment.yaml_source import parse_value

MOST_RUNS = 100_000


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    label: str
    """For people: ``quickstart/threshold=4,seed=3``."""
    path: Path
    """Its run directory."""
    config: ExperimentConfig
    """Its settings."""


def plan_runs(
    references: Sequence[str],
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    grid: Mapping[str, Sequence[str]] | None = None,
    out: Path | None = None,
) -> list[PlannedRun]:
    """Every combination of configuration, setting and seed, seed by seed so that early results can be compared.

    :param references: YAML files, or names of shipped configurations.
    :param overrides: ``key.path=value`` for all runs. Several values, ``key=1,2``, are a part of the grid.
    :param seeds: Seeds; None takes those of the section ``sweep``, or the configuration's one.
    :param grid: Setting -> its values as YAML text; it is joined with that of the section ``sweep``.
    :param out: Folder of all runs; None is ``runs``.
    :return: The runs; nothing is written yet.
    :raises ConfigError: with everything that is wrong with any combination, once each.
    """
    fixed, several = sort_overrides(overrides)
    problems: dict[str, None] = {}
    plans: list[list[PlannedRun]] = []
    for reference in references:
        try:
            plans.append(_plan_one(reference, fixed, seeds, {**several, **(grid or {})}, out))
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(*problems)
    runs = [run for runs in itertools.zip_longest(*plans) for run in runs if run is not None]
    if len({run.path for run in runs}) < len(runs):
        raise ConfigError("two of the configurations have one name; rename a file, or set name: in it")
    return runs


def sort_overrides(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take ``key=1,2,3``, which stands for several runs, out of the overrides."""
    fixed: list[str] = []
    several: dict[str, list[str]] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        values = split_values(text)
        if equals and len(values) > 1 and all(values):
            several[key] = values
        else:
            fixed.append(override)
    return fixed, several


def refuse_several(overrides: Sequence[str], command: str, reference: str) -> None:
    """Lead from ``farl train quickstart seed=0,1,2`` to the command that runs it.

    :raises ConfigError: an override has several values.
    """
    _, several = sort_overrides(overrides)
    for key, values in several.items():
        text = ",".join(values)
        option = f"--seeds {text}" if key == "seed" else f"--grid {key}={text}"
        raise ConfigError(f"{key}={text}: farl {command} takes one value; for all: farl sweep {reference} {option}")


def _plan_one(
    reference: str,
    overrides: Sequence[str],
    seeds: Sequence[int] | None,
    grid: Mapping[str, Sequence[str]],
    out: Path | None,
) -> list[PlannedRun]:
    whole = load_config(reference, overrides)
    section = whole.sweep
    if section is not None:
        grid = {**{key: [json.dumps(value) for value in values] for key, values in section.grid.items()}, **grid}
    if "seed" in grid:
        seeds = [parse_value(text, "seed") for text in grid["seed"]] if seeds is None else seeds
        grid = {key: values for key, values in grid.items() if key != "seed"}
    chosen = seeds if seeds is not None else section.seeds if section is not None else None
    names = _short_names(list(grid))
    count = len(chosen or [0])
    for values in grid.values():
        count *= len(values)
    if count > MOST_RUNS:
        raise ConfigError(f"{reference}: {count:,} runs; a sweep has at most {MOST_RUNS:,}")
    folder = _folder(whole.name, out)
    combinations: list[tuple[str, ExperimentConfig]] = []
    problems: dict[str, None] = {}
    for values in itertools.product(*grid.values()):
        settings = [f"{key}={value}" for key, value in zip(grid, values, strict=True)]
        parts = [f"{name}={_plain(value)}" for name, value in zip(names, values, strict=True)]
        try:
            config = load_config(reference, [*overrides, "sweep=null", *settings]) if settings else whole
            combinations.append((",".join(parts), config.model_copy(update={"sweep": None, "name": whole.name})))
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(*problems)
    runs: list[PlannedRun] = []
    for seed in chosen if chosen is not None else [whole.seed]:
        for label, config in combinations:
            here = ",".join(filter(None, [label, f"seed={seed}"]))
            runs.append(PlannedRun(f"{folder.name}/{here}", folder / here, config.model_copy(update={"seed": seed})))
    doubles = sorted({run.label for run in runs if sum(other.path == run.path for other in runs) > 1})
    if doubles:
        raise ConfigError(f"{doubles[0]}: is asked for twice; give every value once")
    return runs


def _folder(name: str, out: Path | None) -> Path:
    """``runs/NAME``, or ``runs/NAME-sweep`` where a single run lies there already."""
    folder = (out if out is not None else RUNS) / name
    return folder.with_name(f"{name}-sweep") if RunDirectory(folder).config_file.is_file() else folder


def _short_names(keys: Sequence[str]) -> list[str]:
    """The last word of each dotted key, with as many before it as tell the keys apart."""
    told = [key.removesuffix(".name") for key in keys]  # algorithm=PPO, not name=PPO
    for size in itertools.count(1):
        names = [".".join(key.split(".")[-size:]) for key in told]
        if len(set(names)) == len(set(told)):
            return names
    raise AssertionError


def _plain(text: str) -> str:
    """A value as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-")[:60] or "empty"
