"""Filters over poses: the formulas of SE(3) against SciPy and finite differences, and every filter on them."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from farl.errors import ConfigError
from farl.particles import (
    SE3,
    BootstrapFilter,
    EnsembleKalmanFilter,
    Euclidean,
    ExtendedKalmanFilter,
    GaussianObservation,
    LikelihoodObservation,
    MixtureTransformFilter,
    MonteCarloLocalisation,
    Product,
    ResamplingFreeFilter,
    WeightedStateFilter,
    random_walk,
)
from farl.particles.se3 import exp, log, multiply, rotate

DOUBLE = torch.float64
FILTERS = [
    MonteCarloLocalisation,
    BootstrapFilter,
    ResamplingFreeFilter,
    WeightedStateFilter,
    EnsembleKalmanFilter,
    ExtendedKalmanFilter,
    MixtureTransformFilter,
]
ANGLES = [0.0, 1e-9, 1e-4, 0.2, 0.224, 0.23, 1.0, 2.5, math.pi - 1e-6]  # the series end at an angle of 0.2236
IDENTITY = torch.tensor([0, 0, 0, 0, 0, 0, 1.0], dtype=DOUBLE)
POINTS = torch.tensor([[1.0, 0, 0], [0, 0.7, 0], [0, 0, 0.4], [-0.5, -0.5, 0.2]], dtype=DOUBLE)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def tangents(angle, n=20):
    value = draw(n, 6)
    value[:, 3:] *= angle / value[:, 3:].norm(dim=-1, keepdim=True)
    return value


def matrices(poses):
    """Poses as SciPy has them, [..., 4, 4]."""
    found = np.zeros((len(poses), 4, 4))
    found[:, :3, :3] = Rotation.from_quat(poses[:, 3:].numpy()).as_matrix()
    found[:, :3, 3] = poses[:, :3].numpy()
    found[:, 3, 3] = 1
    return found


@pytest.mark.parametrize("angle", ANGLES)
def test_the_exponential_is_that_of_matrices_and_the_logarithm_its_inverse(angle):
    value = tangents(angle)
    generators = np.zeros((len(value), 4, 4))
    x, y, z = value[:, 3:].numpy().T
    generators[:, 0, 1], generators[:, 0, 2], generators[:, 1, 2] = -z, y, -x
    generators -= generators.transpose(0, 2, 1)
    generators[:, :3, 3] = value[:, :3].numpy()
    np.testing.assert_allclose(matrices(exp(value)), expm(generators), atol=1e-13)
    torch.testing.assert_close(log(exp(value)), value, atol=1e-8 if angle > 3 else 1e-12, rtol=0)
    flipped = exp(value) * torch.tensor([1, 1, 1, -1, -1, -1, -1.0], dtype=DOUBLE)  # -q is the rotation q
    torch.testing.assert_close(log(flipped), log(exp(value)))


def test_quaternions_multiply_and_turn_as_scipys():
    left, right = (torch.nn.functional.normalize(draw(10, 4, seed=s), dim=-1) for s in (1, 2))
    ours, theirs = (
        Rotation.from_quat(multiply(left, right).numpy()),
        Rotation.from_quat(left) * Rotation.from_quat(right),
    )
    np.testing.assert_allclose(ours.as_matrix(), theirs.as_matrix(), atol=1e-14)
    vectors = draw(10, 3)
    np.testing.assert_allclose(rotate(left, vectors), Rotation.from_quat(left).apply(vectors.numpy()), atol=1e-14)


@pytest.mark.parametrize("angle", ANGLES[:-1])
def test_derivatives_are_finite_differences_at_every_angle_and_at_zero(angle):
    value = tangents(angle, 3)
    if angle == 0:
        value = torch.zeros_like(value)
    assert torch.autograd.gradcheck(exp, value.requires_grad_(), atol=1e-7)
    if angle > 0:
        assert torch.autograd.gradcheck(lambda v: log(exp(v)), value.detach().requires_grad_(), atol=1e-6)


@pytest.mark.parametrize("space", [SE3(), SE3(0.1), Euclidean(3), Product(SE3(0.5), Euclidean(2), SE3())])
def test_local_undoes_retract_and_distances_do_not_depend_on_the_frame(space):
    base = space.retract(
        space.guess(identity(space, 2), torch.full((7, 2), 0.5, dtype=DOUBLE)), 0.5 * draw(7, space.dimension)
    )
    step = 0.5 * draw(7, space.dimension, seed=1)
    moved = space.retract(base, step)
    space.check(moved)
    torch.testing.assert_close(space.local(base, moved), step)


def identity(space, n):
    parts = space.parts if isinstance(space, Product) else [space]
    rows = [IDENTITY if isinstance(part, SE3) else torch.zeros(part.size, dtype=DOUBLE) for part in parts]
    return torch.cat(rows).expand(n, -1)


def test_the_mean_is_where_the_tangents_cancel_and_moves_with_the_frame():
    space = SE3(0.3)
    states = space.retract(exp(draw(6)), 0.5 * draw(40, 6, seed=1))
    weights = draw(40, seed=2).softmax(-1)
    mean = space.mean(states, weights)
    zero = (weights[:, None] * space.local(mean, states)).sum(0)
    torch.testing.assert_close(zero, torch.zeros_like(zero), atol=1e-8, rtol=0)
    frame = exp(draw(6, seed=3))
    moved = torch.cat([frame[:3] + rotate(frame[3:], states[:, :3]), multiply(frame[3:], states[:, 3:])], -1)
    expected = torch.cat([frame[:3] + rotate(frame[3:], mean[:3]), multiply(frame[3:], mean[3:])])
    found = space.mean(moved, weights)
    torch.testing.assert_close(space.local(expected, found), torch.zeros(6, dtype=DOUBLE), atol=1e-8, rtol=0)


def test_the_mean_of_rotations_about_one_axis_is_their_mean_angle():
    angles = torch.tensor([3.0, -2.8, 3.1], dtype=DOUBLE)  # across the cut at pi
    turns = torch.zeros(3, 6, dtype=DOUBLE)
    turns[:, 5] = angles
    mean = SE3().mean(exp(turns), torch.full((3,), 1 / 3, dtype=DOUBLE))
    expected = (3.0 + (2 * math.pi - 2.8) + 3.1) / 3
    found = float(log(mean)[5]) % (2 * math.pi)
    assert found == pytest.approx(expected, abs=1e-8)


def test_the_mean_of_rotations_is_near_scipys_chordal_one():
    states = SE3().retract(exp(draw(6)), 0.05 * draw(30, 6, seed=1))
    mean = SE3().mean(states, torch.full((30,), 1 / 30, dtype=DOUBLE))
    theirs = Rotation.from_quat(states[:, 3:].numpy()).mean()
    assert (Rotation.from_quat(mean[3:].numpy()).inv() * theirs).magnitude() < 1e-3


def seen_points(pose, deviation=0.05):
    """Four points of a body, seen in the world."""
    return GaussianObservation(
        lambda states: points_of(states).flatten(-2),
        points_of(pose).flatten(),
        deviation**2 * torch.eye(12, dtype=DOUBLE),
    )


def points_of(states):
    return states[..., None, :3] + rotate(states[..., None, 3:], POINTS)


@pytest.mark.parametrize("kind", FILTERS)
def test_every_filter_follows_a_pose_that_turns_over(kind):
    space = SE3()
    settings = {
        ResamplingFreeFilter: {"gamma": 0.05},
        WeightedStateFilter: {"variance": 0.0005},
        MonteCarloLocalisation: {"jitter": 0.03},
    }.get(kind, {})
    pose = exp(draw(6, seed=4))
    filter_ = kind(space.retract(pose, 0.1 * draw(200, 6)), manifold=space, **settings)
    drift = torch.tensor([0.03, 0, 0, 0.0, 0.15, 0], dtype=DOUBLE)  # 30 steps: more than half a turn
    for _ in range(30):
        pose = space.retract(pose, drift)
        filter_.step(seen_points(pose), random_walk(space, 0.05, drift))
    mean, covariance = filter_.moments()
    assert space.local(pose, mean).norm() < 0.25
    assert covariance.shape == (6, 6)
    space.check(filter_.particles)


# The ensemble Kalman filter draws noise in the axes of the observation.
@pytest.mark.parametrize("kind", [kind for kind in FILTERS if kind is not EnsembleKalmanFilter])
def test_what_a_filter_does_does_not_depend_on_the_frame_of_the_world(kind):
    space = SE3(0.5)
    near = space.retract(IDENTITY, 0.1 * draw(40, 6))
    frame = exp(draw(6, seed=9))

    def moved(states):
        return torch.cat([frame[:3] + rotate(frame[3:], states[..., :3]), multiply(frame[3:], states[..., 3:])], -1)

    true = space.retract(IDENTITY, 0.1 * draw(6, seed=5))
    here, there = (kind(states, torch.Generator().manual_seed(1), manifold=space) for states in (near, moved(near)))
    here.update(seen_points(true, 0.3))
    there.update(seen_points(moved(true), 0.3))
    change = space.local(moved(here.particles), there.particles)
    torch.testing.assert_close(change, torch.zeros_like(change), atol=1e-7, rtol=0)
    torch.testing.assert_close(here.log_weights, there.log_weights, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("kind", FILTERS)
def test_poses_side_by_side_and_what_was_not_seen(kind):
    space = SE3()
    states = space.retract(IDENTITY, 0.1 * draw(3, 30, 6))
    filter_ = kind(states, manifold=space, impossible="keep")
    value = points_of(IDENTITY).flatten().repeat(3, 1)
    value[1] = math.nan
    value[2] = 1e200  # no likelihood there
    filter_.update(GaussianObservation(seen_points(IDENTITY).function, value, torch.eye(12, dtype=DOUBLE)))
    assert not torch.equal(filter_.particles[0], states[0]) or not torch.equal(
        filter_.log_weights[0], filter_.log_weights[1]
    )
    torch.testing.assert_close(filter_.particles[1], states[1], atol=0, rtol=0)
    space.check(filter_.particles)


def test_on_a_flat_manifold_filters_do_what_they_do_without_one():
    x = draw(30, 3)
    observation = GaussianObservation(lambda s: s**2, torch.ones(3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    for kind in FILTERS:
        plain, flat = kind(x), kind(x, manifold=Euclidean(3))
        for filter_ in (plain, flat):
            filter_.step(observation, random_walk(Euclidean(3), 0.1))
        torch.testing.assert_close(flat.particles, plain.particles)
        torch.testing.assert_close(flat.moments(), plain.moments())


def test_the_extended_kalman_filter_is_the_kalman_filter_where_all_is_linear():
    x = draw(20, 3)
    direction = torch.tensor([[1.0, -2.0, 0.5]], dtype=DOUBLE)
    filter_ = ExtendedKalmanFilter(x)
    mean, covariance = filter_.moments()
    filter_.update(
        GaussianObservation(lambda s: s @ direction.T, torch.ones(1, dtype=DOUBLE), torch.eye(1, dtype=DOUBLE))
    )
    gain = covariance @ direction.T / (direction @ covariance @ direction.T + 1)
    expected = mean + (gain * (1 - direction @ mean)).sum(-1), covariance - gain @ direction @ covariance
    torch.testing.assert_close(filter_.moments(), expected)


def test_the_weighted_filter_moves_and_weighs_as_its_formula():
    x = draw(5, 3)
    filter_ = WeightedStateFilter(x, variance=0.1)
    filter_.update(LikelihoodObservation(lambda s: (s**2).sum(-1)))
    moved = x - 0.1 * 2 * x
    torch.testing.assert_close(filter_.particles, moved)
    loss = ((x**2).sum(-1) + (moved**2).sum(-1)) / 2
    torch.testing.assert_close(filter_.log_weights, (-loss).log_softmax(-1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BootstrapFilter(draw(5, 6), manifold=SE3()), "a state of SE3 is 7 numbers, not 6"),
        (
            lambda: BootstrapFilter(2 * IDENTITY.repeat(5, 1), manifold=SE3()),
            "another length, such as 2:",
        ),
        (lambda: SE3(0.0), "length must be positive"),
        (lambda: SE3(math.nan), "length must be positive"),
        (lambda: Euclidean(0), "at least 1 dimension"),
        (lambda: Product(), "at least one space"),
        (lambda: random_walk(SE3(), torch.ones(7)), "or 6 of them"),
        (lambda: random_walk(SE3(), -1.0), "at least 0"),
        (lambda: WeightedStateFilter(draw(5, 3), variance=-1.0), "variance must be at least 0"),
        (
            lambda: BootstrapFilter(IDENTITY.repeat(5, 1), manifold=SE3()).predict(lambda p, g: p + 0.1),
            "move poses with SE3",
        ),
        (
            lambda: ExtendedKalmanFilter(draw(5, 3)).update(
                GaussianObservation(lambda s: s.detach(), torch.ones(3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
            ),
            "torch can differentiate",
        ),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(build, message):
    with pytest.raises(ConfigError, match=message) as raised:
        build()
    assert "\n" not in str(raised.value)
