"""Rigid motions, SE(3): rotations and translations of a body, for filters over poses.

A pose is 7 numbers: the translation and the unit quaternion (x, y, z, w), in the order of ROS's ``Pose`` and of SciPy's
``Rotation.from_quat``; q and -q are the same pose. It takes points of the body into the world: R p + t. A tangent is
6 numbers: a translation and a rotation vector (radians), both in the body's own axes.

The formulas are those of Sola, Deray and Atchuthan, "A micro Lie theory for state estimation in robotics",
arXiv 1812.01537 (examples 3 and 7, appendices B and D), with quaternions and series about angle 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from farl.errors import ConfigError
from farl.particles.manifold import Manifold

_SMALL = 0.05
"""Squared angle (radians) below which the series are as exact as double precision."""
_TOLERANCE = 1e-3


def _series(x: Tensor, *coefficients: float) -> Tensor:
    """Return c_0 + c_1 x + c_2 x^2 + ..."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _cross(left: Tensor, right: Tensor) -> Tensor:
    """Return the vector products [..., 3]; leading axes are broadcast, of other numbers as well."""
    left, right = torch.broadcast_tensors(left, right)  # type: ignore[no-untyped-call]
    product: Tensor = torch.linalg.cross(left, right)
    return product


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """Return the products [..., 4] of quaternions [..., 4]: the rotation ``right``, then ``left``."""
    (a, s), (b, r) = (left[..., :3], left[..., 3:]), (right[..., :3], right[..., 3:])
    vector = s * b + r * a + _cross(a, b)
    return torch.cat([vector, s * r - (a * b).sum(-1, keepdim=True)], -1)


def conjugate(quaternions: Tensor) -> Tensor:
    """Return the inverse rotations [..., 4]."""
    return torch.cat([-quaternions[..., :3], quaternions[..., 3:]], -1)


def rotate(quaternions: Tensor, vectors: Tensor) -> Tensor:
    """Turn vectors [..., 3] by quaternions [..., 4]."""
    axis = quaternions[..., :3]
    twice = 2 * _cross(axis, vectors)
    return vectors + quaternions[..., 3:] * twice + _cross(axis, twice)


def exp(tangents: Tensor) -> Tensor:
    """Return the poses [..., 7] that tangents [..., 6] lead to from the identity; differentiable, at 0 as well."""
    along, turn = tangents[..., :3], tangents[..., 3:]
    square = (turn**2).sum(-1, keepdim=True)
    small = square < _SMALL
    angle = square.where(~small, torch.ones_like(square)).sqrt()
    near = square.where(small, torch.zeros_like(square))
    sine = torch.where(
        small, _series(near, 1 / 2, -1 / 48, 1 / 3840, -1 / 645120, 1 / 185794560), (angle / 2).sin() / angle
    )
    cosine = torch.where(small, _series(near, 1, -1 / 8, 1 / 384, -1 / 46080, 1 / 10321920), (angle / 2).cos())
    third = torch.where(
        small, _series(near, 1 / 6, -1 / 120, 1 / 5040, -1 / 362880, 1 / 39916800), (angle - angle.sin()) / angle**3
    )
    once = _cross(turn, along)
    translation = along + 2 * sine**2 * once + third * _cross(turn, once)  # 1 - cos = 2 sin^2 of the half
    return torch.cat([translation, sine * turn, cosine], -1)


def log(poses: Tensor) -> Tensor:
    """Return the tangents [..., 6] that lead from the identity to poses [..., 7]; rotations of at most pi."""
    translation, quaternion = poses[..., :3], poses[..., 3:]
    quaternion = quaternion * torch.where(quaternion[..., 3:] < 0, -1.0, 1.0).to(quaternion.dtype)
    vector, scalar = quaternion[..., :3], quaternion[..., 3:]
    square = (vector**2).sum(-1, keepdim=True)
    small = square < 1e-3
    sine = square.where(~small, torch.ones_like(square)).sqrt()
    ratio = square.where(small, torch.zeros_like(square)) / scalar.where(small, torch.ones_like(scalar)) ** 2
    wide = 2 * torch.atan2(sine, scalar)
    factor = torch.where(
        small,
        _series(ratio, 2, -2 / 3, 2 / 5, -2 / 7, 2 / 9) / scalar.where(small, torch.ones_like(scalar)),
        wide / sine,
    )
    turn = factor * vector
    square = (turn**2).sum(-1, keepdim=True)
    small = square < _SMALL
    half = square.where(~small, torch.ones_like(square)).sqrt() / 2
    near = square.where(small, torch.zeros_like(square))
    second = torch.where(
        small,
        _series(near, 1 / 12, 1 / 720, 1 / 30240, 1 / 1209600, 1 / 47900160),
        (1 - half * half.cos() / half.sin()) / (2 * half) ** 2,
    )
    once = _cross(turn, translation)
    return torch.cat([translation - once / 2 + second * _cross(turn, once), turn], -1)


class SE3(Manifold):
    """Poses of a rigid body, as 7 numbers with 6 dimensions (see this module's head).

    :param length: the translation that counts as much as a turn of 1 radian; tangents hold translations in multiples
        of it. About the radius of the body makes both alike, which filters with one step size for all dimensions need
    :raises ConfigError: if the length is not positive

    The means are those of the group, which commute with a change of the world's and of the body's axes: Pennec and
    Arsigny, "Exponential barycenters of the canonical Cartan connection and invariant means on Lie groups", 2013.
    """

    size = 7
    dimension = 6

    def __init__(self, length: float = 1.0) -> None:
        if not 0 < length < float("inf"):
            raise ConfigError(f"length must be positive and finite, got {length}")
        self.length = length

    def retract(self, states: Tensor, tangents: Tensor) -> Tensor:
        """Return ``states`` times the exponential of ``tangents``."""
        change = exp(torch.cat([tangents[..., :3] * self.length, tangents[..., 3:]], -1))
        turned = torch.nn.functional.normalize(multiply(states[..., 3:], change[..., 3:]), dim=-1)
        return torch.cat([states[..., :3] + rotate(states[..., 3:], change[..., :3]), turned], -1)

    def local(self, states: Tensor, others: Tensor) -> Tensor:
        """Return the logarithm of ``others`` as seen from ``states``."""
        back = conjugate(states[..., 3:])
        shift = rotate(back, others[..., :3] - states[..., :3])
        tangents = log(torch.cat([shift, multiply(back, others[..., 3:])], -1))
        return torch.cat([tangents[..., :3] / self.length, tangents[..., 3:]], -1)

    def guess(self, states: Tensor, weights: Tensor) -> Tensor:
        """Return the mean translation, and the rotation nearest to all in the mean square (Markley et al. 2007)."""
        quaternions = states[..., 3:]
        products = quaternions.mT @ (weights[..., None] * quaternions)
        turned = torch.linalg.eigh(products).eigenvectors[..., -1]
        return torch.cat([(weights[..., None] * states[..., :3]).sum(-2), turned], -1)

    def check(self, states: Tensor) -> None:
        """See that states are 7 numbers of which the last four are a unit quaternion."""
        super().check(states)
        norm = states[..., 3:].norm(dim=-1)
        wrong = (norm - 1).abs() > _TOLERANCE
        if bool(wrong.any()):
            raise ConfigError(
                "a pose is a translation (3 numbers) and a unit quaternion (x, y, z, w); "
                f"{int(wrong.sum())} of {wrong.numel()} have a quaternion of another length, such as "
                f"{float(norm[wrong][0]):.4g}: normalise it, and move poses with SE3().retract"
            )
