"""Statistics of few runs: point estimates with bootstrap intervals (Agarwal et al. 2021, Deep Reinforcement Learning at
the Edge of the Statistical Precipice).

They are what rliable computes (the tests compare the two), on scipy: it takes groups of different sizes, needs no fifth
of a minute to import, and draws all resamples in one call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST_SEEDS = 5
"""With fewer runs an interval says little: the project's own rule, and that of the paper's figures 2 and 3."""

_BATCH = 1_000
Sample = npt.NDArray[np.float64]
Statistic = Callable[..., npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean(*groups: Sample, axis: int = -1) -> Sample:
    """Mean over all runs of all groups [..., N_g]."""
    return np.asarray(np.mean(np.concatenate(groups, axis=axis), axis=axis), dtype=np.float64)


def median(*groups: Sample, axis: int = -1) -> Sample:
    """Median over groups of the mean over runs; of a single group, the median over runs."""
    if len(groups) == 1:
        return np.asarray(np.median(groups[0], axis=axis), dtype=np.float64)
    return np.asarray(np.median([np.mean(group, axis=axis) for group in groups], axis=0), dtype=np.float64)


def interquartile_mean(*groups: Sample, axis: int = -1) -> Sample:
    """Mean of the middle half of all runs of all groups [..., N_g]; few lucky runs do not move it (section 4.3)."""
    from scipy import stats

    return np.asarray(stats.trim_mean(np.concatenate(groups, axis=axis), 0.25, axis=axis), dtype=np.float64)


def optimality_gap(target: float) -> Statistic:
    """How far runs stay below a target on average; what is above it counts as the target (section 4.3)."""

    def gap(*groups: Sample, axis: int = -1) -> Sample:
        return target - mean(*(np.minimum(group, target) for group in groups), axis=axis)

    return gap


def probability_of_improvement(first: Sample, second: Sample, axis: int = -1) -> Sample:
    """How often a run of the first group [..., N] beats one of the second [..., M]; draws count half (section 4.3)."""
    first, second = np.moveaxis(first, axis, -1), np.moveaxis(second, axis, -1)
    above = first[..., :, None] > second[..., None, :]
    equal = first[..., :, None] == second[..., None, :]
    return np.asarray((above + 0.5 * equal).mean(axis=(-2, -1)), dtype=np.float64)


def estimate(groups: Sequence[Sample], statistic: Statistic, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """A statistic and its percentile bootstrap interval; each group is resampled by itself (stratified).

    :param groups: Samples [N_g], float; most often one, else one for each task.
    :param statistic: Takes the groups and an ``axis``.
    :param seed: Seed of the resampling.
    :param resamples: How often the groups are drawn anew.
    :return: The estimate. Where no group has two different values the interval is a point.
    """
    samples = [np.asarray(group, dtype=np.float64) for group in groups]
    value = float(statistic(*samples, axis=-1))
    if all(len(sample) < 2 or np.ptp(sample) == 0 for sample in samples):
        return Estimate(value, value, value)
    from scipy import stats

    # scipy refuses a sample of one: what does not vary is held fast.
    varied = [index for index, sample in enumerate(samples) if len(sample) > 1]

    def of_varied(*drawn: Sample, axis: int = -1) -> Sample:
        shape = drawn[0].shape[:-1]
        whole = [np.broadcast_to(sample, (*shape, len(sample))) for sample in samples]
        for index, sample in zip(varied, drawn, strict=True):
            whole[index] = sample
        return statistic(*whole, axis=axis)

    interval = stats.bootstrap(
        [samples[index] for index in varied],
        of_varied if len(varied) < len(samples) else statistic,
        n_resamples=resamples,
        batch=_BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


def performance_profile(
    groups: Sequence[Sample], thresholds: Sample, seed: int = 0, resamples: int = 2_000
) -> tuple[Sample, Sample, Sample]:
    """Share of the runs that come above each threshold, with its pointwise interval (section 4.2).

    :param groups: Samples [N_g], each resampled by itself.
    :param thresholds: Where to look [T].
    :param seed: Seed of the resampling.
    :param resamples: How often the groups are drawn anew.
    :return: Share, lower and upper end of the interval, each [T].
    """
    rng = np.random.default_rng(seed)
    share = (np.concatenate(groups)[:, None] > thresholds).mean(axis=0)
    drawn = [group[rng.integers(len(group), size=(resamples, len(group)))] for group in groups]
    shares = (np.concatenate(drawn, axis=1)[..., None] > thresholds).mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(shares, [tail, 1 - tail], axis=0)
    return share, low, high
