"""The weights and returns of particles over a training."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.exploration.records import Particles

__all__ = ["ParticleHistory"]

_CAPACITY = 512


class ParticleHistory:
    """One row a rollout, in bounded memory: where it is full, every second row is dropped.

    :param n_particles: N
    """

    def __init__(self, n_particles: int) -> None:
        self._rows: list[npt.NDArray[np.float64]] = []  # timestep, weights, returns
        self._n = n_particles
        self._stride, self._calls = 1, 0

    def add(self, step: int, weights: npt.NDArray[np.float64], returns: npt.NDArray[np.float64]) -> None:
        """Take in the weights and returns of N particles, float64[N] each; a return is NaN where unknown."""
        if self._calls % self._stride == 0:
            self._rows.append(np.concatenate([[step], weights, returns]))
        self._calls += 1
        if len(self._rows) > _CAPACITY:
            self._rows, self._stride = self._rows[::2], 2 * self._stride

    def snapshot(self) -> Particles:
        """Return the history as ``farl.figures`` draws it."""
        rows = np.array(self._rows).reshape(-1, 1 + 2 * self._n)
        return Particles(rows[:, 0].astype(np.int64), rows[:, 1 : 1 + self._n], rows[:, 1 + self._n :])

    def state_dict(self) -> dict[str, Any]:
        """Return all rows as a tensor."""
        rows = torch.from_numpy(np.array(self._rows).reshape(-1, 1 + 2 * self._n))
        return {"rows": rows, "n": self._n, "stride": self._stride, "calls": self._calls}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "ParticleHistory":
        """Restore what ``state_dict`` returned."""
        history = cls(int(state["n"]))
        history._rows = list(state["rows"].cpu().numpy())
        history._stride, history._calls = int(state["stride"]), int(state["calls"])
        return history
