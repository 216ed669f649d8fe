"""What a module keeps outside its parameters and buffers, which all particles would share: it is refused."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from farl.errors import ConfigError


def refuse_hidden_state(module: nn.Module) -> None:
    """Refuse tensors outside parameters and buffers.

    :raises ConfigError: for the first of them
    """
    for name, layer in module.named_modules():
        for attribute, value in vars(layer).items():
            if isinstance(value, Tensor):
                raise ConfigError(
                    f"{name or type(layer).__name__}.{attribute} is a tensor outside the module's parameters and "
                    "buffers, so all particles would share it: use self.register_buffer"
                )


def plain_state(module: nn.Module) -> dict[str, Any]:
    """Return the numbers and sequences a module keeps as plain attributes, which a forward pass may change.

    Of a sequence's entries that are neither, such as the list of its weights in an LSTM, the type alone.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [plain(entry) for entry in value]
        return value if isinstance(value, (int, float, str)) else type(value)

    return {
        f"{name or type(layer).__name__}.{attribute}": plain(value)
        for name, layer in module.named_modules()
        for attribute, value in vars(layer).items()
        if isinstance(value, (int, float, str, tuple, list))
    }


def refuse_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse a module whose :func:`plain_state` a forward pass has changed.

    :raises ConfigError: for the first change
    """
    for name in after:
        if name not in before or before[name] != after[name]:
            raise ConfigError(
                f"{name} changes when the module runs: it would be shared by all particles and count batched calls; "
                "keep such state in a buffer (self.register_buffer)"
            )
