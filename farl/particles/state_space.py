"""State estimation: the interface of observations and filters, and the resampling baselines.

Particles are tensors [..., n, m]: n particles of an m-dimensional state, with any leading axes (such as trials) that
are filtered side by side. States that do not add, such as poses, come with their ``manifold``: every filter then works
on the particles' coordinates in the tangent space in their middle, and never knows.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.manifold import Manifold
from farl.particles.resampling import multinomial, systematic
from farl.particles.weights import ImpossibleEvidenceError, effective_sample_size, normalise

Dynamics = Callable[[Tensor, torch.Generator], Tensor]
"""``dynamics(particles [..., n, m], generator)`` draws each particle's next state."""
Impossible = Literal["raise", "keep"]

logger = logging.getLogger(__name__)


class Observation(Protocol):
    """What was seen, as a likelihood of states."""

    def loss(self, particles: Tensor) -> Tensor:
        """Return the negative log-likelihood [..., n] of states [..., n, m], up to a constant; differentiable."""


@dataclass(frozen=True)
class GaussianObservation:
    """``value = function(state) + N(0, covariance)``, which the Kalman filters need.

    A component of ``value`` that is NaN was not seen: it is left out, in each trial by itself.

    :param function: [..., n, m] to [..., n, k]
    :param value: float[..., k]
    :param covariance: float[k, k] or [..., k, k], symmetric and positive definite
    :raises ConfigError: for a covariance that is none, or of another size than the value
    """

    function: Callable[[Tensor], Tensor]
    value: Tensor
    covariance: Tensor

    def __post_init__(self) -> None:
        k = self.value.shape[-1] if self.value.dim() else 0
        if self.covariance.shape[-2:] != (k, k) or not k:
            raise ConfigError(
                f"an observation of {k} numbers needs a covariance [{k}, {k}] and a value [..., {k}]; got shapes "
                f"{tuple(self.covariance.shape)} and {tuple(self.value.shape)}"
            )
        symmetric = torch.allclose(self.covariance, self.covariance.mT)
        if not symmetric or bool(torch.linalg.cholesky_ex(self.covariance).info.any()):
            raise ConfigError("the covariance of an observation must be symmetric and positive definite")

    @property
    def known(self) -> Tensor:
        """Which components were seen, bool[..., k]."""
        return ~self.value.isnan()

    def restricted(self, known: Tensor) -> GaussianObservation:
        """Return an observation that says the same of the components ``known`` bool[..., k] and nothing of the others.

        Those become 0 = 0 + N(0, 1), whatever the state, and uncorrelated: no filter can learn anything from that.
        """
        if bool(known.all()):
            return self
        zero, one = self.value.new_zeros(()), torch.eye(known.shape[-1]).to(self.covariance)
        return GaussianObservation(
            lambda states: self.function(states).where(known[..., None, :], zero),
            self.value.where(known, zero),
            self.covariance.where(known[..., :, None] & known[..., None, :], one),
        )

    def predict(self, particles: Tensor) -> Tensor:
        """Return ``function(particles)``, [..., n, k].

        :raises ConfigError: if it has another shape, which would be broadcast to a wrong result
        """
        predicted = self.function(particles)
        expected = (particles.shape[-2], self.value.shape[-1])
        if predicted.shape[-2:] != expected or predicted.dim() < particles.dim():
            raise ConfigError(
                f"the observation function must return [..., {expected[0]}, {expected[1]}] (particles, numbers seen) "
                f"for states {tuple(particles.shape)}, not {tuple(predicted.shape)}"
            )
        return predicted

    def loss(self, particles: Tensor) -> Tensor:
        """Return half the squared Mahalanobis distance of the predicted observations, [..., n]."""
        seen = self.restricted(self.known)
        error = seen.predict(particles) - seen.value[..., None, :]
        precision: Tensor = torch.linalg.inv(seen.covariance)
        return (error @ precision * error).sum(-1) / 2


@dataclass(frozen=True)
class LikelihoodObservation:
    """An observation of which only the negative log-likelihood is known."""

    function: Callable[[Tensor], Tensor]

    def loss(self, particles: Tensor) -> Tensor:
        """Return ``function(particles)``."""
        return self.function(particles)


def losses(observation: Observation, particles: Tensor) -> Tensor:
    """Return the losses [..., n] of particles [..., n, m].

    :raises ConfigError: if they have another shape, which would be broadcast to a wrong result
    """
    value = observation.loss(particles)
    if value.shape != particles.shape[:-1]:
        raise ConfigError(
            f"the loss of states {tuple(particles.shape)} must have the shape {tuple(particles.shape[:-1])}, one "
            f"number a particle, not {tuple(value.shape)}"
        )
    return value


def loss_and_gradient(observation: Observation, particles: Tensor, who: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses [..., n] and their gradients [..., n, m], 0 in trials without finite ones, and which those are.

    :raises ConfigError: if torch cannot differentiate the loss
    """
    points = particles.detach().requires_grad_()
    loss = losses(observation, points)
    if not loss.requires_grad:
        raise ConfigError(f"{who} needs a loss that torch can differentiate by the state")
    (gradient,) = torch.autograd.grad(loss.sum(), points)
    loss, zero = loss.detach(), loss.new_zeros(())
    failed = ~(loss.isfinite() & gradient.isfinite().all(-1)).all(-1)
    return loss.where(~failed[..., None], zero), gradient.where(~failed[..., None, None], zero), failed


def weighted_moments(points: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [..., m] and covariance [..., m, m] of points [..., n, m] with log-weights [..., n].

    With equal weights the covariance is the unbiased one (divided by n - 1).
    """
    weights = log_weights.exp()
    mean = (weights[..., None] * points).sum(-2)
    centred = points - mean[..., None, :]
    covariance = centred.mT @ (weights[..., None] * centred)
    return mean, covariance / (1 - (weights**2).sum(-1)).clamp_min(1e-12)[..., None, None]


def random_walk(manifold: Manifold, deviation: float | Tensor, drift: Tensor | None = None) -> Dynamics:
    """Return dynamics with a step of ``drift + deviation * N(0, I)`` in the tangent space of every particle.

    :param manifold: the space of the states
    :param deviation: standard deviation of the step, one number or float[dimension]
    :param drift: mean of the step, float[..., dimension]; 0 if None
    :raises ConfigError: for a deviation below 0 or of another size
    """
    scale = torch.as_tensor(deviation)
    if scale.shape not in ((), (manifold.dimension,)) or not bool((scale >= 0).all()):
        raise ConfigError(
            f"deviation must be a number of at least 0 or {manifold.dimension} of them, got {scale.tolist()}"
        )

    def dynamics(particles: Tensor, generator: torch.Generator) -> Tensor:
        shape = (*particles.shape[:-1], manifold.dimension)
        step = scale.to(particles) * torch.randn(shape, generator=generator, dtype=particles.dtype)
        return manifold.retract(particles, step if drift is None else step + drift.to(particles))

    return dynamics


class StateFilter(ABC):
    """A cloud of particles that follows a state through dynamics and observations.

    :param particles: float[..., n, m] draws from the prior
    :param generator: source of randomness; seeded with 0 if None
    :param impossible: what to do with an observation that no particle explains, in each trial by itself: ``"raise"``
        leaves everything as it was and raises, ``"keep"`` keeps the prior of such a trial, with a warning
    :param manifold: the space of the states, such as :class:`~farl.particles.se3.SE3`; states that add, if None. All
        step sizes and deviations are then those of its tangent space
    :ivar particles: float[..., n, m]
    :ivar log_weights: float[..., n], normalised
    :raises ConfigError: for particles of another shape or that are not finite, or a wrong argument
    """

    _state: tuple[str, ...] = ("particles", "log_weights")
    """Names of the tensors that an update changes, each with an axis (or all the axes) of trials first."""
    _needs = "a likelihood that is above 0 for some particle and infinite for none"

    def __init__(
        self,
        particles: Tensor,
        generator: torch.Generator | None = None,
        *,
        impossible: Impossible = "raise",
        manifold: Manifold | None = None,
    ) -> None:
        if particles.dim() < 2 or particles.shape[-2] < 2 or not particles.is_floating_point():
            raise ConfigError(
                f"particles must be float[..., n >= 2, m], got {particles.dtype} of shape {tuple(particles.shape)}"
            )
        if not bool(particles.isfinite().all()):
            raise ConfigError("particles must be finite: look for NaN or inf in the draws from the prior")
        if impossible not in ("raise", "keep"):
            raise ConfigError(f"impossible must be 'raise' or 'keep', got {impossible!r}")
        if manifold is not None:
            manifold.check(particles)
        self.manifold = manifold
        self.particles = particles.clone()
        self.log_weights = normalise(torch.zeros(particles.shape[:-1], dtype=particles.dtype))
        self.generator = generator if generator is not None else torch.Generator().manual_seed(0)
        self.impossible = impossible

    def predict(self, dynamics: Dynamics) -> None:
        """Draw every particle's next state.

        :raises ConfigError: if the dynamics give other than finite states of the same shape; nothing changes
        """
        moved = dynamics(self.particles, self.generator)
        if moved.shape != self.particles.shape or not bool(moved.isfinite().all()):
            raise ConfigError(
                f"dynamics must return finite states of shape {tuple(self.particles.shape)}; got shape "
                f"{tuple(moved.shape)} with {int((~moved.isfinite()).sum())} numbers that are not finite"
            )
        if self.manifold is not None:
            self.manifold.check(moved)
        self.particles = moved

    def update(self, observation: Observation) -> None:
        """Take an observation into account; what was not seen of it (NaN) is left out.

        :raises ImpossibleEvidenceError: if no particle explains it (see ``impossible``); nothing changes
        """
        lead = self.particles.shape[:-2]
        unseen = torch.zeros(lead, dtype=torch.bool)
        if isinstance(observation, GaussianObservation):
            unseen = (~observation.known.any(-1)).expand(lead)
            if bool(unseen.all()):
                return
        before = {name: getattr(self, name).clone() for name in self._state}
        try:
            failed = self._update_in_chart(observation) & ~unseen
        except Exception:  # whatever it is, the filter is left as it was; it is raised again
            self._restore(before, torch.ones_like(unseen))
            raise
        raising = bool(failed.any()) and self.impossible == "raise"
        self._restore(before, torch.ones_like(failed) if raising else failed | unseen)
        if bool(failed.any()):
            trials = f" in trials {failed.reshape(-1).nonzero().flatten().tolist()}" if lead else ""
            problem = f"{type(self).__name__}: the observation is impossible{trials}; this filter needs {self._needs}"
            if raising:
                raise ImpossibleEvidenceError(
                    f"{problem}: check the observation and its noise, take more or wider particles, or keep the prior "
                    "with impossible='keep'"
                )
            logger.warning("%s: the prior is kept", problem)

    def _update_in_chart(self, observation: Observation) -> Tensor:
        """Update in the tangent space in the middle of the particles, or in the states' own space where they add."""
        space = self.manifold
        if space is None:
            return self._update(observation)
        centre = space.guess(self.particles, self.log_weights.exp())[..., None, :]

        def states(tangents: Tensor) -> Tensor:
            return space.retract(centre, tangents)

        seen: Observation
        if isinstance(observation, GaussianObservation):
            predict = observation.function
            seen = replace(observation, function=lambda tangents: predict(states(tangents)))
        else:
            seen = LikelihoodObservation(lambda tangents: losses(observation, states(tangents)))
        self.particles = space.local(centre, self.particles)
        failed = self._update(seen)
        self.particles = states(self.particles)
        return failed

    @abstractmethod
    def _update(self, observation: Observation) -> Tensor:
        """Move and weigh the particles; return in which trials that could not be done, bool[...]."""

    def _restore(self, before: dict[str, Tensor], which: Tensor) -> None:
        """Take back the change of the trials ``which`` bool[...]."""
        if bool(which.all()):
            for name, then in before.items():
                setattr(self, name, then)
        elif bool(which.any()):
            for name, then in before.items():
                now = getattr(self, name).reshape(which.numel(), -1)
                kept = torch.where(which.reshape(-1, 1), then.reshape(which.numel(), -1), now)
                setattr(self, name, kept.reshape(then.shape))

    def step(self, observation: Observation, dynamics: Dynamics | None = None) -> None:
        """Predict (if there are dynamics), then update."""
        if dynamics is not None:
            self.predict(dynamics)
        self.update(observation)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the weighted mean [..., m] and covariance [..., m, m] of the particles.

        With equal weights the covariance is the unbiased one (divided by n - 1). On a manifold the mean is a state, and
        the covariance that of its tangents to the particles, [..., dimension, dimension].
        """
        if self.manifold is None:
            return weighted_moments(self.particles, self.log_weights)
        mean = self.manifold.mean(self.particles, self.log_weights.exp())
        tangents = self.manifold.local(mean[..., None, :], self.particles)
        return mean, weighted_moments(tangents, self.log_weights)[1]

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)

    def _take(self, ancestors: Tensor) -> None:
        self.particles = self.particles.gather(-2, ancestors[..., None].expand_as(self.particles))
        self.log_weights = normalise(torch.zeros_like(self.log_weights))

    def _weighted(self, log_weights: Tensor, observation: Observation) -> tuple[Tensor, Tensor]:
        """Return normalised log-weights [..., n] after an observation, and where there are none, bool[...]."""
        after = log_weights - losses(observation, self.particles)
        failed = after.isnan().any(-1) | (after == torch.inf).any(-1) | (after == -torch.inf).all(-1)
        return normalise(after.where(~failed[..., None], log_weights)), failed


class MonteCarloLocalisation(StateFilter):
    """Jitter, weight by the likelihood, resample multinomially at every step: the baseline of arXiv 2404.13698.

    :param particles: float[..., n, m] draws from the prior
    :param generator: source of randomness
    :param jitter: standard deviation of the noise added to every particle before it is weighted
    :param impossible: see :class:`StateFilter`
    :param manifold: see :class:`StateFilter`
    """

    def __init__(
        self,
        particles: Tensor,
        generator: torch.Generator | None = None,
        jitter: float = 0.1,
        *,
        impossible: Impossible = "raise",
        manifold: Manifold | None = None,
    ) -> None:
        super().__init__(particles, generator, impossible=impossible, manifold=manifold)
        self.jitter = jitter

    def _update(self, observation: Observation) -> Tensor:
        self.particles = self.particles + self.jitter * self._noise(self.particles)
        after, failed = self._weighted(torch.zeros_like(self.log_weights), observation)
        self._take(multinomial(after.exp(), self.generator))
        return failed


class BootstrapFilter(StateFilter):
    """Weights by the likelihood; resamples systematically when the effective sample size falls below a threshold.

    :param particles: float[..., n, m] draws from the prior
    :param generator: source of randomness
    :param threshold: share of the particles below which to resample
    :param jitter: standard deviation of the noise added to resampled particles; a static state needs it, or the
        particles can only die out
    :param impossible: see :class:`StateFilter`
    :param manifold: see :class:`StateFilter`
    """

    def __init__(
        self,
        particles: Tensor,
        generator: torch.Generator | None = None,
        threshold: float = 0.5,
        jitter: float = 0.0,
        *,
        impossible: Impossible = "raise",
        manifold: Manifold | None = None,
    ) -> None:
        super().__init__(particles, generator, impossible=impossible, manifold=manifold)
        self.threshold = threshold
        self.jitter = jitter

    def _update(self, observation: Observation) -> Tensor:
        self.log_weights, failed = self._weighted(self.log_weights, observation)
        n = self.particles.shape[-2]
        due = effective_sample_size(self.log_weights) < self.threshold * n
        if bool(due.any()):
            kept, held = self.particles, self.log_weights
            self._take(systematic(held.exp(), self.generator))
            self.particles = self.particles + self.jitter * self._noise(kept)
            self.particles = torch.where(due[..., None, None], self.particles, kept)
            self.log_weights = torch.where(due[..., None], self.log_weights, held)
        return failed
