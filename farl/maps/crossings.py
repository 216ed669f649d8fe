"""Recall on arrival at a crossing, and fragments that end when they get too large."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.fragmentation import Moments, Recall, Recognition, Sight, ZScore
from farl.maps.geometry import IntArray


class CrossingRecall(Recall):
    """Recalls the fragment that an agent is on its way to, when it has come to the crossing or next to it.

    A crossing is the landmark at which one fragment is left for another; the roadmap keeps them.

    :param n_envs: number of environments E
    """

    def __init__(self, n_envs: int) -> None:
        self.trip: IntArray = np.full((n_envs, 3), -1, np.int64)
        """int64[E, 3], the fragment that an agent is on its way to (-1 for none), and the crossing's row and column."""

    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        """Return the fragment behind the crossing that an agent has reached, else -1."""
        assert sight.position is not None
        target, row, col = self.trip[envs].T
        away = np.abs(sight.position[envs, 0] - row) + np.abs(sight.position[envs, 1] - col)
        return Recognition(np.where(away <= 1, target, -1))

    def state_dict(self) -> dict[str, Any]:
        """Return the trips under way."""
        return {"trip": torch.from_numpy(self.trip.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.trip = state["trip"].cpu().numpy().copy()


class SizeLimit(ZScore):
    """Ends a fragment where it surprises once it has some size, and at once when it outgrows a limit.

    A fragment ends only where it grows: the extent in sight is 0 where it does not. So one that is taken up again can
    be walked through.

    :param largest: cells of the bounding box above which a fragment ends
    :param smallest: cells of the bounding box below which no surprisal ends it
    :param rho: sample standard deviations of the surprisal
    :param min_samples: surprisals before the first judgement
    :raises ValueError: unless 0 < smallest <= largest
    """

    def __init__(self, largest: int, smallest: int, rho: float = 2.0, min_samples: int = 5) -> None:
        if not 0 < smallest <= largest:
            raise ValueError(f"a fragment's sizes must be 0 < smallest <= largest; got {smallest} and {largest}")
        super().__init__(rho, min_samples=0, alpha=None)
        self.largest, self.smallest, self.least_samples = largest, smallest, min_samples

    def score(self, sight: Sight, fragment_ids: IntArray, moments: Moments) -> npt.NDArray[np.float64]:
        """Return the z-score of large fragments, infinity for those too large, and minus infinity for small ones."""
        assert sight.extent is not None
        z = np.where(moments.count >= self.least_samples, super().score(sight, fragment_ids, moments), -np.inf)
        return np.where(sight.extent > self.largest, np.inf, np.where(sight.extent > self.smallest, z, -np.inf))
