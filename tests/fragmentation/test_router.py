"""The router against a slow, obvious one that handles one environment after the other."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farl.fragmentation import FragmentationAndRecall, KeyRecall, NoRecall, PlaceRecall, Ratio, Sight, Uniform, ZScore
from farl.memory import LongTermMemory


def step(router, surprisal, keys=None, starts=None, position=None):
    return router.commit(router.propose(Sight(surprisal, keys, position, starts=starts)))


class Reference:
    """Fragmentation and recall by key with a z-score, in plain Python."""

    def __init__(self, n_envs, threshold, min_samples, gate, capacity):
        self.threshold, self.min_samples, self.gate, self.capacity = threshold, min_samples, gate, capacity
        self.samples = {0: []}
        self.keys = []  # (fragment, key)
        self.edges = []
        self.used = {0: 0}
        self.time = 0
        self.next_id = 1
        self.active = [0] * n_envs
        self.previous_keys = None

    def best(self, key):
        cosine = [float(np.dot(k, key) / np.linalg.norm(k) / np.linalg.norm(key)) for _, k in self.keys]
        place = int(np.argmax(np.float32(cosine)))
        return self.keys[place][0] if np.float32(cosine[place]) >= self.gate else None

    def step(self, surprisal, keys, starts):
        n_envs = len(surprisal)
        before = list(self.active)
        fragmented, recalled = [False] * n_envs, [False] * n_envs
        if not self.keys:
            self.keys.append((self.active[0], keys[0]))
        target = [self.best(keys[env]) for env in range(n_envs)]
        fires = [False] * n_envs
        for env in range(n_envs):
            if target[env] is not None and target[env] != before[env]:
                recalled[env] = True
                continue
            own = np.array(self.samples[before[env]])
            if len(own) >= max(self.min_samples, 2) and own.std(ddof=1) > 0:
                fires[env] = (surprisal[env] - own.mean()) / own.std(ddof=1) > self.threshold
        for env in range(n_envs):
            if not recalled[env] and not fires[env]:
                self.samples[before[env]].append(surprisal[env])
        for env in range(n_envs):
            if recalled[env]:
                self.active[env] = target[env]
        for env in range(n_envs):
            if recalled[env] and not starts[env]:
                self.edge(before[env], self.active[env])
        for env in range(n_envs):
            if not fires[env]:
                continue
            again = self.best(keys[env])
            if again is not None and again != self.active[env]:
                recalled[env] = True
                self.active[env] = again
                if not starts[env]:
                    self.edge(before[env], again)
                continue
            if len(self.samples) >= self.capacity:
                victim = min((f for f in self.samples if f not in self.active), key=lambda f: (self.used[f], f))
                del self.samples[victim], self.used[victim]
                self.keys = [(f, k) for f, k in self.keys if f != victim]
                self.edges = [edge for edge in self.edges if victim not in edge]
            new = self.next_id
            self.next_id += 1
            old = self.active[env]
            self.samples[new] = []
            self.time += 1
            self.used[new] = self.time
            self.active[env] = new
            fragmented[env] = True
            if not starts[env]:
                self.edges.append((old, new))
            self.keys.append((new, keys[env]))
            if not starts[env] and self.previous_keys is not None:
                self.keys.append((old, self.previous_keys[env]))
        self.previous_keys = keys
        self.time += 1
        for fragment in set(self.active):
            self.used[fragment] = self.time
        return list(self.active), before, fragmented, recalled

    def edge(self, a, b):
        if (a, b) not in self.edges and (b, a) not in self.edges:
            self.edges.append((a, b))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.6, 0.9, 2.0]), st.sampled_from([7, 12, 1000]))
def test_events_equal_those_of_the_per_environment_reference(seed, n_envs, gate, capacity):
    rng = np.random.default_rng(seed)
    memory = LongTermMemory(capacity, keys_per_fragment=None)
    router = FragmentationAndRecall(ZScore(2.0, 5, alpha=None), memory, KeyRecall(memory, gate), n_envs)
    reference = Reference(n_envs, 2.0, 5, gate, capacity)
    for _ in range(120):
        surprisal = rng.exponential(size=n_envs)
        keys = rng.normal(size=(n_envs, 3)).astype(np.float32)
        starts = rng.random(n_envs) < 0.1
        events = step(router, surprisal, keys, starts)
        expected = reference.step(surprisal, keys, starts)
        assert [part.tolist() for part in events] == [list(part) for part in expected]
    assert memory.ids == sorted(reference.samples)
    assert memory.key_owners.tolist() == [fragment for fragment, _ in reference.keys]
    assert sorted(sorted(e) for e in memory.graph.edges()) == sorted(sorted(e) for e in reference.edges)


def make(n_envs=1, criterion=None, gate=0.99, capacity=100):
    memory = LongTermMemory(capacity)
    criterion = criterion or Ratio(threshold=2.0, min_samples=3, alpha=None)
    return FragmentationAndRecall(criterion, memory, KeyRecall(memory, gate), n_envs)


def key(angle):
    return np.array([[np.cos(angle), np.sin(angle)]], np.float32)


def test_a_fragment_is_recalled_in_both_directions_over_its_fracture():
    router = make()
    angles = iter(np.linspace(0.0, 0.4, 5))
    for _ in range(4):
        step(router, np.array([1.0]), key(next(angles)))
    step(router, np.array([9.0]), key(1.5))  # crosses from fragment 0 at angle 0.3 into fragment 1 at 1.5
    assert router.active.tolist() == [1]
    assert step(router, np.array([1.0]), key(2.5)).active.tolist() == [1]
    back = step(router, np.array([1.0]), key(0.3))
    assert (back.active.tolist(), back.recalled.tolist()) == ([0], [True])
    again = step(router, np.array([1.0]), key(1.5))
    assert (again.active.tolist(), again.recalled.tolist()) == ([1], [True])
    assert (router.fractures, router.recalls) == (1, 2)
    assert list(router.memory.graph.edges(data=True)) == [(0, 1, {"kind": "fracture"})]


def test_a_blank_screen_whose_key_is_zero_is_no_key_and_no_error():
    router = make(criterion=Uniform(1))
    for keys in ([[0.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]):
        step(router, np.ones(1), np.array(keys, np.float32))
    assert router.fractures > 0
    assert (np.linalg.norm(router.memory.keys, axis=1) > 0).all()


def test_a_fracture_across_a_reset_leaves_no_edge_and_no_key_on_the_far_side():
    router = make()
    for angle in (0.0, 0.1, 0.2):
        step(router, np.array([1.0]), key(angle))
    step(router, np.array([9.0]), key(1.5), starts=np.array([True]))
    assert router.active.tolist() == [1]
    assert router.memory.graph.number_of_edges() == 0
    assert router.memory.key_owners.tolist() == [0, 1]


def test_environments_that_see_the_same_new_place_at_once_share_one_new_fragment():
    router = make(n_envs=3)
    for angle in (0.0, 0.1, 0.2):
        step(router, np.ones(3), np.repeat(key(angle), 3, axis=0))
    events = step(router, np.array([9.0, 9.0, 1.0]), np.concatenate([key(1.5), key(1.5), key(0.3)]))
    assert events.active.tolist() == [1, 1, 0]
    assert events.fragmented.tolist() == [True, False, False]
    assert events.recalled.tolist() == [False, True, False]


def test_the_position_becomes_the_data_of_the_edge():
    router = make(criterion=Uniform(3))
    for number in range(3):
        step(router, np.ones(1), key(number), position=np.array([[number, 7]]))
    assert list(router.memory.graph.edges(data=True)) == [(0, 1, {"kind": "fracture", "position": [2, 7]})]


def test_without_recall_every_fracture_opens_a_new_fragment():
    memory = LongTermMemory()
    router = FragmentationAndRecall(Uniform(2), memory, NoRecall(), 2, share=False)
    for _ in range(4):
        step(router, np.ones(2))
    assert router.active.tolist() == [4, 5]
    assert router.recalls == 0


def test_an_evicted_fragment_takes_all_that_is_known_of_it_along():
    router = make(criterion=Uniform(2), gate=2.0, capacity=3)
    for number in range(40):
        step(router, np.ones(1), key(number))
    assert len(router.memory) == 3
    assert set(router.criterion.statistics.fragment_ids.tolist()) <= set(router.memory.ids)
    assert set(router.state_dict()["offspring"]) <= set(router.memory.ids)


def test_state_dict_continues_with_the_same_events():
    rng = np.random.default_rng(0)
    router, again = make(4, gate=0.95), make(4, gate=0.95)
    stream = [(rng.exponential(size=4), rng.normal(size=(4, 2)).astype(np.float32)) for _ in range(200)]
    for surprisal, keys in stream[:100]:
        step(router, surprisal, keys)
    again.load_state_dict(router.state_dict())
    moves = 0
    for surprisal, keys in stream[100:]:
        events, expected = step(router, surprisal, keys), step(again, surprisal, keys)
        np.testing.assert_array_equal(events, expected)
        moves += int(events.fragmented.sum() + events.recalled.sum())
    assert moves > 10


def test_a_state_of_another_number_of_environments_is_dealt_out_in_turn():
    router = make(2, criterion=Uniform(1), gate=2.0)
    step(router, np.ones(2), np.eye(2, dtype=np.float32))
    assert router.active.tolist() == [1, 2]
    larger = make(3)
    larger.load_state_dict(router.state_dict())
    assert larger.active.tolist() == [1, 2, 1]


def test_wrong_sizes_and_too_small_memories_are_refused():
    with pytest.raises(ValueError, match="capacity to at least 5"):
        make(n_envs=4, capacity=4)
    with pytest.raises(ValueError, match="2 environments"):
        step(make(n_envs=2), np.ones(3))
    with pytest.raises(ValueError, match="n_envs"):
        make(n_envs=0)
    with pytest.raises(ValueError, match="finite"):
        step(make(), np.array([np.nan]), key(0.0))


def test_a_proposal_changes_nothing_and_says_who_would_leave_and_whereto():
    router = make(2)
    for angle in (0.0, 0.1, 0.2, 0.3):
        step(router, np.ones(2), np.repeat(key(angle), 2, axis=0))
    step(router, np.array([9.0, 1.0]), np.concatenate([key(1.5), key(0.3)]))
    before = copy.deepcopy(router.state_dict())
    proposal = router.propose(Sight(np.ones(2), np.repeat(key(0.3), 2, axis=0)))
    assert (proposal.envs.tolist(), proposal.fragment_ids.tolist()) == ([0], [0])
    after = router.state_dict()
    assert after["active"].tolist() == before["active"].tolist()
    assert after["memory"]["keys"].tolist() == before["memory"]["keys"].tolist()
    assert after["criterion"]["statistics"]["count"].tolist() == before["criterion"]["statistics"]["count"].tolist()


def test_a_recall_that_predicts_no_better_does_not_happen_unless_the_active_fragment_surprises():
    router = make()
    for angle in (0.0, 0.1, 0.2, 0.3):
        step(router, np.array([1.0]), key(angle))
    step(router, np.array([9.0]), key(1.5))
    for angle in (1.6, 1.7, 1.8):
        step(router, np.array([1.0]), key(angle))

    def back(surprisal, error):
        return router.commit(router.propose(Sight(np.array([surprisal]), key(0.3))), np.array([error]))

    stays = back(1.0, 0.9995)  # no clear difference
    assert (stays.active.tolist(), stays.recalled.tolist()) == ([1], [False])
    surprised = back(9.0, 10.0)
    assert (surprised.active.tolist(), surprised.recalled.tolist()) == ([0], [True])


def make_with_places(n_envs=1, join_within=0):
    memory = LongTermMemory(keys_per_fragment=None)
    criterion = Ratio(threshold=2.0, min_samples=3, alpha=None)
    return FragmentationAndRecall(criterion, memory, PlaceRecall(memory, 0.99), n_envs, join_within=join_within)


def test_by_its_places_a_fragment_is_recalled_away_from_its_fracture_points():
    def back_at(router, angle):
        for number in range(5):
            step(router, np.array([1.0]), key(0.3 * number))
        for number in range(5):
            step(router, np.array([9.0 if number == 0 else 1.0]), key(3.0 + 0.3 * number))
        assert router.active.tolist() == [1]
        return step(router, np.array([1.0]), key(angle)).active.tolist()

    assert back_at(make_with_places(), 0.3) == [0]
    assert back_at(make(), 0.3) == [1]  # at its fracture points alone it is not


def test_a_place_becomes_a_key_of_the_fragment_in_which_it_was_seen_and_only_once():
    router = make_with_places(n_envs=2)
    for _ in range(3):
        step(router, np.ones(2), np.concatenate([key(0.0), key(1.0)]))
    assert router.memory.key_owners.tolist() == [0, 0]
    step(router, np.array([1.0, 9.0]), np.concatenate([key(0.0), key(2.0)]))
    step(router, np.ones(2), np.concatenate([key(0.0), key(2.5)]))
    step(router, np.ones(2), np.concatenate([key(0.0), key(2.5)]))
    owners, keys = router.memory.key_owners, router.memory.keys
    assert owners[(keys @ key(2.5)[0]) > 0.999].tolist() == [1]


def test_environments_that_pass_a_border_shortly_after_another_join_it():
    def fragments(join_within, later):
        router = make_with_places(2, join_within)
        for number in range(4):
            step(router, np.ones(2), np.concatenate([key(0.1 * number), key(0.1 * number)]))
        step(router, np.array([9.0, 1.0]), np.concatenate([key(1.5), key(0.3)]))
        for _ in range(later):
            step(router, np.ones(2), np.concatenate([key(1.5), key(0.3)]))
        return step(router, np.array([1.0, 9.0]), np.concatenate([key(1.5), key(2.5)])).active.tolist()

    assert fragments(join_within=5, later=2) == [1, 1]
    assert fragments(join_within=5, later=8) == [1, 2]
    assert fragments(join_within=0, later=2) == [1, 2]


def test_state_dict_with_places_and_joining_continues_with_the_same_events():
    rng = np.random.default_rng(0)
    router, again = make_with_places(4, 5), make_with_places(4, 5)
    stream = [(rng.exponential(size=4), rng.normal(size=(4, 3)).astype(np.float32)) for _ in range(200)]
    for surprisal, keys in stream[:100]:
        step(router, surprisal, keys)
    again.load_state_dict(router.state_dict())
    for surprisal, keys in stream[100:]:
        np.testing.assert_array_equal(step(router, surprisal, keys), step(again, surprisal, keys))
