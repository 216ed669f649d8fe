"""The modules in use as rows of one stack."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from farl.memory.footprint import TENSOR
from farl.memory.pages import OwnPages

IntArray = npt.NDArray[np.int64]
ModuleState = dict[str, Any]
"""One fragment's predictor: ``parameters``, ``first_moment``, ``second_moment`` (name -> tensor) and ``steps``."""

_PARTS = ("parameters", "first_moment", "second_moment")
_ALIGNMENT = 16  # floats: matrix libraries may sum in another order where a row starts elsewhere within 64 bytes


class ModuleSlots:
    """Holds the state of each loaded fragment's predictor in a slot.

    All parameters of a module lie in one row, so that whatever is done to a module is one operation; Adam's two moments
    lie in rows of the same form.

    :param network: gives the predictor's form and initial parameters
    """

    def __init__(self, network: nn.Module) -> None:
        parameters = {name: tensor.detach() for name, tensor in network.named_parameters()}
        self._shapes = {name: tensor.shape for name, tensor in parameters.items()}
        flat = torch.cat([tensor.flatten() for tensor in parameters.values()] or [torch.zeros(0)])
        self._initial = nn.functional.pad(flat, (0, -len(flat) % _ALIGNMENT))
        self._stack = self._initial.new_empty((len(_PARTS), 0, len(self._initial)))
        self._pages: OwnPages | None = None  # of the stack, on the CPU
        self._steps = self._initial.new_zeros(0)
        self._slots: dict[int, int] = {}  # of the fragments loaded, in the order of loading
        self._free: list[int] = []
        self._learnt: set[int] = set()  # fragments that have been trained since they were loaded

    @property
    def learns(self) -> bool:
        """Whether predictors have parameters; those without are all the same."""
        return bool(self._shapes)

    @property
    def fragment_ids(self) -> list[int]:
        """Ids of the fragments loaded."""
        return list(self._slots)

    @property
    def module_bytes(self) -> int:
        """Size of one module: its parameters and Adam's two moments, in bytes."""
        return len(_PARTS) * self._initial.nbytes

    @property
    def state_bytes(self) -> int:
        """Size of the state of one module in host memory, in bytes: the module, and what names its parameters."""
        return self.module_bytes + len(_PARTS) * (len(self._shapes) + 1) * TENSOR

    @property
    def memory_bytes(self) -> int:
        """Size of all slots in bytes; those that are free take memory on other devices than the CPU only."""
        slots = self._stack.shape[1] if self._pages is None else len(self._slots)
        return slots * self.module_bytes

    def __contains__(self, fragment_id: int) -> bool:
        return fragment_id in self._slots

    def missing(self, fragment_ids: IntArray) -> list[int]:
        """Return those of the fragments, int64[B], that are not loaded, each once."""
        return sorted(set(fragment_ids.tolist()) - self._slots.keys())

    def initial_state(self) -> ModuleState:
        """Return the state that every fragment starts from; its tensors are shared, not copied."""
        zeros = self._initial.new_zeros(1).expand_as(self._initial)
        rows = dict(zip(_PARTS, (self._initial, zeros, zeros), strict=True))
        return {part: self._named(row) for part, row in rows.items()} | {"steps": 0}

    def load(self, fragment_id: int, state: ModuleState) -> None:
        """Copy the state of a fragment into a slot.

        :raises ValueError: if it is loaded already
        """
        if fragment_id in self:
            raise ValueError(f"fragment {fragment_id} is loaded already")
        if not self._free:
            self._grow()
        slot = self._slots[fragment_id] = self._free.pop()
        for stack, part in zip(self._stack, _PARTS, strict=True):
            for name, tensor in self._named(stack[slot]).items():
                tensor.copy_(state[part][name])
        self._steps[slot] = state["steps"]
        self._changed(np.array([slot]))

    def unload(self, fragment_id: int) -> ModuleState:
        """Free the slot of a fragment and return its state.

        :raises KeyError: if it is not loaded
        """
        state = self.state(fragment_id)
        slot = self._slots.pop(fragment_id)
        self._free.append(slot)
        self._learnt.discard(fragment_id)
        self._changed(np.array([slot]))
        if self._pages is not None:
            _, slots, width = self._stack.shape
            for row in range(slot, len(_PARTS) * slots, slots):
                self._pages.give_back(row * width, (row + 1) * width)
        return state

    def state(self, fragment_id: int) -> ModuleState:
        """Return a copy of the state of a loaded fragment, on the CPU.

        :raises KeyError: if it is not loaded
        """
        self._require(fragment_id)
        slot = self._slots[fragment_id]
        rows = OwnPages((len(_PARTS), len(self._initial))).tensor.copy_(self._stack[:, slot])
        state: ModuleState = {part: self._named(row) for part, row in zip(_PARTS, rows, strict=True)}
        return state | {"steps": int(self._steps[slot])}

    def parameters(self, fragment_id: int) -> dict[str, Tensor]:
        """Return a copy of the parameters of a loaded fragment, on the CPU.

        :raises KeyError: if it is not loaded
        """
        self._require(fragment_id)
        return self._named(OwnPages(self._initial.shape).tensor.copy_(self._stack[0, self._slots[fragment_id]]))

    def has_learnt(self, fragment_id: int) -> bool:
        """Return whether a fragment has been trained since it was loaded.

        :raises KeyError: if it is not loaded
        """
        self._require(fragment_id)
        return fragment_id in self._learnt

    def _changed(self, slots: IntArray) -> None:
        """Note that what lies in some slots, int64[n], is not what lay there before."""

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        """View rows of parameters, [..., P], by name: [..., *shape]."""
        sizes = [shape.numel() for shape in self._shapes.values()]
        parts = torch.split(flat[..., : sum(sizes)], sizes, dim=-1)
        return {
            name: part.view(*flat.shape[:-1], *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _require(self, fragment_id: int) -> None:
        if fragment_id not in self:
            raise KeyError(f"fragment {fragment_id} is not loaded")

    def _grow(self) -> None:
        """Make more slots: twice as many where they take no memory before they are used, else a quarter more."""
        old, on_cpu = len(self._steps), self._stack.device.type == "cpu"
        new = max(16, 2 * old) if on_cpu else old + max(1, old // 4)
        shape = (len(_PARTS), new, len(self._initial))
        self._pages = OwnPages(shape) if on_cpu else None
        stack = self._stack.new_zeros(shape) if self._pages is None else self._pages.tensor
        stack[:, :old] = self._stack  # none of them is free, or there would be no need for more
        self._stack = stack
        self._steps = torch.cat([self._steps, self._steps.new_zeros(new - old)])
        self._free += range(old, new)
