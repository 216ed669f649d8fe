"""Products of stacked weights with what goes through them, and where their gradients lie."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT = 128
"""Inputs of a layer up to which one product with all particles' weights is faster than a batch of products."""
LARGE = 4 * 2**20
"""Bytes of one particle's weight from which on it comes from memory for every product, not from a cache."""
FEW = 16
"""Rows of a batch up to which such a product could run as fast as the memory gives the weight."""


class GradientPool:
    """Gradients of stacked weights: held as factors for as long as nobody needs them, and in memory that is used again.

    Gradients of many particles are large enough for the allocator to return them to the system, and to be given zeroed
    pages anew for every one: that costs more than computing them.

    :ivar deferring: whether the gradients of weights that are leaves are kept in ``deferred`` instead of the leaf
    :ivar deferred: (leaf [n, out, in], left [n, out, batch], right [n, batch, in]): the leaf's gradient is
        left @ right, and where a leaf appears again, the sum
    """

    def __init__(self) -> None:
        self.deferring = False
        self.deferred: list[tuple[Tensor, Tensor, Tensor]] = []
        self._free: dict[tuple[int, ...], list[Tensor]] = {}
        self._lent: dict[tuple[int, ...], int] = {}

    def give(self, gradient: Tensor) -> None:
        """Take over a gradient that nobody else refers to any more; never more of them than were handed out."""
        shape = tuple(gradient.shape)
        if self._lent.get(shape, 0) > 0 and gradient.is_contiguous():
            self._lent[shape] -= 1
            self._free.setdefault(shape, []).append(gradient)

    def gradient(self, weight: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
        """Return the gradient of a weight, left @ right, or None if it is deferred."""
        if self.deferring and weight.is_leaf:
            self.deferred.append((weight, left, right))
            return None
        return self.product(left, right)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``torch.bmm(left, right)`` in memory from the pool, if there is some of that shape."""
        shape = (left.shape[0], left.shape[1], right.shape[2])
        self._lent[shape] = self._lent.get(shape, 0) + 1
        held = self._free.get(shape)
        if held and held[-1].dtype == left.dtype and held[-1].device == left.device:
            return torch.bmm(left, right, out=held.pop())
        return torch.bmm(left, right)


def product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``inputs [n, batch, in] @ weight [n, out, in]^T + bias [n, out]``: [n, batch, out]."""
    if not _waits_for_memory(inputs, weight):
        return torch.bmm(inputs, weight.mT) if bias is None else torch.baddbmm(bias[:, None], inputs, weight.mT)
    result = _by_particle("product", _padded(inputs), weight, size=weight.shape[1])[:, : inputs.shape[1]]
    return result if bias is None else result.add_(bias[:, None])


def product_transposed(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return ``gradient [n, batch, out] @ weight [n, out, in]``: [n, batch, in]."""
    if not _waits_for_memory(gradient, weight):
        return torch.bmm(gradient, weight)
    return _by_particle("product_transposed", gradient.contiguous(), weight, size=weight.shape[2])


def add_product(weight: Tensor, left: Tensor, right: Tensor, alpha: float) -> None:
    """Add ``alpha left [n, out, batch] @ right [n, batch, in]`` to ``weight`` [n, out, in], in place."""
    if not _waits_for_memory(right, weight):
        weight.baddbmm_(left, right, alpha=alpha)
        return
    factors = _padded(alpha * left.mT), _padded(right)
    for rows in zip(weight.detach().numpy(), *(factor.numpy() for factor in factors), strict=True):
        _skinny().add_product(*rows)


def _by_particle(name: str, rows: Tensor, weight: Tensor, size: int) -> Tensor:
    """Return what a function of :mod:`~farl.particles.skinny` makes of each particle's rows, [n, batch, size]."""
    result = rows.new_zeros(*rows.shape[:2], size)
    function = getattr(_skinny(), name)
    for part in zip(rows.detach().numpy(), weight.detach().numpy(), result.numpy(), strict=True):
        function(*part)
    return result


def _skinny() -> Any:
    from farl.particles import skinny  # numba takes a second to import

    return skinny


def _padded(rows: Tensor) -> Tensor:
    """Return rows [n, batch, ...] with as many zero ones at the end as the functions for few rows need."""
    return F.pad(rows, (0, 0, 0, -rows.shape[1] % 4)).contiguous().detach()


def _waits_for_memory(rows: Tensor, weight: Tensor) -> bool:
    large = weight[0].numel() * weight.element_size() >= LARGE
    plain = weight.device.type == "cpu" and weight.is_contiguous() and weight.dtype in (torch.float32, torch.float64)
    # With more threads the matrix library shares the weight out among them.
    return large and plain and rows.dtype == weight.dtype and 1 < rows.shape[1] <= FEW and torch.get_num_threads() == 1


class _StackedLinear(torch.autograd.Function):
    """``inputs [batch, in] or [n, batch, in]`` times ``weight [n, out, in]`` transposed, plus ``bias [n, out]``.

    Autograd's own formula for the weight is the transpose of ``inputs^T @ gradient``. Batched over particles that
    transpose is copied element by element into every gradient, which costs several times the product itself.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, pool: GradientPool) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.pool, ctx.weight = pool, weight
        n, size, width = weight.shape
        if inputs.dim() == 2 and width <= SHORT and bias is not None:
            wide = torch.addmm(bias.flatten(), inputs, weight.flatten(0, 1).T)
            return wide.view(-1, n, size).transpose(0, 1)
        return product(inputs if inputs.dim() == 3 else inputs.expand(n, *inputs.shape), weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        stacked = inputs if inputs.dim() == 3 else inputs.expand(len(weight), *inputs.shape)
        of_inputs = of_weight = None
        if ctx.needs_input_grad[0]:
            of_inputs = product_transposed(gradient, weight)
            of_inputs = of_inputs if inputs.dim() == 3 else of_inputs.sum(0)
        if ctx.needs_input_grad[1]:
            of_weight = ctx.pool.gradient(ctx.weight, gradient.mT, stacked)
        ctx.weight = None
        return of_inputs, of_weight, gradient.sum(1) if ctx.needs_input_grad[2] else None, None


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None, pool: GradientPool) -> Tensor:
    """Return ``F.linear`` for stacked weights [n, out, in] and inputs [batch, in] or [n, batch, in]."""
    return _StackedLinear.apply(inputs, weight, bias, pool)  # type: ignore[no-any-return, no-untyped-call]
