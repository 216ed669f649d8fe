"""Poses in the plane, float64[..., 3]: x, y (metres) and heading (radians), as points and as rigid motions."""

import math

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
    cos, sin = np.cos(a[..., 2]), np.sin(a[..., 2])
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    turn = (b[..., 2] - a[..., 2] + np.pi) % (2.0 * np.pi) - np.pi
    return np.stack([cos * dx + sin * dy, -sin * dx + cos * dy, turn], axis=-1)


def inverse(a: npt.ArrayLike) -> FloatArray:
    """The motion that undoes ``a``, [..., 3]."""
    a = np.asarray(a, np.float64)
    return between(a, np.zeros_like(a))
