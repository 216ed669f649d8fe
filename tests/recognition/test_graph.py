import networkx as nx
import numpy as np

from farl.recognition import Guide, PlaceGraph, Preference, guidance
from farl.recognition.graph import UNTRIED, reversed_edges
from farl.recognition.guidance import say, ways_to


def ring(n: int, known: int) -> PlaceGraph:
    """n places in a ring, by action 0 onwards and by action 1 back, of which the steps from the first ``known`` are
    known."""
    graph = PlaceGraph(2)
    for place in range(known):
        for action, step in enumerate((1, -1)):
            graph.record(np.array([place]), np.array([action]), np.array([(place + step) % n]), n)
    return graph


def test_the_majority_decides_where_an_action_leads() -> None:
    graph = PlaceGraph(1)
    for after in (1, 2, 1, 2, 1, 1, 2):
        graph.record(np.array([0]), np.array([0]), np.array([after]), 3)
    assert graph.successor[0, 0] == 1
    for after in (2,) * 9:
        graph.record(np.array([0]), np.array([0]), np.array([after]), 3)
    assert graph.successor[0, 0] == 2


def test_ways_are_the_shortest() -> None:
    rng = np.random.default_rng(0)
    n, actions = 60, 3
    successor = rng.integers(-1, n, (n, actions)).astype(np.int32)
    reference = nx.DiGraph([(p, int(q)) for p in range(n) for q in successor[p] if q >= 0])
    hops, ways = np.empty(n, np.int32), np.empty(n, np.int32)
    for target in (0, 7, 31):
        ways_to(target, actions, *reversed_edges(successor), hops, ways)
        expected = nx.single_target_shortest_path_length(reference, target)
        assert {place: int(hops[place]) for place in range(n) if hops[place] >= 0} == dict(expected)
        for place in range(n):
            if hops[place] > 0:
                assert hops[successor[place, ways[place]]] == hops[place] - 1


def pick_target(graph, worth, start, gamma, exhausted):
    away, queue = np.full(len(graph.picked), -1, np.int32), np.empty(len(graph.picked), np.int32)
    found = guidance.pick_target(graph.successor, graph.picked, worth, start, gamma, exhausted, away, queue)
    assert (away == -1).all(), "the room to search in is as it was"
    return found


def test_the_target_is_near_and_not_tried_in_vain() -> None:
    graph, alike = ring(20, known=10), np.ones(2)  # from place 0, what is known ends 10 steps onwards and 1 back
    exhausted = np.zeros(len(graph.picked), bool)
    assert pick_target(graph, alike, 3, 0.97, exhausted) == 19
    graph.picked[19] = 5
    assert pick_target(graph, alike, 3, 0.97, exhausted) == 10
    assert not exhausted.any()
    closed = ring(20, known=20)
    assert pick_target(closed, alike, 3, 0.97, exhausted) == -1
    assert exhausted[:20].all()
    assert not exhausted[20:].any()


def test_a_place_is_worth_its_best_untried_action() -> None:
    graph, worth = ring(20, known=10), np.array([0.5, 1.0])
    exhausted = np.zeros(len(graph.picked), bool)
    graph.record(np.array([19]), np.array([1]), np.array([18]), 20)  # there, action 0 is left
    graph.record(np.array([18]), np.array([0]), np.array([19]), 20)  # there, action 1 is left
    assert pick_target(graph, worth, 3, 0.97, exhausted) == 18
    assert pick_target(graph, worth, 3, 0.5, exhausted) == 19  # half as much beside half the distance
    graph.record(np.array([18]), np.array([1]), np.array([17]), 20)
    assert pick_target(graph, np.array([1e-6, 1e-6]), 3, 0.97, exhausted) == 19  # none is worth nothing


def test_a_guide_leads_to_the_frontier_and_advises_what_was_not_tried() -> None:
    graph, guide = ring(20, known=6), Guide(1, 2)
    place, never = 2, np.zeros(1, bool)
    gained = []
    for _ in range(3):
        advice = guide.advise(graph, np.array([place]), never)
        gained.append(float(advice.gained[0]))
        place = int(graph.successor[place, advice.actions[0]])
    assert place == 19  # back by 2, 1, 0
    assert gained == [0.0, 1.0, 1.0]
    advice = guide.advise(graph, np.array([place]), never)
    assert graph.successor[place, advice.actions[0]] == -1
    assert advice.gained[0] == 1.0


def test_a_target_out_of_reach_is_given_up() -> None:
    graph, guide = ring(20, known=6), Guide(1, 2)
    targets = set()
    for _ in range(200):
        guide.advise(graph, np.array([2]), np.zeros(1, bool))  # the agent never moves
        targets.add(int(guide.targets[0]))
    assert targets == {19, 6}


def test_that_nothing_is_left_to_be_tried_is_forgotten_with_the_next_change() -> None:
    rng = np.random.default_rng(0)
    graphs, guides = [PlaceGraph(2) for _ in range(2)], [Guide(3, 2) for _ in range(2)]
    successor = rng.integers(30, size=(32, 2))
    places, never = np.array([0, 1, 2]), np.zeros(3, bool)
    done = 0
    for step in range(600):
        if step == 500:
            successor[places[0], 0] = 31  # a way that was not there
        guides[1]._leave_out()
        for graph in graphs:
            graph.make_room(32)
        advice, expected = (guide.advise(graph, places, never) for guide, graph in zip(guides, graphs, strict=True))
        assert (advice.actions == expected.actions).all()
        assert (guides[0].targets == guides[1].targets).all()
        done += int((advice.actions < 0).all())
        actions = np.where(advice.actions >= 0, advice.actions, rng.integers(2, size=3))
        after = successor[places, actions]
        for graph in graphs:
            graph.record(places, actions, after, 32)
        places = after
        if step == 499:
            assert done > 100
    assert (graphs[0].successor[31] >= 0).all()


def test_agents_are_sent_apart() -> None:
    graph, guide = ring(200, known=40), Guide(8, 2)
    guide.advise(graph, np.full(8, 20), np.ones(8, bool))
    assert len(set(guide.targets.tolist())) == 2
    assert np.bincount(guide.targets).max() == 4


def test_merged_places_keep_their_ways() -> None:
    graph = ring(6, known=6)
    graph.merge(np.array([0, 0, 1, 1, 2, 2]), 3)
    reached = {int(place) for place in graph.successor[:3].ravel() if place >= 0}
    assert reached == {0, 1, 2}


def test_a_guide_goes_on_as_it_was_saved() -> None:
    graph, guide = ring(50, known=20), Guide(3, 2)
    places = np.array([2, 8, 15])
    guide.advise(graph, places, np.ones(3, bool))
    other_graph, other = PlaceGraph(2), Guide(3, 2)
    other_graph.load_state_dict(graph.state_dict())
    other.load_state_dict(guide.state_dict())
    for _ in range(30):
        here = guide.advise(graph, places, np.zeros(3, bool))
        there = other.advise(other_graph, places, np.zeros(3, bool))
        assert (here.actions == there.actions).all()
        moves = graph.successor[places, np.maximum(here.actions, 0)]
        places = np.where(moves >= 0, moves, places)


def test_what_finds_most_is_tried_first() -> None:
    preference = Preference(n_envs=8, n_actions=4)
    rng = np.random.default_rng(0)
    odds = np.array([0.1, 0.1, 0.5, 0.1])
    for _ in range(300):
        preference.observe(rng.random(8) < odds[preference.preferred])
    assert (preference.preferred == 2).sum() >= 7
    assert preference.worth[2] == 1
    assert (preference.worth[[0, 1, 3]] < 0.2).all()
    env = np.flatnonzero(preference.preferred == 2)[:1]
    for left, first in (([0, 2], 2), ([0, 1], 0), ([1, 3], 3)):
        successor, said, here = np.zeros((1, 4), np.int32), np.full(1, -1), np.zeros(1, np.int64)
        successor[0, left] = -1
        say(successor, here, preference.preferred[env], here, np.zeros((1, 1), np.int32), said)
        assert said == [first]
    odds = np.array([0.4, 0.0, 0.0, 0.0])  # what has paid pays no longer
    for _ in range(4000):
        preference.observe(rng.random(8) < odds[preference.preferred])
    assert (preference.preferred == 0).sum() >= 7


def test_every_action_is_preferred_by_someone_in_turn() -> None:
    preference, tried = Preference(n_envs=1, n_actions=3), set()
    for _ in range(64 * 8 * 4):
        preference.observe(np.ones(1, bool))
        tried.add(int(preference.preferred[0]))
    assert tried == {0, 1, 2}


def step(graph: PlaceGraph, before: int, action: int, after: int) -> None:
    graph.record(np.array([before]), np.array([action]), np.array([after]), 100)


def there_and_back() -> PlaceGraph:
    """100 places in a row, of which the first 40 have been walked by action 0 onwards and by action 1 back."""
    graph = PlaceGraph(3)
    for place in range(40):
        step(graph, place, 0, place + 1)
    for _ in range(2):
        for place in range(40, 0, -1):
            step(graph, place, 1, place - 1)
    return graph


def test_the_way_back_is_known_without_having_been_tried() -> None:
    graph = there_and_back()
    assert graph.undone_by.tolist() == [UNTRIED, 0, UNTRIED], "nobody has gone back after action 0 yet"
    step(graph, 60, 1, 59)
    assert graph.successor[59, 0] == 60
    assert graph.lead[59, 0] == 0
    assert (graph.successor[59, 1:] == UNTRIED).all()
    step(graph, 59, 0, 70)
    assert graph.successor[59, 0] == 70, "the first outcome counts, not what was thought"


def test_ways_of_before_are_taken_back_once_it_is_known_how() -> None:
    graph = PlaceGraph(2)
    for place in range(50, 60):  # nothing is known of the ways back yet
        step(graph, place, 0, place + 1)
    assert (graph.successor[50:61, 1] == UNTRIED).all()
    for _ in range(3):
        for place in range(40):
            step(graph, place, 0, place + 1)
            step(graph, place + 1, 1, place)
    assert graph.undone_by.tolist() == [1, 0]
    assert graph.successor[51:61, 1].tolist() == list(range(50, 60))


def test_nothing_undoes_what_cannot_be_undone() -> None:
    graph = PlaceGraph(2)  # action 0 goes on along a row, action 1 back to its beginning
    rng = np.random.default_rng(0)
    place = 0
    for _ in range(2_000):
        action = int(rng.random() < 0.1)
        after = 0 if action else min(place + 1, 99)
        step(graph, place, action, after)
        place = after
    assert graph._tested.sum() > 500
    assert (graph.undone_by == UNTRIED).all()
    tried = graph.lead > 0
    assert (graph.successor[~tried] == UNTRIED).all()


def test_what_undoes_an_action_is_saved() -> None:
    graph, loaded = there_and_back(), PlaceGraph(3)
    loaded.load_state_dict(graph.state_dict())
    for one in (graph, loaded):
        step(one, 60, 1, 59)
    assert loaded.successor[59, 0] == graph.successor[59, 0] == 60
    older = {
        name: value for name, value in graph.state_dict().items() if name in ("successor", "lead", "picked", "changes")
    }
    PlaceGraph(3).load_state_dict(older)
