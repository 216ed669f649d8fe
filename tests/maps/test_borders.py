"""Recall by crossing a border: from which cells, in which direction, and what the graph remembers of it."""

import numpy as np
import pytest

from farl.fragmentation import FragmentationAndRecall, Sight, Uniform
from farl.maps.borders import Border, BorderRecall
from farl.maps.geometry import FREE, OPPOSITE
from farl.maps.local_map import LocalMaps
from farl.memory import LongTermMemory

UP, DOWN, LEFT, RIGHT = range(4)
SIZE = 7  # a view of seven cells square: three to either side
STEP = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}


def at(row, col, heading):
    return Sight(np.zeros(1), position=np.array([[row, col, heading]], np.int32))


def fracture(heading, left=2, right=1, starts=False):
    """An agent at (0, 0) opens fragment 1 from fragment 0; walls end the free cells beside it."""
    memory, maps = LongTermMemory(), LocalMaps(1, SIZE)
    recall = BorderRecall(memory, maps)
    router = FragmentationAndRecall(Uniform(1), memory, recall, 1, share=False)
    view = np.full((1, SIZE, SIZE), FREE, np.int32)
    view[0, SIZE - 1, SIZE // 2 - left - 1] = view[0, SIZE - 1, SIZE // 2 + right + 1] = 5
    maps.observe(view, np.array([[0, 0, heading]], np.int32))
    events = router.commit(router.propose(at(0, 0, heading)._replace(starts=np.array([starts]))))
    assert events.fragmented.tolist() == [True]
    return recall


def recalled(recall, active, row, col, heading):
    active = np.array([active])
    recall.enter(np.zeros(1, np.int64), active)
    (found,) = recall.recognise(at(row, col, heading), active, np.zeros(1, np.int64)).fragment_ids
    return int(found)


@pytest.mark.parametrize("heading", [UP, DOWN, LEFT, RIGHT])
def test_a_border_is_crossed_onwards_into_the_new_fragment_and_backwards_into_the_old_one(heading):
    recall, back = fracture(heading), int(OPPOSITE[heading])
    assert recalled(recall, 0, 0, 0, heading) == 1
    assert recalled(recall, 0, 0, 0, back) == -1
    assert recalled(recall, 1, 0, 0, back) == 0
    assert recalled(recall, 1, 0, 0, heading) == -1
    for turn in set(STEP) - {heading, back}:
        assert recalled(recall, 0, 0, 0, turn) == recalled(recall, 1, 0, 0, turn) == -1


@pytest.mark.parametrize("heading", [UP, DOWN, LEFT, RIGHT])
def test_it_reaches_as_far_as_free_cells_did_beside_the_fracture_point(heading):
    recall = fracture(heading, left=2, right=1)
    down, across = STEP[heading]
    to_the_right = (across, -down)
    on_border = [recalled(recall, 0, n * to_the_right[0], n * to_the_right[1], heading) == 1 for n in range(-4, 5)]
    assert on_border == [False, False, True, True, True, True, False, False, False]
    one_further = [
        recalled(recall, 0, down + n * to_the_right[0], across + n * to_the_right[1], heading) for n in (0, 1)
    ]
    assert one_further == [-1, -1]


def test_the_graph_keeps_the_border_and_either_side_sees_it_from_inside():
    recall = fracture(UP, left=2, right=1)
    (edge,) = [data for _, _, data in recall.memory.graph.edges(data=True)]
    assert edge == {"kind": "fracture", "position": [0, 0, UP], "left": 2, "right": 1, "source": 0}
    assert recall.borders(0) == [Border(1, 0, 0, UP, 2, 1)]
    assert recall.borders(1) == [Border(0, 0, 0, DOWN, 1, 2)]


def test_a_trip_ends_at_the_fracture_point_whatever_the_heading():
    recall = fracture(UP)
    recall.enter(np.zeros(1, np.int64), np.array([0]))
    recall.trip[0] = 1
    found = [recall.recognise(at(0, col, LEFT), np.zeros(1, np.int64), np.zeros(1, np.int64)) for col in (0, 1)]
    assert [each.fragment_ids.tolist() for each in found] == [[1], [-1]]


def test_no_border_leads_over_a_reset():
    assert fracture(UP, starts=True).borders(0) == []


def test_the_borders_of_an_evicted_fragment_are_gone():
    recall = fracture(UP)
    assert recalled(recall, 1, 0, 0, DOWN) == 0
    recall.memory.evict(0)
    (found,) = recall.recognise(at(0, 0, DOWN), np.array([1]), np.zeros(1, np.int64)).fragment_ids
    assert found == -1
