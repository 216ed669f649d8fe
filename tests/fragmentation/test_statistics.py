import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farl.fragmentation import SurprisalStatistics

streams = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.floats(-100, 100)), min_size=1, max_size=6), min_size=1, max_size=20
)


def feed(statistics, stream):
    for step in stream:
        statistics.update(np.array([f for f, _ in step]), np.array([s for _, s in step]))


@given(streams)
def test_lifetime_statistics_equal_numpy_over_all_samples_of_a_fragment(stream):
    statistics = SurprisalStatistics()
    feed(statistics, stream)
    samples = [(f, s) for step in stream for f, s in step]
    for fragment in {f for f, _ in samples}:
        own = np.array([s for f, s in samples if f == fragment])
        moments = statistics.moments(np.array([fragment]))
        assert moments.count[0] == len(own)
        assert moments.mean[0] == pytest.approx(own.mean(), abs=1e-9)
        assert moments.std[0] == pytest.approx(own.std(ddof=1) if len(own) > 1 else 0.0, abs=1e-9)


@given(streams, st.floats(0.01, 1.0))
def test_moving_statistics_equal_one_sample_at_a_time_in_batch_order(stream, alpha):
    statistics = SurprisalStatistics(alpha)
    feed(statistics, stream)
    mean, variance, count = {}, {}, {}
    for fragment, sample in (pair for step in stream for pair in step):
        if fragment not in mean:
            mean[fragment], variance[fragment], count[fragment] = sample, 0.0, 1
            continue
        delta = sample - mean[fragment]
        mean[fragment] += alpha * delta
        variance[fragment] = (1 - alpha) * (variance[fragment] + alpha * delta**2)
        count[fragment] += 1
    for fragment in mean:
        moments = statistics.moments(np.array([fragment]))
        assert moments.count[0] == count[fragment]
        assert moments.mean[0] == pytest.approx(mean[fragment], abs=1e-8)
        assert moments.std[0] ** 2 == pytest.approx(variance[fragment], abs=1e-6)


def test_large_offsets_do_not_cost_the_variance_its_digits():
    statistics = SurprisalStatistics()
    samples = 1e9 + np.random.default_rng(0).normal(size=1000)
    for sample in samples:
        statistics.update(np.array([0]), np.array([sample]))
    assert statistics.moments(np.array([0])).std[0] == pytest.approx(samples.std(ddof=1), rel=1e-6)


def test_unknown_fragment_has_count_zero_and_finite_moments():
    statistics = SurprisalStatistics()
    assert statistics.moments(np.array([3])).count[0] == 0
    statistics.update(np.array([1]), np.array([2.0]))
    moments = statistics.moments(np.array([0, 1, 7]))
    assert moments.count.tolist() == [0, 1, 0]
    assert np.isfinite(moments.mean).all()
    assert np.isfinite(moments.std).all()


def test_forget_removes_only_the_named_fragments():
    statistics = SurprisalStatistics()
    statistics.update(np.array([5, 1, 3]), np.array([5.0, 1.0, 3.0]))
    statistics.forget(np.array([1, 99]))
    assert statistics.moments(np.array([1, 3, 5])).mean.tolist() == [0.0, 3.0, 5.0]
    assert len(statistics) == 2


@pytest.mark.parametrize("alpha", [None, 0.1])
def test_inherit_copies_the_parents_moments(alpha):
    statistics = SurprisalStatistics(alpha)
    for sample in np.linspace(0, 1, 50):
        statistics.update(np.array([3]), np.array([sample]))
    for child in (1, 4):
        statistics.inherit(child, parent=3)
        assert statistics.moments(np.array([child])) == statistics.moments(np.array([3]))
    statistics.inherit(5, parent=77)
    assert statistics.moments(np.array([5])).count[0] == 0


def test_state_dict_restores_the_statistics():
    statistics, copy = SurprisalStatistics(0.1), SurprisalStatistics(0.1)
    feed(statistics, [[(2, 1.0), (0, 3.0)], [(2, 4.0)]])
    copy.load_state_dict(statistics.state_dict())
    for each in (statistics, copy):
        each.update(np.array([2, 9]), np.array([7.0, 1.0]))
    ids = np.array([0, 2, 9])
    np.testing.assert_array_equal(statistics.moments(ids), copy.moments(ids))


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.1, float("nan")])
def test_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        SurprisalStatistics(alpha)


def test_samples_that_are_not_finite_are_refused_and_change_nothing():
    statistics = SurprisalStatistics()
    with pytest.raises(ValueError, match="finite"):
        statistics.update(np.array([0]), np.array([np.nan]))
    assert len(statistics) == 0


def test_per_step_statistics_take_all_that_enters_a_fragment_at_once_for_one_sample():
    single, shared = SurprisalStatistics(0.1, per_step=True), SurprisalStatistics(0.1, per_step=True)
    for sample in np.random.default_rng(0).normal(size=50):
        single.update(np.array([3]), np.array([sample]))
        shared.update(np.array([3, 3, 3, 3]), np.full(4, sample))
    for one, many in zip(single.moments(np.array([3])), shared.moments(np.array([3])), strict=True):
        assert one[0] == pytest.approx(many[0])
    with pytest.raises(ValueError, match="alpha"):
        SurprisalStatistics(per_step=True)
