"""TRAC: an optimiser wrapper that decides by itself how far to trust the way it has come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy.special import erfi
from torch import Tensor

from farl.errors import ConfigError

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
START = 1e-8
"""Scale of the tuners at the start, and what guards the two divisions."""
LEARNING_RATE = 1e-3
"""Adam's under TRAC: the best on sequences of levels of Acrobot (``benchmarks.continual_rl``)."""
_LARGEST = 26.0  # erfi of more than that is beyond float64
_UNIT = float(erfi(1 / math.sqrt(2)))


class Trac(torch.optim.Optimizer):
    """Parameter-free tuning of the distance from a reference point (Muppidi et al. 2024, TRAC).

    The parameters are the reference point (where they first were) plus a scale times the way that the base optimiser
    would have walked: theta = reference + max(sum of s, 0) * way. One tuner for each discount beta, with h the inner
    product of the gradient and the way before the step, keeps v <- beta^2 v + h^2 and sigma <- beta sigma - h, and has
    s = scale / erfi(1/sqrt 2) * erfi(sigma / (sqrt(2 v) + epsilon)).

    The way is kept as a tensor of its own rather than recovered from theta: while s is near its start of 1e-8,
    theta - reference is below the resolution of float32.

    Parameters that somebody else changes between two steps (``load_state_dict``, a redrawn particle) are a new
    reference point, from which TRAC begins anew.

    :param parameters: tensors to optimise
    :param base: ``base(parameters) -> Optimizer``, an elementwise one without weight decay
    :param betas: discounts of the tuners
    :param scale: scale of the tuners at the start
    :param epsilon: guards the two divisions; sigma starts there too
    :param per_particle: whether the first axis of every tensor is one of particles, each with tuners of its own
    :raises ConfigError: for a base with weight decay, which would pull to the reference point and not to zero
    """

    has_reference = True

    def __init__(
        self,
        parameters: Iterable[Tensor],
        base: Callable[[list[Tensor]], torch.optim.Optimizer],
        betas: tuple[float, ...] = BETAS,
        scale: float = START,
        epsilon: float = START,
        per_particle: bool = False,
    ) -> None:
        held = list(parameters)
        super().__init__(held, {})
        self.base = base(held)
        if any(group.get("weight_decay") for group in self.base.param_groups):
            raise ConfigError("TRAC takes a base optimiser without weight decay: leave weight_decay at 0")
        self.param_groups = self.base.param_groups  # a learning-rate schedule reaches the base
        self.betas = betas
        self.scale = scale
        self.epsilon = epsilon
        self.per_particle = per_particle
        self._written: dict[Tensor, int] = {}
        """The version of each tensor as the last step left it."""

    def __getstate__(self) -> dict[str, Any]:
        own = ("base", "betas", "scale", "epsilon", "per_particle")
        return super().__getstate__() | {name: getattr(self, name) for name in own} | {"_written": {}}

    def state_dict(self) -> dict[str, Any]:
        """Return the tuners' and the base optimiser's state."""
        held = [p for group in self.param_groups for p in group["params"]]
        return {"tuners": [dict(self.state.get(p, {})) for p in held], "base": self.base.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` returned."""
        held = [p for group in self.param_groups for p in group["params"]]
        self.base.load_state_dict(state_dict["base"])
        self.param_groups = self.base.param_groups
        self._written.clear()
        for p, state in zip(held, state_dict["tuners"], strict=True):
            self.state[p] = {name: value.clone().to(p.device) for name, value in state.items()}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step of the base optimiser and rescale the way from the reference point.

        :raises ConfigError: if a closure is given: the tuners take one gradient a step
        """
        if closure is not None:
            raise ConfigError("TRAC takes no closure")
        held = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not held:
            return
        self._begin(held)
        total = self._bet(held)
        for p in held:
            p.copy_(self.state[p]["way"])
        # The base never looks at where the parameters are: it may as well walk on the way itself, which is free of
        # the rounding that a small step from a large parameter has.
        self.base.step()
        for p in held:
            state = self.state[p]
            state["way"].copy_(p)
            torch.addcmul(state["reference"], self._per_row(total, p), state["way"], out=p)
        self._written = {p: p._version for p in held}

    def _begin(self, held: list[Tensor]) -> None:
        """Take the parameters as they are for the reference where there is none, or where they were changed since."""
        common = self.state[held[0]]
        if "sigma" not in common:
            shape = (len(held[0]) if self.per_particle else 1, len(self.betas))
            common["sigma"] = torch.full(shape, self.epsilon, dtype=torch.float64, device=held[0].device)
            common["variance"] = torch.zeros_like(common["sigma"])
            common["total"] = torch.zeros_like(common["sigma"][:, 0])
        for p in held:
            if "reference" not in self.state[p]:
                self.state[p] |= {"reference": p.clone(), "way": torch.zeros_like(p)}
                self._written[p] = p._version
        # Whoever writes to memory that tensors share (the chunks of an ensemble) changes the version of all of them.
        suspects = [p for p in held if self._written.get(p) != p._version]
        if not suspects:
            return
        changed = torch.stack([self._changed(p, common["total"]) for p in suspects]).any(0)
        if not bool(changed.any()):
            return
        for p in held:
            rows = self._shaped(changed, p)
            self.state[p]["reference"].copy_(torch.where(rows, p, self.state[p]["reference"]))
            self.state[p]["way"].masked_fill_(rows, 0.0)
        common["sigma"].masked_fill_(changed[:, None], self.epsilon)
        common["variance"].masked_fill_(changed[:, None], 0.0)
        common["total"].masked_fill_(changed, 0.0)

    def _changed(self, p: Tensor, total: Tensor) -> Tensor:
        """Return whose parameters are not where the last step put them (but for rounding), bool[rows]."""
        state, rows = self.state[p], len(total)
        put = torch.addcmul(state["reference"], self._per_row(total, p), state["way"])
        slack = 16 * torch.finfo(p.dtype).eps * put.abs().reshape(rows, -1).amax(1)
        return (p - put).abs().reshape(rows, -1).amax(1) > slack

    def _bet(self, held: list[Tensor]) -> Tensor:
        """Shrink the ways as dividing by (scale + epsilon) does, update the tuners, return the new scales [rows]."""
        common = self.state[held[0]]
        kept = common["total"] / (common["total"] + self.epsilon)
        h = torch.zeros_like(common["total"])
        for p in held:
            assert p.grad is not None
            way = self.state[p]["way"].mul_(self._per_row(kept, p))
            rows = len(p) if self.per_particle else 1
            h += torch.linalg.vecdot(p.grad.reshape(rows, -1), way.reshape(rows, -1))
        betas = torch.tensor(self.betas, dtype=torch.float64, device=h.device)
        common["variance"].mul_(betas**2).add_(h[:, None] ** 2)
        common["sigma"].mul_(betas).sub_(h[:, None])
        ratio = common["sigma"] / ((2 * common["variance"]).sqrt() + self.epsilon)
        tuned = erfi(np.clip(ratio.cpu().numpy(), -_LARGEST, _LARGEST)).sum(-1)
        total = (self.scale / _UNIT * torch.from_numpy(tuned).to(h.device)).clamp_min(0)
        common["total"] = total
        return total

    def _per_row(self, value: Tensor, like: Tensor) -> Tensor:
        return self._shaped(value.to(like), like)

    def _shaped(self, value: Tensor, like: Tensor) -> Tensor:
        return value.reshape(-1, *(1,) * (like.dim() - 1)) if self.per_particle else value[0]


class TracAdam(Trac):
    """TRAC around Adam with the constructor of a torch optimiser: ``policy_kwargs={"optimizer_class": TracAdam}``.

    :param parameters: tensors to optimise
    :param lr: Adam's learning rate
    :param per_particle: see :class:`Trac`
    :param options: more arguments of ``torch.optim.Adam``: ``eps``, ``betas``; no weight decay
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = LEARNING_RATE, per_particle: bool = False, **options: Any
    ):
        super().__init__(parameters, lambda held: torch.optim.Adam(held, lr=lr, **options), per_particle=per_particle)
