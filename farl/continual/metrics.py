"""What continual learning is judged by.

``accuracy[s, j]`` is the accuracy on the j-th task learnt, after s tasks have been learnt: shape [..., T + 1, T], with
row 0 before any learning.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from farl.errors import ConfigError

Array = npt.NDArray[np.float64]


def _checked(accuracy: Array) -> Array:
    if accuracy.ndim < 2 or accuracy.shape[-2] != accuracy.shape[-1] + 1:
        raise ConfigError(f"accuracy must have shape [..., tasks + 1, tasks], got {accuracy.shape}")
    return accuracy


def _learnt(accuracy: Array) -> Array:
    """Accuracy on each task just after it was learnt, [..., T]."""
    return np.diagonal(accuracy[..., 1:, :], axis1=-2, axis2=-1)


def average_accuracy(accuracy: Array) -> Array:
    """Return the mean accuracy over all tasks after the last, [...]."""
    return np.asarray(_checked(accuracy)[..., -1, :].mean(-1))


def plasticity(accuracy: Array) -> Array:
    """Return the mean accuracy on each task just after learning it, [...]."""
    return np.asarray(_learnt(_checked(accuracy)).mean(-1))


def backward_transfer(accuracy: Array) -> Array:
    """Return how much later tasks changed the accuracy on earlier ones, [...] (Lopez-Paz and Ranzato 2017).

    Zero with a single task.
    """
    change = (_checked(accuracy)[..., -1, :] - _learnt(accuracy))[..., :-1]
    return np.asarray(change.mean(-1) if change.shape[-1] else np.zeros(accuracy.shape[:-2]))


def forward_transfer(accuracy: Array) -> Array:
    """Return how much earlier tasks raised the accuracy on a task before it was learnt, [...].

    Against the accuracy at the start (Lopez-Paz and Ranzato 2017); zero with a single task.
    """
    before = np.diagonal(_checked(accuracy)[..., :-1, :], axis1=-2, axis2=-1)
    gain = (before - accuracy[..., 0, :])[..., 1:]
    return np.asarray(gain.mean(-1) if gain.shape[-1] else np.zeros(accuracy.shape[:-2]))


def forgetting(accuracy: Array) -> Array:
    """Return the mean drop from a task's best accuracy to its last, over all but the last task, [...].

    Chaudhry et al. 2018; zero with a single task.
    """
    drop = (_checked(accuracy)[..., 1:, :].max(-2) - accuracy[..., -1, :])[..., :-1]
    return np.asarray(drop.mean(-1) if drop.shape[-1] else np.zeros(accuracy.shape[:-2]))


def order_variation(predictions: Array) -> float:
    """Return the mean total variation between the predictions of runs that differ in the order of their tasks alone.

    :param predictions: [orders, samples, classes] probabilities on the same samples
    :return: a number in [0, 1]: 0 means that the order left no trace
    """
    if predictions.ndim != 3 or len(predictions) < 2:
        raise ConfigError(f"needs predictions [orders >= 2, samples, classes], got shape {predictions.shape}")
    distances = [np.abs(a - b).sum(-1).mean() / 2 for a, b in combinations(predictions, 2)]
    return float(np.mean(distances))
