"""Running learners through sequences of tasks: many orders and seeds side by side, in the same batched calls."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from farl.continual.strategies import Strategy
from farl.continual.tasks import TaskSequence
from farl.errors import ConfigError
from farl.particles.initialisation import particle_seed
from farl.particles.weighted import WeightedParticleFilter


class Learner(Protocol):
    """Anything that learns R streams of batches side by side and predicts class probabilities."""

    replicas: int

    def observe(self, inputs: Tensor, labels: Tensor, dataset_size: int) -> None:
        """Learn a batch [replicas, batch, ...] of a task with ``dataset_size`` samples."""

    def end_task(self, inputs: Tensor, labels: Tensor) -> None:
        """Take note of the end of a task, given its samples [replicas, samples, ...]."""

    def predict(self, inputs: Tensor) -> Tensor:
        """Return probabilities [replicas, samples, classes] for inputs [samples, ...]."""

    def effective_sample_size(self) -> Tensor:
        """Return the effective number of networks in the prediction, [replicas]."""

    def state_bytes(self) -> int:
        """Return the memory of one replica's networks and memories, in bytes."""


class FilterLearner:
    """A WPF with replicas, and a strategy against forgetting.

    One particle is a plain network; equal weights (``FixedTempering(0)``) are a deep ensemble or plain averaging.

    :param filter_: a filter built with ``replicas=...``
    :param strategy: what keeps it from forgetting; plain training by default
    """

    def __init__(self, filter_: WeightedParticleFilter, strategy: Strategy | None = None) -> None:
        if filter_.log_weights.dim() != 2:
            raise ConfigError("a learner needs a filter with replicas: give replicas=[seed, ...]")
        if filter_.kind != "classes":
            raise ConfigError("a learner of tasks needs a filter with loss=F.cross_entropy: its tasks are classes")
        self.filter = filter_
        self.strategy = Strategy() if strategy is None else strategy
        self.strategy.attach(filter_)
        self.replicas, self._n = filter_.log_weights.shape

    def observe(self, inputs: Tensor, labels: Tensor, dataset_size: int) -> None:
        """Learn a batch."""
        inputs, labels = inputs.to(self.filter.device), labels.to(self.filter.device)
        inputs, labels = inputs.repeat_interleave(self._n, 0), labels.repeat_interleave(self._n, 0)
        self.filter.ensemble.train()
        batch = self.strategy.prepare(inputs, labels)
        plain = type(self.strategy).objective is Strategy.objective
        self.filter.step(
            self.strategy.objective,
            *batch,
            likelihood=None if plain else self.strategy.likelihood,
            adjust=self.strategy.adjust,
            dataset_size=dataset_size,
            per_particle=True,
        )
        self.strategy.after_step(inputs, labels)

    def end_task(self, inputs: Tensor, labels: Tensor) -> None:
        """Let the strategy take note."""
        inputs, labels = inputs.to(self.filter.device), labels.to(self.filter.device)
        self.strategy.end_task(inputs.repeat_interleave(self._n, 0), labels.repeat_interleave(self._n, 0))

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the weighted mixtures."""
        return self.filter.predict(inputs)

    def effective_sample_size(self) -> Tensor:
        """Return the filter's."""
        return self.filter.effective_sample_size

    def state_bytes(self) -> int:
        """Return the bytes of parameters, buffers, optimiser and the strategy's tensors, for one replica."""
        ensemble = self.filter.ensemble
        tensors = [*ensemble.parameters.values(), *ensemble.buffers.values(), *self.filter.optimizer.state().values()]
        tensors += _tensors_in(vars(self.strategy))
        return sum(t.numel() * t.element_size() for t in tensors) // self.replicas


def _tensors_in(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for part in value.values() for t in _tensors_in(part)]
    if isinstance(value, (list, tuple)):
        return [t for part in value for t in _tensors_in(part)]
    if type(value).__module__.startswith("farl.continual"):
        return _tensors_in(vars(value))
    return []


@dataclass(frozen=True)
class Run:
    """What became of a learner, for each of R replicas and T tasks.

    :ivar accuracy: [R, T + 1, T] on the j-th task learnt after s tasks (see :mod:`farl.continual.metrics`)
    :ivar validation_accuracy: [R] mean over tasks at the end, on the validation samples (to choose settings by)
    :ivar predictions: [R, samples, classes] at the end, on the test samples of all tasks in reference order
    :ivar effective_sample_size: [R, T] after each task
    :ivar seconds: wall-clock time of learning and predicting, for all replicas together
    :ivar state_bytes: memory of one replica's networks and memories
    """

    accuracy: npt.NDArray[np.float64]
    validation_accuracy: npt.NDArray[np.float64]
    predictions: npt.NDArray[np.float64]
    effective_sample_size: npt.NDArray[np.float64]
    seconds: float
    state_bytes: int


def run_sequence(
    learner: Learner,
    sequence: TaskSequence,
    orders: Sequence[Sequence[int]],
    *,
    batch_size: int = 8,
    epochs: int = 1,
    seeds: Sequence[int] | None = None,
) -> Run:
    """Lead every replica of a learner through the tasks in an order of its own.

    All replicas move in step, so tasks are cut to the smallest one's number of whole batches. A task's batches depend
    on the seed alone, not on its place: replicas of one seed differ in the order of their tasks and in nothing else.

    :param learner: the learner
    :param sequence: the tasks
    :param orders: a permutation of the tasks for each replica
    :param batch_size: samples of a batch
    :param epochs: passes over each task
    :param seeds: seed of each replica's batches; its number by default
    :raises ConfigError: if the orders are not permutations or do not fit the replicas, or a batch is larger than a task
    """
    count = len(sequence)
    if len(orders) != learner.replicas or any(sorted(order) != list(range(count)) for order in orders):
        raise ConfigError(f"orders must be {learner.replicas} permutations of the {count} tasks, one for each replica")
    smallest = min(len(task.train[1]) for task in sequence.tasks)
    if not 1 <= batch_size <= smallest:
        raise ConfigError(f"batch_size must lie in 1 ... {smallest} (the smallest task), got {batch_size}")
    size = smallest // batch_size * batch_size
    seeds = range(len(orders)) if seeds is None else seeds
    inputs, labels, cuts = _joined([task.test for task in sequence.tasks])
    accuracy = np.zeros((len(orders), count + 1, count))
    sizes = np.zeros((len(orders), count))
    predictions = learner.predict(inputs).cpu()
    accuracy[:, 0] = _by_task(predictions, labels, cuts, orders)
    start = time.perf_counter()
    for place in range(count):
        numbers = [order[place] for order in orders]
        for epoch in range(epochs):
            drawn = [_drawn(sequence.tasks[t].train, size, s, t, epoch) for t, s in zip(numbers, seeds, strict=True)]
            xs, ys = (torch.stack(part) for part in zip(*drawn, strict=True))
            for at in range(0, size, batch_size):
                learner.observe(xs[:, at : at + batch_size], ys[:, at : at + batch_size], size * epochs)
            if epoch == epochs - 1:
                learner.end_task(xs, ys)
        predictions = learner.predict(inputs).cpu()
        accuracy[:, place + 1] = _by_task(predictions, labels, cuts, orders)
        sizes[:, place] = learner.effective_sample_size().cpu().numpy()
    seconds = time.perf_counter() - start
    held, truth, edges = _joined([task.validation for task in sequence.tasks])
    validated = _by_task(learner.predict(held).cpu(), truth, edges, orders).mean(1)
    return Run(accuracy, validated, predictions.double().numpy(), sizes, seconds, learner.state_bytes())


def _drawn(data: tuple[Tensor, Tensor], size: int, seed: int, task: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Return ``size`` samples in random order, the same wherever the task stands in the order of tasks."""
    generator = torch.Generator().manual_seed(particle_seed(seed, task, epoch))
    chosen = torch.randperm(len(data[1]), generator=generator)[:size]
    return data[0][chosen], data[1][chosen]


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, npt.NDArray[np.int64]]:
    """Return the tasks' samples end to end, and where each begins and ends."""
    cuts = np.cumsum([0, *(len(labels) for _, labels in parts)])
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([labels for _, labels in parts]), cuts


def _by_task(
    predictions: Tensor, labels: Tensor, cuts: npt.NDArray[np.int64], orders: Sequence[Sequence[int]]
) -> npt.NDArray[np.float64]:
    """Return the accuracies [R, T] by place in each replica's order."""
    right = (predictions.argmax(-1) == labels).double().numpy()
    by_task = np.stack([right[:, a:b].mean(1) for a, b in itertools.pairwise(cuts)], 1)
    return np.asarray(np.take_along_axis(by_task, np.asarray(orders), 1))
