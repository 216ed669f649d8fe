"""Networks that turn observations into features: for large and small images, for vectors, and for all at once."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

ATARI_MIN_SIDE = 36
"""Shortest image side, in pixels, that the Atari convolutions (strides 4, 2, 1) can reduce."""
CONVOLUTION_MIN_SIDE = 7
"""Shortest image side, in pixels, that the small convolutions (strides 2, 2) can reduce."""


class PackedShape(tuple[int, ...]):
    """The shape of observations that join images and numbers to one vector, [d]; it remembers where each part is.

    :param parts: shapes in their order; [channels, height, width] for an image, [n] for numbers
    """

    parts: tuple[tuple[int, ...], ...]

    def __new__(cls, parts: Iterable[tuple[int, ...]]) -> "PackedShape":  # noqa: D102
        shapes = tuple(parts)
        packed = super().__new__(cls, (sum(math.prod(shape) for shape in shapes),))
        packed.parts = shapes
        return packed

    def __getnewargs__(self) -> tuple[tuple[tuple[int, ...], ...]]:
        return (self.parts,)


def make_encoder(shape: tuple[int, ...], hidden: int) -> tuple[nn.Sequential, int]:
    """Build the trunk for observations of a shape and return it with the width of its output.

    - images of at least 36 x 36 pixels: convolutions 32/8/4, 64/4/2, 64/3/1 as in Burda et al. (2019)
    - smaller images: convolutions 32/3/2, 64/3/2
    - a ``PackedShape``: each image as above, and all numbers together
    - anything else: flattened, one layer of ``hidden`` units

    :param shape: shape of one observation; [channels, height, width] for an image, ``PackedShape`` for several at once
    :param hidden: width of the vector trunk
    :raises ValueError: if an image is too small for any convolution
    """
    if isinstance(shape, PackedShape):
        packed = _PackedEncoder(shape, hidden)
        return nn.Sequential(packed), packed.width
    if len(shape) != 3:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), hidden), nn.LeakyReLU()), hidden
    channels, height, width = shape
    if min(height, width) >= ATARI_MIN_SIDE:
        layers = [(channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)]
    elif min(height, width) >= CONVOLUTION_MIN_SIDE:
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


class _PackedEncoder(nn.Module):
    """Encodes each image by convolutions of its own, and all numbers by one layer; the features are joined."""

    def __init__(self, shape: PackedShape, hidden: int) -> None:
        super().__init__()
        self._shapes = shape.parts
        images = [part for part in shape.parts if len(part) == 3]
        numbers = sum(math.prod(part) for part in shape.parts if len(part) != 3)
        made = [make_encoder(part, hidden) for part in [*images, *([(numbers,)] if numbers else [])]]
        self.encoders = nn.ModuleList(encoder for encoder, _ in made)
        self.width = sum(width for _, width in made)

    def forward(self, packed: Tensor) -> Tensor:
        """Return the features of B observations, float32[B, d] -> float32[B, width]."""
        parts = torch.split(packed, [math.prod(shape) for shape in self._shapes], dim=-1)
        both = list(zip(parts, self._shapes, strict=True))
        inputs = [part.reshape(*part.shape[:-1], *shape) for part, shape in both if len(shape) == 3]
        numbers = [part for part, shape in both if len(shape) != 3]
        if numbers:
            inputs.append(torch.cat(numbers, dim=-1))
        return torch.cat([encoder(each) for encoder, each in zip(self.encoders, inputs, strict=True)], dim=-1)


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
