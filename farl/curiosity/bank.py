"""Many predictors at once: the modules in use, stacked, evaluated and trained in single batched calls."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from farl.curiosity.module import CuriosityModule, Predictor, Prepared
from farl.fragmentation.statistics import rank_in_fragment

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
        self._gathered: tuple[IntArray, dict[str, Tensor]] | None = None

    @property
    def fragment_ids(self) -> list[int]:
        """Ids of the fragments loaded."""
        return list(self._slots)

    @property
    def module_bytes(self) -> int:
        """Size of one module: its parameters and Adam's two moments, in bytes."""
        return 3 * sum(tensor.nbytes for tensor in self._initial.values())

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
        self._forget_gathered(np.array([slot]))

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

    def surprisal(self, fragment_ids: IntArray, prepared: Prepared) -> Tensor:
        """Return the surprisal of each sample under its own fragment's predictor, float32[B].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        """
        return self.evaluate(fragment_ids, prepared)["surprisal"]

    @torch.no_grad()
    def evaluate(self, fragment_ids: IntArray, prepared: Prepared) -> Prepared:
        """Return what ``CuriosityModule.evaluate`` makes of each sample under its own fragment's predictor, [B, ...].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        """
        tiles, parameters = self._gather(tile(self._slots_of(fragment_ids)))
        outputs = self._per_row(self.module.evaluate, parameters, tiles, prepared)
        return {name: rows[tiles.row, tiles.column] for name, rows in outputs.items()}

    def train(self, fragment_ids: IntArray, prepared: Prepared) -> Tensor:
        """Take one Adam step in each fragment named, on the mean loss of its samples, and return the losses,
        float32[B].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        """
        if not self._initial:
            return torch.zeros(len(fragment_ids))  # a module without a network has nothing to learn
        slots, member = np.unique(self._slots_of(fragment_ids), return_inverse=True)
        tiles = tile(member)
        rows = torch.from_numpy(slots)
        parameters = {name: _take(stack, rows).requires_grad_() for name, stack in self._parameters.items()}
        tiled = {name: _take(tensor, tiles.slots) for name, tensor in parameters.items()}
        losses = self._per_row(self._loss, tiled, tiles, prepared)["loss"][tiles.row, tiles.column]
        share = torch.from_numpy(1.0 / np.bincount(member))[torch.from_numpy(member)].to(losses)
        gradients = torch.autograd.grad((losses * share).sum(), list(parameters.values()))
        self._adam(rows, dict(zip(parameters, gradients, strict=True)))
        self._forget_gathered(slots)
        return losses.detach()

    def _gather(self, tiles: Tiles) -> tuple[Tiles, dict[str, Tensor]]:
        """Return tiles with the parameters of their rows, copying only those of rows that the last call did not have.

        An agent mostly stays where it is: from one step to the next few slots change, and the rows of tiles may come
        in any order, so those that are still there keep their place.
        """
        if len(tiles.slots) == 1:
            return tiles, {name: _take(stack, tiles.slots) for name, stack in self._parameters.items()}
        if self._gathered is None or len(self._gathered[0]) != len(tiles.slots):
            stale, place = np.arange(len(tiles.slots)), np.arange(len(tiles.slots))
            self._gathered = (
                tiles.slots.numpy().copy(),
                {
                    name: stack.new_empty((len(tiles.slots), *stack.shape[1:]))
                    for name, stack in self._parameters.items()
                },
            )
        else:
            place, stale = _keep_places(self._gathered[0], tiles.slots.numpy())
        slots, parameters = self._gathered
        slots[place] = tiles.slots.numpy()
        if len(stale):
            into, rows = torch.from_numpy(stale), torch.from_numpy(slots[stale])
            for name, stack in self._parameters.items():
                parameters[name][into] = stack[rows]
        order = torch.from_numpy(np.argsort(place))
        return Tiles(
            torch.from_numpy(slots), tiles.samples[order], torch.from_numpy(place)[tiles.row], tiles.column
        ), parameters

    def _forget_gathered(self, slots: IntArray) -> None:
        """Note that the parameters in some slots have changed."""
        if self._gathered is not None:
            self._gathered[0][np.isin(self._gathered[0], slots)] = -1

    def _loss(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        return {"loss": self.module.loss(predictor, prepared)}

    def _per_row(
        self,
        function: Callable[[Predictor, Prepared], Prepared],
        parameters: dict[str, Tensor],
        tiles: Tiles,
        prepared: Prepared,
    ) -> Prepared:
        """Evaluate a function of predictor and samples for each row of tiles with its own parameters, [T, W, ...]."""

        def one_row(parameters: dict[str, Tensor], prepared: Prepared) -> Prepared:
            def predictor(*inputs: Any) -> Any:
                return functional_call(self.module.predictor, parameters, inputs)

            return function(predictor, prepared)

        if len(tiles.slots) == 1:  # one module needs no batching over modules: about three times less overhead
            only = {name: tensor[0] for name, tensor in parameters.items()}
            outputs = one_row(only, {name: tensor[tiles.samples[0]] for name, tensor in prepared.items()})
            return {name: tensor[None] for name, tensor in outputs.items()}
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


def _keep_places(old: IntArray, new: IntArray) -> tuple[IntArray, IntArray]:
    """Assign each of T new slots a place: that of an equal old slot if there is one, else a place that became free.

    :param old: int64[T], slot at each place
    :param new: int64[T], slots to be placed, repeats allowed
    :return: the place of each new slot, int64[T], and the places whose slot changed
    """
    # The n-th row of a slot takes the place of its n-th row before: pairs (slot, n) are unique.
    span = len(old) + 1
    _, at_old, at_new = np.intersect1d(
        old * span + rank_in_fragment(old), new * span + rank_in_fragment(new), assume_unique=True, return_indices=True
    )
    place = np.full(len(new), -1)
    place[at_new] = at_old
    free = np.setdiff1d(np.arange(len(old)), at_old, assume_unique=True)
    place[place < 0] = free
    return place, free


def _take(stack: Tensor, rows: Tensor) -> Tensor:
    """Select rows of a stack; without a copy if all that is wanted is one."""
    return stack[int(rows[0])][None] if len(rows) == 1 else stack[rows.to(stack.device)]
