import numpy as np
import pytest

from farl.fragmentation import CRITERIA, CUSUM, Quantile, Random, Ratio, Sight, Uniform, ZScore

ZERO = np.zeros(1, np.int64)


def update(criterion, surprisal, fragment_ids, envs=None):
    return criterion.update(Sight(surprisal), fragment_ids, envs)


def one(criterion, surprisal, fragment=0):
    return bool(update(criterion, np.array([surprisal]), np.array([fragment]))[0])


def test_zscore_fires_above_the_threshold_in_sample_standard_deviations():
    samples = np.array([1.0, 2.0, 3.0, 4.0])
    limit = samples.mean() + 2.0 * samples.std(ddof=1)
    for surprisal, expected in ((limit - 1e-6, False), (limit + 1e-6, True)):
        criterion = ZScore(threshold=2.0, min_samples=4, alpha=None)
        assert not any(one(criterion, sample) for sample in samples)
        assert one(criterion, surprisal) is expected


def test_ratio_fires_above_the_multiple_of_the_mean():
    for surprisal, expected in ((7.9, False), (8.1, True)):
        criterion = Ratio(threshold=4.0, min_samples=2, alpha=None)
        assert not one(criterion, 1.0)
        assert not one(criterion, 3.0)
        assert one(criterion, surprisal) is expected


@pytest.mark.parametrize("criterion", [ZScore(2.0, min_samples=10), Ratio(2.0, min_samples=10)])
def test_nothing_fires_below_the_minimum_number_of_samples(criterion):
    fired = [one(criterion, s) for s in [1.0, 1.1] * 4 + [1.0, 1000.0]]
    assert not any(fired)
    assert one(criterion, 1e6)


def test_a_surprisal_that_fires_stays_out_of_the_statistics():
    criterion = ZScore(2.0, min_samples=3, alpha=None)
    for sample in (1.0, 2.0, 3.0):
        one(criterion, sample)
    assert one(criterion, 100.0)
    moments = criterion.statistics.moments(ZERO)
    assert (moments.count[0], moments.mean[0]) == (3, 2.0)


def test_constant_surprisal_never_fires_zscore():
    criterion = ZScore(2.0, min_samples=2)
    assert not any(one(criterion, 0.5) for _ in range(100))


def test_environments_in_one_fragment_are_judged_against_the_same_statistics():
    criterion = Ratio(threshold=2.0, min_samples=1, alpha=None)
    one(criterion, 1.0)
    fired = update(criterion, np.array([3.0, 3.0, 1.0]), np.zeros(3, np.int64))
    assert fired.tolist() == [True, True, False]


def test_random_fires_at_its_rate_and_repeats_with_its_seed():
    first, second = Random(0.1, seed=3), Random(0.1, seed=3)
    ids = np.arange(20)
    fired = np.array([update(first, np.ones(20), ids) for _ in range(500)])
    assert fired[1:].mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(fired, [update(second, np.ones(20), ids) for _ in range(500)])


def test_random_with_probability_zero_never_fires_and_with_one_always():
    never, always = Random(0.0), Random(1.0, min_samples=0)
    assert not any(one(never, 1.0) for _ in range(1000))
    assert all(one(always, 1.0) for _ in range(100))


def test_uniform_fires_at_every_nth_sample_of_a_fragment():
    criterion = Uniform(every=5)
    assert [one(criterion, 1.0) for _ in range(10)] == [False] * 4 + [True] + [False] * 4 + [True]


def test_uniform_counts_environments_that_share_a_fragment_one_after_the_other():
    criterion = Uniform(every=4)
    fired = [update(criterion, np.ones(3), np.zeros(3, np.int64)).tolist() for _ in range(3)]
    assert fired == [[False] * 3, [True, False, False], [False, True, False]]


def test_quantile_threshold_fires_at_about_its_rate():
    criterion = Ratio(Quantile(0.99, warmup=500), min_samples=10)
    rng = np.random.default_rng(0)
    fired = [one(criterion, sample) for sample in rng.exponential(size=20_000)]
    assert not any(fired[:500])
    assert np.mean(fired[1000:]) == pytest.approx(0.01, abs=0.004)


def test_quantile_equals_numpy_over_its_window_when_it_refreshes():
    quantile = Quantile(0.5, warmup=10, window=10)
    assert float(quantile) == np.inf
    quantile.observe(np.arange(10.0))
    assert float(quantile) == 4.5
    quantile.observe(np.arange(10.0, 20.0))
    assert float(quantile) == 14.5


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_state_dict_continues_the_same_decisions(name):
    make = {
        "zscore": lambda: ZScore(Quantile(0.9, warmup=20), 5, 0.1),
        "ratio": lambda: Ratio(1.5, 5),
        "cusum": lambda: CUSUM(2.0, 0.1, 5, 0.1),
        "random": lambda: Random(0.2),
        "uniform": lambda: Uniform(7),
    }[name]
    criterion, copy = make(), make()
    rng = np.random.default_rng(1)
    ids = np.array([0, 1, 1])
    for _ in range(50):
        update(criterion, rng.exponential(size=3), ids)
    copy.load_state_dict(criterion.state_dict())
    fired = []
    for _ in range(200):
        surprisal = rng.exponential(size=3)
        fired.append(update(criterion, surprisal, ids))
        np.testing.assert_array_equal(fired[-1], update(copy, surprisal, ids))
    assert np.any(fired)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ZScore(float("nan")),
        lambda: Ratio(1.0, min_samples=-1),
        lambda: Random(1.5),
        lambda: Uniform(0),
        lambda: Quantile(1.0),
        lambda: Quantile(0.5, warmup=20, window=10),
    ],
)
def test_parameters_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"must|lies"):
        make()


def test_cusum_overlooks_a_single_surprise_and_notices_a_change_that_lasts():
    rng = np.random.default_rng(0)
    criterion = CUSUM()
    usual = np.exp(rng.normal(size=400))
    assert not any(one(criterion, sample) for sample in usual)
    assert not one(criterion, 1000.0)
    fired = [one(criterion, sample) for sample in np.exp(2.0 + rng.normal(size=20))]
    assert np.flatnonzero(fired)[:1].tolist() < [12]
    assert np.any(fired)


def test_cusum_says_since_when_it_has_been_suspicious():
    criterion = CUSUM(threshold=8.0, drift=1.0, min_samples=10, alpha=0.1)
    rng = np.random.default_rng(0)
    for _ in range(100):
        update(criterion, np.exp(0.1 * rng.normal(size=2)), np.array([0, 0]))
    assert criterion.suspicion(2).tolist() == [0, 0]
    fired = [update(criterion, np.array([1.0, 9.0]), np.array([0, 0])).tolist() for _ in range(3)]
    assert fired == [[False, False], [False, False], [False, True]]  # three steps of 4 - 1 are more than 8
    assert criterion.suspicion(2).tolist() == [0, 3]


def test_cusum_does_not_depend_on_the_unit_of_the_surprisal_nor_on_how_many_share_a_fragment():
    rng = np.random.default_rng(0)
    stream = np.exp(np.concatenate([rng.normal(size=300), 3.0 + rng.normal(size=50)]))

    def fired(scale, envs):
        criterion = CUSUM()
        ids = np.zeros(envs, np.int64)
        return [bool(update(criterion, np.full(envs, scale * each), ids)[0]) for each in stream]

    assert any(fired(1.0, 1))
    assert fired(1.0, 1) == fired(1e-6, 1) == fired(1e6, 1) == fired(1.0, 16)


def test_cusum_begins_anew_where_an_environment_has_changed_its_fragment():
    criterion = CUSUM(threshold=8.0, drift=1.0, min_samples=0, alpha=0.1)
    rng = np.random.default_rng(0)
    for _ in range(100):
        update(criterion, np.exp(0.1 * rng.normal(size=2)), np.array([0, 1]), np.array([0, 1]))
    fragments = [0, 1, 0, 1, 0, 1]
    fired = [update(criterion, np.array([9.0]), np.array([each]), np.array([0]))[0] for each in fragments]
    assert not np.any(fired)
