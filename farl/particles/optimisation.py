"""Any elementwise torch optimiser as the local move of every particle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.ensemble import ParticleEnsemble
from farl.particles.products import add_product

# These mix elements of one tensor (or of all), so a leading particle axis would couple the particles.
_COUPLING = ("LBFGS", "Adafactor", "Muon", "SparseAdam")


def all_finite(*values: Tensor) -> bool:
    """Whether every entry is finite: by sums, which are cheaper than a test of each (a sum that overflows is not)."""
    return all(math.isfinite(float(value.sum())) for value in values)


class ParticleOptimizer:
    """One torch optimiser for every chunk of an ensemble, built when the chunks are known.

    :param ensemble: the particles
    :param factory: ``factory(parameters) -> Optimizer``
    :ivar is_plain_descent: whether a step only subtracts the rate times the gradient, so that gradients which are
        products need never be made whole.
    :ivar has_reference: whether it keeps particles to a reference point, as TRAC does
    :raises ConfigError: on the first step, if the optimiser would couple particles
    """

    def __init__(self, ensemble: ParticleEnsemble, factory: Callable[[list[Tensor]], torch.optim.Optimizer]) -> None:
        self.ensemble = ensemble
        self.factory = factory
        example = factory([torch.zeros(1, requires_grad=True)])
        self.is_plain_descent = _is_plain_descent(example)
        self.has_reference = getattr(example, "has_reference", False)
        self._each: list[torch.optim.Optimizer] = []
        self._pending: dict[str, Tensor] = {}

    @property
    def each(self) -> list[torch.optim.Optimizer]:
        """The optimisers of the chunks (for learning-rate schedules); empty before the chunks are known."""
        if not self._each and self.ensemble.chunks:
            leaves = [self.ensemble.leaves(c) for c in range(len(self.ensemble.chunks))]
            self._each = [self.factory(list(part.values())) for part in leaves]
            if type(self._each[0]).__name__ in _COUPLING:
                raise ConfigError(
                    f"{type(self._each[0]).__name__} does not act on every element by itself, so it would couple the "
                    "particles: use SGD, Adam or another elementwise optimiser"
                )
            if self._pending:
                self._distribute(self._pending)
                self._pending = {}
        return self._each

    @torch.no_grad()
    def step(self, chunk: int, losses: Tensor) -> bool:
        """Move the particles of one chunk by the gradients in its leaves and the deferred ones, which are then cleared.

        Particles whose loss (``losses`` float[particles of the chunk]) is not finite stay where they are.

        :return: whether all losses are finite
        """
        deferred = self.ensemble.take_deferred()
        leaves = self.ensemble.leaves(chunk).values()
        still: list[tuple[Tensor, Tensor]] = []
        broken = losses.new_zeros(0, dtype=torch.int64) if all_finite(losses) else (~losses.isfinite()).nonzero()[:, 0]
        if len(broken):
            for leaf in leaves:
                if leaf.grad is not None:
                    leaf.grad[broken] = 0
            keep, zero = losses.isfinite()[:, None, None], losses.new_zeros(())
            deferred = [(leaf, left.where(keep, zero), right.where(keep, zero)) for leaf, left, right in deferred]
            # A step of an optimiser with momentum or weight decay moves without a gradient too.
            still = [(leaf, leaf[broken].clone()) for leaf in leaves]
        for leaf, left, right in deferred:
            add_product(leaf, left, right, -float(self.each[chunk].param_groups[0]["lr"]))
        self.each[chunk].step()
        for leaf, before in still:
            leaf[broken] = before
        self.ensemble.clear_gradients(chunk)
        return not len(broken)

    def state(self) -> dict[str, Tensor]:
        """Return the optimiser's state: ``name|key`` to a tensor [n_particles, ...] or a scalar."""
        merged: dict[str, list[Tensor]] = {}
        for c, optimizer in enumerate(self.each):
            for name, leaf in self.ensemble.leaves(c).items():
                for key, value in _state_of(optimizer, leaf).items():
                    if isinstance(value, Tensor):
                        merged.setdefault(f"{name}|{key}", []).append(value)
        return {name: torch.cat(parts) if parts[0].dim() else parts[0] for name, parts in merged.items()} or dict(
            self._pending
        )

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up a state that :meth:`state` returned (now, or when the chunks are known)."""
        if self.each:
            self._distribute(state)
        else:
            self._pending = dict(state)

    def _distribute(self, state: dict[str, Tensor]) -> None:
        for c, optimizer in enumerate(self._each):
            rows = self.ensemble.chunks[c]
            for name, leaf in self.ensemble.leaves(c).items():
                own = {full.split("|")[1]: value for full, value in state.items() if full.split("|")[0] == name}
                for key, value in own.items():
                    optimizer.state[leaf][key] = value[rows].clone().to(leaf.device) if value.dim() else value.clone()

    def rearrange(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replace every per-particle state tensor by ``function`` of it."""
        if self._each:
            self._distribute({n: function(v) if v.dim() else v for n, v in self.state().items()})

    def reset(self, particles: Tensor) -> None:
        """Clear the state of the particles int64[k], as if they had just begun."""

        def cleared(value: Tensor) -> Tensor:
            value = value.clone()
            value[particles] = 0
            return value

        self.rearrange(cleared)


def _is_plain_descent(optimizer: torch.optim.Optimizer) -> bool:
    group, *others = optimizer.param_groups
    more = ("momentum", "weight_decay", "maximize", "differentiable")
    return type(optimizer) is torch.optim.SGD and not others and not any(group[name] for name in more)


def _state_of(optimizer: torch.optim.Optimizer, leaf: Tensor) -> dict[str, Any]:
    """Return the state of one leaf, with that of a wrapped optimiser (attribute ``base``) under ``base.*``."""
    state = dict(optimizer.state.get(leaf, {}))
    base = getattr(optimizer, "base", None)
    if isinstance(base, torch.optim.Optimizer):
        state |= {f"base.{key}": value for key, value in base.state.get(leaf, {}).items()}
    return state
