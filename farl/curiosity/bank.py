"""Many predictors at once: the modules in use, evaluated and trained in single batched calls."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.adam import adam

from farl.curiosity.module import CuriosityModule, Predictor, Prepared
from farl.curiosity.slots import IntArray, ModuleSlots, ModuleState
from farl.curiosity.stacked import stacked_forward
from farl.curiosity.tiles import Tiles, tile

__all__ = ["ModuleBank", "ModuleState"]

_CHANGING = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd, nn.RReLU)


class ModuleBank(ModuleSlots):
    """The short-term memory of curiosity: predictors of the fragments in use, evaluated and trained together.

    Fragments are loaded into slots and unloaded into long-term memory; a call touches only the slots of the
    fragments it names. Training is one Adam step per fragment and call, each fragment exactly as if it were trained
    alone.

    :param module: gives the predictor's form and initial parameters, the surprisal and the loss
    :param learning_rate: Adam's (its betas are 0.9 and 0.999, its epsilon 1e-8)
    """

    def __init__(self, module: CuriosityModule, learning_rate: float = 1e-3) -> None:
        super().__init__(module.predictor)
        self.module = module
        self.learning_rate = learning_rate
        self.sees_rows_alone = not any(isinstance(part, _CHANGING) for part in module.predictor.modules())
        """Whether a predictor answers to a sample alone: neither chance nor other samples change its answer."""
        self._stacked = stacked_forward(module.predictor) if module.takes_stacked_samples else None
        self._gathered_slots: IntArray = np.empty(0, np.int64)
        self._gathered = self._initial.new_empty((0, len(self._initial)))
        self.copied_bytes = 0
        """Size of the copies and gradients of modules that the latest call of ``train`` worked with, in bytes."""
        # Of the last call, while still valid: fragments, their tiles, and the parameters of each row by name.
        self._evaluated: tuple[bytes, Tiles, dict[str, Tensor]] | None = None

    def surprisal(self, fragment_ids: IntArray, prepared: Prepared) -> Tensor:
        """Return the surprisal of each sample under its own fragment's predictor, float32[B].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        """
        return self.evaluate(fragment_ids, prepared)["surprisal"]

    def evaluate(self, fragment_ids: IntArray, prepared: Prepared) -> Prepared:
        """Return what ``CuriosityModule.evaluate`` makes of each sample under its own fragment's predictor, [B, ...].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        """
        if not self.learns:
            return self.module.evaluate(self.module.predictor, prepared)
        with torch.no_grad():
            return self._evaluate(fragment_ids, prepared)

    def _evaluate(self, fragment_ids: IntArray, prepared: Prepared) -> Prepared:
        # An agent mostly stays where it is: then there is nothing to sort and nothing to copy.
        if self._evaluated is None or self._evaluated[0] != fragment_ids.tobytes():
            tiles = tile(fragment_ids)
            rows = self._gather(self._slots_of(tiles.fragment_ids))
            self._evaluated = fragment_ids.tobytes(), tiles, self._named(rows)
        _, tiles, named = self._evaluated
        return self._per_row(self.module.evaluate, named, tiles, prepared)

    def train(self, fragment_ids: IntArray, prepared: Prepared, counts: IntArray | None = None) -> Tensor:
        """Take one Adam step in each fragment named, on the mean loss of its samples, and return the losses,
        float32[B].

        :param fragment_ids: int64[B], B > 0; all of them loaded
        :param prepared: what ``CuriosityModule.prepare`` returned for the B samples
        :param counts: int64[B], for how many samples each stands; None for one
        """
        if not self.learns:
            return torch.zeros(len(fragment_ids))  # a module without a network has nothing to learn
        distinct, member = np.unique(fragment_ids, return_inverse=True)
        slots = self._slots_of(distinct)
        tiles = tile(member)
        in_place = _without_copy(self._stack[0], slots)
        parameters = self._stack[0, torch.from_numpy(slots)] if in_place is None else in_place
        parameters.requires_grad_()
        one_row_each = len(tiles.fragment_ids) == len(slots)
        rows = parameters if one_row_each else parameters[torch.from_numpy(tiles.fragment_ids)]
        losses = self._per_row(self._loss, self._named(rows), tiles, prepared)["loss"]
        weights = np.ones(len(member)) if counts is None else counts
        share = torch.from_numpy(weights / np.bincount(member, weights)[member]).to(losses)
        (gradients,) = torch.autograd.grad((losses * share).sum(), [parameters])
        # Where slots lie in a row, parameters are no copy; they count all the same, for slots differ after a resume.
        self.copied_bytes = parameters.nbytes + gradients.nbytes + (0 if one_row_each else rows.nbytes)
        self._adam(slots, gradients)
        self._learnt.update(distinct.tolist())
        self._changed(slots)
        return losses.detach()

    def forget_copies(self) -> None:
        """Free what was copied from slots to be evaluated together: after a rollout other modules are wanted."""
        self._evaluated = None
        self._gathered_slots, self._gathered = self._gathered_slots[:0], self._gathered[:0].clone()

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

    def _slots_of(self, fragment_ids: IntArray) -> IntArray:
        return np.array([self._slots[fragment_id] for fragment_id in fragment_ids.tolist()], np.int64)

    def _changed(self, slots: IntArray) -> None:
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


def _without_copy(stack: Tensor, rows: IntArray) -> Tensor | None:
    """Select rows of a stack as a view, which can be done where they lie at equal distances, as any two do."""
    distances = np.diff(rows)
    step = int(distances[0]) if len(distances) else 1
    if step < 1 or (distances != step).any():
        return None
    return stack[int(rows[0]) : int(rows[-1]) + 1 : step]
