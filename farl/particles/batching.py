"""Layers whose forms under vmap are slower than they need be, done for all particles at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from farl.particles import vmap
from farl.particles.products import GradientPool, linear


def _wide(inputs: Tensor) -> Tensor:
    """View [n, batch, channels, ...] as [batch, n channels, ...]: no copy of what :func:`_stacked` returned."""
    return inputs.transpose(0, 1).flatten(1, 2)


def _stacked(wide: Tensor, n: int) -> Tensor:
    """View [batch, n channels, ...] as [n, batch, channels, ...]."""
    return wide.view(len(wide), n, -1, *wide.shape[2:]).transpose(0, 1)


def convolution(function: Callable[..., Tensor], *arguments: Any, **named: Any) -> Tensor:
    """``F.conv1d``, ``F.conv2d`` or ``F.conv3d`` for stacked weights: one convolution with a group a particle.

    Of inputs that all particles share, [batch, channels, ...], it is one without groups.
    """
    options = dict(zip(_CONVOLUTION, arguments, strict=False)) | named
    inputs, weight, bias = options.pop("input"), options.pop("weight"), options.pop("bias", None)
    n, groups = len(weight), options.pop("groups", 1)
    if inputs.dim() == weight.dim():
        inputs, groups = _wide(inputs), n * groups
    elif groups > 1:
        inputs, groups = inputs.repeat(1, n, *(1,) * (inputs.dim() - 2)), n * groups
    flat = None if bias is None else bias.flatten()
    return _stacked(function(inputs, weight.flatten(0, 1), flat, groups=groups, **options), n)


def pooling(function: Callable[..., Tensor], inputs: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """A pooling function, of each channel by itself, of inputs [n, batch, channels, ...]."""
    return _stacked(function(_wide(inputs), *arguments, **options), len(inputs))


def batch_norm(inputs: Tensor, mean: Tensor | None, variance: Tensor | None, *arguments: Any, **options: Any) -> Tensor:
    """``F.batch_norm`` of inputs [n, batch, channels, ...], and of vectors [n, channels], as n times as many channels.

    The running statistics change in place. vmap's own form normalises in one pass and scales and shifts in two more.
    """
    statistics: list[Any] = [value if value is None else value.view(-1) for value in (mean, variance)]
    flat: list[Any] = [value.flatten() if isinstance(value, Tensor) else value for value in arguments]
    named: dict[str, Any] = {
        name: value.flatten() if isinstance(value, Tensor) else value for name, value in options.items()
    }
    return _stacked(F.batch_norm(_wide(inputs), *statistics, *flat, **named), len(inputs))


def cross_entropy(logits: Tensor, targets: Tensor, **_: Any) -> Tensor:
    """The mean cross entropies [n] of logits [n, batch, classes] and targets [n, batch] or [batch].

    Classes come first there: a softmax over a few neighbouring numbers is not vectorised, and costs five times as much.
    """
    targets = targets.expand(logits.shape[:2])
    classes_first = logits.movedim(-1, 0).reshape(1, logits.shape[-1], -1)
    losses = F.cross_entropy(classes_first, targets.reshape(1, -1), reduction="none")
    return losses.view(targets.shape).mean(1)


class Substitute:
    """``torch.func.functional_call`` for a module that is called again and again: tensors' places are found once.

    Tied parameters stay tied; buffers that the module replaces are replaced in the state as well.

    :param module: the module; the places of its parameters and buffers must not change
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        names = {id(tensor): name for name, tensor in (*module.named_parameters(), *module.named_buffers())}
        self._places: list[tuple[dict[str, Any], str, str]] = [
            (store, key, names[id(tensor)])
            for layer in module.modules()
            for store in (layer._parameters, layer._buffers)
            for key, tensor in store.items()
            if tensor is not None
        ]

    def __call__(self, state: dict[str, Tensor], inputs: Sequence[Any]) -> Any:
        """Return ``module(*inputs)`` with the parameters and buffers of ``state``."""
        own = [store[key] for store, key, _ in self._places]
        for store, key, name in self._places:
            store[key] = state[name]
        try:
            return self.module(*inputs)
        finally:
            for (store, key, name), tensor in zip(self._places, own, strict=True):
                state[name], store[key] = store[key], tensor


_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_PLAIN = {"weight": None, "size_average": None, "ignore_index": -100, "reduce": None, "reduction": "mean"}


def _is_product_of_rows(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    return inputs.dim() == 2 and vmap.is_stacked(weight, inputs, bias)


def _is_convolution(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **options: Any) -> bool:
    bias = options.get("bias", bias)
    same = bias is None or vmap.is_stacked(bias)
    return same and inputs.dim() == weight.dim() and vmap.is_stacked(weight, inputs)


def _is_pooling(rank: int, inputs: Tensor, *_: Any, **options: Any) -> bool:
    return inputs.dim() == rank and not options.get("return_indices") and vmap.is_stacked(inputs)


def _is_batch_norm(*arguments: Any, **options: Any) -> bool:
    tensors = [value for value in (*arguments, *options.values()) if isinstance(value, Tensor)]
    return all(map(vmap.is_stacked, tensors))


def _is_mean_over_rows(logits: Tensor, targets: Tensor, *others: Any, **options: Any) -> bool:
    """Whether logits are a matrix, targets integers, and every option of F.cross_entropy at its default."""
    plain = not others and all(value == _PLAIN.get(name, 0.0) for name, value in options.items())
    return plain and logits.dim() == 2 and targets.dim() == 1 and vmap.is_stacked(logits, targets)


_Form = tuple[Callable[..., bool], Callable[..., Tensor]]
"""Whether it applies to the arguments of a call, and what is called on the stacked tensors instead."""
_POOLING: dict[Any, int] = {
    **dict.fromkeys((torch.max_pool1d, F.avg_pool1d, torch.adaptive_avg_pool1d), 3),
    **dict.fromkeys((torch.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d), 4),
}


_FORMS: dict[Any, _Form] = {
    F.cross_entropy: (_is_mean_over_rows, cross_entropy),
    F.batch_norm: (_is_batch_norm, batch_norm),
    **{f: (_is_convolution, partial(convolution, f)) for f in (F.conv1d, F.conv2d, F.conv3d)},
    **{f: (partial(_is_pooling, rank), partial(pooling, f)) for f, rank in _POOLING.items()},
}


class BatchedLayers(TorchFunctionMode):
    """While active, the layers in the table run in these forms under vmap; results are equal up to rounding.

    The stacked tensors are taken out of vmap's wrappers and the results put back, which costs a tenth of what an
    ``autograd.Function`` with a rule for vmap does. For one level of vmap, with gradients taken outside of it, as the
    ensemble does; anything else is left to vmap.

    :param pool: where gradients of linear layers' weights lie
    """

    def __init__(self, pool: GradientPool) -> None:
        super().__init__()
        self.linear: _Form = _is_product_of_rows, partial(_linear, pool)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        form = self.linear if func is F.linear else _FORMS.get(func)
        if form is not None and "input" not in options and form[0](*args, **options):
            return vmap.outside(form[1], args, options)
        return func(*args, **options)


def _linear(pool: GradientPool, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return linear(inputs, weight, bias, pool)


_REDUCED = (F.linear, F.conv1d, F.conv2d, F.conv3d, torch.matmul, Tensor.matmul, torch.bmm, torch.baddbmm)
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
        if func in _REDUCED:
            args = tuple(_cast(value, self.dtype) for value in args)
            kwargs = {name: _cast(value, self.dtype) for name, value in (kwargs or {}).items()}
        elif func in _NORMALISATIONS:
            args = (_cast(args[0], torch.float32), *args[1:])
        return func(*args, **(kwargs or {}))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
