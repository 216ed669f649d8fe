"""Continual learning: sequences of tasks, methods against forgetting, metrics."""

from farl.continual.learner import FilterLearner, Learner, Run, run_sequence
from farl.continual.methods import METHODS, Method, Setting
from farl.continual.tasks import (
    Task,
    TaskSequence,
    from_datasets,
    permuted,
    rotated,
    split,
    split_cifar100,
    split_digits,
    split_mnist,
)
from farl.optimisers import Trac, TracAdam

__all__ = [
    "METHODS",
    "FilterLearner",
    "Learner",
    "Method",
    "Run",
    "Setting",
    "Task",
    "TaskSequence",
    "Trac",
    "TracAdam",
    "from_datasets",
    "permuted",
    "rotated",
    "run_sequence",
    "split",
    "split_cifar100",
    "split_digits",
    "split_mnist",
]
