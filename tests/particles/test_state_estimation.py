import math

import pytest
import torch

from farl.particles.kalman import EnsembleKalmanFilter
from farl.particles.mixture_transform import MixtureTransformFilter
from farl.particles.resampling_free import ResamplingFreeFilter, green_constant
from farl.particles.state_space import (
    BootstrapFilter,
    GaussianObservation,
    LikelihoodObservation,
    MonteCarloLocalisation,
)

DOUBLE = torch.float64
FILTERS = [
    MonteCarloLocalisation,
    BootstrapFilter,
    ResamplingFreeFilter,
    EnsembleKalmanFilter,
    MixtureTransformFilter,
]


def prior(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def linear(direction, value, variance=1.0):
    return GaussianObservation(
        lambda states: states @ direction[:, None],
        torch.tensor([value], dtype=DOUBLE),
        variance * torch.eye(1, dtype=DOUBLE),
    )


def reference_push(x, loss, gamma, form):
    """The flow of one observation as the formula reads, particle by particle."""
    n, m = x.shape
    constant = math.gamma(m / 2 + 1) / (m * (m - 2) * math.pi ** (m / 2))
    softening = (gamma / constant) ** (1 / (2 - m))
    moved = x.clone()
    for i in range(n):
        for j in range(n):
            difference = x[i] - x[j]
            factor = constant * (m - 2) / n * (difference.norm() + softening) ** -m
            if form == "derived":
                moved[i] -= factor * difference * (loss[j] - loss.mean())
            else:
                moved[i] += factor * difference * (loss[i] - loss.mean())
    return moved


@pytest.mark.parametrize("form", ["derived", "published"])
@pytest.mark.parametrize("block", [1, 2, 1024])
def test_the_resampling_free_update_is_the_formula_whatever_the_block(form, block):
    x = prior(5, 4)
    direction = prior(4, seed=1)
    observation = linear(direction, 0.7)
    filter_ = ResamplingFreeFilter(x, gamma=0.5, form=form, block=block)
    filter_.update(observation)
    error = x @ direction - 0.7
    expected = reference_push(x, error**2 / 2, 0.5, form) - 0.5 / 5 * error[:, None] * direction
    torch.testing.assert_close(filter_.particles, expected)


def test_two_particles_are_pushed_as_computed_by_hand():
    # m = 3: C = Gamma(5/2) / (3 pi^(3/2)) = 1 / (4 pi); eps = C / gamma. At distance 2, losses 0 and 2: excess -1, +1.
    gamma = 1 / (4 * math.pi)  # eps = 1
    x = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]], dtype=DOUBLE)
    filter_ = ResamplingFreeFilter(x, gamma=gamma)
    filter_.update(LikelihoodObservation(lambda states: states[..., 0]))
    push = 1 / (4 * math.pi) / 2 * 2 * 3**-3
    # The gradient is 1 in the first coordinate; the heavier loss pushes the lighter one away, and is itself drawn on.
    expected = torch.tensor([[0 - gamma / 2 + push, 0, 0], [2 - gamma / 2 + push, 0, 0]], dtype=DOUBLE)
    torch.testing.assert_close(filter_.particles, expected)


def test_green_constant_is_that_of_three_dimensional_space():
    assert green_constant(3) == pytest.approx(1 / (4 * math.pi))
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        green_constant(2)


def kalman(mean, covariance, direction, value, variance=1.0):
    gain = covariance @ direction / (direction @ covariance @ direction + variance)
    return mean + gain * (value - direction @ mean), covariance - torch.outer(gain, direction @ covariance)


def test_on_linear_observations_the_mixture_transform_is_the_kalman_filter_of_the_sample():
    x = prior(30, 4)
    filter_ = MixtureTransformFilter(x)
    mean, covariance = filter_.moments()
    for step in range(5):
        direction, value = prior(4, seed=step), float(step)
        filter_.update(linear(direction, value))
        mean, covariance = kalman(mean, covariance, direction, value)
    torch.testing.assert_close(filter_.moments(), (mean, covariance))
    assert int(filter_.components) == 1


def test_the_ensemble_kalman_filter_tends_to_the_kalman_filter():
    x = prior(20_000, 3)
    direction = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)
    filter_ = EnsembleKalmanFilter(x)
    expected = kalman(*filter_.moments(), direction, 1.5)
    filter_.update(linear(direction, 1.5))
    torch.testing.assert_close(filter_.moments(), expected, atol=0.02, rtol=0)


def test_the_bootstrap_filter_tends_to_the_posterior():
    x = prior(50_000, 3)
    direction = torch.tensor([1.0, 0.0, 0.5], dtype=DOUBLE)
    filter_ = BootstrapFilter(x)
    expected = kalman(*filter_.moments(), direction, 1.0)
    filter_.update(linear(direction, 1.0))
    torch.testing.assert_close(filter_.moments(), expected, atol=0.03, rtol=0)


def test_the_mixture_transform_finds_both_modes_of_a_squared_observation_where_kalman_finds_none():
    # |x_1| is seen, its sign is not: two modes at +-2, and no linear relation between state and observation.
    observation = GaussianObservation(
        lambda states: states[..., :1] ** 2,
        torch.tensor([4.0], dtype=DOUBLE),
        0.25 * torch.eye(1, dtype=DOUBLE),
    )
    x = prior(8, 100, 3)
    ours, ensemble = MixtureTransformFilter(x), EnsembleKalmanFilter(x)
    for _ in range(3):
        ours.update(observation)
        ensemble.update(observation)

    def lesser_mode(filter_):
        """The mass within 0.5 of the mode that has less of it, [trials]."""
        first, weight = filter_.particles[..., 0], filter_.log_weights.exp()
        return torch.minimum(*((weight * ((first - mode).abs() < 0.5)).sum(-1) for mode in (-2, 2)))

    assert (lesser_mode(ours) > 0.1).all()
    assert (lesser_mode(ensemble) < 0.1).float().mean() > 0.8
    assert (ours.components > 1).all()


@pytest.mark.parametrize("kind", [ResamplingFreeFilter, MixtureTransformFilter])
def test_trials_side_by_side_equal_trials_alone(kind):
    x = prior(3, 20, 3)
    observation = linear(prior(3, seed=5), 0.3)
    together = kind(x)
    together.update(observation)
    for trial in range(3):
        alone = kind(x[trial])
        alone.update(observation)
        torch.testing.assert_close(together.particles[trial], alone.particles)


@pytest.mark.parametrize("kind", FILTERS)
def test_every_filter_follows_a_moving_state_and_keeps_normalised_weights(kind):
    filter_ = kind(prior(200, 3))
    state = torch.zeros(3, dtype=DOUBLE)
    drift = torch.tensor([0.1, -0.1, 0.05], dtype=DOUBLE)
    for _ in range(30):
        state = state + drift
        observation = GaussianObservation(lambda states: states, state.clone(), 0.1 * torch.eye(3, dtype=DOUBLE))
        filter_.step(observation, lambda p, g: p + drift + 0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    mean, covariance = filter_.moments()
    assert (mean - state).norm() < 0.5
    assert covariance.isfinite().all()
    torch.testing.assert_close(filter_.log_weights.exp().sum(), torch.tensor(1.0, dtype=DOUBLE))


@pytest.mark.parametrize("kind", FILTERS)
def test_filters_repeat_themselves_with_the_same_generator(kind):
    def run():
        filter_ = kind(prior(30, 3), torch.Generator().manual_seed(3))
        for step in range(3):
            filter_.update(linear(prior(3, seed=step), 1.0))
        return filter_.particles

    assert torch.equal(run(), run())


@pytest.mark.parametrize("kind", [EnsembleKalmanFilter, MixtureTransformFilter])
def test_kalman_filters_ask_for_an_observation_function(kind):
    with pytest.raises(ValueError, match="GaussianObservation"):
        kind(prior(10, 3)).update(LikelihoodObservation(lambda states: states.sum(-1)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BootstrapFilter(prior(3)), "shape"),
        (lambda: ResamplingFreeFilter(prior(5, 2)), "at least 3 dimensions"),
        (lambda: ResamplingFreeFilter(prior(5, 3), form="other"), "form must be"),
        (lambda: ResamplingFreeFilter(prior(5, 3), gamma=-1.0), "must be positive"),
        (lambda: MixtureTransformFilter(prior(5, 3), stages=0), "stages at least 1"),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
