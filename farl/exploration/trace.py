"""Surprisal over time."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.exploration.records import Trace

__all__ = ["SurprisalTrace"]


class SurprisalTrace:
    """The surprisal of one environment over a whole training, in bounded memory.

    When ``capacity`` points are full, neighbours are merged two by two and each point from then on sums up twice as
    many steps: the peaks, the means and the number of events stay true.

    :param capacity: most points, even
    :raises ValueError: if the capacity is odd or below 2
    """

    # What the columns hold: first step, highest and summed surprisal, last fragment; then the number of fractures, of
    # recalls, and of fractures elsewhere; then the last threshold and the summed intrinsic reward.
    _STEP, _PEAK, _SUM, _FRAGMENT = range(4)
    _EVENTS = slice(4, 7)
    _THRESHOLD, _REWARD = 7, 8
    _COLUMNS = 9

    def __init__(self, capacity: int = 4096) -> None:
        if capacity < 2 or capacity % 2:
            raise ValueError(f"capacity must be an even number of at least 2, got {capacity}")
        self._points = np.zeros((capacity, self._COLUMNS))
        self._stride = 1
        self._samples = 0

    def add(
        self,
        step: npt.ArrayLike,
        surprisal: npt.ArrayLike,
        fragment: npt.ArrayLike,
        fractured: npt.ArrayLike,
        recalled: npt.ArrayLike,
        fractures_elsewhere: npt.ArrayLike = 0,
        threshold: npt.ArrayLike = np.nan,
        intrinsic_reward: npt.ArrayLike = np.nan,
    ) -> None:
        """Append one step, or T steps: each value is a number for all of them or an array [T].

        ``fractures_elsewhere`` counts the fractures of other environments that share the memory.
        """
        counts = (fractured, recalled, fractures_elsewhere)
        columns = (step, surprisal, surprisal, fragment, *counts, threshold, intrinsic_reward)
        rows = np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(each, np.float64)) for each in columns)), axis=1)
        while len(rows):
            room = len(self._points) * self._stride - self._samples
            if not room:
                self._merge()
                continue
            self._sum_up(rows[:room])
            rows = rows[room:]

    def _sum_up(self, rows: npt.NDArray[np.float64]) -> None:
        """Add rows, float64[T, columns], for which there is room, to the points that they belong to."""
        samples = self._samples + np.arange(len(rows))
        point = samples // self._stride
        begins = samples % self._stride == 0
        new = point[begins]
        self._points[new] = 0.0
        self._points[new, self._PEAK] = -np.inf
        self._points[new, self._STEP] = rows[begins, self._STEP]
        np.maximum.at(self._points[:, self._PEAK], point, rows[:, self._PEAK])
        for column in (self._SUM, *range(*self._EVENTS.indices(self._COLUMNS)), self._REWARD):
            np.add.at(self._points[:, column], point, rows[:, column])
        ends = np.append(point[1:] != point[:-1], True)  # what counts is the last step that a point sums up so far
        for column in (self._FRAGMENT, self._THRESHOLD):
            self._points[point[ends], column] = rows[ends, column]
        self._samples += len(rows)

    def snapshot(self) -> Trace:
        """Return the trace as ``farl.figures`` draws it."""
        n = -(-self._samples // self._stride)
        step, peak, total, fragment, *counts, threshold, reward = self._points[:n].T
        samples = np.full(n, self._stride)
        samples[n - 1 :] = self._samples - (n - 1) * self._stride  # the last point may not be full yet
        fragments, fractures, recalls, elsewhere = (column.astype(np.int64) for column in (fragment, *counts))
        events = (fragments, fractures, recalls, elsewhere)
        return Trace(
            step.astype(np.int64), peak.copy(), total / samples, *events,
            threshold=threshold.copy(), intrinsic_reward=reward / samples,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the points and how many steps they sum up."""
        return {"points": torch.from_numpy(self._points.copy()), "stride": self._stride, "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        points = state["points"].cpu().numpy()
        self._points = np.full((len(points), self._COLUMNS), np.nan)  # older checkpoints have fewer columns
        self._points[:, : points.shape[1]] = points
        self._stride, self._samples = int(state["stride"]), int(state["samples"])

    def _merge(self) -> None:
        first, second = self._points[::2], self._points[1::2]
        merged = first + second
        merged[:, self._STEP] = first[:, self._STEP]
        merged[:, self._PEAK] = np.maximum(first[:, self._PEAK], second[:, self._PEAK])
        merged[:, self._FRAGMENT] = second[:, self._FRAGMENT]
        merged[:, self._THRESHOLD] = second[:, self._THRESHOLD]
        self._points[: len(merged)] = merged
        self._stride *= 2
