"""One level of ``torch.vmap``, opened, so that some layers can run on the stacked tensors as they are.

torch has no public way to reach them, and its checks cost more than a small network. Where its private parts are
missing or other than this module knows, everything runs through ``torch.vmap`` instead: equal results, slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

try:
    from torch._C import _functorch as functorch
    from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
    from torch._functorch.vmap import lazy_load_decompositions, vmap_increment_nesting  # type: ignore[attr-defined]

    lazy_load_decompositions()
    _USED = ("_add_batch_dim", "_remove_batch_dim", "get_unwrapped", "is_batchedtensor", "is_functorch_wrapped_tensor")
    OPEN = all(hasattr(functorch, name) for name in (*_USED, "maybe_current_level", "maybe_get_bdim"))
    """Whether this torch can be opened."""
except (ImportError, AttributeError):
    OPEN = False


def call(function: Callable[..., Any], n: int, args: Sequence[Any], stacked: Sequence[bool]) -> Any:
    """Return ``torch.vmap(function, in_dims=[0 if s else None for s in stacked], randomness="different")(*args)``.

    :param n: length of the stacked axis
    :param args: tensors or dictionaries of tensors, with a first axis of ``n`` where they are stacked
    """
    if not OPEN:
        return torch.vmap(function, tuple(0 if s else None for s in stacked), randomness="different")(*args)
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


def is_stacked(value: Any, *others: Any) -> bool:
    """Whether ``value`` has vmap's axis, there is one level of vmap and nothing else, and the others may join it."""
    if not OPEN or functorch.maybe_current_level() != 1 or not functorch.is_batchedtensor(value):
        return False
    tensors = (other for other in others if isinstance(other, Tensor))
    return all(not functorch.is_functorch_wrapped_tensor(t) or functorch.is_batchedtensor(t) for t in tensors)


def outside(function: Callable[..., Tensor], args: Sequence[Any], options: dict[str, Any]) -> Tensor:
    """Call ``function`` outside of vmap, on stacked tensors with vmap's axis first, and take its result back in."""
    arguments = [_unwrapped(value) for value in args]
    named = {name: _unwrapped(value) for name, value in options.items()}
    with temporarily_pop_interpreter_stack():
        result = function(*arguments, **named)
    return functorch._add_batch_dim(result, 0, 1)


def _unwrapped(value: Any) -> Any:
    if not isinstance(value, Tensor) or not functorch.is_batchedtensor(value):
        return value
    axis = functorch.maybe_get_bdim(value)
    stacked = functorch.get_unwrapped(value)
    return stacked.movedim(axis, 0) if axis else stacked  # not even a view, so that a leaf stays a leaf
