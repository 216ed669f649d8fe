import networkx as nx
import numpy as np
import pytest
import torch

from farl.fragmentation import Sight
from farl.maps.crossings import CrossingRecall, SizeLimit
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS
from farl.maps.known_cells import OVERLAP, KnownCells, is_known
from farl.maps.local_map import LocalMaps
from farl.maps.measuring import Canvas, Outlook, measure
from farl.maps.planner import Scratch, search
from farl.maps.roadmap import FAR, GOAL, Roadmaps, on_grid
from farl.maps.views import cone_widths

NO_BOX = np.array([[0, -1, 0, -1]])


def random_map(rng, side=24):
    label = np.zeros((side, side), np.int32)
    label[3:-3, 3:-3] = np.where(rng.random((side - 6, side - 6)) < 0.8, FREE, 7)
    return label


def measured(label, landmarks=(), roadmap=None, fragment_id=1):
    """A roadmap with one fragment, whose map lies with the odometry's zero in a corner of its canvas."""
    index, roadmap = KnownCells(1), roadmap or Roadmaps(1)
    known = np.argwhere(label != 0)
    index.note(0, [{"label": torch.from_numpy(label), "corner": [0, 0]}])
    box = np.array([*np.sort(known[:, 0])[[0, -1]], *np.sort(known[:, 1])[[0, -1]]])
    landmarks = np.array(landmarks, np.int64).reshape(-1, 2)
    scratch, centre = Scratch.of(len(label)), index.centre
    cells, goals, ways = measure(
        Canvas(label, box, centre, centre), Outlook(index.bits[0], cone_widths(5)), landmarks, scratch
    )
    roadmap.join(0, fragment_id, cells, roadmap.find(0, cells), goals, ways)
    return roadmap, cells, goals, ways


def steps_by_search(label, start, end):
    scratch = Scratch.of(len(label))
    search(label, *start, -1, -1, scratch)
    return scratch.distance[tuple(end)] if scratch.stamp[tuple(end)] == scratch.current[0] else FAR


def graph_of(roadmap):
    graph = nx.DiGraph()
    for vertex in np.flatnonzero(roadmap.kind[0]):
        graph.add_node(int(vertex))
        for to, steps, _, _ in roadmap.edges[0, vertex, : roadmap.degree[0, vertex]].tolist():
            graph.add_edge(int(vertex), to, weight=steps)
    return graph


@pytest.mark.parametrize("seed", range(5))
def test_ways_over_the_roadmap_are_shortest_ways_of_the_map(seed):
    label = random_map(np.random.default_rng(seed))
    roadmap, cells, goals, _ = measured(label, landmarks=np.argwhere(label == FREE)[:3])
    reach = dict(nx.all_pairs_dijkstra_path_length(graph_of(roadmap)))
    numbers = roadmap.find(0, cells)
    assert min(len(cells), len(goals)) > 5
    assert (numbers >= 0).all()
    goal_vertices = np.flatnonzero(roadmap.kind[0] == GOAL)
    for number, cell in zip(numbers, cells, strict=True):
        for other, end in zip(numbers, cells, strict=True):
            assert reach[number].get(int(other), FAR) == steps_by_search(label, cell, end)
        for vertex in goal_vertices:
            row, col, heading = roadmap.place[0, vertex, :3]
            behind = (row - STEP_ROWS[heading], col - STEP_COLS[heading])
            expected = steps_by_search(label, cell, behind)
            assert reach[number].get(int(vertex), FAR) == (expected + 1 if expected < FAR else FAR)


def test_the_first_heading_of_a_way_begins_a_shortest_one():
    label = random_map(np.random.default_rng(7))
    _, cells, _, ways = measured(label)
    for i, start in enumerate(cells):
        for j, end in enumerate(cells):
            steps, heading = ways[i, j]
            if i != j and steps < FAR:
                onwards = (start[0] + STEP_ROWS[heading], start[1] + STEP_COLS[heading])
                assert steps_by_search(label, onwards, end) == steps - 1


def test_no_corridor_runs_between_the_landmarks_of_the_grid():
    for row in range(26):
        for col in range(26):
            corridor = [(row + r, col + c) for r in range(3) for c in range(16)]
            assert any(on_grid(r, c) for r, c in corridor)
            assert any(on_grid(c, r) for r, c in corridor)


def test_a_fragment_that_is_forgotten_leaves_nothing_behind():
    first, second = np.zeros((30, 30), np.int32), np.zeros((30, 30), np.int32)
    first[3:14, 3:27], second[10:27, 3:27] = FREE, FREE
    roadmap, _, _, _ = measured(first, fragment_id=1)
    alone = graph_of(roadmap)
    measured(second, roadmap=roadmap, fragment_id=2)
    assert len(graph_of(roadmap)) > len(alone)
    roadmap.forget(0, 2)
    vertices = np.flatnonzero(roadmap.kind[0])
    for vertex in vertices:
        edges = roadmap.edges[0, vertex, : roadmap.degree[0, vertex]]
        assert set(edges[:, 0].tolist()) <= set(vertices.tolist())
        assert (edges[:, 3] == 1).all()
    assert not ((roadmap.kind[0] == GOAL) & (roadmap.place[0, :, 4] == 2)).any()


def test_a_roadmap_grows_and_is_restored_exactly():
    rng = np.random.default_rng(2)
    roadmap = Roadmaps(1)
    for fragment_id in range(4):
        measured(random_map(rng), np.argwhere(rng.random((24, 24)) < 0.3), roadmap, fragment_id)
    assert roadmap.kind.shape[1] > 64
    again = Roadmaps(1)
    again.load_state_dict(roadmap.state_dict())
    assert nx.utils.graphs_equal(graph_of(roadmap), graph_of(again))


def view(size=5):
    codes = np.zeros((1, size, size), np.int32)
    codes[0, 2:, 1:4] = FREE
    return codes


def test_the_index_knows_what_was_seen_and_nothing_else():
    index = KnownCells(1)
    index.sift(view(), np.array([[0, 0, 0]], np.int32), NO_BOX)
    known = {
        (r, c)
        for r in range(-6, 6)
        for c in range(-6, 6)
        if is_known(index.bits[0], r + index.centre, c + index.centre)
    }
    assert known == {(r, c) for r in (-2, -1, 0) for c in (-1, 0, 1)}
    assert index.n_new[0] == 9


def test_the_index_grows_with_the_world():
    index = KnownCells(1)
    for step in range(0, 600, 3):
        index.sift(view(), np.array([[-step, step, 0]], np.int32), NO_BOX)
    for step in range(0, 600, 3):
        assert is_known(index.bits[0], index.centre - step, index.centre + step)


def test_a_walk_through_known_places_enlarges_a_map_by_the_overlap_alone():
    index, maps = KnownCells(1), LocalMaps(1, 5)
    places = [np.array([[row, 0, 1]], np.int32) for row in range(3 * OVERLAP)]
    for place in places:
        maps.observe(index.sift(view(), place, NO_BOX), place)
    maps.forget(0)
    maps.observe(index.sift(view(), places[0], NO_BOX), places[0])
    assert maps.area[0] == 9
    extent = maps.box - maps.origin[:, [0, 0, 1, 1]]
    for place in places:
        maps.observe(index.sift(view(), place, extent), place)
    assert maps.area[0] == 3 * (3 + OVERLAP)


def test_forgotten_cells_are_sought_again_only_when_it_is_time_and_not_where_another_map_knows_them():
    index, maps = KnownCells(1), LocalMaps(1, 5)
    place = np.array([[0, 0, 0]], np.int32)
    maps.observe(index.sift(view(), place, NO_BOX), place)
    first = maps.copy_out(0)
    other = {"label": torch.full((1, 1), FREE, dtype=torch.int32), "corner": [0, 0]}
    for times in (1, 2):
        index.forget(0, first, [other])
        counts = index.times_forgotten(0, (2, 1), np.array([-1, 0]))
        assert counts.tolist() == [[times], [0]]
        assert is_known(index.bits[0], index.centre - 1, index.centre)  # as if it were: it is not sought
        index.seek(0, times, [other])
        assert is_known(index.bits[0], index.centre, index.centre)
        assert not is_known(index.bits[0], index.centre - 1, index.centre)
    index.seek(0, 0, [other])
    assert is_known(index.bits[0], index.centre - 1, index.centre)
    assert index.times_forgotten(0, (1, 1), np.array([index.centre + 5, 0])).tolist() == [[0]]


def test_a_crossing_recalls_only_on_the_way_to_its_fragment():
    recall = CrossingRecall(3)
    recall.trip[0], recall.trip[1] = (7, 4, 4), (7, 4, 4)
    sight = Sight(np.zeros(3), position=np.array([[4, 5, 0], [4, 6, 0], [4, 4, 0]]))
    assert recall.recognise(sight, np.zeros(3, np.int64), np.arange(3)).fragment_ids.tolist() == [7, -1, -1]


def test_a_fragment_ends_when_it_outgrows_its_limit_or_surprises_when_it_is_large():
    limit = SizeLimit(largest=100, smallest=50, rho=2.0, min_samples=3)

    def ends(surprisal, area):
        return bool(limit.update(Sight(np.array([surprisal]), extent=np.array([area])), np.array([5]))[0])

    for surprisal in (0.1, 0.2, 0.1, 0.2, 0.1):
        assert not ends(surprisal, 60)
    assert ends(0.9, 60)
    assert not ends(0.9, 40)
    assert not ends(0.9, 0)
    assert ends(0.0, 101)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="sizes"):
        SizeLimit(100, 200)
