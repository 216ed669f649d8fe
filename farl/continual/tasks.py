"""Sequences of tasks: split, permuted and rotated images, and any user's list of data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from farl.continual.data import Images, cifar100, class_numbers, digits, mnist, mnist_5k
from farl.errors import ConfigError

Scenario = Literal["domain", "class"]


@dataclass(frozen=True)
class Task:
    """One task: training, validation and test samples, inputs [n, ...] and labels int64[n].

    Learning rates are chosen on the validation samples, results are reported on the test samples.
    """

    name: str
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            inputs, labels = getattr(self, part)
            object.__setattr__(self, part, (inputs, class_numbers(labels, f"{self.name}, to {part}")))


@dataclass(frozen=True)
class TaskSequence:
    """Tasks that share one head of ``n_classes`` outputs, in a reference order."""

    tasks: tuple[Task, ...]
    n_classes: int

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("a task sequence needs at least one task")
        for task in self.tasks:
            for part in ("train", "validation", "test"):
                inputs, labels = getattr(task, part)
                if len(inputs) == 0 or len(inputs) != len(labels):
                    raise ConfigError(f"{task.name}: {len(inputs)} inputs and {len(labels)} labels to {part}")
                if int(labels.min()) < 0 or int(labels.max()) >= self.n_classes:
                    raise ConfigError(f"{task.name}: labels must lie in 0 ... {self.n_classes - 1}")
                if inputs.shape[1:] != self.tasks[0].train[0].shape[1:]:
                    raise ConfigError(f"{task.name}: inputs differ in shape from those of {self.tasks[0].name}")

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.tasks[0].train[0].shape[1:])


def _cut(data: Images, chosen: Tensor, labels: Tensor, shares: tuple[float, float]) -> list[tuple[Tensor, Tensor]]:
    """Cut samples into training, validation and test parts with the given shares of the last two."""
    n = len(chosen)
    test, validation = (max(1, round(share * n)) for share in (shares[1], shares[0]))
    cuts = (chosen[test + validation :], chosen[test : test + validation], chosen[:test])
    return [(data.inputs[part], labels[part]) for part in cuts]


def split(
    data: Images,
    groups: Sequence[Sequence[int]],
    scenario: Scenario = "domain",
    *,
    test: Images | None = None,
    validation_share: float = 0.1,
    test_share: float = 0.2,
    seed: int = 0,
    name: str = "classes",
) -> TaskSequence:
    """Cut a data set into tasks by groups of classes.

    :param data: the images
    :param groups: classes of each task, such as ``[(0, 1), (2, 3)]``
    :param scenario: ``"domain"`` numbers the classes of every task from 0 (one head shared by all tasks, which disagree
        about it); ``"class"`` keeps the labels, and a task's classes must be told from all others.
    :param test: a test set of its own; else ``test_share`` of the data is held out
    :param validation_share: share of the data held out to choose learning rates on
    :param test_share: share of the data held out for the results
    :param seed: seed of the held-out samples
    :param name: prefix of the tasks' names
    :raises ConfigError: for an unknown scenario, or a class without samples
    """
    if scenario not in ("domain", "class"):
        raise ConfigError(f"scenario must be 'domain' or 'class', got {scenario!r}")
    generator = torch.Generator().manual_seed(seed)
    tasks = []
    for group in groups:

        def numbered(labels: Tensor, group: Sequence[int] = group) -> Tensor:
            if scenario == "class":
                return labels
            return (labels[:, None] == torch.tensor(list(group))).int().argmax(1)

        def members(images: Images, group: Sequence[int] = group) -> Tensor:
            found = torch.isin(images.labels, torch.tensor(list(group))).nonzero().flatten()
            return found[torch.randperm(len(found), generator=generator)]

        chosen = members(data)
        if missing := sorted(set(group) - set(data.labels[chosen].tolist())):
            raise ConfigError(f"the data hold no samples of class {missing[0]}")
        share = 0.0 if test is not None else test_share
        parts = _cut(data, chosen, numbered(data.labels), (validation_share, share))
        if test is not None:
            held = members(test)
            parts[2] = (test.inputs[held], numbered(test.labels)[held])
        tasks.append(Task(f"{name} {'-'.join(map(str, group))}", *parts))
    classes = 1 + max(max(group) for group in groups) if scenario == "class" else max(len(group) for group in groups)
    return TaskSequence(tuple(tasks), classes)


_PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


def split_digits(scenario: Scenario = "domain", seed: int = 0) -> TaskSequence:
    """Return five tasks of two digits each, from scikit-learn's 8 x 8 digits."""
    return split(digits(), _PAIRS, scenario, seed=seed, name="digits")


def split_mnist(scenario: Scenario = "domain", folder: str | Path | None = None, seed: int = 0) -> TaskSequence:
    """Return five tasks of two MNIST digits each: the offline 5 000, or the full set in ``folder``."""
    if folder is None:
        return split(mnist_5k(), _PAIRS, scenario, seed=seed, name="digits")
    return split(mnist(folder), _PAIRS, scenario, test=mnist(folder, train=False), seed=seed, name="digits")


def split_cifar100(
    folder: str | Path, scenario: Scenario = "domain", seed: int = 0, fetch: bool = True
) -> TaskSequence:
    """Return CIFAR-100's 20 superclasses as tasks of five classes each, from the binary files in ``folder``."""
    data, test = cifar100(folder, True, fetch), cifar100(folder, False, fetch)
    assert data.coarse is not None
    coarse = data.coarse
    groups = [sorted(set(data.labels[coarse == c].tolist())) for c in sorted(set(coarse.tolist()))]
    return split(data, groups, scenario, test=test, seed=seed, name="classes")


def transformed(
    data: Images,
    transforms: Sequence[Callable[[Tensor], Tensor]],
    names: Sequence[str],
    *,
    validation_share: float = 0.1,
    test_share: float = 0.2,
    seed: int = 0,
) -> TaskSequence:
    """Return one task for each transform of the inputs; all classes in every task."""
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    parts = _cut(data, chosen, data.labels, (validation_share, test_share))
    tasks = [
        Task(name, *((transform(inputs), labels) for inputs, labels in parts))
        for name, transform in zip(names, transforms, strict=True)
    ]
    return TaskSequence(tuple(tasks), int(data.labels.max()) + 1)


def permuted(data: Images, n_tasks: int, seed: int = 0) -> TaskSequence:
    """Return tasks that see the pixels in a fixed random order each (the first in their own)."""
    size = data.inputs[0].numel()

    def permute(task: int) -> Callable[[Tensor], Tensor]:
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1009 + task))
        return lambda inputs: inputs.flatten(1)[:, order].reshape(inputs.shape) if task else inputs

    return transformed(data, [permute(t) for t in range(n_tasks)], [f"permutation {t}" for t in range(n_tasks)])


def rotated(data: Images, degrees: Sequence[float]) -> TaskSequence:
    """Return tasks that see the images turned anticlockwise by each of ``degrees``."""

    def turn(angle: float) -> Callable[[Tensor], Tensor]:
        radians = torch.deg2rad(torch.tensor(float(angle)))
        cos, sin = float(radians.cos()), float(radians.sin())
        matrix = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]])

        def rotate(inputs: Tensor) -> Tensor:
            if angle % 360 == 0:
                return inputs
            grid = F.affine_grid(matrix.expand(len(inputs), 2, 3), list(inputs.shape), align_corners=False)
            return F.grid_sample(inputs, grid, align_corners=False)

        return rotate

    return transformed(data, [turn(angle) for angle in degrees], [f"rotation {angle:g}" for angle in degrees])


def from_datasets(
    train: Sequence[Any], test: Sequence[Any], n_classes: int, *, validation_share: float = 0.1, seed: int = 0
) -> TaskSequence:
    """Return a sequence from any user's data sets of (input, label) pairs, one training and test set a task.

    :raises ConfigError: if their numbers differ or labels do not fit ``n_classes``
    """
    if len(train) != len(test):
        raise ConfigError(f"{len(train)} training sets but {len(test)} test sets")
    tasks = []
    for number, (learn, judge) in enumerate(zip(train, test, strict=True)):
        inputs, labels = _stacked(learn)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        held = max(1, round(validation_share * len(labels)))
        kept, aside = order[held:], order[:held]
        known = (inputs[kept], labels[kept]), (inputs[aside], labels[aside])
        tasks.append(Task(f"task {number}", *known, _stacked(judge)))
    return TaskSequence(tuple(tasks), n_classes)


def _stacked(dataset: Any) -> tuple[Tensor, Tensor]:
    pairs = [dataset[i] for i in range(len(dataset))]
    if not pairs:
        raise ConfigError("a data set is empty")
    if any(len(pair) != 2 for pair in pairs):
        raise ConfigError(f"a data set must give (input, label), not {len(pairs[0])} things a sample")
    inputs = torch.stack([torch.as_tensor(pair[0]) for pair in pairs])
    return inputs, class_numbers([pair[1] for pair in pairs], "a data set")
