"""One forward pass through many copies of a network, each with parameters and samples of its own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Parameters = dict[str, Tensor]
StackedForward = Callable[[Parameters, Tensor], Tensor]

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Identity)


def stacked_forward(network: nn.Module) -> StackedForward | None:
    """Return a function from stacked parameters and inputs to outputs, or None for networks that are not understood.

    What ``torch.func.vmap`` does for any network, for sequences of linear, convolutional, elementwise and flattening
    layers alone: as batched products and grouped convolutions that are written out, several times faster where the
    networks are small: they are called in every step, and vmap takes longer to set out than such networks to compute.
    (Filters over particles take any network, and large batches of updates: ``farl.particles`` stays with vmap.)

    The function takes a dict of ``[T, *shape of the parameter]`` and inputs ``[T, W, ...]``: T copies, W samples each.
    """
    layers = _layers(network, "")
    if layers is None:
        return None

    def forward(parameters: Parameters, inputs: Tensor) -> Tensor:
        for layer in layers:
            inputs = layer(parameters, inputs)
        return inputs

    return forward


def _layers(module: nn.Module, prefix: str) -> list[StackedForward] | None:
    if isinstance(module, nn.Sequential):
        found = [_layers(part, f"{prefix}{name}.") for name, part in module.named_children()]
        return None if any(part is None for part in found) else [layer for part in found for layer in part or []]
    if isinstance(module, nn.Linear) and module.bias is not None:
        return [_linear(prefix)]
    if isinstance(module, nn.Conv2d) and _is_plain(module):
        return [_convolution(prefix, module)]
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return [lambda _, inputs: inputs.flatten(2)]
    if isinstance(module, _ELEMENTWISE):
        return [lambda _, inputs: module(inputs)]
    return None


def _linear(prefix: str) -> StackedForward:
    weight, bias = f"{prefix}weight", f"{prefix}bias"

    def forward(parameters: Parameters, inputs: Tensor) -> Tensor:
        return torch.baddbmm(parameters[bias].unsqueeze(1), inputs, parameters[weight].transpose(1, 2))

    return forward


def _convolution(prefix: str, layer: nn.Conv2d) -> StackedForward:
    weight, bias, stride = f"{prefix}weight", f"{prefix}bias", layer.stride

    def forward(parameters: Parameters, inputs: Tensor) -> Tensor:
        copies = len(inputs)
        side_by_side = inputs.transpose(0, 1).flatten(1, 2)
        outputs = nn.functional.conv2d(
            side_by_side, parameters[weight].flatten(0, 1), parameters[bias].flatten(), stride, groups=copies
        )
        samples, _, height, width = outputs.shape
        return outputs.view(samples, copies, -1, height, width).transpose(0, 1)

    return forward


def _is_plain(layer: nn.Conv2d) -> bool:
    """Whether a convolution has a bias, and neither padding, dilation nor groups."""
    nothing_else = (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
    return layer.bias is not None and nothing_else
