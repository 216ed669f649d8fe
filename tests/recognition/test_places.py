import numpy as np
import pytest

from farl.recognition import Calibration, PlaceStore, Thresholds, Visits, otsu
from farl.recognition.calibration import similarity_to_earlier
from farl.recognition.places import unit

RNG = np.random.default_rng(0)
VIEWS = unit(RNG.standard_normal((300, 64)).astype(np.float32))


def noisy(rows: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    return unit(VIEWS[rows] + spread * rng.standard_normal((len(rows), 64)).astype(np.float32))


def test_equal_views_are_one_place_and_others_are_not() -> None:
    store = PlaceStore(0.95, capacity=100)
    first = store.recognise(VIEWS[[3, 5, 3, 7]]).places
    again = store.recognise(VIEWS[[7, 3, 9]]).places
    assert first.tolist() == [0, 1, 0, 2]
    assert again.tolist() == [2, 0, 3]
    assert len(store) == 4


def test_keys_survive_growth() -> None:
    store = PlaceStore(0.999, capacity=10_000)
    many = unit(np.random.default_rng(1).standard_normal((3000, 8)).astype(np.float32))
    for rows in np.split(many, 30):
        store.recognise(rows)
    places = store.recognise(many[::7]).places
    assert (np.abs(np.einsum("nd,nd->n", store.keys[places], many[::7]) - 1) < 1e-5).all()


def test_a_full_store_merges_and_forgets_nothing() -> None:
    store = PlaceStore(0.999, capacity=200)
    circle = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    keys = np.stack([np.cos(circle), np.sin(circle)], axis=1).astype(np.float32)
    place_of: dict[int, int] = {}
    for row in range(1000):
        places, merged = store.recognise(keys[row : row + 1])
        if merged is not None:
            place_of = {seen: int(merged[place]) for seen, place in place_of.items()}
        place_of[row] = int(places[0])
    assert len(store) <= 200
    before = len(store)
    assert store.recognise(keys).merged is None
    assert len(store) == before, "something that had been seen was taken for new"
    apart = [float(keys[seen] @ store.keys[place]) for seen, place in place_of.items()]
    assert min(apart) > 0.9, "a place was merged into one that does not resemble it"


@pytest.mark.parametrize("shared", [0.0, 0.9])
@pytest.mark.parametrize(("capacity", "held"), [(1, 1), (2, 2), (3, 2), (8, 4), (11, 5), (12, 12)])
def test_a_full_store_of_views_that_are_equally_unlike_still_tells_some_apart(
    capacity: int, held: int, shared: float
) -> None:
    views = np.eye(12, 13, dtype=np.float32) * (1 - shared) ** 0.5
    views[:, 12] = shared**0.5
    store = PlaceStore(0.999, capacity=capacity)
    for view in views:
        store.recognise(view[None])
    assert len(store) == held
    assert store.recognise(views).merged is None
    assert len(set(store.recognise(views).places.tolist())) == held
    assert (store.recognise(store.keys.copy()).places == np.arange(held)).all()


def test_a_store_of_one_place_holds_even_opposite_views() -> None:
    store = PlaceStore(0.999, capacity=1)
    views = unit(np.random.default_rng(7).standard_normal((50, 3)).astype(np.float32))
    for view in np.concatenate([views, -views]):
        assert store.recognise(view[None]).places.tolist() == [0]
    assert len(store) == 1


def test_store_goes_on_as_it_was_saved() -> None:
    store = PlaceStore(0.9, capacity=100)
    store.recognise(VIEWS[:20])
    other = PlaceStore(0.1, capacity=100)
    other.load_state_dict(store.state_dict())
    assert other.certain == other.possible == 0.9
    assert (other.recognise(VIEWS[::-1].copy()).places == store.recognise(VIEWS[::-1].copy()).places).all()


@pytest.mark.parametrize("values", [[0.3], [1.0] * 5, [0.99999994] * 255, [1.0, 0.99999994, 1.0000001], [0.7, 0.1]])
def test_otsu_leaves_something_above(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert (array >= otsu(array)).any()


def test_views_that_are_all_the_same_are_of_one_place() -> None:
    for seed in range(20):
        view = np.random.default_rng(seed).normal(size=(1, 16)).astype(np.float32)
        assert Calibration(5)(np.repeat(view / np.linalg.norm(view), 5, axis=0)) == (0.999, 0.999)


def test_otsu_divides_two_modes() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0.3, 0.05, 700), rng.normal(0.9, 0.03, 300)])
    assert 0.45 < otsu(values) < 0.8


def test_similarity_is_that_to_earlier_keys_alone() -> None:
    found = similarity_to_earlier(VIEWS[[0, 1, 0, 2]])
    product = VIEWS @ VIEWS.T
    assert found == pytest.approx([product[1, 0], 1.0, product[2, [0, 1]].max()], abs=1e-5)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.1])
def test_calibrated_thresholds_tell_places_apart_whatever_the_noise(spread: float) -> None:
    rng = np.random.default_rng(3)
    calibration = Calibration(800)
    thresholds = None
    for _ in range(100):
        assert thresholds is None
        thresholds = calibration(noisy(rng.integers(200, size=8), spread, rng))
    assert thresholds is not None
    store = PlaceStore(*thresholds, capacity=10_000)
    rows = rng.integers(300, size=3000)
    places = np.concatenate([store.recognise(each).places for each in np.split(noisy(rows, spread, rng), 100)])
    pairs = {(int(row), int(place)) for row, place in zip(rows, places, strict=True)}
    assert len({place for _, place in pairs}) == len(pairs), "two views share a place"
    assert len(pairs) <= 300 * 2
    if spread == 0.0:
        assert len(pairs) == 300


def test_noise_parts_what_is_certain_from_what_is_possible() -> None:
    def found(spread: float) -> Thresholds:
        rng = np.random.default_rng(4)
        thresholds = Calibration(800)(noisy(rng.integers(200, size=800), spread, rng))
        assert thresholds is not None
        return thresholds

    noisy_ones, clean = found(0.1), found(0.0)
    assert noisy_ones.possible < noisy_ones.certain - 0.01
    assert clean.possible == clean.certain > 0.99


def test_views_that_resemble_each_other_are_no_noise() -> None:
    rng = np.random.default_rng(5)
    looks = np.concatenate([VIEWS[:20], unit(VIEWS[:20] + 0.03 * VIEWS[20:40])])
    assert Calibration(400)(looks[rng.integers(40, size=400)]) == (0.999, 0.999)


def test_a_view_that_stands_out_is_of_a_place_where_one_like_many_is_not() -> None:
    corner = unit(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.3, 1, 0, 0.3]], np.float32))
    store = PlaceStore(0.99, 0.8, capacity=10)
    store.add(corner, np.array([-1.0, 0.0, 0.92], np.float32))
    views = unit(np.array([[1, 0, 0.4, 0], [0.15, 1, 0.4, 0.15], [0, 0, 1, 0]], np.float32))
    nearest = store.nearest(views)
    assert nearest.similarity[:2] == pytest.approx([0.93, 0.92], abs=0.01)
    assert store.is_certain(nearest).tolist() == [True, False, False]
    assert store.similarity(np.array([0, 1, -1]), views) == pytest.approx([0.93, 0.91, -1.0], abs=0.01)


def test_the_key_of_a_place_is_the_mean_of_its_views() -> None:
    rng = np.random.default_rng(6)
    store = PlaceStore(0.5, capacity=10)
    store.recognise(noisy(np.array([0]), 0.1, rng))
    first = float(store.keys[0] @ VIEWS[0])
    for _ in range(30):
        store.refine(np.array([0]), noisy(np.array([0]), 0.1, rng))
    assert float(store.keys[0] @ VIEWS[0]) > 0.98
    assert first < 0.9


def test_first_visits_are_paid_once_an_episode_a_life_or_for_all() -> None:
    places = [np.array([0, 0]), np.array([1, 0]), np.array([0, 1])]
    starts = [np.array([True, True]), np.array([False, False]), np.array([True, False])]
    expected = {
        "episode": [[True, True], [True, False], [True, True]],
        "life": [[True, True], [True, False], [False, True]],
        "all": [[True, False], [True, False], [False, False]],
    }
    for scope, wanted in expected.items():
        visits = Visits(2, scope)  # type: ignore[arg-type]
        found = [visits.visit(where, begins, 2).tolist() for where, begins in zip(places, starts, strict=True)]
        assert found == wanted, scope
        assert visits.counts[:2].tolist() == [4, 2]


def test_visits_follow_merged_places() -> None:
    visits = Visits(2, "life")
    visits.visit(np.array([0, 2]), np.array([True, True]), 3)
    visits.merge(np.array([0, 0, 1]), 2)
    assert visits.visit(np.array([1, 1]), np.array([False, False]), 2).tolist() == [True, False]
    assert visits.counts[:2].tolist() == [1, 3]


def test_blank_views_are_of_one_place_and_of_no_other():
    keys = unit(np.array([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]], np.float32))
    np.testing.assert_allclose(keys, [[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]], rtol=1e-6)
    calibration = Calibration(64)
    found = calibration(np.repeat(keys[:1], 64, axis=0))
    assert found is not None
    assert found.possible > 0.99
