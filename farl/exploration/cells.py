"""What is measured in each cell: intrinsic reward, forgetting, the first visit."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.exploration.records import Cells

__all__ = ["AWAY", "CellStatistics"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

AWAY = 100
"""Steps after which coming back to a cell counts as a return, not as lingering."""


class CellStatistics:
    """Means over the visits of each cell of one world.

    :param reachable: bool[H, W], the cells the agent can stand on
    """

    _NAMES = ("reward", "rewards", "first", "seen", "error", "ratio", "ratios")

    def __init__(self, reachable: npt.NDArray[np.bool_]) -> None:
        self.reachable = np.asarray(reachable, bool)
        n = self.reachable.size
        self._reward, self._rewards = np.zeros(n), np.zeros(n)  # sum and number
        self._first = np.full(n, np.nan)
        self._seen, self._error = np.full(n, -1.0), np.zeros(n)  # time and error of the last visit
        self._ratio, self._ratios = np.zeros(n), np.zeros(n)  # sum of logarithms and number
        self._time = 0

    def add(
        self,
        timesteps: IntArray,
        positions: IntArray,
        errors: FloatArray | None = None,
        rewards: FloatArray | None = None,
    ) -> None:
        """Take in T steps of E environments.

        :param timesteps: int64[T], ascending
        :param positions: int64[T, E, 2], cells (x, y)
        :param errors: float64[T, E], raw prediction errors
        :param rewards: float64[T, E], intrinsic rewards
        """
        n_steps, n_envs = positions.shape[:2]
        cells = (positions[..., 1] * self.reachable.shape[1] + positions[..., 0]).ravel()
        new = np.isnan(self._first[cells])
        if new.any():
            # Of several first visits the earliest stays: the last one written.
            at = np.flatnonzero(new)[::-1]
            self._first[cells[at]] = np.repeat(timesteps, n_envs)[at]
        if rewards is not None:
            np.add.at(self._reward, cells, rewards.ravel())
            np.add.at(self._rewards, cells, 1.0)
        if errors is not None:
            self._compare(cells, self._time + np.repeat(np.arange(n_steps), n_envs), errors.ravel())
        self._time += n_steps

    def snapshot(self) -> Cells:
        """Return what was measured as ``farl.figures`` draws it."""
        shape = self.reachable.shape
        with np.errstate(invalid="ignore", divide="ignore"):
            reward = self._reward / self._rewards
            ratio = np.where(self._ratios > 0, np.exp(self._ratio / self._ratios), np.nan)
        return Cells(self.reachable, reward.reshape(shape), ratio.reshape(shape), self._first.reshape(shape).copy())

    def state_dict(self) -> dict[str, Any]:
        """Return all sums as tensors."""
        arrays = {name: torch.from_numpy(getattr(self, f"_{name}").copy()) for name in self._NAMES}
        return arrays | {"reachable": torch.from_numpy(self.reachable.copy()), "time": self._time}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "CellStatistics":
        """Restore what ``state_dict`` returned."""
        statistics = cls(state["reachable"].cpu().numpy())
        for name in cls._NAMES:
            setattr(statistics, f"_{name}", state[name].cpu().numpy().copy())
        statistics._time = int(state["time"])
        return statistics

    def _compare(self, cells: IntArray, times: IntArray, errors: FloatArray) -> None:
        """Compare each error with that of the last visit to the cell in an earlier step."""
        order = np.lexsort((times, cells))
        cell, time, error = cells[order], times[order], errors[order]
        first = np.r_[True, (cell[1:] != cell[:-1]) | (time[1:] != time[:-1])]  # of the visits to a cell in one step
        group = np.cumsum(first) - 1
        sums = np.bincount(group, error) / np.bincount(group)
        cell, time = cell[first], time[first]
        same = np.r_[False, cell[1:] == cell[:-1]]
        before_time = np.where(same, np.r_[0, time[:-1]], self._seen[cell])
        before_error = np.where(same, np.r_[0.0, sums[:-1]], self._error[cell])
        back = (before_time >= 0) & (time - before_time >= AWAY) & (sums > 0.0) & (before_error > 0.0)
        np.add.at(self._ratio, cell[back], np.log(sums[back] / before_error[back]))
        np.add.at(self._ratios, cell[back], 1.0)
        self._seen[cell], self._error[cell] = time, sums  # of several the last one stays
