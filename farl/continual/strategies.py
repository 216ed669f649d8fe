"""What keeps a learner from forgetting: the interface, and the regularisers EWC, online EWC, SI and LwF.

A strategy works on all networks of a filter at once, as tensors with a first axis of ``n`` networks; it serves plain
networks and the particles of a WPF alike. Its terms shape the local move only: the weights of particles take the
likelihood of the data, because the past already stands in them.

Default strengths are the medians of those that ``benchmarks.continual`` chose on validation samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.weighted import WeightedParticleFilter

Batch = tuple[Tensor, ...]


class Strategy:
    """Plain training: no defence against forgetting. Base of the others.

    :ivar filter: the filter whose networks are trained, set by :meth:`attach`
    """

    filter: WeightedParticleFilter

    def attach(self, filter_: WeightedParticleFilter) -> None:
        """Get to know the networks; called once before training."""
        self.filter = filter_

    def prepare(self, inputs: Tensor, labels: Tensor) -> Batch:
        """Return the arguments of :meth:`objective`, all [n, batch, ...]: here the batch as it is."""
        return inputs, labels

    def objective(self, network: Callable[..., Any], *batch: Tensor) -> Tensor:
        """Return the loss that one network descends, given its row of what :meth:`prepare` returned."""
        return F.cross_entropy(network(batch[0]), batch[1])

    def likelihood(self, network: Callable[..., Any], *batch: Tensor) -> Tensor:
        """Return the negative log-likelihood of the new data, which moves the weights."""
        return F.cross_entropy(network(batch[0]), batch[1])

    def adjust(self, chunk: int, leaves: dict[str, Tensor]) -> None:
        """Change the gradients before the move."""

    def after_step(self, inputs: Tensor, labels: Tensor) -> None:
        """Take note of a batch [n, batch, ...] that has been learnt."""

    def end_task(self, inputs: Tensor, labels: Tensor) -> None:
        """Take note of a task that has ended, given all its samples [n, samples, ...]."""


def penalise(
    ensemble_parameters: dict[str, Tensor],
    rows: slice,
    leaves: dict[str, Tensor],
    strength: float,
    importance: dict[str, Tensor],
    anchored: dict[str, Tensor],
) -> None:
    """Add the gradient of strength/2 sum importance (theta - anchor)^2 to the leaves.

    ``anchored`` is importance times anchor, so that penalties of many tasks add up in two tensors.
    """
    for name, leaf in leaves.items():
        if leaf.grad is not None:
            leaf.grad.add_(
                importance[name][rows] * ensemble_parameters[name][rows] - anchored[name][rows], alpha=strength
            )


class _Quadratic(Strategy):
    """A quadratic penalty around earlier solutions."""

    def __init__(self, strength: float) -> None:
        if not 0 <= strength < math.inf:
            raise ConfigError(f"strength must be at least 0, got {strength}")
        self.strength = strength

    def attach(self, filter_: WeightedParticleFilter) -> None:
        """Start without any penalty."""
        super().attach(filter_)
        self.importance = {n: torch.zeros_like(p) for n, p in filter_.ensemble.parameters.items()}
        self.anchored = {n: torch.zeros_like(p) for n, p in filter_.ensemble.parameters.items()}

    def adjust(self, chunk: int, leaves: dict[str, Tensor]) -> None:
        """Add the penalty's gradient."""
        ensemble = self.filter.ensemble
        penalise(ensemble.parameters, ensemble.chunks[chunk], leaves, self.strength, self.importance, self.anchored)


class EWC(_Quadratic):
    """Elastic weight consolidation (Kirkpatrick et al. 2017): a penalty for every earlier task.

    The Fisher information is the diagonal of the empirical one, from ``samples`` single samples of the task; its scale
    is the mean over samples, so that ``strength`` is the lambda of the paper times the number of samples.
    """

    def __init__(self, strength: float = 10.0, samples: int = 64) -> None:
        super().__init__(strength)
        self.samples = samples

    def fisher(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the mean squared gradient of single samples, [n, *shape] by name."""
        ensemble = self.filter.ensemble
        total = {n: torch.zeros_like(p) for n, p in ensemble.parameters.items()}
        used = min(self.samples, inputs.shape[1])
        training = ensemble.module.training
        ensemble.train(False)
        for i in range(used):
            batch = (inputs[:, i : i + 1], labels[:, i : i + 1])
            for chunk, rows in enumerate(ensemble.chunks):
                ensemble.backward(chunk, super().objective, batch, per_particle=True)
                for name, leaf in ensemble.leaves(chunk).items():
                    if leaf.grad is not None:
                        total[name][rows] += leaf.grad**2 / used
                    leaf.grad = None
        ensemble.train(training)
        return total

    def end_task(self, inputs: Tensor, labels: Tensor) -> None:
        """Add the task's Fisher information, anchored where the networks are now."""
        for name, value in self.fisher(inputs, labels).items():
            self.importance[name] += value
            self.anchored[name] += value * self.filter.ensemble.parameters[name]


class OnlineEWC(EWC):
    """Online EWC (Schwarz et al. 2018): one penalty around the latest solution, fading by ``decay``."""

    def __init__(self, strength: float = 10.0, samples: int = 64, decay: float = 0.95) -> None:
        super().__init__(strength, samples)
        if not 0 <= decay <= 1:
            raise ConfigError(f"decay must lie in [0, 1], got {decay}")
        self.decay = decay

    def end_task(self, inputs: Tensor, labels: Tensor) -> None:
        """Fade the old information, add the new, and anchor all of it here."""
        for name, value in self.fisher(inputs, labels).items():
            self.importance[name] = self.decay * self.importance[name] + value
            self.anchored[name] = self.importance[name] * self.filter.ensemble.parameters[name]


class SynapticIntelligence(_Quadratic):
    """Synaptic intelligence (Zenke et al. 2017): importance is the loss that each parameter's path has saved.

    omega += -g dtheta at every step; at the end of a task Omega += max(omega, 0) / (Delta^2 + ``damping``). The penalty
    is ``strength`` sum Omega (theta - theta*)^2.
    """

    def __init__(self, strength: float = 0.1, damping: float = 1e-3) -> None:
        super().__init__(2 * strength)
        if damping <= 0:
            raise ConfigError(f"damping must be positive, got {damping}")
        self.damping = damping

    def attach(self, filter_: WeightedParticleFilter) -> None:
        """Start the path integral."""
        super().attach(filter_)
        self.path = {n: torch.zeros_like(p) for n, p in filter_.ensemble.parameters.items()}
        self.start = filter_.ensemble.snapshot()[0]
        self._before = filter_.ensemble.snapshot()[0]
        self._gradient = {n: torch.zeros_like(p) for n, p in filter_.ensemble.parameters.items()}

    def adjust(self, chunk: int, leaves: dict[str, Tensor]) -> None:
        """Note the gradient of the data alone, then add the penalty's."""
        rows = self.filter.ensemble.chunks[chunk]
        for name, leaf in leaves.items():
            if leaf.grad is not None:
                self._gradient[name][rows] = leaf.grad
            self._before[name][rows] = leaf.detach()
        super().adjust(chunk, leaves)

    def after_step(self, inputs: Tensor, labels: Tensor) -> None:
        """Extend the path integral by the step just made."""
        for name, value in self.filter.ensemble.parameters.items():
            self.path[name] -= self._gradient[name] * (value - self._before[name])

    def end_task(self, inputs: Tensor, labels: Tensor) -> None:
        """Turn the path into importance, anchored here."""
        for name, value in self.filter.ensemble.parameters.items():
            travelled = value - self.start[name]
            self.importance[name] += self.path[name].clamp_min(0) / (travelled**2 + self.damping)
            self.anchored[name] = self.importance[name] * value
            self.path[name].zero_()
            self.start[name] = value.clone()


class LearningWithoutForgetting(Strategy):
    """Learning without forgetting (Li and Hoiem 2017): stay close to what the previous networks said of the new data.

    The distillation term is ``strength`` T^2 KL(teacher || student) with both softened by the temperature T.
    """

    def __init__(self, strength: float = 0.5, temperature: float = 2.0) -> None:
        if not (0 <= strength < math.inf and temperature > 0):
            raise ConfigError(f"strength must be at least 0 and temperature positive, got {strength}, {temperature}")
        self.strength = strength
        self.temperature = temperature
        self._teacher: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def prepare(self, inputs: Tensor, labels: Tensor) -> Batch:
        """Add the teachers' logits."""
        if self._teacher is None:
            return inputs, labels
        ensemble = self.filter.ensemble
        training = ensemble.module.training
        ensemble.train(False)
        said = torch.cat([v for _, v in ensemble.outputs(inputs, per_particle=True, state=self._teacher)])
        ensemble.train(training)
        return inputs, labels, said

    def objective(self, network: Callable[..., Any], *batch: Tensor) -> Tensor:
        """Return cross entropy plus distillation."""
        logits = network(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        if len(batch) < 3:
            return loss
        temperature = self.temperature
        old = F.log_softmax(batch[2] / temperature, -1)
        new = F.log_softmax(logits / temperature, -1)
        distance = (old.exp() * (old - new)).sum(-1).mean()
        return loss + self.strength * temperature**2 * distance

    def end_task(self, inputs: Tensor, labels: Tensor) -> None:
        """Keep the networks as teachers."""
        self._teacher = self.filter.ensemble.snapshot()
