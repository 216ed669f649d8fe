"""From how alike the first views are to the similarities above which two views are of one place."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Keys = npt.NDArray[np.float32]

_BINS = 256
_UNCERTAIN, _MISSED = 0.75, 0.02
"""Shares of the views of known places that are not recognised for certain, and not at all."""
_HIGHEST = 0.999
"""Highest threshold: what is computed twice differs by rounding."""


def otsu(values: npt.NDArray[np.floating[Any]]) -> float:
    """Return the value that divides a sample into two classes whose means differ most for their sizes.

    Otsu, "A threshold selection method from gray-level histograms" (IEEE Transactions on Systems, Man, and Cybernetics
    9, 1979), equation 18: the between-class variance is largest. Where a whole range of values divides the sample in
    the same way, the middle of it is returned. It is not above the largest of them, where all are the same.

    :param values: float[N], N > 0
    """
    # In double precision: single numbers that differ by rounding alone would leave no room for the bins.
    counts, edges = np.histogram(values.astype(np.float64), _BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = len(values) - below
    sums = np.cumsum(counts * centres)
    difference = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    variance = below * above * difference**2
    best = np.flatnonzero(variance == variance.max())
    return float(min((edges[best[0] + 1] + edges[best[-1] + 1]) / 2, values.max()))


def similarity_to_earlier(keys: Keys) -> npt.NDArray[np.float32]:
    """Return the cosine similarity of each key but the first to the most similar one before it, float32[N - 1].

    :param keys: float32[N, d], each of length 1, in the order in which they were seen
    """
    product = torch.from_numpy(keys) @ torch.from_numpy(keys).T
    earlier = torch.ones_like(product, dtype=torch.bool).tril(-1)
    best: npt.NDArray[np.float32] = product.masked_fill(~earlier, -1.0)[1:].amax(dim=1).numpy()
    return best


class Thresholds(NamedTuple):
    """Cosine similarities from which on two views are of one place for certain, and from which on they may be."""

    certain: float
    possible: float


class Calibration:
    """Finds the similarities from which on a view is of a known place, from the first views, then leaves them as they
    are.

    A view of a place that was seen before resembles one of the earlier views as far as noise lets it; a view of a new
    place less so. The similarities have two modes, which Otsu's threshold divides, whatever the noise. What is found
    are two quantiles of those above it; where most of these are 1 there is no noise, and only equal views are of one
    place.

    :param samples: views to look at
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._seen: list[Keys] = []

    def __call__(self, keys: Keys) -> Thresholds | None:
        """Take in E keys of length 1, float32[E, d]; return the thresholds once there are enough, None before."""
        self._seen.append(keys.copy())
        if sum(map(len, self._seen)) < self.samples:
            return None
        similarity = similarity_to_earlier(np.concatenate(self._seen))
        self._seen = []
        known = similarity[similarity >= otsu(similarity)]
        if float(np.median(known)) >= _HIGHEST:
            return Thresholds(_HIGHEST, _HIGHEST)
        return Thresholds(*(min(float(np.quantile(known, missed)), _HIGHEST) for missed in (_UNCERTAIN, _MISSED)))

    def state_dict(self) -> dict[str, Any]:
        """Return the views seen so far."""
        return {"seen": [torch.from_numpy(keys) for keys in self._seen]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._seen = [keys.cpu().numpy() for keys in state["seen"]]
