"""State estimation: the interface of observations and filters, and the resampling baselines.

Particles are tensors [..., n, m]: n particles of an m-dimensional state, with any leading axes (such as trials) that
are filtered side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from farl.particles.resampling import multinomial, systematic
from farl.particles.weights import effective_sample_size, normalise

Dynamics = Callable[[Tensor, torch.Generator], Tensor]
"""``dynamics(particles [..., n, m], generator)`` draws each particle's next state."""


class Observation(Protocol):
    """What was seen, as a likelihood of states."""

    def loss(self, particles: Tensor) -> Tensor:
        """Return the negative log-likelihood [..., n] of states [..., n, m], up to a constant; differentiable."""


@dataclass(frozen=True)
class GaussianObservation:
    """``value = function(state) + N(0, covariance)``, which the Kalman filters need.

    Attributes:
        function: [..., n, m] to [..., n, k].
        value: [..., k].
        covariance: [k, k].
    """

    function: Callable[[Tensor], Tensor]
    value: Tensor
    covariance: Tensor

    def loss(self, particles: Tensor) -> Tensor:
        """Return half the squared Mahalanobis distance of the predicted observations."""
        error = self.function(particles) - self.value[..., None, :]
        precision: Tensor = torch.linalg.inv(self.covariance)
        return (error @ precision * error).sum(-1) / 2


@dataclass(frozen=True)
class LikelihoodObservation:
    """An observation of which only the negative log-likelihood is known."""

    function: Callable[[Tensor], Tensor]

    def loss(self, particles: Tensor) -> Tensor:
        """Return ``function(particles)``."""
        return self.function(particles)


def loss_and_gradient(observation: Observation, particles: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses [..., n] and their gradients [..., n, m] at the particles."""
    points = particles.detach().requires_grad_()
    loss = observation.loss(points)
    (gradient,) = torch.autograd.grad(loss.sum(), points)
    return loss.detach(), gradient


class StateFilter(ABC):
    """A cloud of particles that follows a state through dynamics and observations.

    Args:
        particles: [..., n, m] draws from the prior.
        generator: Source of randomness; seeded with 0 if None.

    Attributes:
        particles: [..., n, m].
        log_weights: [..., n], normalised.
    """

    def __init__(self, particles: Tensor, generator: torch.Generator | None = None) -> None:
        if particles.dim() < 2 or particles.shape[-2] < 2:
            raise ValueError(f"particles must have shape [..., n >= 2, m], got {tuple(particles.shape)}")
        self.particles = particles.clone()
        self.log_weights = normalise(torch.zeros(particles.shape[:-1], dtype=particles.dtype))
        self.generator = generator if generator is not None else torch.Generator().manual_seed(0)

    def predict(self, dynamics: Dynamics) -> None:
        """Draw every particle's next state."""
        self.particles = dynamics(self.particles, self.generator)

    @abstractmethod
    def update(self, observation: Observation) -> None:
        """Take an observation into account."""

    def step(self, observation: Observation, dynamics: Dynamics | None = None) -> None:
        """Predict (if there are dynamics), then update."""
        if dynamics is not None:
            self.predict(dynamics)
        self.update(observation)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the weighted mean [..., m] and covariance [..., m, m] of the particles.

        With equal weights the covariance is the unbiased one (divided by n - 1).
        """
        weights = self.log_weights.exp()
        mean = (weights[..., None] * self.particles).sum(-2)
        centred = self.particles - mean[..., None, :]
        covariance = centred.mT @ (weights[..., None] * centred)
        return mean, covariance / (1 - (weights**2).sum(-1)).clamp_min(1e-12)[..., None, None]

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)

    def _take(self, ancestors: Tensor) -> None:
        self.particles = self.particles.gather(-2, ancestors[..., None].expand_as(self.particles))
        self.log_weights = normalise(torch.zeros_like(self.log_weights))


class MonteCarloLocalisation(StateFilter):
    """Jitter, weight by the likelihood, resample multinomially at every step: the baseline of arXiv 2404.13698.

    Args:
        particles: [..., n, m] draws from the prior.
        generator: Source of randomness.
        jitter: Standard deviation of the noise added to every particle before it is weighted.
    """

    def __init__(self, particles: Tensor, generator: torch.Generator | None = None, jitter: float = 0.1) -> None:
        super().__init__(particles, generator)
        self.jitter = jitter

    def update(self, observation: Observation) -> None:
        """Jitter, weight and resample."""
        self.particles = self.particles + self.jitter * self._noise(self.particles)
        self._take(multinomial(normalise(-observation.loss(self.particles)).exp(), self.generator))


class BootstrapFilter(StateFilter):
    """Weights by the likelihood; resamples systematically when the effective sample size falls below a threshold.

    Args:
        particles: [..., n, m] draws from the prior.
        generator: Source of randomness.
        threshold: Share of the particles below which to resample.
        jitter: Standard deviation of the noise added to resampled particles; a static state needs it, or the
            particles can only die out.
    """

    def __init__(
        self,
        particles: Tensor,
        generator: torch.Generator | None = None,
        threshold: float = 0.5,
        jitter: float = 0.0,
    ) -> None:
        super().__init__(particles, generator)
        self.threshold = threshold
        self.jitter = jitter

    def update(self, observation: Observation) -> None:
        """Weight, and resample where the weights have degenerated."""
        self.log_weights = normalise(self.log_weights - observation.loss(self.particles))
        n = self.particles.shape[-2]
        due = effective_sample_size(self.log_weights) < self.threshold * n
        if bool(due.any()):
            kept, held = self.particles, self.log_weights
            self._take(systematic(held.exp(), self.generator))
            self.particles = self.particles + self.jitter * self._noise(kept)
            self.particles = torch.where(due[..., None, None], self.particles, kept)
            self.log_weights = torch.where(due[..., None], self.log_weights, held)
