"""A sample of observations, for worlds that have no cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.exploration.records import Plane

__all__ = ["ObservationSample"]

_MOST, _BYTES = 20_000, 2**24


class ObservationSample:
    """A uniform random sample, in bounded memory, of all observations of a training and the fragments active there.

    Reservoir sampling (Vitter, 1985, algorithm R). What is drawn depends on the number of observations so far alone,
    so a training that is resumed goes on as one that was not.

    :param size: numbers of an observation
    :param capacity: most observations kept; None: as many as fit into 16 MiB, at most 20 000
    """

    def __init__(self, size: int, capacity: int | None = None) -> None:
        capacity = capacity or max(min(_MOST, _BYTES // (4 * max(size, 1))), 16)
        self._observations = np.zeros((capacity, size), np.float32)
        self._fragments = np.zeros(capacity, np.int64)
        self._seen = 0

    def __len__(self) -> int:
        return min(self._seen, len(self._fragments))

    def add(self, observations: npt.NDArray[np.floating[Any]], fragments: npt.NDArray[np.int64]) -> None:
        """Take in N observations, float[N, size], and the fragments active there, int64[N]."""
        n, capacity = len(fragments), len(self._fragments)
        number = self._seen + np.arange(n)
        place = np.minimum(number, capacity)
        late = number >= capacity
        if late.any():
            place[late] = np.random.default_rng([self._seen, capacity]).integers(0, number[late] + 1)
        kept = place < capacity
        self._observations[place[kept]] = observations[kept]
        self._fragments[place[kept]] = fragments[kept]
        self._seen += n

    def snapshot(self, axes: tuple[int, int] | None, names: Sequence[str]) -> Plane:
        """Return the sample on two axes, as ``farl.figures`` draws it.

        :param axes: numbers of an observation; None: its first two principal components
        :param names: names of all numbers
        """
        seen, fragments = self._observations[: len(self)].astype(np.float64), self._fragments[: len(self)].copy()
        if axes is not None:
            return Plane(seen[:, list(axes)], fragments, (names[axes[0]], names[axes[1]]))
        if seen.shape[1] == 1:
            return Plane(np.concatenate([seen, np.zeros_like(seen)], axis=1), fragments, (names[0], ""))
        if seen.shape[1] == 2:
            return Plane(seen, fragments, (names[0], names[1]))
        spread = seen.std(axis=0)
        centred = (seen - seen.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
        _, values, components = np.linalg.svd(centred[:: max(len(seen) // 2000, 1)], full_matrices=False)
        # A component and its opposite are alike: the sign is settled, or pictures would flip.
        components = components[:2] * np.sign(components[:2].sum(axis=1, keepdims=True) + 1e-12)
        share = values[:2] ** 2 / max(float((values**2).sum()), 1e-12)
        texts = [f"principal component {i + 1} ({part:.0%})" for i, part in enumerate(share)]
        return Plane(centred @ components.T, fragments, (texts[0], texts[1]))

    def state_dict(self) -> dict[str, Any]:
        """Return the sample as tensors."""
        n = len(self)
        return {
            "observations": torch.from_numpy(self._observations[:n].copy()),
            "fragments": torch.from_numpy(self._fragments[:n].copy()),
            "seen": self._seen,
            "capacity": len(self._fragments),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "ObservationSample":
        """Restore what ``state_dict`` returned."""
        held = state["observations"].cpu().numpy()
        sample = cls(held.shape[1], int(state["capacity"]))
        sample._observations[: len(held)] = held
        sample._fragments[: len(held)] = state["fragments"].cpu().numpy()
        sample._seen = int(state["seen"])
        return sample
