"""TRAC: an optimiser wrapper that decides by itself how far to trust the way it has come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from farl.errors import ConfigError

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
# erfi(x) sqrt(pi)/2 = sum over k of x^(2k+1) / (k! (2k+1))
_SERIES = torch.tensor([1 / (math.factorial(k) * (2 * k + 1)) for k in range(120)], dtype=torch.float64)


def erfi(x: Tensor) -> Tensor:
    """Return the imaginary error function, 2/sqrt(pi) times the integral of exp(t^2) from 0 to x.

    By a power series up to |x| = 5 and the asymptotic series beyond; relative error below 1e-6 in float64.
    """
    small = x.clamp(-5, 5)
    total = small * (small[..., None] ** (2 * torch.arange(len(_SERIES), device=x.device)) * _SERIES.to(x)).sum(-1)
    large = torch.where(x.abs() > 5, x, torch.full_like(x, 5.0))
    inverse, step, tail = 1 / (2 * large**2), torch.ones_like(x), torch.ones_like(x)
    for k in range(1, 12):
        step = step * (2 * k - 1) * inverse
        tail = tail + step
    # exp(26^2) is the last that float64 holds.
    far = torch.exp(large.clamp(-26, 26) ** 2) / (large * math.sqrt(math.pi)) * tail
    return torch.where(x.abs() > 5, far, total * 2 / math.sqrt(math.pi))


_UNIT = float(erfi(torch.tensor(1 / math.sqrt(2), dtype=torch.float64)))


class Trac(torch.optim.Optimizer):
    """Parameter-free tuning of the distance from a reference point (Muppidi et al. 2024, TRAC).

    The parameters are the reference point (where they first were) plus a scale times the way that the base optimiser
    would have walked: theta = reference + max(sum of s, 0) * way. One tuner for each discount beta, with h the inner
    product of the gradient and the way before the step, keeps v <- beta^2 v + h^2 and sigma <- beta sigma - h, and has
    s = scale / erfi(1/sqrt 2) * erfi(sigma / (sqrt(2 v) + epsilon)).

    The way is kept as a tensor of its own rather than recovered from theta: while s is near its start of 1e-8,
    theta - reference is below the resolution of float32.

    :param parameters: tensors to optimise
    :param base: ``base(parameters) -> Optimizer``, an elementwise one without weight decay
    :param betas: discounts of the tuners
    :param scale: scale of the tuners at the start
    :param epsilon: guards the two divisions; sigma starts there too
    :param per_particle: whether the first axis of every tensor is one of particles, each with tuners of its own
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        base: Callable[[list[Tensor]], torch.optim.Optimizer],
        betas: tuple[float, ...] = BETAS,
        scale: float = 1e-8,
        epsilon: float = 1e-8,
        per_particle: bool = False,
    ) -> None:
        held = list(parameters)
        super().__init__(held, {})
        self.base = base(held)
        self.param_groups = self.base.param_groups  # a learning-rate schedule reaches the base
        self.betas = betas
        self.scale = scale
        self.epsilon = epsilon
        self.per_particle = per_particle

    def state_dict(self) -> dict[str, Any]:
        """Return the tuners' and the base optimiser's state."""
        held = [p for group in self.param_groups for p in group["params"]]
        return {"tuners": [dict(self.state.get(p, {})) for p in held], "base": self.base.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` returned."""
        held = [p for group in self.param_groups for p in group["params"]]
        self.base.load_state_dict(state_dict["base"])
        self.param_groups = self.base.param_groups
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
        self._prepare(held)
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

    def _prepare(self, held: list[Tensor]) -> None:
        for p in held:
            if "reference" not in self.state[p]:
                self.state[p]["reference"] = p.clone()
                self.state[p]["way"] = torch.zeros_like(p)
        common = self.state[held[0]]
        if "sigma" not in common:
            shape = (len(held[0]) if self.per_particle else 1, len(self.betas))
            common["sigma"] = torch.full(shape, self.epsilon, dtype=torch.float64, device=held[0].device)
            common["variance"] = torch.zeros_like(common["sigma"])
            common["total"] = torch.zeros_like(common["sigma"][:, 0])

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
        total: Tensor = (self.scale / _UNIT * erfi(ratio)).sum(-1).clamp_min(0)
        common["total"] = total
        return total

    def _per_row(self, value: Tensor, like: Tensor) -> Tensor:
        return value.to(like).reshape(-1, *(1,) * (like.dim() - 1)) if self.per_particle else value.to(like)[0]


class TracAdam(Trac):
    """TRAC around Adam with the constructor of a torch optimiser: ``policy_kwargs={"optimizer_class": TracAdam}``.

    :param parameters: tensors to optimise
    :param lr: learning rate of Adam
    :param per_particle: see :class:`Trac`
    :param options: of ``torch.optim.Adam``: ``eps``, ``betas``; no weight decay
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, per_particle: bool = False, **options: Any):
        super().__init__(parameters, lambda held: torch.optim.Adam(held, lr=lr, **options), per_particle=per_particle)
