"""A linear layer whose batched weight gradient comes out in the layout of the stacked weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Linear(torch.autograd.Function):
    """``inputs [batch, in] @ weight [out, in]^T``.

    Autograd's own formula for the weight is the transpose of ``inputs^T @ gradient``. Batched over particles that
    transpose is copied element by element into every gradient, which costs several times the product itself.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor) -> Tensor:
        return F.linear(inputs, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        inputs, weight = ctx.saved_tensors
        return gradient @ weight if ctx.needs_input_grad[0] else None, gradient.mT @ inputs


class BatchedLinear(TorchFunctionMode):
    """While active, ``F.linear`` on matrices uses that gradient; results are equal up to rounding."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and args[0].dim() == 2 and torch.is_grad_enabled():
            product = _Linear.apply(args[0], args[1])  # type: ignore[no-untyped-call]
            return product if len(args) < 3 or args[2] is None else product + args[2]
        return func(*args, **(kwargs or {}))
