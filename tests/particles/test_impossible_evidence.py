"""What was not seen, and what cannot have been: no filter may end in NaN, and none may change without a word."""

import logging

import pytest
import torch

from farl.errors import ConfigError
from farl.particles import (
    BootstrapFilter,
    EnsembleKalmanFilter,
    GaussianObservation,
    LikelihoodObservation,
    MixtureTransformFilter,
    MonteCarloLocalisation,
    ResamplingFreeFilter,
)
from farl.particles.weights import ImpossibleEvidenceError

DOUBLE = torch.float64
KALMAN = [EnsembleKalmanFilter, MixtureTransformFilter]
WEIGHING = [MonteCarloLocalisation, BootstrapFilter]
FILTERS = [*WEIGHING, ResamplingFreeFilter, *KALMAN]
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=DOUBLE)


def prior(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def seen(*value, covariance=COVARIANCE):
    return GaussianObservation(lambda states: states[..., : len(value)], torch.tensor(value, dtype=DOUBLE), covariance)


def state(filter_):
    return torch.cat([filter_.particles.flatten(), filter_.log_weights.flatten()])


@pytest.mark.parametrize("kind", [*WEIGHING, ResamplingFreeFilter, MixtureTransformFilter])
def test_a_component_that_was_not_seen_is_left_out(kind):
    partly, without = kind(prior(30, 3)), kind(prior(30, 3))
    partly.update(seen(0.7, torch.nan))
    without.update(seen(0.7, covariance=COVARIANCE[:1, :1]))
    torch.testing.assert_close(state(partly), state(without))


def test_the_ensemble_kalman_filter_moves_along_what_was_seen_alone():
    particles = prior(40, 3)
    filter_ = EnsembleKalmanFilter(particles)
    filter_.update(seen(0.7, torch.nan))
    moved = filter_.particles - particles
    slope = torch.cov(particles.T)[:, 0] / torch.cov(particles.T)[0, 0]
    torch.testing.assert_close(moved, moved[:, :1] * slope)
    assert moved[:, 0].abs().max() > 0.1


@pytest.mark.parametrize("kind", FILTERS)
def test_an_observation_of_nothing_changes_nothing(kind):
    filter_ = kind(prior(30, 3))
    before = state(filter_)
    filter_.update(seen(torch.nan, torch.nan))
    assert torch.equal(state(filter_), before)


@pytest.mark.parametrize("kind", FILTERS)
def test_trials_miss_what_they_miss_by_themselves(kind):
    together = kind(prior(3, 30, 3))
    value = torch.tensor([[0.7, 0.2], [torch.nan, torch.nan], [torch.nan, 0.2]], dtype=DOUBLE)
    before = together.particles.clone()
    together.update(GaussianObservation(lambda states: states[..., :2], value, COVARIANCE))
    assert torch.equal(together.particles[1], before[1])
    assert together.particles.isfinite().all()
    if kind in (ResamplingFreeFilter, MixtureTransformFilter):  # without random numbers of their own
        for trial in (0, 2):
            alone = kind(before[trial])
            alone.update(GaussianObservation(lambda states: states[..., :2], value[trial], COVARIANCE))
            torch.testing.assert_close(together.particles[trial], alone.particles)


def impossible(kind):
    """Observations that the filter cannot use, by name."""
    known = {
        "overflow": seen(1e200, 1e200),
        "infinite": seen(torch.inf, 0.0),
        "function": GaussianObservation(
            lambda states: states[..., :2] * torch.nan, torch.zeros(2, dtype=DOUBLE), COVARIANCE
        ),
        "zero": LikelihoodObservation(lambda states: states[..., 0] * 0 + torch.inf),
        "nan": LikelihoodObservation(lambda states: states[..., 0] * torch.nan),
    }
    if kind in KALMAN:
        del known["zero"], known["nan"]
    if kind is EnsembleKalmanFilter:
        del known["overflow"]  # to a Kalman filter nothing that is finite is impossible
    return known


CASES = [(kind, name) for kind in FILTERS for name in impossible(kind)]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_impossible_evidence_is_one_error_and_changes_nothing(kind, name):
    filter_ = kind(prior(30, 3))
    filter_.update(seen(0.3, 0.1))
    before = state(filter_)
    with pytest.raises(ImpossibleEvidenceError, match=rf"^{kind.__name__}: the observation is impossible; .*keep.*$"):
        filter_.update(impossible(kind)[name])
    assert torch.equal(state(filter_), before)
    filter_.update(seen(0.3, 0.1))
    assert state(filter_).isfinite().all()


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_impossible_evidence_keeps_the_prior_with_a_warning_where_that_was_chosen(kind, name, caplog):
    filter_ = kind(prior(30, 3), impossible="keep")
    filter_.update(seen(0.3, 0.1))
    before = state(filter_)
    with caplog.at_level(logging.WARNING):
        filter_.update(impossible(kind)[name])
    assert "the prior is kept" in caplog.text
    assert torch.equal(state(filter_), before)


@pytest.mark.parametrize("kind", FILTERS)
def test_an_impossible_trial_is_named_and_kept_and_the_others_go_on(kind, caplog):
    value = torch.tensor([[0.7, 0.2], [torch.inf, 0.0], [0.1, 0.2]], dtype=DOUBLE)
    observation = GaussianObservation(lambda states: states[..., :2], value, COVARIANCE)
    with pytest.raises(ImpossibleEvidenceError, match=r"in trials \[1\]"):
        kind(prior(3, 30, 3)).update(observation)
    filter_ = kind(prior(3, 30, 3), impossible="keep")
    with caplog.at_level(logging.WARNING):
        filter_.update(observation)
    assert "in trials [1]" in caplog.text
    moved = (state_of(filter_) != state_of(kind(prior(3, 30, 3)))).flatten(1).any(1)
    assert moved.tolist() == [True, False, True]


def state_of(filter_):
    return torch.cat([filter_.particles, filter_.log_weights[..., None]], -1)


def test_some_particles_may_be_impossible_where_only_weights_follow():
    observation = LikelihoodObservation(lambda states: torch.where(states[..., 0] > 0, 0 * states[..., 0], torch.inf))
    filter_ = BootstrapFilter(prior(50, 3))
    filter_.update(observation)
    assert (filter_.particles[filter_.log_weights.isfinite()][:, 0] > 0).all()
    with pytest.raises(ImpossibleEvidenceError, match="finite loss"):
        ResamplingFreeFilter(prior(50, 3)).update(observation)


def test_a_mixture_that_runs_out_of_a_functions_domain_is_taken_back():
    # Defined where the particles start, not where they are drawn to.
    observation = GaussianObservation(
        lambda states: (4 - states[..., :1]).sqrt(),
        torch.tensor([-30.0], dtype=DOUBLE),
        0.01 * torch.eye(1, dtype=DOUBLE),
    )
    filter_ = MixtureTransformFilter(prior(30, 3))
    before = state(filter_)
    with pytest.raises(ImpossibleEvidenceError):
        filter_.update(observation)
    assert torch.equal(state(filter_), before)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda f: f.predict(lambda p, g: p * torch.nan), "dynamics must return finite states"),
        (lambda f: f.predict(lambda p, g: p[:, :2]), "dynamics must return finite states"),
        (lambda f: f.update(LikelihoodObservation(lambda states: states[..., :1])), "one number a particle"),
        (lambda f: f.update(seen_flat()), "observation function must return"),
    ],
)
def test_what_would_be_broadcast_or_end_in_nan_is_refused_and_changes_nothing(act, message):
    filter_ = MonteCarloLocalisation(prior(30, 3))
    before = state(filter_)
    with pytest.raises(ConfigError, match=message):
        act(filter_)
    assert torch.equal(state(filter_), before)


def seen_flat():
    return GaussianObservation(lambda states: states[..., 0], torch.zeros(1, dtype=DOUBLE), torch.eye(1, dtype=DOUBLE))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: seen(0.0, 0.0, covariance=torch.eye(3)), "covariance \\[2, 2\\]"),
        (lambda: seen(0.0, 0.0, covariance=-COVARIANCE), "positive definite"),
        (lambda: seen(0.0, 0.0, covariance=COVARIANCE * torch.nan), "positive definite"),
        (lambda: seen(0.0, 0.0, covariance=torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (lambda: BootstrapFilter(prior(5, 3) * torch.nan), "must be finite"),
        (lambda: BootstrapFilter(torch.zeros(5, 3, dtype=torch.int64)), "particles must be float"),
        (lambda: BootstrapFilter(prior(5, 3), impossible="ignore"), "impossible must be"),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
