import networkx as nx
import numpy as np
import pytest
import torch

from farl.maps.geometry import FREE
from farl.maps.known_cells import KnownCells, is_known
from farl.maps.local_map import LocalMaps
from farl.maps.portals import PortalRecall, SizeLimit
from farl.maps.roadmap import CROSSING, FAR, Portal, Roadmap
from farl.maps.survey import shared_cell


def random_roadmap(rng, n_fragments=8, n_portals=14, n_goals=3):
    roadmap, graph = Roadmap(), nx.Graph()
    for _ in range(n_portals):
        a, b = rng.choice(n_fragments, 2, replace=False).tolist()
        if not roadmap.joined(a, b):
            roadmap.add(Portal(a, b, int(rng.integers(50)), int(rng.integers(50))))
    goals = {}
    for fragment_id in range(1, n_fragments):
        numbers = roadmap.numbers(fragment_id)
        between = rng.integers(1, 30, (len(numbers),) * 2).astype(np.int32)
        between = np.minimum(between, between.T)
        np.fill_diagonal(between, 0)
        to_goals = rng.integers(1, 30, (len(numbers), n_goals)).astype(np.int32)
        roadmap.survey(fragment_id, between, rng.integers(1, 99, (n_goals, 4)), to_goals)
        goals[fragment_id] = to_goals
        for i, a in enumerate(numbers):
            for j, b in enumerate(numbers[:i]):
                graph.add_edge(a, b, weight=int(between[i, j]) + CROSSING)
    return roadmap, graph, goals


@pytest.mark.parametrize("seed", range(10))
def test_routes_are_shortest_ways_outside_the_fragment(seed):
    roadmap, graph, to_goals = random_roadmap(np.random.default_rng(seed))
    routes = roadmap.routes(0)
    holders = [f for f in to_goals if len(roadmap.goals(f))]
    for k, source in enumerate(roadmap.numbers(0)):
        reach = nx.single_source_dijkstra_path_length(graph, source) if source in graph else {source: 0}
        expected = np.concatenate(
            [
                np.min(
                    [reach.get(n, FAR) + to_goals[f][i] for i, n in enumerate(roadmap.numbers(f))] or [[FAR] * 3],
                    axis=0,
                )
                for f in holders
            ]
        )
        np.testing.assert_array_equal(np.minimum(routes.steps[k], FAR), np.minimum(expected, FAR))


def test_a_fragment_that_is_forgotten_leaves_nothing_behind():
    roadmap, _, _ = random_roadmap(np.random.default_rng(1))
    roadmap.forget(3)
    assert all(3 not in portal[:2] for portal in roadmap.portals.values())
    for fragment_id in (0, 1, 2, 4):
        assert all(number in roadmap.portals for number in roadmap.numbers(fragment_id))
        routes = roadmap.routes(fragment_id)
        assert routes.steps.shape == (len(roadmap.numbers(fragment_id)), len(routes.goals))
    reused = roadmap.add(Portal(0, 1, 5, 5))
    assert reused < 14


def test_a_roadmap_is_restored_exactly():
    roadmap, _, _ = random_roadmap(np.random.default_rng(2))
    again = Roadmap()
    again.load_state_dict(roadmap.state_dict())
    for first, second in zip(roadmap.routes(0), again.routes(0), strict=True):
        np.testing.assert_array_equal(first, second)


def view(size=5):
    codes = np.zeros((1, size, size), np.int32)
    codes[0, 2:, 1:4] = FREE
    return codes


def test_the_index_knows_what_was_seen_and_nothing_else():
    index, maps = KnownCells(1), LocalMaps(1, 5)
    index.sift(view(), np.array([[0, 0, 0]], np.int32), maps)
    known = {
        (r, c)
        for r in range(-6, 6)
        for c in range(-6, 6)
        if is_known(index.bits[0], r + index.centre, c + index.centre)
    }
    assert known == {(r, c) for r in (-2, -1, 0) for c in (-1, 0, 1)}
    assert index.n_new[0] == 9


def test_the_index_grows_with_the_world():
    index, maps = KnownCells(1), LocalMaps(1, 5)
    for step in range(0, 600, 3):
        index.sift(view(), np.array([[-step, step, 0]], np.int32), maps)
    for step in range(0, 600, 3):
        assert is_known(index.bits[0], index.centre - step, index.centre + step)


def test_a_walk_through_known_places_does_not_enlarge_a_map():
    index, maps = KnownCells(1), LocalMaps(1, 5)
    places = [np.array([[row, 0, 1]], np.int32) for row in range(8)]
    for place in places:
        maps.observe(index.sift(view(), place, maps), place)
    maps.forget(0)
    maps.observe(index.sift(view(), places[0], maps), places[0])
    area = maps.area[0]
    for place in places:
        maps.observe(index.sift(view(), place, maps), place)
    assert maps.area[0] == area == 9


def test_forgotten_cells_are_unknown_again_unless_another_map_knows_them():
    index, maps = KnownCells(1), LocalMaps(1, 5)
    place = np.array([[0, 0, 0]], np.int32)
    maps.observe(index.sift(view(), place, maps), place)
    first = maps.copy_out(0)
    other = {"label": torch.full((1, 1), FREE, dtype=torch.int32), "corner": [0, 0]}
    index.forget(0, first)
    index.note(0, other)
    assert is_known(index.bits[0], index.centre, index.centre)
    assert not is_known(index.bits[0], index.centre - 1, index.centre)


def test_the_shared_cell_is_free_in_both_maps():
    a, b = np.zeros((6, 6), np.int32), np.zeros((6, 6), np.int32)
    a[:, 2:] = FREE
    b[:4] = FREE
    assert shared_cell(a, np.array([0, 0]), b, np.array([2, 1])) == (3, 3)
    assert shared_cell(a, np.array([0, 0]), b, np.array([30, 0])) == (FAR, FAR)


def test_a_portal_recalls_only_on_the_way_to_its_fragment():
    recall = PortalRecall(3)
    recall.trip[0], recall.trip[1] = (7, 4, 4), (7, 4, 4)
    recall.odometry[:] = [[4, 5, 0], [4, 6, 0], [4, 4, 0]]
    assert recall.propose(np.arange(3), np.zeros(3, np.int64), None, None).tolist() == [7, -1, -1]


def test_a_fragment_ends_when_it_outgrows_its_limit_or_surprises_when_it_is_large():
    limit = SizeLimit(largest=100, smallest=50, rho=2.0, min_samples=3)
    limit.active = np.array([5])

    def ends(surprisal, area):
        limit.areas = np.array([area])
        return bool(limit.update(np.array([surprisal]), limit.active)[0])

    for surprisal in (0.1, 0.2, 0.1, 0.2, 0.1):
        assert not ends(surprisal, 60)
    assert ends(0.9, 60)
    assert not ends(0.9, 40)
    assert not ends(0.9, 0)
    assert ends(0.0, 101)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="sizes"):
        SizeLimit(100, 200)
