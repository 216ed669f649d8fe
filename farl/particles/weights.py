"""Log-weights of particles: normalising, effective sample size, tempering. Particles lie along the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from farl.errors import ConfigError


class ImpossibleEvidenceError(ConfigError, FloatingPointError):
    """Evidence that no particle explains: a likelihood of 0 for all of them, or one that is no number."""


def normalise(log_weights: Tensor) -> Tensor:
    """Return log-weights [..., N] shifted so that the weights sum to one."""
    return log_weights.log_softmax(-1)


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Return 1 / sum of squared normalised weights, [...], between 1 and N, for log-weights [..., N]."""
    return torch.exp(-(2 * normalise(log_weights)).logsumexp(-1))


_GRID = 2**10
_ROUNDS = 5


def temperature_for(log_weights: Tensor, floor: float) -> Tensor:
    """Return the largest factor tau in [0, 1], shape [...], with ESS(softmax(tau log w)) >= ``floor``.

    The effective sample size never rises with tau, so that the last good point of a grid tells where to look closer:
    five grids of 1 024 points come as near as fifty bisections, in a tenth of the operations.
    """
    low = torch.zeros_like(log_weights[..., :1])
    points = torch.arange(_GRID, dtype=low.dtype, device=low.device) / _GRID
    for step in range(_ROUNDS):
        tried = low + points / _GRID**step
        good = effective_sample_size(tried[..., None] * log_weights[..., None, :]) >= floor
        low = torch.where(good, tried, low).amax(-1, keepdim=True)
    return torch.where(effective_sample_size(log_weights) >= floor, 1.0, low[..., 0])


class Tempering(Protocol):
    """How strongly evidence moves the weights.

    ``likelihood_scale`` multiplies the mean loss of a batch before it enters the log-weights; ``temperature`` [...]
    multiplies the accumulated log-weights [..., N] where they are used.
    """

    def likelihood_scale(self, batch_size: int, dataset_size: int | None, epochs: int) -> float:
        """Return the factor of the batch's mean loss."""

    def temperature(self, log_weights: Tensor) -> Tensor:
        """Return the factor of the log-weights in predictions, shape [...]."""


@dataclass(frozen=True)
class FixedTempering:
    """Every batch counts as ``beta`` observations, whatever its size.

    ``beta = 1`` is the published filter, whose likelihood is the batch mean; ``beta = 0`` is plain averaging.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise ConfigError(f"beta must be at least 0, got {self.beta}")

    def likelihood_scale(self, batch_size: int, dataset_size: int | None, epochs: int) -> float:
        """Return ``beta``."""
        return self.beta

    def temperature(self, log_weights: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(log_weights[..., 0])


@dataclass(frozen=True)
class DatasetTempering:
    """A whole call of ``fit`` counts as ``observations`` independent ones, however many batches and epochs it has.

    ``None`` counts every sample of the data set once: the likelihood of Bayes' rule, with nothing counted twice.
    """

    observations: float | None = None

    def likelihood_scale(self, batch_size: int, dataset_size: int | None, epochs: int) -> float:
        """Return the number of observations that one batch stands for."""
        if dataset_size is None:
            if self.observations is not None or epochs != 1:
                raise ConfigError(
                    "tempering by data-set size needs to know that size: fit a loader whose dataset has a length"
                )
            return float(batch_size)
        total = dataset_size if self.observations is None else self.observations
        return total * batch_size / (dataset_size * epochs)

    def temperature(self, log_weights: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(log_weights[..., 0])


@dataclass(frozen=True)
class EssFloorTempering:
    """Weights are flattened until the effective sample size reaches ``floor`` (a share of the particles).

    The log-weights themselves keep all evidence and stay independent of its order; only their use is tempered, so
    evidence that came early is not frozen in and a temperature can rise again.
    """

    floor: float = 0.5
    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 1:
            raise ConfigError(f"floor is a share of the particles in (0, 1], got {self.floor}")

    def likelihood_scale(self, batch_size: int, dataset_size: int | None, epochs: int) -> float:
        """Return ``beta`` times the batch size: the likelihood of all its samples."""
        return self.beta * batch_size

    def temperature(self, log_weights: Tensor) -> Tensor:
        """Return the largest factor that keeps the floor."""
        return temperature_for(log_weights, self.floor * log_weights.shape[-1])
