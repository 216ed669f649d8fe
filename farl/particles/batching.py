"""Layers whose forms under vmap are slower than they need be, done for all particles at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class GradientPool:
    """Memory of gradients that have been used, for the next ones of the same shape.

    Gradients of many particles are large enough for the allocator to return them to the system, and to be given zeroed
    pages anew for every one: that costs more than computing them.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, ...], list[Tensor]] = {}
        self._lent: dict[tuple[int, ...], int] = {}

    def give(self, gradient: Tensor) -> None:
        """Take over a gradient that nobody else refers to any more; never more of them than were handed out."""
        shape = tuple(gradient.shape)
        if self._lent.get(shape, 0) > 0 and gradient.is_contiguous():
            self._lent[shape] -= 1
            self._free.setdefault(shape, []).append(gradient)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``torch.bmm(left, right)`` in memory from the pool, if there is some of that shape."""
        shape = (left.shape[0], left.shape[1], right.shape[2])
        self._lent[shape] = self._lent.get(shape, 0) + 1
        held = self._free.get(shape)
        if held and held[-1].dtype == left.dtype and held[-1].device == left.device:
            return torch.bmm(left, right, out=held.pop())
        return torch.bmm(left, right)


class _StackedLinear(torch.autograd.Function):
    """``inputs [batch, in] or [n, batch, in]`` times ``weight [n, out, in]`` transposed, plus ``bias [n, out]``.

    Autograd's own formula for the weight is the transpose of ``inputs^T @ gradient``. Batched over particles that
    transpose is copied element by element into every gradient, which costs several times the product itself.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, pool: GradientPool) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.pool = pool
        stacked = inputs if inputs.dim() == 3 else inputs.expand(len(weight), *inputs.shape)
        if bias is None:
            return torch.bmm(stacked, weight.mT)
        return torch.baddbmm(bias[:, None], stacked, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        stacked = inputs if inputs.dim() == 3 else inputs.expand(len(weight), *inputs.shape)
        of_inputs = of_weight = None
        if ctx.needs_input_grad[0]:
            of_inputs = torch.bmm(gradient, weight)
            of_inputs = of_inputs if inputs.dim() == 3 else of_inputs.sum(0)
        if ctx.needs_input_grad[1]:
            of_weight = ctx.pool.product(gradient.mT, stacked)
        return of_inputs, of_weight, gradient.sum(1) if ctx.needs_input_grad[2] else None, None


class _Linear(torch.autograd.Function):
    """``F.linear`` that becomes :class:`_StackedLinear` under vmap over stacked weights."""

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, bias: Tensor | None, pool: GradientPool) -> Tensor:
        return F.linear(inputs, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # Never differentiated as it is: gradients are taken outside vmap, where the stacked form has replaced it.
        ctx.set_materialize_grads(False)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pool: GradientPool,
    ) -> tuple[Tensor, int]:
        product = _StackedLinear.apply(  # type: ignore[no-untyped-call]
            inputs if in_dims[0] is None else _stacked(inputs, in_dims[0], info),
            _stacked(weight, in_dims[1], info),
            None if bias is None else _stacked(bias, in_dims[2], info),
            pool,
        )
        return product, 0


class _CrossEntropy(torch.autograd.Function):
    """The mean cross entropy of integer targets, in one call for all particles under vmap."""

    @staticmethod
    def forward(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], logits: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        logits, targets = _stacked(logits, in_dims[0], info), _stacked(targets, in_dims[1], info)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view(targets.shape).mean(1), 0


def _stacked(value: Tensor, where: int | None, info: Any) -> Tensor:
    return value.expand(info.batch_size, *value.shape) if where is None else value.movedim(where, 0)


class BatchedLayers(TorchFunctionMode):
    """While active, vmapped linear layers and cross entropies run in these forms; results are equal up to rounding.

    For use with gradients taken outside of vmap, as the ensemble does.
    """

    def __init__(self, pool: GradientPool) -> None:
        super().__init__()
        self.pool = pool

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and args[0].dim() == 2:
            return _Linear.apply(*args, *(None,) * (3 - len(args)), self.pool)  # type: ignore[no-untyped-call]
        if func is F.cross_entropy and _is_plain(args, kwargs or {}):
            return _CrossEntropy.apply(*args[:2])  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


_PLAIN = {"weight": None, "size_average": None, "ignore_index": -100, "reduce": None, "reduction": "mean"}


def _is_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of F.cross_entropy has matrix logits, integer targets and every option at its default."""
    return (
        len(args) == 2
        and args[0].dim() == 2
        and args[1].dim() == 1
        and all(value == _PLAIN.get(name, 0.0) for name, value in kwargs.items())
    )


_PRODUCTS = (F.linear, F.conv1d, F.conv2d, F.conv3d, torch.matmul, Tensor.matmul, torch.bmm, torch.baddbmm)
_NORMALISATIONS = (F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm)


class ReducedPrecision(TorchFunctionMode):
    """While active, matrix products and convolutions run in ``dtype``, and normalisation in float32.

    ``torch.autocast`` has no effect under vmap.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _PRODUCTS:
            args = tuple(_cast(value, self.dtype) for value in args)
            kwargs = {name: _cast(value, self.dtype) for name, value in (kwargs or {}).items()}
        elif func in _NORMALISATIONS:
            args = (_cast(args[0], torch.float32), *args[1:])
        return func(*args, **(kwargs or {}))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
