"""Many predictors at once: the modules in use, stacked, evaluated and trained in single batched calls."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.optim.adam import adam

from farl.curiosity.module import CuriosityModule, Predictor, Prepared
from farl.curiosity.stacked import stacked_forward

IntArray = npt.NDArray[np.int64]
ModuleState = dict[str, Any]
"""One fragment's predictor: ``parameters``, ``first_moment``, ``second_moment`` (name -> tensor) and ``steps``."""

_PARTS = ("parameters", "first_moment", "second_moment")
_READING = 8  # samples: reading one module's weights takes about as long as evaluating so many
_ALIGNMENT = 16  # floats: matrix libraries may sum in another order where a row starts elsewhere within 64 bytes


class Tiles(NamedTuple):
    """B samples sorted into rows of equal width, each row belonging to one fragment.

    :ivar fragment_ids: int64[T], fragment of each row
    :ivar samples: int64[T, W], the samples of each row; rows that are not full repeat sample 0
    :ivar row: int64[B], row of each sample
    :ivar column: int64[B], place of each sample in its row
    :ivar in_order: whether the rows are full and hold the samples as they come: then nothing has to be copied
    """

    fragment_ids: IntArray
    samples: Tensor
    row: Tensor
    column: Tensor
    in_order: bool

    def arrange(self, samples: Tensor) -> Tensor:
        """[B, ...] -> [T, W, ...]."""
        if not self.in_order:
            samples = samples.index_select(0, self.samples.flatten().to(samples.device))
        return samples.reshape(*self.samples.shape, *samples.shape[1:])

    def restore(self, rows: Tensor) -> Tensor:
        """[T, W, ...] -> [B, ...]."""
        rows = rows.flatten(0, 1)
        if self.in_order:
            return rows
        return rows.index_select(0, (self.row * self.samples.shape[1] + self.column).to(rows.device))


def tile(fragment_ids: IntArray) -> Tiles:
    """Sort B samples by fragment into rows of equal width, as a batched product needs them.

    Narrow rows read the weights of a fragment with many samples again and again, wide ones compute places that no
    sample fills. The width is the one for which both together cost least. So less than twice as many samples are
    computed as there are, and ten a fragment, however unevenly they fall: the cost grows with the samples, not with
    the modules.

    A product rounds by the place that a row has in it. The order by fragment, not by slot, makes the places depend on
    the samples alone: a module that comes back to another slot predicts to the bit what it would have predicted.

    :param fragment_ids: int64[B], B > 0
    """
    if (fragment_ids == fragment_ids[0]).all():  # nothing to sort
        everyone = torch.arange(len(fragment_ids))
        return Tiles(fragment_ids[:1], everyone[None], torch.zeros_like(everyone), everyone, in_order=True)
    distinct, position, count = np.unique(fragment_ids, return_inverse=True, return_counts=True)
    widths = np.append(np.unique(count), -(-len(fragment_ids) // len(distinct)))
    rows_for = -(-count // widths[:, None])
    best = np.argmin(rows_for.sum(axis=1) * (widths + _READING))
    width, rows = int(widths[best]), rows_for[best]
    order = np.argsort(position, kind="stable")
    rank = np.empty_like(position)
    rank[order] = np.arange(len(fragment_ids)) - np.repeat(np.cumsum(count) - count, count)
    row = (np.cumsum(rows) - rows)[position] + rank // width
    column = rank % width
    samples = np.zeros((int(rows.sum()), width), np.int64)
    samples[row, column] = np.arange(len(fragment_ids))
    in_order = samples.size == len(fragment_ids) and bool((order[1:] > order[:-1]).all())
    return Tiles(
        np.repeat(distinct, rows),
        torch.from_numpy(samples),
        torch.from_numpy(row),
        torch.from_numpy(column),
        in_order,
    )


class ModuleBank:
    """The short-term memory of curiosity: predictors of the fragments in use, as stacked parameters.

    Fragments are loaded into slots and unloaded into long-term memory; a call touches only the slots of the
    fragments it names. Training is one Adam step per fragment and call, each fragment exactly as if it were trained
    alone. All parameters of a module lie in one row, so that whatever is done to a module is one operation.

    :param module: gives the predictor's form and initial parameters, the surprisal and the loss
    :param learning_rate: of Adam (betas 0.9 and 0.999, epsilon 1e-8)
    """

    def __init__(self, module: CuriosityModule, learning_rate: float = 1e-3) -> None:
        self.module = module
        self.learning_rate = learning_rate
        self._stacked = stacked_forward(module.predictor) if module.takes_stacked_samples else None
        parameters = {name: tensor.detach() for name, tensor in module.predictor.named_parameters()}
        self._shapes = {name: tensor.shape for name, tensor in parameters.items()}
        self._sizes = [tensor.numel() for tensor in parameters.values()]
        flat = torch.cat([tensor.flatten() for tensor in parameters.values()] or [torch.zeros(0)])
        self._initial = torch.nn.functional.pad(flat, (0, -len(flat) % _ALIGNMENT))
        self._stack = self._initial.new_empty((len(_PARTS), 0, len(self._initial)))
        self._steps = self._initial.new_zeros(0)
        self._learnt: npt.NDArray[np.bool_] = np.zeros(0, bool)  # of each slot, since it was loaded
        self._fragment_ids: list[int] = []
        self._slot_of: IntArray = np.full(16, -1)  # of each fragment id so far, -1 where not loaded
        self._free: list[int] = []
        self._gathered_slots: IntArray = np.empty(0, np.int64)
        self._gathered = self._initial.new_empty((0, len(self._initial)))
        # Of the last call, while still valid: fragments, their tiles, and the parameters of each row by name.
        self._evaluated: tuple[bytes, Tiles, dict[str, Tensor]] | None = None

    @property
    def fragment_ids(self) -> list[int]:
        """Ids of the fragments loaded."""
        return list(self._fragment_ids)

    @property
    def module_bytes(self) -> int:
        """Size of one module: its parameters and Adam's two moments, in bytes."""
        return len(_PARTS) * self._initial.nbytes

    def __contains__(self, fragment_id: int) -> bool:
        return fragment_id < len(self._slot_of) and bool(self._slot_of[fragment_id] >= 0)

    def missing(self, fragment_ids: IntArray) -> list[int]:
        """Return those of the fragments, int64[B], that are not loaded, each once."""
        return sorted(fragment for fragment in set(fragment_ids.tolist()) if fragment not in self)

    def initial_state(self) -> ModuleState:
        """Return the state that every fragment starts from; its tensors are shared, not copied."""
        zeros = torch.zeros_like(self._initial)
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
        slot = self._free.pop()
        for stack, part in zip(self._stack, _PARTS, strict=True):
            for name, tensor in self._named(stack[slot]).items():
                tensor.copy_(state[part][name])
        self._steps[slot], self._learnt[slot] = state["steps"], False
        self._make_room_for(fragment_id)
        self._slot_of[fragment_id] = slot
        self._fragment_ids.append(fragment_id)
        self._forget_gathered(np.array([slot]))

    def unload(self, fragment_id: int) -> ModuleState:
        """Free the slot of a fragment and return its state.

        :raises KeyError: if it is not loaded
        """
        state = self.state(fragment_id)
        self._free.append(int(self._slot_of[fragment_id]))
        self._slot_of[fragment_id] = -1
        self._fragment_ids.remove(fragment_id)
        self._evaluated = None
        return state

    def state(self, fragment_id: int) -> ModuleState:
        """Return a copy of the state of a loaded fragment, on the CPU.

        :raises KeyError: if it is not loaded
        """
        slot = self._slot(fragment_id)
        rows = self._stack[:, slot].to("cpu", copy=True)
        state: ModuleState = {part: self._named(row) for part, row in zip(_PARTS, rows, strict=True)}
        return state | {"steps": int(self._steps[slot])}

    def has_learnt(self, fragment_id: int) -> bool:
        """Return whether a fragment has been trained since it was loaded.

        :raises KeyError: if it is not loaded
        """
        return bool(self._learnt[self._slot(fragment_id)])

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
        # An agent mostly stays where it is: then there is nothing to sort and nothing to copy.
        if self._evaluated is None or self._evaluated[0] != fragment_ids.tobytes():
            tiles = tile(fragment_ids)
            rows = self._gather(self._slot_of[tiles.fragment_ids])
            self._evaluated = fragment_ids.tobytes(), tiles, self._named(rows)
        _, tiles, named = self._evaluated
        return self._per_row(self.module.evaluate, named, tiles, prepared)

    def train(self, fragment_ids: IntArray, prepared: Prepared) -> Tensor:
        """Take one Adam step in each fragment named, on the mean loss of its samples, and return the losses,
        float32[B].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        """
        if not self._sizes:
            return torch.zeros(len(fragment_ids))  # a module without a network has nothing to learn
        distinct, member = np.unique(fragment_ids, return_inverse=True)
        slots = self._slot_of[distinct]
        tiles = tile(member)
        in_place = _without_copy(self._stack[0], slots)
        parameters = self._stack[0, torch.from_numpy(slots)] if in_place is None else in_place
        parameters.requires_grad_()
        one_row_each = len(tiles.fragment_ids) == len(slots)
        rows = parameters if one_row_each else parameters[torch.from_numpy(tiles.fragment_ids)]
        losses = self._per_row(self._loss, self._named(rows), tiles, prepared)["loss"]
        share = torch.from_numpy(1.0 / np.bincount(member))[torch.from_numpy(member)].to(losses)
        (gradients,) = torch.autograd.grad((losses * share).sum(), [parameters])
        self._adam(slots, gradients)
        self._learnt[slots] = True
        self._forget_gathered(slots)
        return losses.detach()

    def _gather(self, slots: IntArray) -> Tensor:
        """Return the parameters of T slots, float32[T, P], copying only those that were not gathered there before."""
        if (in_place := _without_copy(self._stack[0], slots)) is not None:
            return in_place
        count = len(slots)
        if count > len(self._gathered_slots):
            self._gathered_slots = np.full(count, -1)
            self._gathered = self._gathered.new_empty((count, self._gathered.shape[1]))
        stale = np.flatnonzero(self._gathered_slots[:count] != slots)
        if len(stale):
            self._gathered[torch.from_numpy(stale)] = self._stack[0, torch.from_numpy(slots[stale])]
            self._gathered_slots[stale] = slots[stale]
        return self._gathered[:count]

    def _forget_gathered(self, slots: IntArray) -> None:
        """Note that the parameters in some slots have changed."""
        self._evaluated = None
        self._gathered_slots[np.isin(self._gathered_slots, slots)] = -1

    def _loss(self, predictor: Predictor, prepared: Prepared) -> Prepared:
        return {"loss": self.module.loss(predictor, prepared)}

    def _per_row(
        self,
        function: Callable[[Predictor, Prepared], Prepared],
        named: dict[str, Tensor],
        tiles: Tiles,
        prepared: Prepared,
    ) -> Prepared:
        """Evaluate a function of predictor and samples for each sample with the parameters of its row, [B, ...].

        :param named: parameters by name, float32[T, *shape]
        """
        rows = {name: tiles.arrange(tensor) for name, tensor in prepared.items()}
        if (stacked := self._stacked) is not None:
            outputs = function(lambda inputs: stacked(named, inputs), rows)
            return {name: tiles.restore(tensor) for name, tensor in outputs.items()}

        def one_row(parameters: dict[str, Tensor], prepared: Prepared) -> Prepared:
            def predictor(*inputs: Any) -> Any:
                return functional_call(self.module.predictor, parameters, inputs)

            return function(predictor, prepared)

        if len(tiles.fragment_ids) == 1:  # one module needs no batching over modules: about three times less overhead
            return one_row({name: tensor[0] for name, tensor in named.items()}, prepared)
        outputs = vmap(one_row, randomness="different")(named, rows)
        return {name: tiles.restore(tensor) for name, tensor in outputs.items()}

    @torch.no_grad()
    def _adam(self, slots: IntArray, gradients: Tensor) -> None:
        """Adam on some slots only: torch's optimiser would also move those that have no sample, by their momentum."""
        parameters, first, second = self._stack
        rows = slots.tolist()
        adam(
            [parameters[row] for row in rows],
            list(gradients),
            [first[row] for row in rows],
            [second[row] for row in rows],
            [],
            [self._steps[row] for row in rows],
            fused=True,  # in place: on large stacks, intermediate results would cost more than the arithmetic
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        """View rows of parameters, [..., P], by name: [..., *shape]."""
        parts = torch.split(flat[..., : sum(self._sizes)], self._sizes, dim=-1)
        return {
            name: part.view(*flat.shape[:-1], *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _slot(self, fragment_id: int) -> int:
        if fragment_id not in self:
            raise KeyError(f"fragment {fragment_id} is not loaded")
        return int(self._slot_of[fragment_id])

    def _make_room_for(self, fragment_id: int) -> None:
        """Let the table of slots reach up to an id: ids count up, and doubling is cheap on average."""
        if fragment_id >= len(self._slot_of):
            self._slot_of = np.append(self._slot_of, np.full(2 * fragment_id - len(self._slot_of), -1))

    def _grow(self) -> None:
        """Double the number of slots."""
        self._evaluated = None
        old = len(self._steps)
        new = max(1, 2 * old)
        self._stack = torch.cat([self._stack, self._stack.new_zeros((len(_PARTS), new - old, len(self._initial)))], 1)
        self._steps = torch.cat([self._steps, self._steps.new_zeros(new - old)])
        self._learnt = np.append(self._learnt, np.zeros(new - old, bool))
        self._free += range(old, new)


def _without_copy(stack: Tensor, rows: IntArray) -> Tensor | None:
    """Select rows of a stack as a view, which can be done where they lie at equal distances, as any two do."""
    distances = np.diff(rows)
    step = int(distances[0]) if len(distances) else 1
    if step < 1 or (distances != step).any():
        return None
    return stack[int(rows[0]) : int(rows[-1]) + 1 : step]
