"""A reservoir of samples, for training curiosity modules on what was seen long ago too."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.curiosity.module import Prepared
from farl.curiosity.samples import select

IntArray = npt.NDArray[np.int64]


class Reservoir:
    """A uniform choice of all samples so far, in bounded memory (Vitter, 1985, algorithm R, a batch at a time).

    :param capacity: samples kept
    :param seed: draws the choices
    :raises ValueError: if the capacity is below 1
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"a reservoir needs a capacity of at least 1; got {capacity}")
        self.capacity = capacity
        self.seen = 0
        """Number of samples offered so far."""
        self._rng = torch.Generator().manual_seed(seed)
        self._kept: Prepared | None = None
        self._fragment_ids: IntArray = np.empty(capacity, np.int64)

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, prepared: Prepared, fragment_ids: IntArray) -> None:
        """Offer B samples, as modules prepare them, with the fragments that they belong to, int64[B]."""
        number = np.arange(self.seen, self.seen + len(fragment_ids))
        # The n-th sample takes a random one of n + 1 places, or its own while there is room.
        drawn = torch.rand(len(number), generator=self._rng, dtype=torch.float64).numpy() * (number + 1)
        place = np.where(number < self.capacity, number, drawn.astype(np.int64))
        # Of those that take the same place, the last one stays.
        newest_first = np.flatnonzero(place < self.capacity)[::-1]
        place, first = np.unique(place[newest_first], return_index=True)
        new = newest_first[first]
        at, rows = torch.from_numpy(place), torch.from_numpy(new)
        if self._kept is None:
            self._kept = self._with_room({name: tensor[:0] for name, tensor in prepared.items()})
        for name, kept in self._kept.items():
            kept[at] = prepared[name][rows]
        self._fragment_ids[place] = fragment_ids[new]
        self.seen += len(number)

    def draw(self, fragment_ids: IntArray) -> tuple[Prepared, IntArray] | None:
        """Return as many kept samples as ids are given, from the fragments named, with their fragments.

        :param fragment_ids: int64[B]
        :return: drawn with replacement; None if nothing is kept of these fragments
        """
        candidates = np.flatnonzero(np.isin(self._fragment_ids[: len(self)], fragment_ids))
        if self._kept is None or not len(candidates):
            return None
        drawn = torch.randint(len(candidates), (len(fragment_ids),), generator=self._rng).numpy()
        rows = candidates[drawn]
        return select(self._kept, rows), self._fragment_ids[rows]

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept and the random state."""
        return {
            "seen": self.seen,
            "generator": self._rng.get_state(),
            "kept": {name: kept[: len(self)].clone() for name, kept in (self._kept or {}).items()},
            "fragment_ids": torch.from_numpy(self._fragment_ids[: len(self)].copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        :raises ValueError: if it was written with another capacity
        """
        if len(state["fragment_ids"]) != min(int(state["seen"]), self.capacity):
            raise ValueError("the saved reservoir has another capacity: load it with the settings it was saved with")
        self.seen = int(state["seen"])
        self._rng.set_state(state["generator"].cpu())
        self._kept = self._with_room(state["kept"]) if state["kept"] else None
        self._fragment_ids[: len(self)] = state["fragment_ids"].cpu().numpy()

    def _with_room(self, held: Prepared) -> Prepared:
        """Copy samples into tensors that have room for as many as are ever kept."""
        whole = {name: tensor.new_zeros((self.capacity, *tensor.shape[1:])) for name, tensor in held.items()}
        for name, tensor in held.items():
            whole[name][: len(tensor)] = tensor
        return whole
