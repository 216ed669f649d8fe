"""Observations as numbers that can be counted."""

import torch
from torch import Tensor, nn

_SCALE = 1000.0


class ExactHash(nn.Module):
    """Gives equal observations equal codes, and different ones different codes up to a chance of about 2^-63.

    A sum with random 64-bit weights, in integers: unlike a sum of floats it does not depend on the size of the batch.
    Real numbers count as equal where they agree to three decimals.

    :param size: number of elements of an observation
    :param generator: draws the weights
    """

    weights: Tensor

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        largest = torch.iinfo(torch.int64).max
        self.register_buffer("weights", torch.randint(-largest, largest, (size,), generator=generator) | 1)

    def forward(self, observations: Tensor) -> Tensor:
        """Return the codes of B observations, [B, ...] -> int64[B]."""
        flat = observations.flatten(1)
        whole = (flat * _SCALE).round() if flat.is_floating_point() else flat
        return (whole.long() * self.weights).sum(dim=1)


class SimHash(nn.Module):
    """Gives observations that resemble each other equal codes: the signs of random projections (Charikar, 2002).

    :param size: number of elements of an observation
    :param bits: number of projections, at most 62; fewer lump more together
    :param generator: draws the projections
    """

    projections: Tensor

    def __init__(self, size: int, bits: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("projections", torch.randn((size, bits), generator=generator))

    def forward(self, observations: Tensor) -> Tensor:
        """Return the codes of B whitened observations, float32[B, ...] -> int64[B]."""
        signs = observations.flatten(1) @ self.projections > 0
        return (signs.long() << torch.arange(signs.shape[1], device=signs.device)).sum(dim=1)
