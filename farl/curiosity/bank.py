"""Many predictors at once: the modules in use, stacked, evaluated and trained in single batched calls."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from farl.curiosity.module import CuriosityModule, Prepared

IntArray = npt.NDArray[np.int64]
ModuleState = dict[str, Any]
"""One fragment's predictor: ``parameters``, ``first_moment``, ``second_moment`` (name -> tensor) and ``steps``."""


class Tiles(NamedTuple):
    """B samples sorted into rows of equal width, each row belonging to one slot.

    :ivar slots: int64[T], slot of each row
    :ivar samples: int64[T, W], the samples of each row; rows that are not full repeat sample 0
    :ivar row: int64[B], row of each sample
    :ivar column: int64[B], place of each sample in its row
    """

    slots: Tensor
    samples: Tensor
    row: Tensor
    column: Tensor


def tile(slots: IntArray) -> Tiles:
    """Sort B samples by slot into rows of width ``B / (number of distinct slots)``, rounded up.

    A batched product needs equal rows. With this width there are less than twice as many rows as distinct slots, so at
    most
    twice the samples are computed, however unevenly they fall: the cost grows with the samples, not with the modules.

    :param slots: int64[B], B > 0
    """
    distinct, position, count = np.unique(slots, return_inverse=True, return_counts=True)
    width = -(-len(slots) // len(distinct))
    rows = -(-count // width)
    order = np.argsort(position, kind="stable")
    rank = np.empty_like(position)
    rank[order] = np.arange(len(slots)) - np.repeat(np.cumsum(count) - count, count)
    row = (np.cumsum(rows) - rows)[position] + rank // width
    column = rank % width
    samples = np.zeros((int(rows.sum()), width), np.int64)
    samples[row, column] = np.arange(len(slots))
    return Tiles(*(torch.from_numpy(array) for array in (np.repeat(distinct, rows), samples, row, column)))


class ModuleBank:
    """The short-term memory of curiosity: predictors of the fragments in use, as stacked parameters.

    Fragments are loaded into slots and unloaded into long-term memory; a call touches only the slots of the
    fragments it names. Training is one Adam step per fragment and call, each fragment exactly as if it were trained
    alone.

    :param module: gives the predictor's form and initial parameters, the surprisal and the loss
    :param learning_rate: of Adam (betas 0.9 and 0.999, epsilon 1e-8)
    """

    def __init__(self, module: CuriosityModule, learning_rate: float = 1e-4) -> None:
        self.module = module
        self.learning_rate = learning_rate
        self._initial = {name: tensor.detach().clone() for name, tensor in module.predictor.named_parameters()}
        self._zeros = {name: torch.zeros_like(tensor) for name, tensor in self._initial.items()}
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._parameters = {name: tensor.new_empty((0, *tensor.shape)) for name, tensor in self._initial.items()}
        self._first_moment = {name: tensor.clone() for name, tensor in self._parameters.items()}
        self._second_moment = {name: tensor.clone() for name, tensor in self._parameters.items()}
        self._steps = torch.zeros(0, dtype=torch.int64)
        self._gathered: tuple[bytes, dict[str, Tensor]] | None = None

    @property
    def fragment_ids(self) -> list[int]:
        """Ids of the fragments loaded."""
        return list(self._slots)

    def __contains__(self, fragment_id: object) -> bool:
        return fragment_id in self._slots

    def initial_state(self) -> ModuleState:
        """Return the state that every fragment starts from; its tensors are shared, not copied."""
        return {
            "parameters": dict(self._initial),
            "first_moment": dict(self._zeros),
            "second_moment": dict(self._zeros),
            "steps": 0,
        }

    def load(self, fragment_id: int, state: ModuleState) -> None:
        """Copy the state of a fragment into a slot.

        :raises ValueError: if it is loaded already
        """
        if fragment_id in self._slots:
            raise ValueError(f"fragment {fragment_id} is loaded already")
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self._slots[fragment_id] = slot
        for stack, key in self._stacks():
            for name, tensor in state[key].items():
                stack[name][slot] = tensor
        self._steps[slot] = state["steps"]
        self._gathered = None

    def unload(self, fragment_id: int) -> ModuleState:
        """Free the slot of a fragment and return its state.

        :raises KeyError: if it is not loaded
        """
        state = self.state(fragment_id)
        self._free.append(self._slots.pop(fragment_id))
        return state

    def state(self, fragment_id: int) -> ModuleState:
        """Return a copy of the state of a loaded fragment, on the CPU.

        :raises KeyError: if it is not loaded
        """
        slot = self._slots[fragment_id]
        state: ModuleState = {
            key: {name: tensor[slot].to("cpu", copy=True) for name, tensor in stack.items()}
            for stack, key in self._stacks()
        }
        return state | {"steps": int(self._steps[slot])}

    @torch.no_grad()
    def surprisal(self, fragment_ids: IntArray, prepared: Prepared) -> Tensor:
        """Return the surprisal of each sample under its own fragment's predictor, float32[B].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        """
        tiles = tile(self._slots_of(fragment_ids))
        # While an agent stays where it is, the same slots are asked for at every step: gather their parameters once.
        signature = tiles.slots.numpy().tobytes()
        if self._gathered is None or self._gathered[0] != signature:
            self._gathered = signature, {name: _take(stack, tiles.slots) for name, stack in self._parameters.items()}
        errors = self._per_row("surprisal", self._gathered[1], tiles, prepared)
        return errors[tiles.row, tiles.column]

    def train(self, fragment_ids: IntArray, prepared: Prepared) -> Tensor:
        """Take one Adam step in each fragment named, on the mean loss of its samples, and return the losses,
        float32[B].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        """
        slots, member = np.unique(self._slots_of(fragment_ids), return_inverse=True)
        tiles = tile(member)
        rows = torch.from_numpy(slots)
        parameters = {name: _take(stack, rows).requires_grad_() for name, stack in self._parameters.items()}
        tiled = {name: _take(tensor, tiles.slots) for name, tensor in parameters.items()}
        losses = self._per_row("loss", tiled, tiles, prepared)[tiles.row, tiles.column]
        share = torch.from_numpy(1.0 / np.bincount(member))[torch.from_numpy(member)].to(losses)
        gradients = torch.autograd.grad((losses * share).sum(), list(parameters.values()))
        self._adam(rows, dict(zip(parameters, gradients, strict=True)))
        self._gathered = None
        return losses.detach()

    def _per_row(self, method: str, parameters: dict[str, Tensor], tiles: Tiles, prepared: Prepared) -> Tensor:
        """Evaluate a method of the module for each row of tiles with its own parameters, float32[T, W]."""

        def one_row(parameters: dict[str, Tensor], prepared: Prepared) -> Tensor:
            def predictor(*inputs: Tensor) -> Tensor:
                return functional_call(self.module.predictor, parameters, inputs)  # type: ignore[no-any-return]

            return getattr(self.module, method)(predictor, prepared)  # type: ignore[no-any-return]

        if len(tiles.slots) == 1:  # one module needs no batching over modules: about three times less overhead
            only = {name: tensor[0] for name, tensor in parameters.items()}
            return one_row(only, {name: tensor[tiles.samples[0]] for name, tensor in prepared.items()})[None]
        rows = {name: tensor[tiles.samples] for name, tensor in prepared.items()}
        return vmap(one_row, randomness="different")(parameters, rows)

    @torch.no_grad()
    def _adam(self, rows: Tensor, gradients: dict[str, Tensor]) -> None:
        """Adam on some slots only: torch's own would also move the slots that have no sample, by their momentum."""
        self._steps[rows] += 1
        steps = self._steps[rows].to(torch.float64)
        for name, gradient in gradients.items():
            shape = (-1, *[1] * (gradient.dim() - 1))
            first, second = self._first_moment[name], self._second_moment[name]
            first[rows] = mean = torch.lerp(first[rows], gradient, 0.1)
            second[rows] = spread = torch.lerp(second[rows], gradient.square(), 0.001)
            size = (self.learning_rate / (1 - 0.9**steps)).to(gradient).view(shape)
            scale = (1 - 0.999**steps).sqrt().to(gradient).view(shape)
            self._parameters[name][rows] -= size * mean / (spread.sqrt() / scale + 1e-8)

    def _slots_of(self, fragment_ids: IntArray) -> IntArray:
        distinct, inverse = np.unique(fragment_ids, return_inverse=True)
        return np.array([self._slots[int(fragment_id)] for fragment_id in distinct], np.int64)[inverse]

    def _stacks(self) -> Iterable[tuple[dict[str, Tensor], str]]:
        yield self._parameters, "parameters"
        yield self._first_moment, "first_moment"
        yield self._second_moment, "second_moment"

    def _grow(self) -> None:
        """Double the number of slots."""
        old = len(self._steps)
        new = max(1, 2 * old)
        for stack, _ in self._stacks():
            for name, tensor in stack.items():
                stack[name] = torch.cat([tensor, tensor.new_zeros((new - old, *tensor.shape[1:]))])
        self._steps = torch.cat([self._steps, self._steps.new_zeros(new - old)])
        self._free += range(old, new)


def _take(stack: Tensor, rows: Tensor) -> Tensor:
    """Select rows of a stack; without a copy if all that is wanted is one."""
    return stack[int(rows[0])][None] if len(rows) == 1 else stack[rows.to(stack.device)]
