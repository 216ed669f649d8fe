import numpy as np

from farl.recognition.graph import PlaceGraph
from farl.recognition.regions import Regions, find_regions

STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def rooms(n: int, side: int = 7) -> tuple[PlaceGraph, np.ndarray]:
    """Return the graph of poses in rooms in a row, joined by doorways of one cell, and the room of each pose (-1)."""
    cells = {(x + room * (side + 1), y): room for room in range(n) for x in range(side) for y in range(side)}
    cells |= {(room * (side + 1) - 1, side // 2): -1 for room in range(1, n)}
    number = {(x, y, d): 4 * i + d for i, (x, y) in enumerate(cells) for d in range(4)}
    before, action, after = [], [], []
    for (x, y, d), place in number.items():
        dx, dy = STEPS[d]
        ahead = number.get((x + dx, y + dy, d), place)
        before += [place] * 3
        action += [0, 1, 2]
        after += [number[x, y, (d - 1) % 4], number[x, y, (d + 1) % 4], ahead]
    graph = PlaceGraph(3)
    graph.record(np.array(before), np.array(action), np.array(after), len(number))
    return graph, np.repeat(list(cells.values()), 4)


def test_rooms_are_regions_however_many_there_are():
    for n in (1, 2, 9):
        graph, room = rooms(n)
        region = find_regions(graph, len(room), 4e-4)
        assert region.max() + 1 == n
        for each in range(n):
            assert len(set(region[room == each])) == 1


def walk(regions, steps=10_000):
    """Let agents take steps that find nothing."""
    regions.claim(np.full(steps, -1), np.zeros(steps, np.int64))


def test_the_same_graph_has_the_same_regions():
    graph, room = rooms(3)
    np.testing.assert_array_equal(find_regions(graph, len(room), 4e-4), find_regions(graph, len(room), 4e-4))


def test_a_region_that_grew_keeps_its_fragment_and_a_new_one_knows_where_it_came_from():
    graph, room = rooms(2)
    regions = Regions(4e-4)
    places = np.arange(len(room))
    regions.claim(places, np.full(len(room), 7))  # all was seen from one fragment
    walk(regions)
    division = regions.divide(graph, len(room), 99)
    assert sorted(division.fragment_ids.tolist()) == [-1, 7]
    assert division.parents.tolist() == [7, 7]
    regions.settle(division, np.where(division.fragment_ids < 0, 8, division.fragment_ids))
    assert len({*regions.of(places[room == 0]).tolist()}) == 1
    assert {*regions.of(places).tolist()} == {7, 8}
    walk(regions)
    assert regions.divide(graph, len(room), 99) is None  # it has not grown


def test_a_large_graph_is_divided_only_after_many_steps():
    graph, room = rooms(2)
    size = len(room) + (graph.successor[: len(room)] >= 0).sum()
    regions = Regions(4e-4)
    walk(regions, size // 4 - 1)
    assert regions.divide(graph, len(room), 99) is None
    copy = Regions(4e-4)
    copy.load_state_dict(regions.state_dict())
    for each in (regions, copy):
        walk(each, 1)
        assert each.divide(graph, len(room), 99) is not None


def test_a_place_belongs_to_who_saw_it_first():
    regions = Regions(4e-4)
    regions.claim(np.array([2, 2, -1, 0]), np.array([5, 6, 7, 8]))
    assert regions.of(np.array([0, 1, 2, 3, -1])).tolist() == [8, -1, 5, -1, -1]
    regions.claim(np.array([2]), np.array([9]))
    assert regions.of(np.array([2])).tolist() == [5]


def test_merged_places_and_a_saved_state():
    regions = Regions(4e-4)
    regions.claim(np.arange(4), np.array([5, 6, 7, 7]))
    regions.merge(np.array([0, 0, 1, 1]), 2)
    assert regions.of(np.arange(2)).tolist() == [5, 7]
    copy = Regions(4e-4)
    copy.load_state_dict(regions.state_dict())
    assert copy.of(np.arange(3)).tolist() == [5, 7, -1]


def test_there_are_no_more_regions_than_there_is_room_for():
    graph, room = rooms(5)
    alone = np.arange(len(room), len(room) + 50)  # nothing is known of the ways to these places
    graph.make_room(alone[-1] + 1)
    regions = Regions(4e-4)
    walk(regions)
    division = regions.divide(graph, alone[-1] + 1, 4)
    assert len(division.fragment_ids) == 4
    sizes = np.bincount(division.region)
    assert sizes[:3].min() >= 7 * 7 * 4
    assert sizes.sum() == alone[-1] + 1
    assert len(set(division.region[alone])) == 1
