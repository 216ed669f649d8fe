"""Learning curves of finished runs, from what they logged."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from farl.experiment.compare.runs import Group
from farl.experiment.run_directory import RunDirectory
from farl.experiment.statistics import interquartile_mean

Array = npt.NDArray[np.float64]
Curve = tuple[Array, Array]
"""Timesteps [T] and values [T]."""

TAGS = {
    "coverage": "exploration/coverage",
    "ep_rew_mean": "rollout/ep_rew_mean",
    "ep_len_mean": "rollout/ep_len_mean",
    "success_rate": "rollout/success_rate",
    "evaluation_ep_rew_mean": "eval/mean_reward",
    "fragments": "exploration/fragments",
    "recalls": "exploration/recalls",
}
"""Key in ``metrics.json`` -> what its curve is called in the log."""
_POINTS = 200
_RESAMPLES = 500
_STEPS = "time/total_timesteps"


def read_curve(run: Path, tag: str) -> Curve | None:
    """A logged value over timesteps: from ``progress.csv`` where there is one, else from TensorBoard's events."""
    directory = RunDirectory(run)
    points = _from_csv(run / "progress.csv", tag) or _from_events(directory.tensorboard, tag)
    if len(points) < 2:
        return None
    steps, values = np.asarray(sorted(points), dtype=np.float64).T
    return steps, values


def band(group: Group, task: str, tag: str) -> tuple[Array, Array, Array, Array] | None:
    """Interquartile mean over runs with its bootstrap interval, on one grid of timesteps.

    :param group: The runs.
    :param task: Their environment.
    :param tag: What was logged.
    :return: Timesteps, estimate, lower and upper end, each [T], as far as all runs reach; None where nothing is logged.
    """
    curves = [curve for run in group.on(task) if (curve := read_curve(run.path, tag)) is not None]
    if not curves:
        return None
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    if last <= first:
        return None
    grid = np.linspace(first, last, _POINTS)
    values = np.array([np.interp(grid, steps, value) for steps, value in curves])
    middle = interquartile_mean(values, axis=0)
    chosen = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    drawn = interquartile_mean(values[chosen], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return grid, middle, low, high


def _from_csv(file: Path, tag: str) -> list[tuple[float, float]]:
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get(tag) and row.get(_STEPS)]
    return [(float(row[_STEPS]), float(row[tag])) for row in rows]


def _from_events(folder: Path, tag: str) -> Sequence[tuple[float, float]]:
    if not folder.is_dir():
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = {"images": 1, "tensors": 1, "histograms": 1, "compressedHistograms": 1, "scalars": 0}
    events = EventAccumulator(str(folder), size_guidance=sizes)
    events.Reload()
    if tag not in events.Tags()["scalars"]:
        return []
    return [(float(event.step), float(event.value)) for event in events.Scalars(tag)]
