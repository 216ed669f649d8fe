"""Torch's compiler takes seconds to import, and torch imports it for the first optimiser, compiled or not."""

import sys
from collections.abc import Callable
from typing import Any

import torch

_NEVER_TRACED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def import_compiler_on_demand() -> None:
    """Let torch's optimisers do without ``torch._dynamo`` until something else has imported it.

    These methods ask the compiler not to trace them, and import it in order to ask. As long as it is not imported it
    traces nothing; as soon as it is, they ask as ever.
    """
    for name in _NEVER_TRACED:
        method = getattr(getattr(torch.optim.Optimizer, name, None), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            # torch._disable_dynamo looks here for the method as it is outside of the compiler.
            setattr(method, "__dynamo_disable", _untraced(method))


def _untraced(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return method(*args, **kwargs)
        disabled = sys.modules["torch._dynamo"].disable(method, wrapping=False)
        setattr(method, "__dynamo_disable", disabled)
        return disabled(*args, **kwargs)

    return call
