"""The depth camera and the bodies of the pose benchmark, against what is known exactly."""

import math

import pytest
import torch
from torch.autograd import forward_ad

from benchmarks._depth_camera import Camera, DepthObservation, Mesh, Scene
from benchmarks._rigid_bodies import BODIES, SYMMETRIC, box, pose_errors, trajectory
from farl.errors import ConfigError
from farl.particles import SE3
from farl.particles.se3 import exp

CAMERA = Camera(width=32, height=24, focal=40.0, background=1.0)


def pose(*values):
    return exp(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_closed_and_their_faces_look_outwards(name):
    mesh = BODIES[name]
    edges = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]).tolist()
    assert len({tuple(edge) for edge in edges}) == len(edges)
    assert {(b, a) for a, b in edges} == {(a, b) for a, b in edges}
    p, q, r = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    assert float((p * torch.linalg.cross(q, r)).sum()) > 0  # six times the volume


def test_a_box_has_the_depth_and_the_outline_it_must_have():
    picture = Scene(CAMERA, [box((0.2, 0.1, 0.1))]).depth(pose(0, 0, 0.55, 0, 0, 0)[None]).reshape(24, 32)
    # Its front is 0.5 m away, so that 0.2 m are 16 pixels and 0.1 m are 8.
    expected = torch.ones(24, 32)
    expected[8:16, 8:24] = 0.5
    torch.testing.assert_close(picture, expected)


def test_a_body_behind_the_wall_is_hidden_by_it_and_one_in_it_is_seen_in_part():
    scene = Scene(CAMERA, [BODIES["mug"]])
    for turn in range(4):
        behind, inside = pose(0, 0, 0, turn, 0.3, 0)[None].repeat(2, 1, 1)
        behind[:, 2], inside[:, 2] = 1.5, 1.0
        behind.requires_grad_()
        picture = scene.depth(behind)
        assert (picture == CAMERA.background).all()
        assert not torch.autograd.grad(picture.sum(), behind)[0].any()
        picture = scene.depth(inside)
        assert (picture <= CAMERA.background).all()
        assert (picture < CAMERA.background).any()


def test_what_is_nearer_hides_what_is_behind_in_whatever_order():
    near, far = box((0.1, 0.1, 0.1)), box((0.3, 0.2, 0.1))
    here, there = pose(0, 0, 0.45, 0, 0, 0), pose(0, 0, 0.75, 0, 0, 0)
    one = Scene(CAMERA, [near, far]).depth(torch.cat([here, there])[None])
    other = Scene(CAMERA, [far, near]).depth(torch.cat([there, here])[None])
    torch.testing.assert_close(one, other)
    assert sorted({round(value, 4) for value in one.flatten().tolist()}) == [0.4, 0.7, 1.0]


def test_depths_are_those_of_rays_against_every_triangle():
    space = SE3()
    generator = torch.Generator().manual_seed(3)
    for name in BODIES:
        scene = Scene(CAMERA, [BODIES[name]])
        state = space.retract(
            pose(0.02, -0.01, 0.5, 0, 0, 0), torch.randn(6, generator=generator, dtype=torch.float64) * 0.5
        )
        state[:3] = torch.tensor([0.02, -0.01, 0.5])
        corners = scene.corners(state)[BODIES[name].faces].double()  # [F, 3, 3]
        rays = scene.rays.double()
        weights = torch.linalg.solve(corners.mT[None], rays[:, None, :, None].expand(-1, len(corners), -1, -1))[..., 0]
        hit = (weights > 1e-6).all(-1)
        nearest = torch.where(hit, 1 / weights.sum(-1), 1.0).amin(-1)
        clear = ((weights > 1e-3).all(-1) | (weights < -1e-3).any(-1)).all(-1)  # no ray along an edge
        found = scene.depth(state[None])[0].double()
        torch.testing.assert_close(found[clear], nearest[clear], atol=1e-5, rtol=0)
        assert clear.double().mean() > 0.8


def test_the_gradient_of_the_loss_is_that_of_finite_differences_inside_the_outline():
    space = SE3()
    scene = Scene(CAMERA, [box((0.4, 0.4, 0.4))])  # fills most of the picture
    state = pose(0, 0, 0.7, 0.3, 0.4, 0.1)
    picture = scene.depth(space.retract(state, torch.tensor([0.01, 0, 0.01, 0.02, -0.02, 0.0]).double())[None])[0]
    shown = scene.visible(state[None])[0].reshape(24, 32)
    same = torch.zeros(24, 32, dtype=torch.bool)
    same[1:-1, 1:-1] = True
    for row, column in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        same &= shown.roll((row, column), (0, 1)) == shown
    picture = torch.where(same.flatten() & (shown.flatten() >= 0), picture, math.nan)
    seen = DepthObservation(scene, picture, 0.05, 0.1)

    def loss(step):
        return seen.loss(space.retract(state, step)[None])[0]

    at = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(at), at)
    steps = 2e-3 * torch.eye(6, dtype=torch.float64)
    differences = torch.stack([(loss(step) - loss(-step)) / 4e-3 for step in steps])
    torch.testing.assert_close(gradient, differences, rtol=0.03, atol=0.3)
    assert gradient.norm() > 5


def test_the_gradient_knows_of_outlines_too():
    # A box that faces the camera: moved sideways, nothing but its outline moves. The loss of all places within a pixel
    # is what the derivative is of.
    scene = Scene(CAMERA, [box((0.2, 0.1, 0.1))])
    picture = scene.depth(pose(0.02, 0, 0.55, 0, 0, 0)[None])[0].nan_to_num()
    seen = DepthObservation(scene, picture, 0.05, 0.1)
    size = 0.5 / CAMERA.focal  # of a pixel on the box's front
    for axis, first, falls in ((0, 0.0, True), (1, 1.0, False)):  # to where the box was seen, and away from it
        start = pose(0, 0, 0.55, 0, 0, 0).repeat(201, 1)
        start[:, axis] += torch.linspace(first, first + 1, 201).double() * size
        states = start.requires_grad_()
        (gradient,) = torch.autograd.grad(seen.loss(states).sum(), states)
        ends = start.detach()[[0, -1]]
        difference = (seen.loss(ends)[1] - seen.loss(ends)[0]) / size
        assert float(gradient[:, axis].mean()) == pytest.approx(float(difference), rel=0.05, abs=1.0)
        assert (float(difference) < -100) == falls


def test_derivatives_of_pictures_are_the_same_forwards_and_backwards():
    scene = Scene(CAMERA, [BODIES["mug"], BODIES["drill"]])
    states = torch.cat([pose(-0.05, 0, 0.5, 0.3, 0.4, 0.1), pose(0.05, 0, 0.55, 0.3, -0.4, 0.1)])[None]
    weights = torch.randn(1, len(scene.rays), generator=torch.Generator().manual_seed(0))
    along = torch.randn(1, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with forward_ad.dual_level():
        picture = scene.depth(forward_ad.make_dual(states, along), contrast=0.1)
        forwards = (forward_ad.unpack_dual(picture).tangent * weights).sum()
    at = states.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((scene.depth(at, contrast=0.1) * weights).sum(), at)
    assert float(forwards) == pytest.approx(float((gradient * along).sum()), rel=1e-3)


def test_a_reading_that_is_missing_says_nothing_and_an_outlier_little():
    scene = Scene(CAMERA, [box((0.2, 0.1, 0.1))])
    states = torch.stack([pose(0, 0, 0.55, 0, 0, 0), pose(0.02, 0, 0.57, 0, 0, 0)])
    picture = scene.depth(states)[0]
    right, wrong = DepthObservation(scene, picture, 0.005, 0.1).loss(states)
    assert right < wrong - 100
    torch.testing.assert_close(
        DepthObservation(scene, torch.full_like(picture, math.nan), 0.005, 0.1).loss(states), torch.zeros(2).double()
    )
    spoilt = picture.clone()
    spoilt[:100] = 0.2  # something in the way
    right, wrong = DepthObservation(scene, spoilt, 0.005, 0.1).loss(states)
    assert right < wrong - 100


def test_errors_of_poses_and_the_symmetric_one_turned_about_its_axis():
    truth = pose(0, 0, 0.5, 0.1, 0.2, 0.3)
    turned = SE3().retract(truth, torch.tensor([0, 0, 0, 0, 0, math.pi / 2], dtype=torch.float64))
    shifted = SE3().retract(truth, torch.tensor([0.01, 0, 0, 0, 0, 0], dtype=torch.float64))
    for name in BODIES:
        assert pose_errors(name, truth, truth)["add"] == pytest.approx(0, abs=1e-6)
        assert pose_errors(name, shifted, truth)["translation"] == pytest.approx(10)
        errors = pose_errors(name, turned, truth)
        if name in SYMMETRIC:
            assert errors["rotation"] == pytest.approx(0, abs=1e-3)
            assert errors["add"] < 0.05
        else:
            assert errors["rotation"] == pytest.approx(90)
            assert errors["add"] > 0.2


def test_bodies_move_smoothly_and_stay_in_the_picture():
    poses = trajectory(40, (0.0, 0.0, 0.5), torch.Generator().manual_seed(0))
    steps = SE3().local(poses[:-1], poses[1:])
    assert steps[:, 3:].norm(dim=-1).max() < 0.25
    assert steps[:, :3].norm(dim=-1).max() < 0.03
    for mesh in BODIES.values():
        assert ((Scene(CAMERA, [mesh]).visible(poses) >= 0).sum(-1) > 30).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mesh(torch.zeros(3, 2), torch.zeros(1, 3).long()), "vertices"),
        (lambda: Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 3]])), "faces that name others"),
        (lambda: Mesh(torch.full((3, 3), math.nan), torch.tensor([[0, 1, 2]])), "not finite"),
        (lambda: Camera(width=0), "above 0"),
        (lambda: Scene(CAMERA, []), "at least one body"),
        (lambda: DepthObservation(Scene(CAMERA, [box((1, 1, 1))]), torch.zeros(5), 0.01, 0.1), "768 pixels"),
        (lambda: DepthObservation(Scene(CAMERA, [box((1, 1, 1))]), torch.zeros(768), 0.0, 0.1), "must be positive"),
    ],
)
def test_bad_input_is_one_line(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
