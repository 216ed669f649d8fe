"""Networks that turn observations into features: for Atari-sized images, small images, and vectors."""

import math

import torch
from torch import Tensor, nn

ATARI_MIN_SIDE = 36
"""Shortest image side, in pixels, that the Atari convolutions (strides 4, 2, 1) can reduce."""


def make_encoder(shape: tuple[int, ...], hidden: int) -> tuple[nn.Sequential, int]:
    """Build the trunk for observations of a shape and return it with the width of its output.

    - images of at least 36 x 36 pixels: convolutions 32/8/4, 64/4/2, 64/3/1 as in Burda et al. (2019)
    - smaller images: convolutions 32/3/2, 64/3/2
    - anything else: flattened, one layer of ``hidden`` units

    :param shape: of one observation; [channels, height, width] for an image
    :param hidden: width of the vector trunk
    :raises ValueError: if an image is too small for any convolution
    """
    if len(shape) != 3:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), hidden), nn.LeakyReLU()), hidden
    channels, height, width = shape
    if min(height, width) >= ATARI_MIN_SIDE:
        layers = [(channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)]
    elif min(height, width) >= 7:
        layers = [(channels, 32, 3, 2), (32, 64, 3, 2)]
    else:
        raise ValueError(f"an image of {height} x {width} pixels is too small; flatten the observation to a vector")
    trunk: list[nn.Module] = []
    for inputs, outputs, kernel, stride in layers:
        trunk += [nn.Conv2d(inputs, outputs, kernel, stride), nn.LeakyReLU()]
    network = nn.Sequential(*trunk, nn.Flatten())
    with torch.no_grad():
        size = network(torch.zeros(1, *shape)).shape[1]
    return network, size


def initialise(network: nn.Module, gain: float = math.sqrt(2)) -> None:
    """Draw all weights orthogonally and set all biases to zero (Burda et al., 2019)."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def image_to_float(observations: Tensor) -> Tensor:
    """Scale uint8 images to [0, 1]; everything else becomes float32 unscaled."""
    return observations.float() / 255.0 if observations.dtype == torch.uint8 else observations.float()
