"""Bodies to track: their shapes, how they move, and how far an estimate is off.

A bottle, which is the same from all sides, and three that are the same from none: a mug, a bracket and a drill.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks._depth_camera import Mesh
from farl.particles import SE3
from farl.particles.se3 import conjugate, multiply, rotate

Point = tuple[float, float, float]
SEGMENTS = 12


def box(size: Point, centre: Point = (0.0, 0.0, 0.0)) -> Mesh:
    """A box with the given edges, metres."""
    corners = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = torch.tensor([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    faces = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Mesh(corners * torch.tensor(size) + torch.tensor(centre), faces)


def revolved(profile: Sequence[tuple[float, float]], axis: int = 2, centre: Point = (0.0, 0.0, 0.0)) -> Mesh:
    """A surface of revolution about an axis; the profile is (radius, height) from bottom to top, without its ends."""
    turns = torch.arange(SEGMENTS) * (2 * math.pi / SEGMENTS)
    rings = [torch.stack([r * turns.cos(), r * turns.sin(), torch.full_like(turns, h)], -1) for r, h in profile]
    ends = torch.tensor([[0, 0, profile[0][1]], [0, 0, profile[-1][1]]])
    bottom = len(profile) * SEGMENTS
    faces = []
    for k in range(SEGMENTS):
        following = (k + 1) % SEGMENTS
        for ring in range(len(profile) - 1):
            a, b = ring * SEGMENTS + k, ring * SEGMENTS + following
            faces += [[a, b, b + SEGMENTS], [a, b + SEGMENTS, a + SEGMENTS]]
        top = (len(profile) - 1) * SEGMENTS
        faces += [[bottom, following, k], [bottom + 1, top + k, top + following]]
    vertices = torch.cat([*rings, ends])[:, [(2, 0, 1), (1, 2, 0), (0, 1, 2)][axis]]
    return Mesh(vertices + torch.tensor(centre), torch.tensor(faces))


def joined(*parts: Mesh) -> Mesh:
    """Several closed surfaces as one; what is inside another is hidden."""
    vertices, faces, start = [], [], 0
    for part in parts:
        vertices.append(part.vertices)
        faces.append(part.faces + start)
        start += len(part.vertices)
    joint = torch.cat(vertices)
    return Mesh(joint - (joint.amin(0) + joint.amax(0)) / 2, torch.cat(faces))


BODIES: dict[str, Mesh] = {
    "bottle": joined(revolved([(0.04, -0.09), (0.04, 0.02), (0.014, 0.05), (0.014, 0.09)])),
    "mug": joined(
        revolved([(0.045, -0.05), (0.045, 0.05)]),
        box((0.035, 0.016, 0.016), (0.058, 0.0, 0.03)),
        box((0.035, 0.016, 0.016), (0.058, 0.0, -0.03)),
        box((0.016, 0.016, 0.076), (0.073, 0.0, 0.0)),
    ),
    "bracket": joined(
        box((0.14, 0.05, 0.03)), box((0.03, 0.05, 0.1), (-0.055, 0.0, 0.05)), box((0.04, 0.06, 0.03), (0.05, 0.05, 0.0))
    ),
    "drill": joined(
        revolved([(0.025, -0.07), (0.03, 0.03), (0.012, 0.06), (0.012, 0.09)], axis=0),
        box((0.035, 0.03, 0.1), (-0.03, 0.0, 0.06)),
        box((0.07, 0.045, 0.03), (-0.02, 0.0, 0.115)),
    ),
}
SYMMETRIC = ("bottle",)  # about the z axis
AXIS = torch.tensor([0.0, 0.0, 1.0])


def diameter(mesh: Mesh) -> float:
    """The largest distance between two points, metres."""
    return float(torch.cdist(mesh.vertices, mesh.vertices).max())


def trajectory(frames: int, centre: Point, generator: torch.Generator) -> Tensor:
    """Poses [frames, 7] of a body that swings about a point and turns, smoothly and each time otherwise."""

    def waves(size: float, slowest: float, fastest: float) -> Tensor:
        periods = slowest + (fastest - slowest) * torch.rand(3, generator=generator, dtype=torch.float64)
        phases = 2 * math.pi * torch.rand(3, generator=generator, dtype=torch.float64)
        return size * torch.sin(2 * math.pi * torch.arange(frames)[:, None] / periods + phases)

    shift = waves(1.0, 40, 25) * torch.tensor([0.06, 0.035, 0.05])
    spin = waves(0.12, 60, 30)  # radians a frame
    space = SE3()
    turn = torch.nn.functional.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=-1)
    poses = []
    for place, step in zip(torch.tensor(centre, dtype=torch.float64) + shift, spin, strict=True):
        turn = space.retract(torch.cat([place, turn]), torch.cat([torch.zeros_like(step), step]))[3:]
        poses.append(torch.cat([place, turn]))
    return torch.stack(poses)


def pose_errors(name: str, estimate: Tensor, truth: Tensor) -> dict[str, float]:
    """How far one pose [7] is from another: ``add`` (of the diameter), ``rotation`` (degrees), ``translation`` (mm).

    ``add`` is the mean distance of the same points (ADD), of symmetric bodies that to the nearest point (ADD-S):
    Hinterstoisser et al., "Model based training, detection and pose estimation of texture-less 3D objects in heavily
    cluttered scenes", ACCV 2012. Of those the rotation is that of the axis.
    """
    mesh = BODIES[name]
    points = surface_points(mesh).to(estimate)
    here, there = (rotate(pose[3:], points) + pose[:3] for pose in (estimate, truth))
    if name in SYMMETRIC:
        distance = torch.cdist(here, there).min(-1).values.mean()
        axis = AXIS.to(estimate)
        angle = torch.acos((rotate(estimate[3:], axis) * rotate(truth[3:], axis)).sum().clamp(-1, 1))
    else:
        distance = (here - there).norm(dim=-1).mean()
        relative = multiply(conjugate(estimate[3:]), truth[3:])
        angle = 2 * torch.atan2(relative[:3].norm(), relative[3].abs())
    return {
        "add": float(distance) / diameter(mesh),
        "rotation": math.degrees(float(angle)),
        "translation": 1000 * float((estimate[:3] - truth[:3]).norm()),
    }


def surface_points(mesh: Mesh, count: int = 300) -> Tensor:
    """Points [count, 3] spread over a surface, the same each time."""
    generator = torch.Generator().manual_seed(0)
    p, q, r = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    area = torch.linalg.cross(q - p, r - p).norm(dim=-1)
    face = torch.multinomial(area, count, replacement=True, generator=generator)
    s, t = torch.rand(2, count, 1, generator=generator)
    s, t = torch.where(s + t > 1, 1 - s, s), torch.where(s + t > 1, 1 - t, t)
    return p[face] + s * (q[face] - p[face]) + t * (r[face] - p[face])
