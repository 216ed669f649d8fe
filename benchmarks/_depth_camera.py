"""A depth camera: pictures of rigid bodies in many poses at once, and how likely a picture is.

Which triangle a pixel shows is found by a compiled depth buffer; how far away it is follows from that triangle's plane
in torch, so that depths have derivatives by the pose. An outline moves in steps of a pixel; its derivative is that of
the mean over where in the pixel it is, as in the boundary terms of Li et al., "Differentiable Monte Carlo ray tracing
through edge sampling", ACM Trans. Graph. 37, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad

from farl.errors import ConfigError
from farl.particles.se3 import conjugate, rotate


@dataclass(frozen=True)
class Mesh:
    """A closed surface of triangles.

    :ivar vertices: float32[V, 3], metres
    :ivar faces: int64[F, 3], counter-clockwise as seen from outside
    """

    vertices: Tensor
    faces: Tensor

    def __post_init__(self) -> None:
        if self.vertices.shape[1:] != (3,) or self.faces.shape[1:] != (3,) or not len(self.faces):
            raise ConfigError(
                f"a mesh is vertices [V, 3] and faces [F, 3] with at least one face; got {tuple(self.vertices.shape)} "
                f"and {tuple(self.faces.shape)}"
            )
        if not bool(self.vertices.isfinite().all()):
            raise ConfigError("a mesh has vertices that are not finite")
        if not 0 <= int(self.faces.min()) <= int(self.faces.max()) < len(self.vertices):
            raise ConfigError(f"a mesh of {len(self.vertices)} vertices has faces that name others")


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at the origin that looks along z, with x to the right and y down.

    :param width: pixels
    :param height: pixels
    :param focal: focal length in pixels
    :param background: distance of the wall behind everything, metres
    """

    width: int = 32
    height: int = 24
    focal: float = 40.0
    background: float = 1.0

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or not (self.focal > 0 and self.background > 0):
            raise ConfigError(f"a camera needs pixels, a focal length and a background above 0, got {self}")

    @property
    def rays(self) -> Tensor:
        """Directions of the pixels' centres with z = 1, float32[height * width, 3]."""
        v, u = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        x = (u.flatten() + 0.5 - self.width / 2) / self.focal
        y = (v.flatten() + 0.5 - self.height / 2) / self.focal
        return torch.stack([x, y, torch.ones_like(x)], -1)

    def larger(self, times: int) -> Camera:
        """Return the same view with more pixels."""
        return Camera(self.width * times, self.height * times, self.focal * times, self.background)


@numba.njit(cache=True)
def _visible(
    corners: NDArray[np.float32], faces: NDArray[np.int64], width: int, height: int, focal: float, wall: float
) -> NDArray[np.int32]:
    """Return the triangle in front at each pixel, int32[B, P]; -1 where it is the wall. Corners are [B, V, 3]."""
    batch = corners.shape[0]
    found = np.full((batch, height * width), -1, np.int32)
    nearest = np.zeros(height * width, np.float32)
    for b in range(batch):
        nearest[:] = 1.00001 / wall  # one over the depth; a little before it, so that rounding puts nothing behind it
        for f in range(faces.shape[0]):
            p, q, r = corners[b, faces[f, 0]], corners[b, faces[f, 1]], corners[b, faces[f, 2]]
            if p[2] <= 0.01 or q[2] <= 0.01 or r[2] <= 0.01:  # behind the camera
                continue
            # With M = [p q r], a pixel's ray d meets the plane at barycentric coordinates M^-1 d, up to the depth.
            qr = (q[1] * r[2] - q[2] * r[1], q[2] * r[0] - q[0] * r[2], q[0] * r[1] - q[1] * r[0])
            rp = (r[1] * p[2] - r[2] * p[1], r[2] * p[0] - r[0] * p[2], r[0] * p[1] - r[1] * p[0])
            pq = (p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0])
            volume = p[0] * qr[0] + p[1] * qr[1] + p[2] * qr[2]
            if volume >= -1e-12:  # seen from behind, or from the side
                continue
            over = 1.0 / volume
            qr = (qr[0] * over, qr[1] * over, qr[2] * over)
            rp = (rp[0] * over, rp[1] * over, rp[2] * over)
            near_by = (qr[0] + rp[0] + pq[0] * over, qr[1] + rp[1] + pq[1] * over, qr[2] + rp[2] + pq[2] * over)
            u0, u1, u2 = p[0] / p[2], q[0] / q[2], r[0] / r[2]
            v0, v1, v2 = p[1] / p[2], q[1] / q[2], r[1] / r[2]
            left = max(0, math.ceil(min(u0, u1, u2) * focal + width / 2 - 0.5))
            right = min(width - 1, math.floor(max(u0, u1, u2) * focal + width / 2 - 0.5))
            top = max(0, math.ceil(min(v0, v1, v2) * focal + height / 2 - 0.5))
            bottom = min(height - 1, math.floor(max(v0, v1, v2) * focal + height / 2 - 0.5))
            for row in range(top, bottom + 1):
                y = (row + 0.5 - height / 2) / focal
                for column in range(left, right + 1):
                    x = (column + 0.5 - width / 2) / focal
                    first = qr[0] * x + qr[1] * y + qr[2]
                    second = rp[0] * x + rp[1] * y + rp[2]
                    near = near_by[0] * x + near_by[1] * y + near_by[2]  # one over the depth
                    if first < 0 or second < 0 or first + second > near:
                        continue
                    if near > nearest[row * width + column]:
                        nearest[row * width + column] = near
                        found[b, row * width + column] = f
    return found


def _constant(value: Tensor) -> Tensor:
    """Return a value without its derivatives, those in forward mode as well, which ``detach`` keeps."""
    primal: Tensor = forward_ad.unpack_dual(value.detach()).primal  # type: ignore[no-untyped-call]
    return primal


@dataclass(frozen=True)
class View:
    """What is seen of bodies in B states.

    The first three are of the pixels that show a body, the last four of pairs of neighbouring pixels with an outline
    between them.

    :ivar row: int64[N], which state
    :ivar pixel: int64[N]
    :ivar depth: float32[N], metres; differentiable
    :ivar picture: float32[B, P], the same with the wall; not differentiable
    :ivar edge: int64[M], which state
    :ivar inside: int64[M], the pixel that shows the nearer body
    :ivar outside: int64[M], the one that shows what is behind it
    :ivar motion: float32[M], by how many pixels the outline moves outwards: 0, with a derivative
    """

    row: Tensor
    pixel: Tensor
    depth: Tensor
    picture: Tensor
    edge: Tensor
    inside: Tensor
    outside: Tensor
    motion: Tensor


class Scene:
    """Bodies in front of a camera. A state is their poses, one after another: float[..., 7 K] for K bodies.

    :param camera: the camera
    :param meshes: the bodies
    """

    def __init__(self, camera: Camera, meshes: Sequence[Mesh]) -> None:
        if not meshes:
            raise ConfigError("a scene needs at least one body")
        self.camera, self.meshes = camera, list(meshes)
        starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
        self.faces = torch.cat([mesh.faces + int(start) for mesh, start in zip(meshes, starts, strict=False)])
        self.rays = camera.rays
        p, q, r = (torch.cat([mesh.vertices[mesh.faces[:, corner]] for mesh in meshes]) for corner in range(3))
        self._normals = torch.linalg.cross(q - p, r - p)
        self._offsets = (self._normals * p).sum(-1)
        self._bodies = torch.cat([torch.full((len(mesh.faces),), body) for body, mesh in enumerate(meshes)])

    def corners(self, states: Tensor) -> Tensor:
        """Return all vertices as the camera sees them, float32[..., V, 3]."""
        poses = states.to(torch.float32).split(7, -1)
        return torch.cat(
            [
                rotate(pose[..., None, 3:], mesh.vertices) + pose[..., None, :3]
                for pose, mesh in zip(poses, self.meshes, strict=True)
            ],
            -2,
        )

    def visible(self, states: Tensor) -> Tensor:
        """Return the number of the triangle that each pixel shows, int64[..., P], or -1: the bodies' silhouettes."""
        return self._visible(self.corners(states.detach())).reshape(*states.shape[:-1], -1)

    def _visible(self, corners: Tensor) -> Tensor:
        flat = corners.detach().reshape(-1, *corners.shape[-2:]).contiguous().numpy()
        camera = self.camera
        found = _visible(flat, self.faces.numpy(), camera.width, camera.height, camera.focal, camera.background)
        return torch.from_numpy(found).long()

    def look(self, states: Tensor) -> View:
        """Look at the bodies in states float[..., 7 K]."""
        shown = self._visible(self.corners(states.detach()))
        row, pixel = (shown >= 0).nonzero(as_tuple=True)
        face = shown[row, pixel]
        poses = states.to(torch.float32).reshape(-1, 7)
        pose = poses.index_select(0, row * len(self.meshes) + self._bodies[face])
        # The plane n . p = o of the body is (R n) . (p - t) = o in front of the camera.
        normal = rotate(pose[:, 3:], self._normals[face])
        depth = (self._offsets[face] + (normal * pose[:, :3]).sum(-1)) / (normal * self.rays[pixel]).sum(-1)
        picture = torch.full((len(shown), len(self.rays)), self.camera.background)
        picture[row, pixel] = _constant(depth)
        bodies = torch.where(shown >= 0, self._bodies[shown.clamp_min(0)], -1)
        return View(row, pixel, depth, picture, *self._outline(poses, bodies, picture))

    def _outline(self, poses: Tensor, bodies: Tensor, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the parts of outlines: (row, pixel inside, pixel outside, motion); see :class:`View`."""
        camera = self.camera
        index = torch.arange(len(self.rays)).reshape(camera.height, camera.width)
        parts = []
        for axis, (here, there) in enumerate(((index[:, :-1], index[:, 1:]), (index[:-1], index[1:]))):
            one, other = here.flatten(), there.flatten()
            row, pair = (bodies[:, one] != bodies[:, other]).nonzero(as_tuple=True)
            first, second = one[pair], other[pair]
            nearer = picture[row, first] < picture[row, second]
            inside, outside = torch.where(nearer, first, second), torch.where(nearer, second, first)
            pose = poses.index_select(0, row * len(self.meshes) + bodies[row, inside])
            point = self.rays[inside] * picture[row, inside, None]
            fixed = _constant(pose)
            moved = rotate(pose[:, 3:], rotate(conjugate(fixed[:, 3:]), point - fixed[:, :3])) + pose[:, :3]
            motion = camera.focal * (moved[:, axis] / moved[:, 2] - point[:, axis] / point[:, 2])
            parts.append((row, inside, outside, torch.where(nearer, motion, -motion)))
        row, inside, outside, motion = (torch.cat(part) for part in zip(*parts, strict=True))
        return row, inside, outside, motion

    def depth(self, states: Tensor, contrast: float = math.inf) -> Tensor:
        """Return depth pictures, float32[..., P] in metres; differentiable.

        :param contrast: the largest difference in depth across an outline that derivatives count
        """
        view = self.look(states)
        drop = view.picture[view.edge, view.outside] - view.picture[view.edge, view.inside]
        change = -view.motion * drop.clamp_max(contrast) / 2
        picture = view.picture.index_put((view.row, view.pixel), view.depth)
        for pixel in (view.inside, view.outside):
            picture = picture.index_put((view.edge, pixel), change, accumulate=True)
        return picture.reshape(*states.shape[:-1], -1)


@dataclass(frozen=True)
class DepthObservation:
    """A depth picture as a likelihood of states: every pixel is a reading with noise, or an outlier.

    A pixel's density is (1 - outliers) N(depth; deviation) + outliers / background; a NaN was no reading.

    :param scene: what is looked at
    :param picture: float32[P], metres
    :param deviation: standard deviation of the readings, metres
    :param outliers: share of readings that say nothing
    :param power: exponent of the likelihood; below 1 where neighbouring pixels err alike
    """

    scene: Scene
    picture: Tensor
    deviation: float
    outliers: float
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.picture.shape != (len(self.scene.rays),):
            raise ConfigError(
                f"a picture of this camera has {len(self.scene.rays)} pixels, not the shape {tuple(self.picture.shape)}"
            )
        if not (self.deviation > 0 and 0 < self.outliers < 1 and self.power > 0):
            raise ConfigError(
                "deviation and power must be positive and outliers between 0 and 1, got "
                f"{self.deviation}, {self.power} and {self.outliers}"
            )

    def _costs(self, readings: Tensor, depth: Tensor | float) -> Tensor:
        """Return the negative log-density of readings, relative to that of an outlier, which nothing exceeds."""
        odds = (1 - self.outliers) / self.outliers * self.scene.camera.background
        peak = math.log(odds / (self.deviation * math.sqrt(2 * math.pi)))
        cost = -torch.nn.functional.softplus(peak - ((readings - depth) / self.deviation) ** 2 / 2)
        return cost.where(readings.isfinite(), torch.zeros_like(cost))

    def loss(self, particles: Tensor) -> Tensor:
        """Return the negative log-likelihood [..., n] of states [..., n, 7 K], up to a constant."""
        view = self.scene.look(particles)
        empty = self._costs(self.picture, self.scene.camera.background)
        readings = self.picture[view.pixel]
        known = readings.isfinite()
        change = self._costs(readings.where(known, view.depth.detach()), view.depth) - empty[view.pixel]
        change = change.where(known, torch.zeros_like(change))
        total = torch.zeros(len(view.picture)).index_add(0, view.row, change) + empty.sum()
        if view.motion.requires_grad:
            near, far = (view.picture[view.edge, pixel] for pixel in (view.inside, view.outside))
            gained = sum(
                self._costs(self.picture[pixel], near) - self._costs(self.picture[pixel], far)
                for pixel in (view.inside, view.outside)
            )
            total = total.index_add(0, view.edge, view.motion * gained / 2)
        return (self.power * total).to(particles.dtype).reshape(particles.shape[:-1])
