"""What groups of runs say of a metric: estimates with intervals, and how sure one is above another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from farl.errors import ConfigError
from farl.experiment.compare.runs import Collection, Group
from farl.experiment.statistics import (
    FEWEST_SEEDS,
    Estimate,
    estimate,
    interquartile_mean,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
)
from farl.experiment.sweep.objective import metric_key

Array = npt.NDArray[np.float64]
SHARES = ("coverage", "success_rate")
"""Metrics between 0 and 1: comparable between environments, and 1 is the best there is."""
ALL_TASKS = "all environments"


@dataclass(frozen=True)
class Row:
    """A group in one environment, or in all of them."""

    group: str
    task: str
    runs: int
    iqm: Estimate
    median: Estimate
    mean: Estimate
    gap: Estimate | None
    """Optimality gap, where a target is known."""


@dataclass(frozen=True)
class Pair:
    """How often a run of one group beats a run of the other."""

    first: str
    second: str
    task: str
    probability: Estimate
    difference: Estimate
    """Of the interquartile means, first less second."""


@dataclass(frozen=True)
class Comparison:
    """All that was found out."""

    metric: str
    """Key in ``metrics.json``."""
    target: float | None
    rows: list[Row]
    pairs: list[Pair]
    notes: list[str]
    """What a reader has to know: too few seeds, runs left out, other versions."""
    groups: list[Group]
    tasks: list[str]
    lower_is_better: bool

    def values(self, group: Group, task: str) -> Array:
        """The metric of the runs of a group in an environment."""
        return _values(group, task, self.metric)


def compare(
    collection: Collection, groups: Sequence[Group], metric: str, target: float | None, lower_is_better: bool
) -> Comparison:
    """Compute the statistics of groups of runs.

    :param collection: What the groups were made of.
    :param groups: Groups, best named by what differs.
    :param metric: ``coverage``, ``return``, or any number in ``metrics.json``; ``auto`` as in a search.
    :param target: What the optimality gap is measured to; None is 1 for shares, and no gap for others.
    :param lower_is_better: Whether the metric should be small, as the steps until a goal.
    :return: The comparison.
    :raises ConfigError: no run has the metric.
    """
    key = _key(groups, metric)
    if target is None and key in SHARES:
        target = 1.0
    tasks = list(dict.fromkeys(run.task for group in groups for run in group.runs))
    rows, pairs = [], []
    for task in tasks:
        samples = {group.name: [values] for group in groups if len(values := _values(group, task, key))}
        rows += [_row(name, task, sample, target) for name, sample in samples.items()]
        pairs += _pairs(samples, task)
    if len(tasks) > 1 and key in SHARES:
        whole = {group.name: [_values(group, task, key) for task in tasks] for group in groups}
        whole = {name: sample for name, sample in whole.items() if all(len(values) for values in sample)}
        rows += [_row(name, ALL_TASKS, sample, target) for name, sample in whole.items()]
    return Comparison(
        key, target, rows, pairs, _notes(collection, groups, tasks, key), list(groups), tasks, lower_is_better
    )


def _key(groups: Sequence[Group], metric: str) -> str:
    problem: ConfigError | None = None
    for group in groups:
        for run in group.runs:
            try:
                return metric_key(metric, run.metrics)
            except ConfigError as error:
                problem = problem or error
    assert problem is not None
    raise ConfigError(*(text.replace("the run has no", "--metric: no run has the") for text in problem.problems))


def _values(group: Group, task: str, key: str) -> Array:
    found = [run.metrics.get(key) for run in group.on(task)]
    return np.array([float(value) for value in found if value is not None], dtype=np.float64)


def _row(group: str, task: str, sample: Sequence[Array], target: float | None) -> Row:
    return Row(
        group,
        task,
        sum(map(len, sample)),
        estimate(sample, interquartile_mean),
        estimate(sample, median),
        estimate(sample, mean),
        None if target is None else estimate(sample, optimality_gap(target)),
    )


def _pairs(samples: Mapping[str, Sequence[Array]], task: str) -> list[Pair]:
    def difference(first: Array, second: Array, axis: int = -1) -> Array:
        return interquartile_mean(first, axis=axis) - interquartile_mean(second, axis=axis)

    names = list(samples)
    found = []
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            both = [samples[first][0], samples[second][0]]
            found.append(
                Pair(first, second, task, estimate(both, probability_of_improvement), estimate(both, difference))
            )
    return found


def _notes(collection: Collection, groups: Sequence[Group], tasks: Sequence[str], key: str) -> list[str]:
    notes: list[str] = []
    counts = {(group.name, task): len(_values(group, task, key)) for group in groups for task in tasks}
    few = {pair: count for pair, count in counts.items() if 0 < count < FEWEST_SEEDS}
    if few:
        least = min(few.values())
        notes.append(
            f"Too few seeds for a claim: {least} in {next(pair[0] for pair in few if few[pair] == least)!r}. "
            f"Intervals of fewer than {FEWEST_SEEDS} runs are too narrow; add some with --seeds."
        )
    without = [f"{group!r} in {task}" for (group, task), count in counts.items() if not count]
    if without:
        notes.append(f"No value of {key}: {', '.join(without)}.")
    partly = [
        f"{len(group.on(task)) - counts[group.name, task]} of {len(group.on(task))} runs of {group.name!r}"
        for group in groups
        for task in tasks
        if 0 < counts[group.name, task] < len(group.on(task))
    ]
    if partly:
        notes.append(f"Without a value of {key}, and left out: {', '.join(partly)}. What is shown is too favourable.")
    if collection.unfinished:
        notes.append(f"{len(collection.unfinished)} runs have not finished and are left out.")
    if collection.doubles:
        notes.append(f"{len(collection.doubles)} runs repeat the settings and seed of another one and are left out.")
    for what in ("farl", "torch", "sb3", "numpy"):
        versions = {str(_versions(run.metrics).get(what)) for group in groups for run in group.runs}
        if len(versions) > 1:
            notes.append(f"The runs were made with different versions of {what}: {', '.join(sorted(versions))}.")
    budgets = {run.settings["total_timesteps"] for group in groups for run in group.runs}
    if len(budgets) > 1:
        notes.append(
            f"The runs have different budgets: {', '.join(f'{budget:,}' for budget in sorted(budgets))} steps."
        )
    return notes


def _versions(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = metrics.get("versions")
    return versions if isinstance(versions, Mapping) else {}


def verdicts(comparison: Comparison) -> list[str]:
    """What can be said of each pair in a sentence, and what cannot."""
    sentences = []
    counts = {(row.group, row.task): row.runs for row in comparison.rows}
    for pair in comparison.pairs:
        above, below = pair.first, pair.second
        difference = pair.difference
        where = f" in {pair.task}" if len(comparison.tasks) > 1 else ""
        if difference.low > 0 or difference.high < 0:
            if (difference.value < 0) != comparison.lower_is_better:
                above, below = below, above
                difference = replace(difference, value=-difference.value, low=-difference.high, high=-difference.low)
            few = min(counts[pair.first, pair.task], counts[pair.second, pair.task]) < FEWEST_SEEDS
            claim = "is ahead, in too few runs for a claim, of" if few else "is better than"
            sentences.append(f"{above} {claim} {below}{where}: difference {difference}.")
        else:
            sentences.append(f"{above} and {below} cannot be told apart{where}: difference {difference}.")
    return sentences
