"""Poses in the plane, float64[..., 3]: x, y (metres) and heading (radians), as points and as rigid motions."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from farl.maps.compiled import compiled

FloatArray = npt.NDArray[np.float64]


@compiled
def wrapped(angle: float) -> float:
    """The same angle in [-pi, pi)."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


def compose(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Pose ``b``, given in the frame of ``a``, in the frame that ``a`` is given in; [..., 3] each."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim == b.ndim == 1:
        return np.asarray(_compose(a, b))
    cos, sin = np.cos(a[..., 2]), np.sin(a[..., 2])
    return np.stack(
        [
            a[..., 0] + cos * b[..., 0] - sin * b[..., 1],
            a[..., 1] + sin * b[..., 0] + cos * b[..., 1],
            (a[..., 2] + b[..., 2] + np.pi) % (2.0 * np.pi) - np.pi,
        ],
        axis=-1,
    )


def between(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Pose ``b`` in the frame of ``a``, both given in one frame; [..., 3] each."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim == b.ndim == 1:
        return np.asarray(_between(a, b))
    cos, sin = np.cos(a[..., 2]), np.sin(a[..., 2])
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    turn = (b[..., 2] - a[..., 2] + np.pi) % (2.0 * np.pi) - np.pi
    return np.stack([cos * dx + sin * dy, -sin * dx + cos * dy, turn], axis=-1)


def inverse(a: npt.ArrayLike) -> FloatArray:
    """The motion that undoes ``a``, [..., 3]."""
    a = np.asarray(a, np.float64)
    return between(a, np.zeros_like(a))


def moved(
    pose: FloatArray, covariance: FloatArray, step: FloatArray, added: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """A pose after a step in its own frame, and its covariance: both float64[3] and float64[3, 3].

    :param covariance: float64[3, 3], of the pose
    :param step: float64[3], in the frame of the pose
    :param added: float64[3, 3], covariance of the step
    """
    after, spread = _moved(pose, covariance, step, added)
    return after, spread


# Single poses, which every step of a robot needs several of, as plain numbers.


@compiled
def _compose(a: Any, b: Any) -> Any:
    cos, sin = math.cos(a[2]), math.sin(a[2])
    return np.array([a[0] + cos * b[0] - sin * b[1], a[1] + sin * b[0] + cos * b[1], wrapped(a[2] + b[2])])


@compiled
def _between(a: Any, b: Any) -> Any:
    cos, sin, dx, dy = math.cos(a[2]), math.sin(a[2]), b[0] - a[0], b[1] - a[1]
    return np.array([cos * dx + sin * dy, -sin * dx + cos * dy, wrapped(b[2] - a[2])])


@compiled
def _moved(pose: Any, covariance: Any, step: Any, added: Any) -> Any:
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    by_pose, by_step = np.eye(3), np.eye(3)
    by_pose[0, 2], by_pose[1, 2] = -sin * step[0] - cos * step[1], cos * step[0] - sin * step[1]
    by_step[0, 0], by_step[0, 1], by_step[1, 0], by_step[1, 1] = cos, -sin, sin, cos
    spread = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                for m in range(3):
                    spread[i, j] += by_pose[i, k] * covariance[k, m] * by_pose[j, m]
                    spread[i, j] += by_step[i, k] * added[k, m] * by_step[j, m]
    return _compose(pose, step), spread
