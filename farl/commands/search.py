"""``farl sweep --optuna`` and ``--pbt``: looking for good settings."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from farl.errors import ConfigError

if TYPE_CHECKING:
    from farl.experiment.sweep.backends import Resources
    from farl.experiment.sweep.settings import SweepConfig


def run_search(
    options: argparse.Namespace,
    references: Sequence[str],
    overrides: Sequence[str],
    seeds: Sequence[int] | None,
    resources: "Resources",
) -> int:
    """Do the command; returns its exit code.

    :param options: What was given.
    :param references: The configuration; only one can be searched.
    :param overrides: Settings of all trials.
    :param seeds: Seeds of each trial.
    :param resources: What may be used.
    :raises ConfigError: several configurations or a grid are given, nothing is searched, or Optuna or Ray is missing.
    """
    from rich.console import Console

    from farl.experiment.loading import load_config
    from farl.experiment.sweep.search import Search, search

    if len(references) > 1 or options.grid:
        raise ConfigError("a search takes one CONFIG and no --grid; run several searches, each with its own --out")
    if options.optuna is not None and options.pbt is not None:
        raise ConfigError("--optuna and --pbt are two searches; choose one")
    config = load_config(references[0], overrides)
    section = _section(options, config.sweep)
    if not section.search:
        raise ConfigError("nothing to search: add a section sweep.search, or --search KEY='{log: [1e-5, 1e-3]}'")
    plain = config.model_copy(update={"sweep": None})
    kind = "optuna" if options.optuna is not None else "pbt"
    folder = resources.folder / config.name / kind
    console = Console(stderr=True)
    if options.dry_run:
        print(f"{folder}: {options.optuna or options.pbt} trials of {', '.join(section.search)}")
        return 0
    if options.pbt is not None:
        from farl.experiment.sweep.population import Population, train_population

        best = train_population(
            Population(plain, section.search, options.pbt, section.metric, section.direction, folder),
            resources,
            console,
        )
    else:
        chosen = seeds if seeds is not None else section.seeds if section.seeds is not None else [config.seed]
        best = search(
            Search(plain, section.search, options.optuna, chosen, section.metric, section.direction, folder),
            options.backend,
            resources,
            console,
        )
    if best is None:
        print(f"no trial finished; why stands in the files {folder}/*/error.txt")
        return 1
    print(f"{best.finished} trials finished, {best.pruned} pruned, {best.failed} failed")
    print(f"best: {best.value:.4g} with " + ", ".join(f"{key}={value}" for key, value in best.settings.items()))
    print(f"train it on other seeds: farl sweep {best.config_file} --seeds 10-14")
    return 0


def _section(options: argparse.Namespace, section: "SweepConfig | None") -> "SweepConfig":
    """The section ``sweep`` with what the command line adds."""
    from pydantic import ValidationError

    from farl.experiment.sweep.settings import SweepConfig
    from farl.experiment.yaml_source import parse_value
    from farl.validation import validation_problems

    data = (section or SweepConfig()).model_dump(mode="json", exclude_none=True)
    for text in options.search:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--search {text}: write KEY=SPACE, such as far.intrinsic_coef='{{log: [0.1, 10]}}'")
        data.setdefault("search", {})[key] = parse_value(value, key)
    if options.metric is not None:
        data["metric"] = options.metric
    try:
        return SweepConfig.model_validate(data)
    except ValidationError as error:
        problems = validation_problems(error, data, SweepConfig)
        raise ConfigError(*(f"--search {'.'.join(path[1:])}: {text}" for path, text in problems)) from None
