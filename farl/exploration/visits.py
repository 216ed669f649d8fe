"""Visits by fragment and cell."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.exploration.records import Visits

__all__ = ["VisitCounts"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class VisitCounts:
    """Counts visits by fragment and cell, in bounded memory.

    Each fragment has a layer of its own until there are ``max_layers``; from then on the least visited fragment joins a
    common layer, with the id -1, whenever a new one appears, and stays there.

    :param reachable: bool[H, W], the cells the agent can stand on
    :param max_layers: most fragments kept apart, the common layer included
    :raises ValueError: if ``max_layers`` is below 2
    """

    def __init__(self, reachable: BoolArray, max_layers: int = 64) -> None:
        if max_layers < 2:
            raise ValueError(f"max_layers must be at least 2, got {max_layers}")
        self.reachable = np.asarray(reachable, bool)
        self.max_layers = max_layers
        self.covered: BoolArray = np.zeros_like(self.reachable)
        """Cells visited so far, bool[H, W]."""
        self.fractures = np.zeros(self.reachable.shape, np.int32)
        """Fractures in each cell, int32[H, W]."""
        self.recalls = np.zeros_like(self.fractures)
        """Recalls in each cell, int32[H, W]."""
        self._layers = np.zeros((2, *self.reachable.shape), np.int32)
        self._ids: list[int] = [-1]  # fragment of each layer in use; layer 0 is the common one
        self._layer_of = np.full(16, -1, np.int64)  # layer of each fragment id, -1 while unseen

    @property
    def coverage(self) -> float:
        """Part of the reachable cells visited so far, in [0, 1]."""
        reached = np.count_nonzero(self.covered & self.reachable)
        return float(reached / max(int(np.count_nonzero(self.reachable)), 1))

    @property
    def n_fragments(self) -> int:
        """Fragments seen so far, those in the common layer included."""
        return int(np.count_nonzero(self._layer_of >= 0))

    def add(self, fragments: IntArray, positions: IntArray) -> None:
        """Count one visit for each row.

        :param fragments: int64[N], the active fragment
        :param positions: int64[N, 2], the agent's cell (x, y)
        """
        highest = int(fragments.max())
        if highest >= len(self._layer_of):
            room = np.full(2 * highest - len(self._layer_of) + 1, -1, np.int64)
            self._layer_of = np.concatenate([self._layer_of, room])
        layers = self._layer_of[fragments]
        if (layers < 0).any():
            for fragment in np.unique(fragments[layers < 0]).tolist():  # a fragment is new once
                self._open(fragment)
            layers = self._layer_of[fragments]
        x, y = positions.T
        np.add.at(self._layers, (layers, y, x), 1)
        self.covered[y, x] = True

    def add_events(self, fractured: BoolArray, recalled: BoolArray, positions: IntArray) -> None:
        """Count fractures and recalls, bool[N] each, at the positions int64[N, 2]."""
        for counts, at in ((self.fractures, fractured), (self.recalls, recalled)):
            if at.any():
                x, y = positions[at].T
                np.add.at(counts, (y, x), 1)

    def snapshot(self) -> Visits:
        """Return the counts as ``farl.figures`` draws them."""
        n = len(self._ids)
        ids = np.array(self._ids, np.int64)
        return Visits(self._layers[:n], ids, self.reachable, self.fractures, self.recalls, self.n_fragments)

    def state_dict(self) -> dict[str, Any]:
        """Return all counts as tensors."""
        arrays = {
            "reachable": self.reachable,
            "covered": self.covered,
            "fractures": self.fractures,
            "recalls": self.recalls,
            "layers": self._layers[: len(self._ids)],
            "ids": np.array(self._ids, np.int64),
            "layer_of": self._layer_of,
        }
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], max_layers: int = 64) -> "VisitCounts":
        """Restore what ``state_dict`` returned."""
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in state.items()}
        counts = cls(arrays["reachable"], max_layers)
        counts.covered, counts.fractures, counts.recalls = arrays["covered"], arrays["fractures"], arrays["recalls"]
        counts._layers, counts._ids, counts._layer_of = arrays["layers"], arrays["ids"].tolist(), arrays["layer_of"]
        return counts

    def _open(self, fragment: int) -> None:
        if len(self._ids) < self.max_layers:
            layer = len(self._ids)
            self._ids.append(fragment)
            if layer == len(self._layers):
                more = min(2 * layer, self.max_layers) - layer
                self._layers = np.concatenate([self._layers, np.zeros((more, *self.reachable.shape), np.int32)])
        else:
            layer = 1 + int(self._layers[1:].sum(axis=(1, 2)).argmin())
            self._layers[0] += self._layers[layer]
            self._layers[layer] = 0
            self._layer_of[self._ids[layer]] = 0
            self._ids[layer] = fragment
        self._layer_of[fragment] = layer
