"""FARL's own filter: a cloud that is one Gaussian where the observation is linear and splits where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.kalman import roots, transport, usable
from farl.particles.manifold import Manifold
from farl.particles.state_space import GaussianObservation, Impossible, Observation, StateFilter

STARVED = 0.01
"""A component gives its particles away once they weigh less than this share of an average particle."""


@dataclass(frozen=True)
class _Components:
    """Sample moments of the components, [S, K, ...], under one observation."""

    count: Tensor  # [S, K]
    centred: Tensor  # [S, n, m] states, relative to the mean of their component
    root: Tensor  # [S, K, m, m] symmetric square root of the covariance
    inverse_root: Tensor  # [S, K, m, m]
    predicted: Tensor  # [S, n, k] observations, relative to the mean of their component
    predicted_mean: Tensor  # [S, K, k]
    predicted_covariance: Tensor  # [S, K, k, k]
    cross: Tensor  # [S, K, m, k]


class MixtureTransformFilter(StateFilter):
    """A resampling-free Gaussian-sum filter whose components are clusters of particles.

    Each component is corrected by the transform that carries its sample covariance exactly to the Kalman posterior
    (a deterministic square-root update: the optimal-transport map between the two Gaussians), with the observation
    linearised over its own particles; its weight takes its predictive likelihood. Where the error of that
    linearisation is not small against the noise, the component is split in two across the direction of strongest
    curvature (from Stein's lemma, E[residual z z^T]) as long as the halves have enough particles. So a linear problem
    is solved by one component, which is the Kalman filter of the sample, and a multimodal one by many, among which
    weights decide. A component that has lost its weight gives its particles to the one that needs them most.

    :param particles: float[..., n, m] draws from the prior
    :param generator: source of randomness (which particles a starved component gives)
    :param nonlinearity: linearisation error, relative to the variance of the noise, above which a component splits
    :param stages: an observation is taken in this many equal parts, with splits in between; linear ones are not changed
    :param minimum: fewest particles of a component; m + 2 by default
    :param impossible: see :class:`~farl.particles.state_space.StateFilter`
    :param manifold: see :class:`~farl.particles.state_space.StateFilter`
    """

    _state = ("particles", "log_weights", "labels", "_component")
    _needs = "a finite observation, a finite prediction of it for every particle, and a likelihood above 0 for some"

    def __init__(
        self,
        particles: Tensor,
        generator: torch.Generator | None = None,
        nonlinearity: float = 0.1,
        stages: int = 4,
        minimum: int | None = None,
        *,
        impossible: Impossible = "raise",
        manifold: Manifold | None = None,
    ) -> None:
        super().__init__(particles, generator, impossible=impossible, manifold=manifold)
        n, m = particles.shape[-2], particles.shape[-1] if manifold is None else manifold.dimension
        self.nonlinearity = nonlinearity
        self.stages = stages
        self.minimum = m + 2 if minimum is None else minimum
        if nonlinearity <= 0 or stages < 1 or self.minimum < 2:
            raise ConfigError(
                f"nonlinearity must be positive, stages at least 1, minimum at least 2; got {nonlinearity}, {stages}, "
                f"{self.minimum}"
            )
        self._slots = max(1, n // self.minimum)
        trials = particles.shape[:-2].numel()
        self.labels = torch.zeros(trials, n, dtype=torch.int64)
        self._component = torch.full((trials, self._slots), -torch.inf, dtype=particles.dtype)
        self._component[:, 0] = 0.0

    @property
    def components(self) -> Tensor:
        """Number of components in use, int64[...]."""
        return self._component.isfinite().sum(-1).reshape(self.particles.shape[:-2])

    def _update(self, observation: Observation) -> Tensor:
        """Split, correct and weigh the components."""
        lead = self.particles.shape[:-2]
        seen, unusable = usable(observation, self.particles, "the mixture transform filter")
        failed = unusable.expand(lead).reshape(-1).clone()
        x = self.particles.reshape(-1, *self.particles.shape[-2:])

        def predicted(states: Tensor) -> Tensor:
            values = seen.predict(states.reshape(*lead, *states.shape[1:])).reshape(*states.shape[:2], -1)
            failed.logical_or_(~values.isfinite().all(-1).all(-1))  # at particles that have moved since
            return values.where(~failed[:, None, None], values.new_zeros(()))

        def flat(values: Tensor, axes: int) -> Tensor:
            return values.expand(*lead, *values.shape[-axes:]).reshape(-1, *values.shape[-axes:])

        # Of a trial that has failed nothing is asked any more.
        value = flat(seen.value, 1).where(~failed[:, None], seen.value.new_zeros(()))
        covariance = flat(seen.covariance, 2)
        size = flat(observation.known, 1).sum(-1)  # type: ignore[attr-defined]
        whole = GaussianObservation(predicted, value, covariance)
        part = GaussianObservation(predicted, value, covariance * self.stages)
        for _ in range(self.stages):
            for _ in range(self._slots.bit_length()):
                if not self._split(x, whole, size):
                    break
            x = self._correct(x, part)
            failed |= ~x.isfinite().all(-1).all(-1) | self._component.isnan().any(-1)
            x = x.where(~failed[:, None, None], x.new_zeros(()))
            self._component = self._component.where(~failed[:, None], self._component.new_zeros(()))
            x = self._feed(x)
        self.particles = x.reshape(self.particles.shape)
        count = self._pool(torch.ones_like(x[..., 0]))
        self.log_weights = (self._component - count.clamp_min(1).log()).gather(1, self.labels).reshape(*lead, -1)
        return failed.reshape(lead)

    def _pool(self, values: Tensor) -> Tensor:
        """Sum values [S, n, ...] over the particles of each component, [S, K, ...]."""
        trials, n = self.labels.shape
        index = (self.labels + self._slots * torch.arange(trials)[:, None]).flatten()
        total = values.new_zeros((trials * self._slots, *values.shape[2:]))
        return total.index_add_(0, index, values.reshape(trials * n, *values.shape[2:])).reshape(
            trials, self._slots, *values.shape[2:]
        )

    def _spread(self, values: Tensor) -> Tensor:
        """Give every particle [S, n, ...] the value of its component [S, K, ...]."""
        return values[torch.arange(len(values))[:, None], self.labels]

    def _moments(self, x: Tensor, observation: GaussianObservation) -> _Components:
        count = self._pool(torch.ones_like(x[..., 0]))
        some = count.clamp_min(1)[..., None]
        degrees = (count - 1).clamp_min(1)[..., None, None]
        predicted = observation.predict(x)
        mean = self._pool(predicted) / some
        centred = x - self._spread(self._pool(x) / some)
        deviation = predicted - self._spread(mean)
        covariance = self._pool(centred[..., :, None] * centred[..., None, :]) / degrees
        root, inverse_root = roots(covariance)
        return _Components(
            count,
            centred,
            root,
            inverse_root,
            deviation,
            mean,
            self._pool(deviation[..., :, None] * deviation[..., None, :]) / degrees,
            self._pool(centred[..., :, None] * deviation[..., None, :]) / degrees,
        )

    def _split(self, x: Tensor, observation: GaussianObservation, size: Tensor) -> bool:
        """Split the components on which the observation, of ``size`` [S] numbers, is too far from linear.

        :return: whether any was split
        """
        if self._slots == 1:
            return False
        now = self._moments(x, observation)
        precision = torch.linalg.inv(observation.covariance)
        # Regression of the predicted observation on whitened states, and what it leaves unexplained.
        slope = now.inverse_root @ now.cross
        white = (now.centred[..., None, :] @ self._spread(now.inverse_root))[..., 0, :]
        residual = now.predicted - (white[..., None, :] @ self._spread(slope))[..., 0, :]
        error = self._pool((residual @ precision * residual).sum(-1)) / now.count.clamp_min(1)
        due = (error > self.nonlinearity * size[:, None]) & (now.count >= 2 * self.minimum)
        free = self._component.isneginf()
        rank = due.cumsum(1) - 1
        due &= rank < free.sum(1, keepdim=True)
        if not bool(due.any()):
            return False
        curvature = self._pool(
            residual[..., :, None, None] * (white[..., :, None] * white[..., None, :])[..., None, :, :]
        )
        curvature = curvature / now.count.clamp_min(1)[..., None, None, None]
        squared = torch.einsum("skaij,sab,skbjl->skil", curvature, precision, curvature)
        direction = torch.linalg.eigh(squared).eigenvectors[..., -1]
        along = (white * self._spread(direction)).sum(-1)
        slots = free.to(torch.int64).sort(dim=1, descending=True, stable=True).indices
        target = slots.gather(1, rank.clamp(0, self._slots - 1))
        for trial, component in due.nonzero().tolist():
            members = (self.labels[trial] == component).nonzero().flatten()
            upper = members[along[trial, members].argsort()[len(members) // 2 :]]
            new = int(target[trial, component])
            share = len(upper) / len(members)
            self.labels[trial, upper] = new
            weight = self._component[trial, component].clone()
            self._component[trial, new] = weight + torch.log(torch.tensor(share))
            self._component[trial, component] = weight + torch.log(torch.tensor(1 - share))
        return True

    def _correct(self, x: Tensor, observation: GaussianObservation) -> Tensor:
        now = self._moments(x, observation)
        innovation = now.predicted_covariance + observation.covariance[:, None]
        error = observation.value[:, None] - now.predicted_mean
        gain = torch.linalg.solve(innovation, now.cross.mT)  # [S, K, k, m]: the gain, transposed
        shift = (error[..., None, :] @ gain)[..., 0, :]
        moving = transport(now.root, now.inverse_root, now.root @ now.root - now.cross @ gain)
        moved = (now.centred[..., None, :] @ self._spread(moving))[..., 0, :]
        half = torch.linalg.cholesky(innovation)
        scaled = torch.linalg.solve_triangular(half, error[..., None], upper=False)[..., 0]
        # Up to a constant that all components share.
        evidence = -(scaled**2).sum(-1) / 2 - half.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        weights = self._component + torch.where(self._component.isneginf(), 0.0, evidence)
        self._component = weights - weights.logsumexp(1, keepdim=True)
        return x - now.centred + moved + self._spread(shift)

    def _feed(self, x: Tensor) -> Tensor:
        """Give the particles of components without weight to the component with most weight a particle."""
        count = self._pool(torch.ones_like(x[..., 0]))
        starved = (self._component.exp() * x.shape[1] < STARVED * count) & ~self._component.isneginf()
        for trial, component in starved.nonzero().tolist():
            self._component[trial, component] = -torch.inf
            members = (self.labels[trial] == component).nonzero().flatten()
            host = int((self._component[trial] - count[trial].clamp_min(1).log()).argmax())
            family = (self.labels[trial] == host).nonzero().flatten()
            own = x[trial, family]
            mean = own.mean(0)
            # Random combinations of the host's deviations: draws from its sample Gaussian.
            mixing = torch.randn(len(members), len(family), generator=self.generator, dtype=x.dtype)
            x[trial, members] = mean + mixing @ (own - mean) / max(1, len(family) - 1) ** 0.5
            self.labels[trial, members] = host
            count[trial, host] += len(members)
            count[trial, component] = 0
        if bool(starved.any()):
            self._component = self._component - self._component.logsumexp(1, keepdim=True)
        return x
