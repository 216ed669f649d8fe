import numpy as np

from farl.recognition import Guide, PlaceGraph

LENGTH = 12


def line() -> PlaceGraph:
    """Places in a line; action 1 leads onwards and action 0 back; what lies beyond the last one is not known."""
    graph = PlaceGraph(2)
    everywhere = np.arange(LENGTH)
    graph.record(everywhere, np.zeros(LENGTH, np.int64), np.maximum(everywhere - 1, 0), LENGTH)
    graph.record(everywhere[:-1], np.ones(LENGTH - 1, np.int64), everywhere[1:], LENGTH)
    return graph


def test_an_agent_is_led_to_where_something_is_untried() -> None:
    guide, graph = Guide(1, 2), line()
    for place in range(LENGTH):
        advice = guide.advise(graph, np.array([place]), np.array([False]))
        assert advice.actions.tolist() == [1]
        assert advice.gained.tolist() == [float(place > 0)]


def test_agents_keep_their_targets_while_another_is_put_elsewhere() -> None:
    guide, graph = Guide(2, 2), line()
    guide.advise(graph, np.array([0, 0]), np.array([False, False]))
    picked = graph.picked.sum()
    guide.advise(graph, np.array([-1, 3]), np.array([False, True]))
    assert graph.picked.sum() == picked + 1
    assert guide.advise(graph, np.array([1, 4]), np.array([False, False])).gained.tolist() == [1.0, 1.0]
    assert graph.picked.sum() == picked + 1


def test_other_agents_begin_with_what_is_known_of_the_actions() -> None:
    guide = Guide(1, 2)
    for _ in range(100):
        guide.preference.observe(np.array([True]))
    known = guide.preference.state_dict()["found"]
    guide.start(3)
    assert guide.preference.state_dict()["found"].equal(known)
    assert guide.targets.tolist() == [-1, -1, -1]
    assert guide.preference.preferred.tolist() == [0, 1, 0]


def test_a_target_on_whose_way_something_new_was_found_was_not_picked_in_vain() -> None:
    never, last = np.array([False]), LENGTH - 1
    guide, graph = Guide(1, 2), line()
    graph.make_room(LENGTH + 1)
    guide.advise(graph, np.array([3]), never)
    assert guide.targets.tolist() == [last]
    assert graph.picked[last] == 1
    guide.advise(graph, np.array([LENGTH]), never, found=np.array([True]))
    assert graph.picked[last] == 0

    guide.advise(graph, np.array([last]), np.array([True]))
    guide.advise(graph, np.array([last - 1]), never)
    assert graph.picked[last] >= 1, "it led to a known place"
