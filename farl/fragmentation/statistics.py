"""Running statistics of surprisal, one row per fragment, updated for many environments at once."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Moments(NamedTuple):
    """What a fragment has seen so far, one entry per queried fragment.

    :ivar count: int64[E], number of samples
    :ivar mean: float64[E], running mean (0 without samples)
    :ivar std: float64[E], running standard deviation (0 below two samples); of a lifetime statistic the sample
        standard deviation (ddof 1)
    """

    count: IntArray  # type: ignore[assignment]  # hides tuple.count, which nobody counts with here
    mean: FloatArray
    std: FloatArray


def rank_in_fragment(fragment_ids: IntArray) -> IntArray:
    """Number the environments that share a fragment 0, 1, 2, ... in the order of the batch: int64[E] -> int64[E]."""
    order = np.argsort(fragment_ids, kind="stable")
    ids = fragment_ids[order]
    rank = np.empty_like(fragment_ids)
    rank[order] = np.arange(len(ids)) - np.searchsorted(ids, ids)
    return rank


class _Groups(NamedTuple):
    """Environments by fragment.

    :ivar order: int64[E], sorts the environments by fragment, those of one in the order of the batch
    :ivar fragment_ids: int64[F], the fragments, ascending
    :ivar first: int64[F], where each begins in that order
    :ivar size: int64[F], environments in each
    :ivar group: int64[E], number of the fragment at each place of that order
    :ivar newer: int64[E], environments of the same fragment that come later in that order
    """

    order: IntArray
    fragment_ids: IntArray
    first: IntArray
    size: IntArray
    group: IntArray
    newer: IntArray


@lru_cache(maxsize=16)  # environments mostly stay where they are, and several statistics ask about the same ones
def _grouped(fragment_ids: bytes) -> _Groups:
    """Group environments by fragment.

    :param fragment_ids: int64[E], as bytes
    """
    given = np.frombuffer(fragment_ids, np.int64)
    order = np.argsort(given, kind="stable")
    distinct, first, size = np.unique(given[order], return_index=True, return_counts=True)
    newer = np.repeat(first + size, size) - 1 - np.arange(len(given))
    return _Groups(order, distinct, first, size, np.repeat(np.arange(len(distinct)), size), newer)


class SurprisalStatistics:
    """Mean and standard deviation of the samples of each fragment, as lifetime or exponential moving statistics.

    Both are one rule: a sample enters with weight ``a`` and everything older is scaled by ``1 - a``. A lifetime
    statistic has ``a = 1/n`` (Welford's algorithm), a moving one a constant ``a = alpha``. Environments that are in
    the same fragment at the same step are taken in the order of the batch, in closed form, without a loop.

    A fragment is opened by its first sample. Rows are kept sorted by fragment id.

    :param alpha: None for lifetime statistics, else the weight in (0, 1] of the newest sample
    :param per_step: samples that enter a fragment in one call count as one, their mean: how fast a moving statistic
        moves then does not depend on how many environments share a fragment
    :raises ValueError: if alpha lies outside (0, 1], or per_step is asked of lifetime statistics
    """

    def __init__(self, alpha: float | None = None, per_step: bool = False) -> None:
        if alpha is not None and not 0.0 < alpha <= 1.0:
            raise ValueError(f"alpha must lie in (0, 1], or be None for lifetime statistics; got {alpha}")
        if per_step and alpha is None:
            raise ValueError("per_step is for moving statistics: set alpha")
        self.alpha = alpha
        self.per_step = per_step
        self.fragment_ids: IntArray = np.empty(0, np.int64)
        self._count: IntArray = np.empty(0, np.int64)
        self._mean: FloatArray = np.empty(0, np.float64)
        # Lifetime: sum of squared deviations. Moving: weighted variance.
        self._spread: FloatArray = np.empty(0, np.float64)

    def __len__(self) -> int:
        return len(self.fragment_ids)

    def moments(self, fragment_ids: IntArray) -> Moments:
        """Return the statistics of each fragment; a fragment without samples has count 0.

        :param fragment_ids: int64[E]
        """
        if len(self.fragment_ids) == 0:
            zeros = np.zeros(len(fragment_ids))
            return Moments(zeros.astype(np.int64), zeros, zeros.copy())
        if self._is_all(fragment_ids):
            return Moments(*(np.full(len(fragment_ids), moment) for moment in self._moments_of_all()))
        rows = np.minimum(np.searchsorted(self.fragment_ids, fragment_ids), len(self.fragment_ids) - 1)
        known = self.fragment_ids[rows] == fragment_ids
        count = np.where(known, self._count[rows], 0)
        variance = self._spread[rows]
        if self.alpha is None:
            variance = variance / np.maximum(self._count[rows] - 1, 1)
        return Moments(
            count, np.where(known, self._mean[rows], 0.0), np.where(known & (count > 1), np.sqrt(variance), 0.0)
        )

    def std(self, fragment_ids: IntArray) -> FloatArray:
        """Return the standard deviation of each fragment, float64[E], as ``moments`` does, with less ado."""
        if self._is_all(fragment_ids):
            return np.full(len(fragment_ids), self._moments_of_all()[2])
        return self.moments(fragment_ids).std

    def update(self, fragment_ids: IntArray, samples: FloatArray) -> None:
        """Add one sample per entry to the statistics of its fragment.

        :param fragment_ids: int64[E], repeats allowed
        :param samples: float[E]
        :raises ValueError: if a sample is not finite
        """
        if len(fragment_ids) == 0:
            return
        samples = np.asarray(samples, np.float64)
        sum_of_all = float(samples.sum())
        if not math.isfinite(sum_of_all) and not np.isfinite(samples).all():
            raise ValueError(
                "surprisal must be finite; got NaN or infinity. Check the observations and the learning rate"
            )
        groups = _grouped(np.asarray(fragment_ids, np.int64).tobytes())
        if self.alpha is None and len(groups.fragment_ids) == 1:
            self._take_in(int(groups.fragment_ids[0]), samples, sum_of_all)
            return
        first, samples = groups.first, samples[groups.order]
        rows = self._rows(groups.fragment_ids)
        if self.alpha is None:
            weight, old_weight, total = self._lifetime_weights(rows, groups)
        else:
            weight, old_weight, total = self._moving_weights(rows, groups, self.alpha)
        # Merge (old mean, old spread) with the weighted new samples: Chan et al. (1979), pairwise update.
        old_mean = self._mean[rows]
        mean = (old_weight * old_mean + np.add.reduceat(weight * samples, first)) / total
        spread = (
            np.add.reduceat(weight * (samples - mean[groups.group]) ** 2, first) + old_weight * (old_mean - mean) ** 2
        )
        keep = 1.0 if self.alpha is None else old_weight
        self._spread[rows] = keep * self._spread[rows] + spread
        self._mean[rows] = mean
        self._count[rows] += 1 if self.per_step else groups.size

    def _is_all(self, fragment_ids: IntArray) -> bool:
        """Whether these are all of the one fragment that there is."""
        return len(self.fragment_ids) == 1 and bool((fragment_ids == self.fragment_ids[0]).all())

    def _moments_of_all(self) -> tuple[int, float, float]:
        """Return count, mean and standard deviation of the one fragment that there is."""
        count, spread = int(self._count[0]), float(self._spread[0])
        std = math.sqrt(spread if self.alpha is not None else spread / max(count - 1, 1)) if count > 1 else 0.0
        return count, float(self._mean[0]), std

    def _take_in(self, fragment_id: int, samples: FloatArray, sum_of_all: float) -> None:
        """Do the same for lifetime statistics of one fragment, with less ado; ``sum_of_all`` is that of the samples."""
        is_all = len(self.fragment_ids) == 1 and int(self.fragment_ids[0]) == fragment_id
        row = 0 if is_all else int(self._rows(np.array([fragment_id]))[0])
        count, old_mean = int(self._count[row]), float(self._mean[row])
        mean = (count * old_mean + sum_of_all) / (count + len(samples))
        self._spread[row] += float(np.square(samples - mean).sum()) + count * (old_mean - mean) ** 2
        self._mean[row], self._count[row] = mean, count + len(samples)

    def forget(self, fragment_ids: IntArray) -> None:
        """Drop the statistics of the given fragments; unknown ids are ignored."""
        keep = ~np.isin(self.fragment_ids, fragment_ids)
        self.fragment_ids, self._count = self.fragment_ids[keep], self._count[keep]
        self._mean, self._spread = self._mean[keep], self._spread[keep]

    def inherit(self, child: int, parent: int) -> None:
        """Start the statistics of a fragment from its parent's; without parent statistics this does nothing."""
        if parent in self.fragment_ids:
            self._rows(np.array([child]))
            into, source = np.searchsorted(self.fragment_ids, [child, parent])
            for field in (self._count, self._mean, self._spread):
                field[into] = field[source]

    def state_dict(self) -> dict[str, "Tensor"]:
        """Return everything that ``load_state_dict`` needs, as tensors."""
        import torch

        return {
            "fragment_ids": torch.from_numpy(self.fragment_ids.copy()),
            "count": torch.from_numpy(self._count.copy()),
            "mean": torch.from_numpy(self._mean.copy()),
            "spread": torch.from_numpy(self._spread.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.fragment_ids = state["fragment_ids"].cpu().numpy().copy()
        self._count = state["count"].cpu().numpy().copy()
        self._mean = state["mean"].cpu().numpy().copy()
        self._spread = state["spread"].cpu().numpy().copy()

    def _lifetime_weights(self, rows: IntArray, groups: _Groups) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weights of the new samples, of the old ones, and their sum: every sample counts the same."""
        count = self._count[rows].astype(np.float64)
        return np.ones(len(groups.order)), count, count + groups.size

    def _moving_weights(
        self, rows: IntArray, groups: _Groups, alpha: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weights of the new samples, of the old ones, and their sum (1): geometric in age."""
        fresh = self._count[rows] == 0
        if self.per_step:
            old_weight = np.where(fresh, 0.0, 1.0 - alpha)
            return ((1.0 - old_weight) / groups.size)[groups.group], old_weight, np.ones(len(rows))
        weight: FloatArray = (alpha * (1.0 - alpha) ** groups.newer).astype(np.float64, copy=False)
        # The first sample of a fragment is its mean: there is nothing older for it to be weighed against.
        weight[groups.first[fresh]] /= alpha
        kept: FloatArray = np.where(fresh, 0.0, (1.0 - alpha) ** groups.size)
        return weight, kept, np.ones(len(rows))

    def _rows(self, fragment_ids: IntArray) -> IntArray:
        """Row of each fragment (sorted, unique ids), opening those not seen before."""
        at = np.searchsorted(self.fragment_ids, fragment_ids)
        known = at < len(self.fragment_ids)
        known[known] = self.fragment_ids[at[known]] == fragment_ids[known]
        if not known.all():
            new, at = fragment_ids[~known], at[~known]
            self.fragment_ids = np.insert(self.fragment_ids, at, new)
            self._count = np.insert(self._count, at, 0)
            self._mean = np.insert(self._mean, at, 0.0)
            self._spread = np.insert(self._spread, at, 0.0)
            at = np.searchsorted(self.fragment_ids, fragment_ids)
        return at
