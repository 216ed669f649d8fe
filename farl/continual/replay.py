"""Strategies that keep samples: experience replay, A-GEM and DER++."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from farl.continual.strategies import Batch, Strategy
from farl.errors import ConfigError
from farl.particles.weighted import WeightedParticleFilter


class Reservoir:
    """A uniform sample of everything seen, for each of ``n`` networks by itself (Vitter 1985, algorithm R).

    Networks of one replica see the same batches and share its choices.

    :param replicas: number of independent streams
    :param networks: networks of each replica; stored tensors have a first axis of ``replicas * networks``
    :param capacity: samples kept for each replica
    :param seed: seed of the choices
    """

    def __init__(self, replicas: int, networks: int, capacity: int, seed: int = 0) -> None:
        if capacity < 1:
            raise ConfigError(f"a replay buffer needs a capacity of at least 1, got {capacity}")
        self.replicas, self.networks, self.capacity = replicas, networks, capacity
        self.seen = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._store: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, *values: Tensor) -> None:
        """Offer a batch of samples, tensors [replicas * networks, batch, ...]."""
        if not self._store:
            self._store = tuple(v.new_zeros((v.shape[0], self.capacity, *v.shape[2:])) for v in values)
        replica = torch.arange(self.replicas)
        for i in range(values[0].shape[1]):
            if self.seen < self.capacity:
                slot = torch.full((self.replicas,), self.seen)
            else:
                slot = torch.randint(self.seen + 1, (self.replicas,), generator=self._generator)
            self.seen += 1
            kept = replica[slot < self.capacity]
            rows = (kept[:, None] * self.networks + torch.arange(self.networks)).flatten()
            where = slot[kept].repeat_interleave(self.networks)
            for held, new in zip(self._store, values, strict=True):
                held[rows, where] = new[rows, i]

    def draw(self, size: int) -> Batch:
        """Return ``size`` stored samples of each replica, drawn with replacement."""
        index = torch.randint(len(self), (self.replicas, size), generator=self._generator)
        index = index.repeat_interleave(self.networks, 0)
        rows = torch.arange(len(index))[:, None]
        return tuple(held[rows, index] for held in self._store)


class _Replaying(Strategy):
    def __init__(self, capacity: int = 200, seed: int = 0) -> None:
        self.capacity = capacity
        self.seed = seed

    def attach(self, filter_: WeightedParticleFilter) -> None:
        """Start with an empty buffer."""
        super().attach(filter_)
        replicas = filter_.log_weights.shape[0] if filter_.log_weights.dim() > 1 else 1
        self.buffer = Reservoir(replicas, filter_.log_weights.shape[-1], self.capacity, self.seed)

    def after_step(self, inputs: Tensor, labels: Tensor) -> None:
        """Offer the batch to the buffer."""
        self.buffer.add(inputs, labels)


class ExperienceReplay(_Replaying):
    """Experience replay (Chaudhry et al. 2019): every batch is joined by as many stored samples."""

    def prepare(self, inputs: Tensor, labels: Tensor) -> Batch:
        """Join stored samples."""
        if not len(self.buffer):
            return inputs, labels
        old_inputs, old_labels = self.buffer.draw(inputs.shape[1])
        return inputs, labels, old_inputs, old_labels

    def objective(self, network: Callable[..., Any], *batch: Tensor) -> Tensor:
        """Return the cross entropy of new and stored samples together."""
        if len(batch) < 4:
            return F.cross_entropy(network(batch[0]), batch[1])
        return F.cross_entropy(network(torch.cat([batch[0], batch[2]])), torch.cat([batch[1], batch[3]]))


class AGEM(_Replaying):
    """A-GEM (Chaudhry et al. 2019): a gradient against that of stored samples loses its component along it."""

    def prepare(self, inputs: Tensor, labels: Tensor) -> Batch:
        """Draw the reference samples of this step."""
        self._reference = self.buffer.draw(4 * inputs.shape[1]) if len(self.buffer) else ()
        return inputs, labels

    def adjust(self, chunk: int, leaves: dict[str, Tensor]) -> None:
        """Project the gradients of networks in conflict."""
        if not self._reference:
            return
        own = {name: leaf.grad for name, leaf in leaves.items()}
        for leaf in leaves.values():
            leaf.grad = None
        ensemble = self.filter.ensemble
        training = ensemble.module.training
        ensemble.train(False)
        ensemble.backward(chunk, super().objective, self._reference, per_particle=True)
        ensemble.train(training)
        reference = {name: leaf.grad for name, leaf in leaves.items()}
        project(own, reference)
        for name, leaf in leaves.items():
            leaf.grad = own[name]


def project(gradients: dict[str, Tensor | None], reference: dict[str, Tensor | None]) -> None:
    """Take from each network's gradient its component along the reference, in place, where they are in conflict.

    Both map names to [n, ...]; inner products run over all tensors of a network (A-GEM, equation 11).
    """
    pairs = [
        (g, r) for g, r in zip(gradients.values(), reference.values(), strict=True) if g is not None and r is not None
    ]
    inner = sum((g * r).flatten(1).sum(1) for g, r in pairs)
    square = sum((r * r).flatten(1).sum(1) for _, r in pairs)
    assert isinstance(inner, Tensor)
    assert isinstance(square, Tensor)
    factor = (inner / square.clamp_min(1e-30)).clamp_max(0)
    for g, r in pairs:
        g -= factor.reshape(-1, *(1,) * (g.dim() - 1)) * r


class DarkExperienceReplay(_Replaying):
    """DER++ (Buzzega et al. 2020): stored samples keep their old logits (``alpha``) and their labels (``beta``)."""

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, capacity: int = 200, seed: int = 0) -> None:
        super().__init__(capacity, seed)
        self.alpha, self.beta = alpha, beta

    def prepare(self, inputs: Tensor, labels: Tensor) -> Batch:
        """Draw two sets of stored samples, and note what the networks say of the new ones before the step."""
        ensemble = self.filter.ensemble
        self._said = torch.cat([v for _, v in ensemble.outputs(inputs, per_particle=True)])
        if not len(self.buffer):
            return inputs, labels
        size = inputs.shape[1]
        first, second = self.buffer.draw(size), self.buffer.draw(size)
        return inputs, labels, first[0], first[2], second[0], second[1]

    def objective(self, network: Callable[..., Any], *batch: Tensor) -> Tensor:
        """Return L_new + alpha MSE(logits, stored logits) + beta L_stored (their equation 6)."""
        if len(batch) < 6:
            return F.cross_entropy(network(batch[0]), batch[1])
        size = len(batch[0])
        logits = network(torch.cat([batch[0], batch[2], batch[4]]))
        new, dark, old = logits.split((size, len(batch[2]), len(batch[4])))
        return (
            F.cross_entropy(new, batch[1])
            + self.alpha * F.mse_loss(dark, batch[3])
            + self.beta * F.cross_entropy(old, batch[5])
        )

    def after_step(self, inputs: Tensor, labels: Tensor) -> None:
        """Store the samples with the logits they had."""
        self.buffer.add(inputs, labels, self._said)
