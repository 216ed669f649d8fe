"""Choosing which particles survive, in proportion to their weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from farl.errors import ConfigError


@dataclass(frozen=True)
class Resampling:
    """When and how to resample.

    :param threshold: resample when the effective sample size falls below this share of the particles
    :param jitter: standard deviation of the Gaussian noise added to every resampled parameter, as a multiple of that
        parameter's standard deviation over the particles; without it copies would stay copies.
    """

    threshold: float = 0.5
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold is a share of the particles in (0, 1], got {self.threshold}")
        if not self.jitter >= 0:
            raise ConfigError(f"jitter must be at least 0, got {self.jitter}")


def systematic(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Return ancestors int64[..., N] drawn with one uniform offset (low variance) for weights [..., N].

    Particle i gets floor or ceil of N w_i copies.
    """
    n = weights.shape[-1]
    offset = torch.rand((*weights.shape[:-1], 1), generator=generator, dtype=torch.float64)
    points = (torch.arange(n) + offset) / n
    cumulative = weights.double().cpu().cumsum(-1)
    cumulative = cumulative / cumulative[..., -1:]
    ancestors = torch.searchsorted(cumulative.contiguous(), points.contiguous(), right=True)
    return ancestors.clamp_max(n - 1).to(weights.device)


def multinomial(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Return ancestors int64[..., N] drawn independently for weights [..., N]."""
    n = weights.shape[-1]
    flat = weights.double().cpu().reshape(-1, n)
    ancestors = torch.multinomial(flat, n, replacement=True, generator=generator)
    return ancestors.reshape(weights.shape).to(weights.device)
