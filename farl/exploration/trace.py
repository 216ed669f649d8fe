"""Surprisal over time."""

from typing import Any

import numpy as np
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
        step: int,
        surprisal: float,
        fragment: int,
        fractured: bool,
        recalled: bool,
        fractures_elsewhere: int = 0,
        threshold: float = np.nan,
        intrinsic_reward: float = np.nan,
    ) -> None:
        """Append one step; ``fractures_elsewhere`` counts those of other environments that share the memory."""
        point, within = divmod(self._samples, self._stride)
        if point == len(self._points):
            self._merge()
            point, within = divmod(self._samples, self._stride)
        row = self._points[point]
        if within == 0:
            row[:7] = (step, surprisal, surprisal, fragment, fractured, recalled, fractures_elsewhere)
            row[7:] = (threshold, intrinsic_reward)
        else:
            row[self._PEAK] = max(row[self._PEAK], surprisal)
            row[self._FRAGMENT] = fragment
            row[self._SUM] += surprisal
            row[self._EVENTS] += (fractured, recalled, fractures_elsewhere)
            row[self._THRESHOLD] = threshold
            row[self._REWARD] += intrinsic_reward
        self._samples += 1

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
