"""Particles with an exact Gaussian over their last layer: a Rao-Blackwellised filter without a favourite order."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farl.errors import ConfigError
from farl.particles import weights
from farl.particles.ensemble import Backend, ParticleEnsemble
from farl.particles.initialisation import Initialisation, draw_particles, reinitialise
from farl.particles.optimisation import all_finite
from farl.particles.weights import EssFloorTempering, Tempering


def split_last_layer(module: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Return a copy of ``module`` without its last ``nn.Linear``, and that layer.

    :raises ConfigError: if it has none, or if something else follows it that has parameters
    """
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not names or names[-1] == "":
        raise ConfigError("the last-layer filter needs a network that ends in an nn.Linear and has layers before it")
    features = copy.deepcopy(module)
    parent = features.get_submodule(names[-1].rpartition(".")[0])
    last = getattr(parent, names[-1].rpartition(".")[2])
    setattr(parent, names[-1].rpartition(".")[2], nn.Identity())
    return features, last


class LastLayerFilter:
    """N particles, each a fixed feature map with the exact Gaussian posterior of a linear last layer.

    The features are the network without its last layer, at their initialisation: particle i is a draw of random
    features phi_i. Given them, one-hot targets with noise N(0, ``noise``) and a prior N(0, ``prior``) on every weight
    have a Gaussian posterior with precision I / prior + sum phi phi^T / noise, and the evidence that weighs the
    particle is known in closed form. Only sums over the data are kept, so up to rounding neither positions nor weights
    nor predictions depend on the order of the data: what the weighted filter holds to second order in its learning
    rate, holds exactly, and curvature is carried from task to task. The price: features do not learn.

    The class interface follows :class:`~farl.particles.weighted.WeightedParticleFilter`.

    :param module: a network that ends in an ``nn.Linear``
    :param n_particles: number of particles
    :param noise: variance of the targets' noise
    :param prior: variance of the prior of each last-layer weight
    :param tempering: applied to the evidence; by default the effective sample size is kept at half the particles
    :param init: ``"independent"`` features, or ``"noise"`` around the module's
    :param seed: seed of the features
    :param replicas: seeds of several filters side by side, or None for one
    :param backend: see :class:`~farl.particles.ensemble.ParticleEnsemble`
    :param chunk_size: see :class:`~farl.particles.ensemble.ParticleEnsemble`
    :raises ConfigError: for a wrong argument or a network without a last linear layer
    """

    def __init__(
        self,
        module: nn.Module,
        n_particles: int = 100,
        *,
        noise: float = 0.1,
        prior: float = 1.0,
        tempering: Tempering | None = None,
        init: Initialisation = "independent",
        seed: int = 0,
        replicas: Sequence[int] | None = None,
        backend: Backend = "auto",
        chunk_size: int | None = None,
    ) -> None:
        if noise <= 0 or prior <= 0:
            raise ConfigError(f"noise and prior must be positive, got {noise} and {prior}")
        features, last = split_last_layer(module)
        if last.out_features < 2:
            raise ConfigError("the last-layer filter needs one output a class, at least two; the network has one")
        self.noise, self.prior = noise, prior
        self.tempering: Tempering = EssFloorTempering() if tempering is None else tempering
        self.n_particles = n_particles
        self._lead: tuple[int, ...] = () if replicas is None else (len(replicas),)
        seeds = [seed] if replicas is None else list(replicas)
        start = [features if replicas is None else reinitialise(features, s) for s in seeds]
        drawn = [draw_particles(m, range(n_particles), init, seed=s) for m, s in zip(start, seeds, strict=True)]
        state = tuple({name: torch.cat([d[k][name] for d in drawn]) for name in drawn[0][k]} for k in (0, 1))
        total = n_particles * len(seeds)
        self.ensemble = ParticleEnsemble(
            features, total, backend=backend, chunk_size=chunk_size, state=(state[0], state[1])
        ).train(False)
        size = last.in_features + 1
        self.n_classes = last.out_features
        zeros = partial(torch.zeros, dtype=torch.float64, device=self.ensemble.device)
        self.gram = zeros(total, size, size)
        self.moment = zeros(total, size, self.n_classes)
        self.square = zeros(total)
        self.count = 0
        self._solution: tuple[Tensor, Tensor] | None = None

    def _features(self, inputs: Tensor, per_particle: bool) -> Tensor:
        """Return features with a constant one, float64 [n, batch, size]."""
        raw = self.ensemble(inputs, per_particle=per_particle).double()
        return torch.cat([raw, torch.ones_like(raw[..., :1])], -1)

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        """Add a minibatch [batch, ...] (or [replicas, batch, ...]) to the sums.

        :param targets: class numbers, int64[batch] or [replicas, batch]
        :raises ConfigError: for other targets, or features that are no vectors
        :raises ImpossibleEvidenceError: if features are not finite; the sums are as they were
        """
        if targets.is_floating_point() or not bool(((targets >= 0) & (targets < self.n_classes)).all()):
            raise ConfigError(f"targets must be whole numbers in 0 ... {self.n_classes - 1}")
        per_particle = bool(self._lead)
        inputs, targets = inputs.to(self.ensemble.device), targets.to(self.ensemble.device)
        if per_particle:
            inputs, targets = (v.repeat_interleave(self.n_particles, 0) for v in (inputs, targets))
        phi = self._features(inputs, per_particle)
        if phi.shape[2:] != self.gram.shape[2:]:
            raise ConfigError(
                f"the layers before the last must give vectors, not {tuple(phi.shape[2:-1])} times vectors"
            )
        if not all_finite(phi):
            raise weights.ImpossibleEvidenceError("the features of a batch are not finite: look for NaN in the inputs")
        # Targets centred on a constant vote, so that an untrained filter predicts no class.
        aims = F.one_hot(targets, self.n_classes).double() - 1 / self.n_classes
        self.gram += phi.mT @ phi
        self.moment += phi.mT @ aims
        self.square += (aims**2).sum((-1, -2))
        self.count += phi.shape[1]
        self._solution = None

    def _solve(self) -> tuple[Tensor, Tensor]:
        """Return the posterior means [n, size, classes] and the log-evidence [n]."""
        if self._solution is None:
            identity = torch.eye(self.gram.shape[-1], dtype=torch.float64, device=self.gram.device)
            precision = self.gram / self.noise + identity / self.prior
            factor = torch.linalg.cholesky(precision)
            mean = torch.cholesky_solve(self.moment / self.noise, factor)
            fitted = (self.moment * mean).sum((-1, -2)) / self.noise
            determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            size = self.gram.shape[-1]
            prior = size * math.log(self.prior)
            noise = self.count * math.log(2 * math.pi * self.noise)
            evidence = (fitted - self.square / self.noise - self.n_classes * (determinant + prior + noise)) / 2
            self._solution = mean, evidence
        return self._solution

    @property
    def log_weights(self) -> Tensor:
        """Normalised log-weights [n] or [replicas, n]: the particles' evidence, before tempering."""
        return weights.normalise(self._solve()[1].reshape(*self._lead, self.n_particles))

    @property
    def weights(self) -> Tensor:
        """Weights [n] or [replicas, n] as predictions use them."""
        raw = self.log_weights
        return weights.normalise(self.tempering.temperature(raw)[..., None] * raw).exp()

    @property
    def effective_sample_size(self) -> Tensor:
        """Effective sample size [...] of the weights as predictions use them."""
        return 1 / (self.weights**2).sum(-1)

    def predict(self, inputs: Tensor, batch_size: int = 256) -> Tensor:
        """Return class probabilities [batch, classes], or [replicas, batch, classes].

        The softmax of the weighted mean output over the noise's scale; inputs are shared by all replicas.
        """
        mean = self._solve()[0]
        weight = self.weights.reshape(-1, 1, 1)
        parts = []
        for part in torch.split(inputs, batch_size):
            votes = weight * (self._features(part.to(self.ensemble.device), False) @ mean)
            pooled = votes.reshape(*self._lead, self.n_particles, *votes.shape[1:]).sum(len(self._lead))
            parts.append((pooled / self.noise).softmax(-1))
        return torch.cat(parts, len(self._lead))
