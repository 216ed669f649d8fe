import numpy as np
import pytest

from farl.recognition import Localiser, PlaceGraph, PlaceStore
from farl.recognition.places import unit

VIEWS = np.eye(8, dtype=np.float32)
NOWHERE = np.full(8, 8**-0.5, np.float32)
STARTS = np.array([False])


class Walk:
    """One agent; places are numbered in the order of VIEWS."""

    def __init__(self, certain: float = 0.99, possible: float = 0.6) -> None:
        self.localiser = Localiser(PlaceStore(certain, possible, capacity=100), PlaceGraph(2))
        self.localiser.start(1)

    def see(self, view: np.ndarray, action: int = 0, starts: bool = False) -> int:
        found = self.localiser.follow(unit(view[None].astype(np.float32)), np.array([action]), np.array([starts]))
        return int(found.places[0])

    def along(self, *numbers: int) -> list[int]:
        return [self.see(VIEWS[number]) for number in numbers]

    def successor(self, place: int, action: int = 0) -> int:
        return int(self.localiser.graph.successor[place, action])


def spoilt(number: int, by: float) -> np.ndarray:
    return VIEWS[number] + by * VIEWS[7]


def test_ways_are_learnt_and_places_found_again() -> None:
    walk = Walk()
    assert walk.along(0, 1, 2, 0, 1) == [0, 1, 2, 0, 1]
    assert [walk.successor(place) for place in range(3)] == [1, 2, 0]


def test_a_spoilt_view_is_believed_where_the_way_leads_there_and_is_new_elsewhere() -> None:
    walk = Walk()
    walk.along(0, 1, 2, 7, 0)  # what spoils is known, too: a view of it and of another does not stand out
    assert walk.see(spoilt(1, 0.95), action=1) == 4, "no way leads there, and it may be either"
    walk = Walk()
    walk.along(0, 1, 2, 7, 0)
    assert walk.see(spoilt(1, 0.95)) == 1, "the way leads there"


def test_one_view_of_nothing_known_does_not_lead_off_the_way_but_two_do() -> None:
    walk = Walk()
    walk.along(0, 1, 2, 0, 1, 2, 0, 1, 2, 0)
    assert walk.see(NOWHERE) == 1
    assert walk.see(VIEWS[2]) == 2
    walk.along(0)
    before = [walk.successor(place) for place in range(3)]
    assert walk.see(NOWHERE) == 1
    assert walk.see(VIEWS[5]) == 3, "a new place"
    assert [walk.successor(place) for place in range(3)] == before, "nobody saw which way led there"


def test_without_noise_a_view_of_nothing_known_is_a_new_place() -> None:
    walk = Walk(0.99, 0.99)
    walk.along(0, 1, 2, 0)
    assert walk.see(NOWHERE) == 3


def test_what_is_certain_corrects_the_way() -> None:
    walk = Walk()
    walk.along(0, 1, 2, 0, 1)
    assert walk.along(0) == [0], "the way from 1 has led to 2 so far"
    assert walk.successor(1) == 2, "one vote each"
    walk.along(1, 0)
    assert walk.successor(1) == 0


def test_it_goes_on_as_it_was_saved() -> None:
    def go_on(walk: Walk) -> list[int]:
        seen = [walk.see(spoilt(number, 0.3 * (number % 2)), action=number % 2) for number in [1, 2, 0] * 30]
        return [*seen, len(walk.localiser.places), *walk.localiser.graph.successor[:8].ravel().tolist()]

    walk, other = Walk(), Walk()
    walk.along(0, 1, 2, 7, 0)
    walk.see(spoilt(1, 0.95), action=1)
    walk.along(2)
    for part in ("places", "graph"):
        getattr(other.localiser, part).load_state_dict(getattr(walk.localiser, part).state_dict())
    other.localiser.load_state_dict(walk.localiser.state_dict())
    assert go_on(walk) == go_on(other)


def test_an_episode_begins_without_a_way_to_it() -> None:
    walk = Walk()
    walk.along(0, 1)
    assert walk.see(VIEWS[4], starts=True) == 2
    assert walk.successor(1) == -1
    walk.localiser.put(np.array([0]), VIEWS[[0]])
    assert walk.see(VIEWS[5], action=1, starts=True) == 3
    assert walk.successor(0, 1) == 3, "it was put there"


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_a_walk_through_noise_finds_about_as_many_places_as_there_are(noise: float) -> None:
    rng = np.random.default_rng(0)
    views = unit(rng.standard_normal((60, 64)).astype(np.float32))
    localiser = Localiser(PlaceStore(0.98, 0.7, capacity=1000), PlaceGraph(2))
    localiser.start(4)
    there = np.zeros(4, np.int64)
    for _ in range(500):
        actions = rng.integers(2, size=4)
        there = (there + np.where(actions == 0, 1, -1)) % 60
        seen = views[there] + noise * rng.standard_normal((4, 64)).astype(np.float32) / 4
        localiser.follow(unit(seen), actions, np.zeros(4, bool))
    assert 60 <= len(localiser.places) <= 62
