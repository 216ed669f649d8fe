"""Layers whose forms under vmap are slower than they need be, done for all particles at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
from torch._functorch.vmap import lazy_load_decompositions, vmap_increment_nesting  # type: ignore[attr-defined]
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

lazy_load_decompositions()


SHORT = 128
"""Inputs of a layer up to which one product with all particles' weights is faster than a batch of products."""
LARGE = 4 * 2**20
"""Bytes of one particle's weight from which on it comes from memory for every product, not from a cache."""
FEW = 16
"""Rows of a batch up to which such a product could run as fast as the memory gives the weight."""
BLOCK = 32
"""Rows of a weight that the processor's matrix product reads as they lie; more of them it copies first."""


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
    columns = inputs.mT.contiguous()
    result = inputs.new_empty(*weight.shape[:2], columns.shape[2])
    for rows in _blocks(weight):
        torch.bmm(weight[:, rows], columns, out=result[:, rows])
    return (result if bias is None else result.add_(bias[..., None])).mT


def product_transposed(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return ``gradient [n, batch, out] @ weight [n, out, in]``: [n, batch, in]."""
    if not _waits_for_memory(gradient, weight):
        return torch.bmm(gradient, weight)
    first, *others = _blocks(weight)
    result = torch.bmm(gradient[:, :, first], weight[:, first])
    for rows in others:
        result.baddbmm_(gradient[:, :, rows], weight[:, rows])
    return result


def _waits_for_memory(inputs: Tensor, weight: Tensor) -> bool:
    large = weight[0].numel() * weight.element_size() >= LARGE
    return large and 1 < inputs.shape[1] <= FEW and weight.device.type == "cpu"


def _blocks(weight: Tensor) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, weight.shape[1], BLOCK)]


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


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None, pool: GradientPool) -> Tensor:
    return _StackedLinear.apply(inputs, weight, bias, pool)  # type: ignore[no-any-return, no-untyped-call]


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross entropies [n] of logits [n, batch, classes] and targets [n, batch] or [batch].

    Classes come first there: a softmax over a few neighbouring numbers is not vectorised, and costs five times as much.
    """
    targets = targets.expand(logits.shape[:2])
    classes_first = logits.movedim(-1, 0).reshape(1, logits.shape[-1], -1)
    losses = F.cross_entropy(classes_first, targets.reshape(1, -1), reduction="none")
    return losses.view(targets.shape).mean(1)


def _batch_norm(inputs: Tensor, mean: Tensor | None, variance: Tensor | None, **options: Any) -> Tensor:
    """``F.batch_norm`` of inputs [n, batch, channels, ...], and of vectors [n, channels], as n times as many channels.

    The running statistics change in place. vmap's own form normalises in one pass and scales and shifts in two more.
    """
    statistics = [value if value is None else value.view(-1) for value in (mean, variance)]
    flat: dict[str, Any] = {name: v.flatten() if isinstance(v, Tensor) else v for name, v in options.items()}
    wide = F.batch_norm(inputs.transpose(0, 1).flatten(1, 2), statistics[0], statistics[1], **flat)
    return wide.view(len(wide), *inputs.shape[:1], -1, *wide.shape[2:]).transpose(0, 1)


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


def call_stacked(function: Callable[..., Any], n: int, args: Sequence[Any], stacked: Sequence[bool]) -> Any:
    """Return ``torch.vmap(function, in_dims=[0 if s else None for s in stacked], randomness="different")(*args)``.

    The arguments are tensors or dictionaries of tensors, with a first axis of ``n`` where they are stacked. Without
    the checks and the handling of nested structures by which vmap itself costs more than a small network.
    """
    with vmap_increment_nesting(n, "different") as level:

        def wrapped(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: functorch._add_batch_dim(part, 0, level) for name, part in value.items()}
            return functorch._add_batch_dim(value, 0, level)

        results = function(*(wrapped(arg) if s else arg for arg, s in zip(args, stacked, strict=True)))
        return _mapped(lambda value: functorch._remove_batch_dim(value, level, n, 0), results)


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """``tree_map`` with a short way for tensors in tuples and dictionaries."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) is tuple:
        return tuple(_mapped(function, part) for part in value)
    if type(value) is dict:
        return {name: _mapped(function, part) for name, part in value.items()}
    return tree_map(function, value)


class BatchedLayers(TorchFunctionMode):
    """While active, vmapped linear layers and cross entropies run in these forms; results are equal up to rounding.

    The stacked tensors are taken out of vmap's wrappers and the results put back, which costs a tenth of what an
    ``autograd.Function`` with a rule for vmap does. For one level of vmap, with gradients taken outside of it, as the
    ensemble does; anything else is left to vmap.
    """

    def __init__(self, pool: GradientPool) -> None:
        super().__init__()
        self.pool = pool

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and args[0].dim() == 2 and _is_stacked(args[1], *args):
            inputs, weight, bias = (*args, None)[:3]
            return _stacked_call(_linear, inputs, weight, bias, self.pool)
        if func is F.cross_entropy and _is_plain(args, kwargs or {}) and _is_stacked(args[0], *args):
            return _stacked_call(_cross_entropy, *args[:2])
        if func is F.batch_norm and all(map(_is_stacked, _tensors(*args, *(kwargs or {}).values()))):
            return _stacked_call(_batch_norm, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _is_stacked(value: Any, *others: Any) -> bool:
    """Whether ``value`` has vmap's axis, there is one level of vmap and nothing else, and the others may join it."""
    if functorch.maybe_current_level() != 1 or not functorch.is_batchedtensor(value):
        return False
    return all(not functorch.is_functorch_wrapped_tensor(v) or functorch.is_batchedtensor(v) for v in _tensors(*others))


def _tensors(*values: Any) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def _stacked_call(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Call ``function`` outside of vmap, on stacked tensors with the axis of vmap first."""
    arguments = [_unwrapped(value) for value in args]
    options = {name: _unwrapped(value) for name, value in kwargs.items()}
    with temporarily_pop_interpreter_stack():
        result = function(*arguments, **options)
    return functorch._add_batch_dim(result, 0, 1)


def _unwrapped(value: Any) -> Any:
    if not isinstance(value, Tensor) or not functorch.is_batchedtensor(value):
        return value
    axis = functorch.maybe_get_bdim(value)
    stacked = functorch.get_unwrapped(value)
    return stacked.movedim(axis, 0) if axis else stacked  # not even a view, so that a leaf stays a leaf


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
