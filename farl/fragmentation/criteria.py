"""When does surprisal end a fragment? The criteria, and thresholds that are set or calibrated."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from farl.fragmentation.sight import Sight
from farl.fragmentation.statistics import (
    BoolArray,
    FloatArray,
    IntArray,
    Moments,
    SurprisalStatistics,
    rank_in_fragment,
)


class Quantile:
    """A threshold calibrated from what was seen: the ``q`` quantile of the most recent values.

    An absolute threshold means one thing under one normalisation and another under the next; a quantile fixes instead
    how rare an event has to be: with ``q = 0.999`` about one value in a thousand exceeds it. Until ``warmup`` values
    are there the threshold is infinite: nothing exceeds it.

    :param q: quantile in (0, 1)
    :param warmup: number of values before the first threshold
    :param window: number of recent values that are kept
    :raises ValueError: if a parameter is out of range
    """

    def __init__(self, q: float, warmup: int = 1000, window: int = 10_000) -> None:
        if not 0.0 < q < 1.0:
            raise ValueError(f"a quantile lies in (0, 1); got {q}")
        if not 1 <= warmup <= window:
            raise ValueError(f"warmup must lie in [1, window]; got warmup={warmup}, window={window}")
        self.q = q
        self.warmup = warmup
        self._values: FloatArray = np.zeros(window)
        self._seen = 0
        self._value = np.inf
        self._next_refresh = warmup

    def __float__(self) -> float:
        return float(self._value)

    def observe(self, values: FloatArray) -> None:
        """Take in values, float[N]; those that are not finite are left out."""
        values = values[np.isfinite(values)][-len(self._values) :]
        at = (self._seen + np.arange(len(values))) % len(self._values)
        self._values[at] = values
        self._seen += len(values)
        if self._seen >= self._next_refresh:
            kept = self._values[: min(self._seen, len(self._values))]
            self._value = float(np.quantile(kept, self.q))
            # Sorting the window at every step would cost more than everything else here.
            self._next_refresh = self._seen + max(1, len(kept) // 50)

    def state_dict(self) -> dict[str, Any]:
        """Return the window and its state."""
        import torch

        return {
            "values": torch.from_numpy(self._values.copy()),
            "seen": self._seen,
            "value": self._value,
            "next_refresh": self._next_refresh,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._values = state["values"].cpu().numpy().copy()
        self._seen, self._value = int(state["seen"]), float(state["value"])
        self._next_refresh = int(state["next_refresh"])


class Criterion(ABC):
    """Decides per environment whether a surprisal lies outside the distribution of the active fragment.

    All environments of one call are judged against the statistics from before the call; the samples of those that go on
    in their fragment are then added to them. A sample that ends its fragment does not enter: it belongs to what comes
    next.

    :param threshold: the score above which a fragment ends: a number, or a ``Quantile`` of the scores seen
    :param min_samples: samples a fragment must have before it can end
    :param alpha: None for lifetime statistics of the surprisal, else the weight of the newest sample (moving
        statistics)
    :raises ValueError: if a parameter is out of range
    """

    def __init__(self, threshold: float | Quantile, min_samples: int = 0, alpha: float | None = None) -> None:
        if min_samples < 0:
            raise ValueError(f"min_samples must be at least 0; got {min_samples}")
        if np.isnan(float(threshold)):
            raise ValueError("threshold must be a number; got NaN")
        self.threshold = threshold
        self.min_samples = min_samples
        self.statistics = SurprisalStatistics(alpha)

    @abstractmethod
    def score(self, sight: Sight, fragment_ids: IntArray, moments: Moments) -> FloatArray:
        """Return how far what n environments saw lies outside their fragments, float64[n].

        :param sight: what these environments see
        :param fragment_ids: int64[n], their active fragments
        :param moments: mean and spread of the surprisal in these fragments so far
        """

    def update(self, sight: Sight, fragment_ids: IntArray, envs: IntArray | None = None) -> BoolArray:
        """Judge what n environments saw, and add their surprisal to the statistics of their fragments.

        :param sight: what these environments see
        :param fragment_ids: int64[n], their active fragments
        :param envs: int64[n], which environments these are, for criteria that remember; None is 0 ... n - 1
        :return: bool[n], True where the fragment ends
        :raises ValueError: if a surprisal is not finite
        """
        surprisal = sight.surprisal
        moments = self.statistics.moments(fragment_ids)
        score = self.score(sight, fragment_ids, moments)
        ready = moments.count >= self.min_samples
        ends = ready & (score > float(self.threshold))
        if isinstance(self.threshold, Quantile):
            self.threshold.observe(score[ready])
        self.statistics.update(fragment_ids[~ends], surprisal[~ends])
        return ends

    def bound(self, fragment_ids: IntArray) -> FloatArray:
        """Return the surprisal above which each fragment would end now, float64[N]; NaN where no one surprisal decides.

        :param fragment_ids: int64[N]
        """
        return np.full(len(fragment_ids), np.nan)

    def suspicion(self, n_envs: int) -> IntArray:
        """Return for how many steps, the last one included, each environment has been under suspicion, int64[E].

        Of seeing what lies outside its fragment, that is; 0 for criteria that decide at once.
        """
        return np.zeros(n_envs, np.int64)

    def forget(self, fragment_ids: IntArray) -> None:
        """Drop the statistics of evicted fragments."""
        self.statistics.forget(fragment_ids)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next."""
        state: dict[str, Any] = {"statistics": self.statistics.state_dict()}
        if isinstance(self.threshold, Quantile):
            state["threshold"] = self.threshold.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.statistics.load_state_dict(state["statistics"])
        if isinstance(self.threshold, Quantile):
            self.threshold.load_state_dict(state["threshold"])


class ZScore(Criterion):
    """Ends a fragment when ``(surprisal - mean) / std > threshold`` (FARMap, section 3).

    FARMap takes a threshold of 2, 26 samples and lifetime statistics. The defaults are for curiosity.

    :param threshold: number of sample standard deviations, or a ``Quantile``
    :param alpha: as a curiosity module learns, its old, larger errors must fade from the mean; a map does not learn
    """

    def __init__(self, threshold: float | Quantile = 5.0, min_samples: int = 200, alpha: float | None = 0.01) -> None:
        super().__init__(threshold, min_samples, alpha)

    def score(self, sight: Sight, fragment_ids: IntArray, moments: Moments) -> FloatArray:
        """Return the z-score; 0 where the statistics have no spread yet."""
        spread = moments.std > 0.0
        return np.where(spread, (sight.surprisal - moments.mean) / np.where(spread, moments.std, 1.0), 0.0)

    def bound(self, fragment_ids: IntArray) -> FloatArray:
        """Return mean + threshold * std; NaN below ``min_samples``."""
        moments = self.statistics.moments(fragment_ids)
        ready = (moments.count >= self.min_samples) & (moments.std > 0.0) & np.isfinite(float(self.threshold))
        return np.where(ready, moments.mean + (float(self.threshold) if ready.any() else 0.0) * moments.std, np.nan)


class Ratio(Criterion):
    """Ends a fragment when ``surprisal / mean > threshold``.

    :param threshold: the multiple of the mean surprisal, or a ``Quantile``
    :param alpha: as a curiosity module learns, its old, larger errors must fade from the mean; a map does not learn
    """

    def __init__(self, threshold: float | Quantile = 5.0, min_samples: int = 200, alpha: float | None = 0.01) -> None:
        super().__init__(threshold, min_samples, alpha)

    def score(self, sight: Sight, fragment_ids: IntArray, moments: Moments) -> FloatArray:
        """Return the ratio to the mean; 0 where the mean is 0 (a fragment that never saw an error)."""
        positive = moments.mean > 0.0
        return np.where(positive, sight.surprisal / np.where(positive, moments.mean, 1.0), 0.0)

    def bound(self, fragment_ids: IntArray) -> FloatArray:
        """Return threshold * mean; NaN below ``min_samples``."""
        moments = self.statistics.moments(fragment_ids)
        ready = (moments.count >= self.min_samples) & (moments.mean > 0.0) & np.isfinite(float(self.threshold))
        return np.where(ready, moments.mean * (float(self.threshold) if ready.any() else 0.0), np.nan)


class CUSUM(Criterion):
    """Ends a fragment when its surprisal has changed for good: the cumulative sum test of Page (1954) on its logarithm.

    The z-score of the log surprisal, less a drift, is summed up along the time of each environment; the sum never falls
    below 0, and a fragment ends where it exceeds the threshold. A single surprise does not end a fragment, a change of
    level does, even one that is small beside the spread. The logarithm makes levels that differ by orders of magnitude
    comparable, and the z-score adapts to what a module has learnt, so the same settings serve any environment and
    learning rate.

    Statistics move by ``alpha`` a step, however many environments share a fragment; what lies more than three standard
    deviations off enters as if it lay there, so that an excursion does not widen the distribution that it is judged by.

    :param threshold: the sum above which a fragment ends, in standard deviations
    :param drift: taken off in every step, in standard deviations: half of the smallest change of interest
    :param min_samples: steps a fragment must have before it can end
    :param alpha: weight of the newest step in the moving statistics
    :raises ValueError: if a parameter is out of range
    """

    LARGEST_STEP = 4.0
    """A single surprise adds no more than this, less the drift."""
    _WIDEST = 3.0
    _LEAST_STD = 0.1  # of the logarithm: 10 % more or less are no surprise, however constant it was

    def __init__(
        self, threshold: float | Quantile = 5.0, drift: float = 0.5, min_samples: int = 100, alpha: float = 0.01
    ) -> None:
        if drift < 0.0:
            raise ValueError(f"drift must be at least 0; got {drift}")
        super().__init__(threshold, min_samples, alpha)
        self.drift = drift
        self.statistics = SurprisalStatistics(alpha, per_step=True)
        self._sums: FloatArray = np.zeros(0)
        self._fragments: IntArray = np.zeros(0, np.int64)  # that each environment's sum belongs to
        self._suspicion: IntArray = np.zeros(0, np.int64)  # steps for which each sum has been above 0

    def score(self, sight: Sight, fragment_ids: IntArray, moments: Moments) -> FloatArray:
        """Return the z-score of the log surprisal; 0 where the fragment has no statistics yet."""
        spread = np.maximum(moments.std, self._LEAST_STD)
        return np.where(moments.count > 0, (_log(sight.surprisal) - moments.mean) / spread, 0.0)

    def update(self, sight: Sight, fragment_ids: IntArray, envs: IntArray | None = None) -> BoolArray:
        """Add one surprisal to the sum of each environment; where the fragment has changed, the sum begins anew."""
        envs = np.arange(len(fragment_ids)) if envs is None else envs
        self._make_room(int(envs.max(initial=-1)) + 1)
        moments = self.statistics.moments(fragment_ids)
        ready = moments.count >= self.min_samples
        score = self.score(sight, fragment_ids, moments)
        before = np.where(self._fragments[envs] == fragment_ids, self._sums[envs], 0.0)
        sums = np.where(ready, np.maximum(before + np.minimum(score, self.LARGEST_STEP) - self.drift, 0.0), 0.0)
        ends = sums > float(self.threshold)
        if isinstance(self.threshold, Quantile):
            self.threshold.observe(sums[ready])
        self._sums[envs], self._fragments[envs] = np.where(ends, 0.0, sums), fragment_ids
        lasted = np.where(before > 0.0, self._suspicion[envs], 0) + 1
        self._suspicion[:] = 0  # those not asked about have moved: nothing is suspicious there
        self._suspicion[envs] = np.where(sums > 0.0, lasted, 0)
        reach = np.where(ready, self._WIDEST * np.maximum(moments.std, self._LEAST_STD), np.inf)
        samples = np.clip(_log(sight.surprisal), moments.mean - reach, moments.mean + reach)
        self.statistics.update(fragment_ids[~ends], samples[~ends])
        return ends

    def suspicion(self, n_envs: int) -> IntArray:
        """Return for how many steps the sum of each environment has been above 0."""
        steps = np.zeros(n_envs, np.int64)
        steps[: len(self._suspicion)] = self._suspicion[:n_envs]
        return steps

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics and the sums."""
        import torch

        return super().state_dict() | {
            "sums": torch.from_numpy(self._sums.copy()),
            "fragments": torch.from_numpy(self._fragments.copy()),
            "suspicion": torch.from_numpy(self._suspicion.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self._sums = state["sums"].cpu().numpy().copy()
        self._fragments = state["fragments"].cpu().numpy().copy()
        self._suspicion = state["suspicion"].cpu().numpy().copy()

    def _make_room(self, n_envs: int) -> None:
        more = max(n_envs - len(self._sums), 0)
        self._sums = np.pad(self._sums, (0, more))
        self._fragments = np.pad(self._fragments, (0, more), constant_values=-1)
        self._suspicion = np.pad(self._suspicion, (0, more))


class Random(Criterion):
    """Ends a fragment at random, whatever the surprisal: the control for surprisal-driven fragmentation.

    :param probability: how likely a fragment ends at a sample, in [0, 1]
    :param seed: starts the random stream
    :raises ValueError: if the probability is out of range
    """

    def __init__(self, probability: float = 0.005, min_samples: int = 1, seed: int = 0) -> None:
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability must lie in [0, 1]; got {probability}")
        super().__init__(1.0 - probability, min_samples)
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def score(self, sight: Sight, fragment_ids: IntArray, moments: Moments) -> FloatArray:
        """Return uniform numbers in (0, 1]."""
        return 1.0 - self._rng.random(len(fragment_ids))

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics and the random stream's state."""
        # PCG64's state are 128-bit integers, more than a tensor or a JSON reader holds: as text.
        state = self._rng.bit_generator.state
        rng = {key: str(value) for key, value in state["state"].items()}
        return super().state_dict() | {"rng": rng | {"has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        rng = state["rng"]
        self._rng.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": int(rng["state"]), "inc": int(rng["inc"])},
            "has_uint32": rng["has_uint32"],
            "uinteger": rng["uinteger"],
        }


class Uniform(Criterion):
    """Ends a fragment every ``every`` samples, whatever the surprisal: the second control.

    :param every: samples of a fragment between two ends
    :raises ValueError: if ``every`` is below 1
    """

    def __init__(self, every: int = 200) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1; got {every}")
        super().__init__(0.5, min_samples=0)
        self.every = every

    def score(self, sight: Sight, fragment_ids: IntArray, moments: Moments) -> FloatArray:
        """Return 1 for a sample whose number in its fragment is a multiple of ``every``, else 0."""
        number = moments.count + rank_in_fragment(fragment_ids) + 1
        return np.asarray(number % self.every == 0, np.float64)

    def update(self, sight: Sight, fragment_ids: IntArray, envs: IntArray | None = None) -> BoolArray:
        """Count the sample that ends a fragment too: left out, a full fragment would end again at every later visit."""
        ends = super().update(sight, fragment_ids, envs)
        self.statistics.update(fragment_ids[ends], sight.surprisal[ends])
        return ends


CRITERIA: dict[str, type[Criterion]] = {
    "zscore": ZScore,
    "ratio": Ratio,
    "cusum": CUSUM,
    "random": Random,
    "uniform": Uniform,
}
"""The criteria by the name that a config gives them."""


def _log(surprisal: FloatArray) -> FloatArray:
    logarithm: FloatArray = np.log(np.maximum(surprisal, np.finfo(np.float64).tiny))
    return logarithm
