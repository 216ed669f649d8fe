"""Among many places the most similar one is found without looking at all."""

import numpy as np
import numpy.typing as npt
import pytest

from farl.recognition import PlaceStore
from farl.recognition.place_index import PlaceIndex
from farl.recognition.places import unit

Keys = npt.NDArray[np.float32]


def rooms(count: int, each: int, seed: int = 0) -> Keys:
    """Keys of places that resemble those of the same room."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count, 1, 32))
    return unit((centres + rng.standard_normal((count, each, 32))).reshape(-1, 32).astype(np.float32))


def spoilt(keys: Keys, by: float) -> Keys:
    return unit(keys + by * np.random.default_rng(1).standard_normal(keys.shape).astype(np.float32))


@pytest.mark.parametrize("by", [0.0, 0.1])
def test_nearly_all_views_of_known_places_are_recognised(by: float) -> None:
    stored = rooms(400, 50)
    index, wanted = PlaceIndex(), np.random.default_rng(2).integers(len(stored), size=1000)
    seen = spoilt(stored[wanted], by)
    exact = np.sort(seen @ stored.T, axis=1)
    found = index.nearest(seen, stored)
    recognised = found.similarity >= exact[:, -1] - 1e-5
    assert recognised.mean() >= 0.99
    assert (found.places == wanted)[recognised].mean() >= 0.99
    assert (np.abs(found.second - exact[:, -2]) < 1e-5).mean() > 0.9
    assert len(index._centres) < len(stored) / 30, "not all are looked at"


def test_a_growing_store_finds_old_and_new_and_goes_on_as_it_was_saved() -> None:
    keys = rooms(500, 50, seed=3)
    stores = [PlaceStore(0.999, capacity=100_000) for _ in range(2)]
    for part in np.split(keys, 50):
        stores[0].add(part, np.ones(len(part), np.float32))
        assert (stores[0].nearest(part[:20]).similarity > 0.999).mean() > 0.9
        if len(stores[0]) == 15_000:
            stores[1].load_state_dict(stores[0].state_dict())
        elif len(stores[1]):
            stores[1].add(part, np.ones(len(part), np.float32))
            stores[1].nearest(part[:20])
    found, again = (store.nearest(keys[::7]) for store in stores)
    assert (found.similarity > 0.999).mean() > 0.99
    assert all((one == other).all() for one, other in zip(found, again, strict=True))


def test_few_places_are_all_compared() -> None:
    stored = rooms(80, 50)
    seen = spoilt(stored[::9], 0.5)
    found, exact = PlaceIndex().nearest(seen, stored), seen @ stored.T
    assert (found.places == exact.argmax(axis=1)).mean() > 0.999
    np.testing.assert_allclose(found.second, np.sort(exact, axis=1)[:, -2], atol=1e-5)
