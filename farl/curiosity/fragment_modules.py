"""The modules of all fragments, wherever they are: on the device while in use, in long-term memory otherwise."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from farl.curiosity.bank import ModuleBank, ModuleState
from farl.curiosity.module import Prepared
from farl.memory import LongTermMemory

IntArray = npt.NDArray[np.int64]


class FragmentModules:
    """Moves modules between the device and long-term memory, so that others need only name fragments.

    A module is lent by the memory as long as it is loaded. ``put_away`` returns those that are no longer in use.

    :param bank: the modules on the device
    :param memory: all others
    :param new_module: a new fragment starts as a ``"copy"`` of the one it follows, or ``"fresh"``
    :param keep_loaded: modules that stay loaded after their use, the most recently used; those in use always are
    """

    def __init__(
        self,
        bank: ModuleBank,
        memory: LongTermMemory[ModuleState],
        new_module: Literal["copy", "fresh"] = "copy",
        keep_loaded: int = 0,
    ) -> None:
        self.bank = bank
        self.memory = memory
        self.new_module = new_module
        self.keep_loaded = keep_loaded

    @property
    def memory_bytes(self) -> int:
        """Size of all modules on the device and in host memory, in bytes."""
        return self.bank.memory_bytes + len(self.memory.tiers.in_host) * self.bank.state_bytes

    def open(self, fragment_ids: Sequence[int], parents: Sequence[int | None]) -> None:
        """Make the modules of new fragments, each following another, or none."""
        states = [self._first_state(parent) for parent in parents]
        self._drop_evicted()  # which may include a parent
        for fragment_id, state in zip(fragment_ids, states, strict=True):
            self.bank.load(fragment_id, state)

    def evaluate(self, fragment_ids: IntArray, prepared: Prepared) -> Prepared:
        """Return what modules make of B samples, each under its fragment, int64[B]; see ``ModuleBank.evaluate``."""
        self._load(fragment_ids)
        return self.bank.evaluate(fragment_ids, prepared)

    def train(self, fragment_ids: IntArray, prepared: Prepared, counts: IntArray | None = None) -> Tensor:
        """Train modules on B samples, each under its fragment, int64[B]; see ``ModuleBank.train``."""
        self._load(fragment_ids)
        return self.bank.train(fragment_ids, prepared, counts)

    def state(self, fragment_id: int) -> ModuleState:
        """Return the state of a fragment's module, wherever it is.

        :raises KeyError: if there is no such fragment
        """
        loaded = fragment_id in self.bank and fragment_id in self.memory
        return self.bank.state(fragment_id) if loaded else self.memory[fragment_id]

    def put_away(self, in_use: set[int]) -> None:
        """Return to long-term memory what is not in use, but for the ``keep_loaded`` used last."""
        self._drop_evicted()
        self.bank.forget_copies()
        idle = self.memory.by_last_use(set(self.bank.fragment_ids) - in_use)
        for fragment_id in idle[: max(0, len(in_use) + len(idle) - self.keep_loaded)]:
            keep = self.memory.__setitem__ if self.bank.has_learnt(fragment_id) else self.memory.take_back
            keep(fragment_id, self.bank.unload(fragment_id))

    def state_dict(self) -> dict[int, ModuleState]:
        """Return the modules on the device; the others are part of the memory's state."""
        return {fragment_id: self.bank.state(fragment_id) for fragment_id in self.bank.fragment_ids}

    def load_state_dict(self, state: Mapping[int, Any]) -> None:
        """Restore what ``state_dict`` returned; the memory has been restored before."""
        for fragment_id in self.bank.fragment_ids:
            self.bank.unload(fragment_id)
        for fragment_id, own in state.items():
            self.bank.load(fragment_id, own)

    def _first_state(self, parent: int | None) -> ModuleState:
        fresh = self.bank.initial_state()
        if parent is None or self.new_module == "fresh":
            return fresh
        known = self.bank.parameters(parent) if parent in self.bank else self.memory[parent]["parameters"]
        return fresh | {"parameters": known}

    def _load(self, fragment_ids: IntArray) -> None:
        for fragment_id in self.bank.missing(fragment_ids):
            self.bank.load(fragment_id, self.memory.lend(fragment_id))

    def _drop_evicted(self) -> None:
        for fragment_id in self.bank.fragment_ids:
            if fragment_id not in self.memory:
                self.bank.unload(fragment_id)
