"""Rigid motions in the plane, SE(2), for filters over a robot's pose.

A pose is x, y and the heading in radians. A tangent is a step in the pose's own axes: forward, to the left, and a turn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from farl.particles.manifold import Manifold


class SE2(Manifold):
    """Poses in the plane, as 3 numbers with 3 dimensions (see this module's head)."""

    size = 3
    dimension = 3

    def retract(self, states: Tensor, tangents: Tensor) -> Tensor:
        """Return the poses [..., 3] after steps [..., 3] in their own axes."""
        cos, sin = states[..., 2].cos(), states[..., 2].sin()
        x = states[..., 0] + cos * tangents[..., 0] - sin * tangents[..., 1]
        y = states[..., 1] + sin * tangents[..., 0] + cos * tangents[..., 1]
        return torch.stack([x, y, _wrapped(states[..., 2] + tangents[..., 2])], -1)

    def local(self, states: Tensor, others: Tensor) -> Tensor:
        """Return the steps [..., 3] that lead from poses to others."""
        cos, sin = states[..., 2].cos(), states[..., 2].sin()
        dx, dy = others[..., 0] - states[..., 0], others[..., 1] - states[..., 1]
        turn = _wrapped(others[..., 2] - states[..., 2])
        return torch.stack([cos * dx + sin * dy, cos * dy - sin * dx, turn], -1)

    def guess(self, states: Tensor, weights: Tensor) -> Tensor:
        """Return the mean place, and the heading of the mean direction."""
        place = (weights[..., None] * states[..., :2]).sum(-2)
        sine, cosine = ((weights * part).sum(-1) for part in (states[..., 2].sin(), states[..., 2].cos()))
        return torch.cat([place, torch.atan2(sine, cosine)[..., None]], -1)


def _wrapped(angles: Tensor) -> Tensor:
    return (angles + math.pi) % (2.0 * math.pi) - math.pi
