"""What particles do to each other: redrawing, resampling, the pull to the mean."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from farl.particles import weights
from farl.particles.ensemble import ParticleEnsemble
from farl.particles.group import ParticleGroup
from farl.particles.optimisation import ParticleOptimizer
from farl.particles.resampling import Resampling, systematic

REDRAW_JITTER = 0.1
"""Noise on a redrawn particle, as a multiple of each parameter's standard deviation over the particles."""

logger = logging.getLogger(__name__)


class Interaction:
    """What the particles of a filter do to each other, besides moving by their own gradients.

    Log-weights go in and come out as [..., n] of this process's particles.

    :param ensemble: the particles of this process, those of all replicas end to end
    :param optimizer: whose state follows the particles
    :param group: the processes that share the particles
    :param replicas: filters side by side
    :param n_particles: particles of one replica, over all processes
    :param generator: equal on every process: ancestors and jitter are drawn by all of them alike
    """

    def __init__(
        self,
        ensemble: ParticleEnsemble,
        optimizer: ParticleOptimizer,
        group: ParticleGroup,
        replicas: int,
        n_particles: int,
        generator: torch.Generator,
    ) -> None:
        self.ensemble = ensemble
        self.optimizer = optimizer
        self.group = group
        self.replicas = replicas
        self.n_particles = n_particles
        self.share = group.share(n_particles)
        self.generator = generator

    def redraw(self, log_weights: Tensor, healthy: Tensor) -> Tensor:
        """Replace broken particles (``healthy`` bool[particles] is False) by jittered healthy ones of their replica.

        Donors are drawn by weight, and a redrawn particle takes its donor's weight.

        :raises ImpossibleEvidenceError: if a replica has no healthy particle in this process
        """
        n = len(self.share)
        table, held = healthy.reshape(-1, n), log_weights.reshape(-1, n).clone()
        if not bool(table.any(1).all()):
            raise weights.ImpossibleEvidenceError(
                "the loss of every particle is not finite: lower the learning rate, or look for NaN in the batch"
            )
        # A generator of its own: how many particles break differs by process, and must not disturb the shared one.
        generator = torch.Generator().manual_seed(self.generator.initial_seed() + self.group.rank)
        for row in (~table).any(1).nonzero().flatten().tolist():
            broken, sound = ((table[row] == state).nonzero().flatten() for state in (False, True))
            chances = torch.softmax(held[row, sound].double(), 0).cpu()
            donors = sound[torch.multinomial(chances, len(broken), replacement=True, generator=generator)]
            self.ensemble.copy_particles(row * n + donors, row * n + broken)
            self.optimizer.reset(row * n + broken)
            self._jitter(row * n + broken, generator)
            held[row, broken] = held[row, donors]
        logger.warning("%d of %d particles had a loss that is not finite: redrawn", int((~healthy).sum()), len(healthy))
        return held.reshape(log_weights.shape)

    @torch.no_grad()
    def _jitter(self, which: Tensor, generator: torch.Generator) -> None:
        for value in self.ensemble.parameters.values():
            noise = torch.randn((len(which), *value.shape[1:]), generator=generator).to(value)
            value[which] += REDRAW_JITTER * value.std(0, correction=0) * noise

    @torch.no_grad()
    def pull(self, particle_weights: Tensor, amount: float) -> None:
        """Move all particles the share ``amount`` of the way to their replica's weighted mean."""
        flat = particle_weights.reshape(self.replicas, -1)
        for value in self.ensemble.parameters.values():
            stack = value.view(self.replicas, -1, *value.shape[1:])
            weight = flat.to(value.dtype).reshape(*flat.shape, *(1,) * (value.dim() - 1))
            mean = self.group.sum((weight * stack).sum(1, keepdim=True))
            stack.lerp_(mean.expand_as(stack), amount)

    @torch.no_grad()
    def resample(self, resampling: Resampling, log_weights: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Resample the replicas whose effective sample size [...] is below the threshold.

        :return: new log-weights, and whether each replica was resampled, bool[...]
        """
        due = sizes < resampling.threshold * self.n_particles
        if not bool(due.any()):
            return log_weights, due
        everyone = self.group.gather(log_weights)
        drawn = systematic(weights.normalise(everyone).exp(), self.generator)
        same = torch.arange(self.n_particles, device=drawn.device).expand_as(drawn)
        ancestors = torch.where(due[..., None], drawn, same).reshape(self.replicas, -1)
        for value in self.ensemble.parameters.values():
            chosen = self._survivors(value, ancestors)
            spread = chosen.std(1, keepdim=True, correction=0)
            noise = torch.randn(chosen.shape, generator=self.generator).to(chosen)
            amount = resampling.jitter * due.reshape(-1, *(1,) * (chosen.dim() - 1))
            value.copy_(self._mine(chosen + amount * spread * noise, value))
        for value in self.ensemble.buffers.values():
            value.copy_(self._mine(self._survivors(value, ancestors), value))
        self.optimizer.rearrange(lambda value: self._mine(self._survivors(value, ancestors), value))
        level = torch.full_like(log_weights, -math.log(self.n_particles))
        return torch.where(due[..., None], level, log_weights), due

    def _survivors(self, value: Tensor, ancestors: Tensor) -> Tensor:
        """Return the ancestors' values for the particles of all processes, [replicas, n_particles, ...]."""
        stack = self.group.gather(value.reshape(self.replicas, -1, *value.shape[1:]), 1)
        return stack[torch.arange(self.replicas, device=value.device)[:, None], ancestors]

    def _mine(self, everyone: Tensor, like: Tensor) -> Tensor:
        return everyone[:, self.share.start : self.share.stop].reshape(like.shape)
