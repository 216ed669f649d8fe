import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farl.memory import LongTermMemory, load_state, save_state


class AnySequenceOfOperations(RuleBasedStateMachine):
    """No sequence of operations leaves a dangling key, edge or index, and a saved memory is the memory."""

    def __init__(self):
        super().__init__()
        self.memory = LongTermMemory(capacity=4, keys_per_fragment=3)
        self.evicted = []
        self.memory.on_evict.append(self.evicted.append)
        self.ever = []
        self.rng = np.random.default_rng(0)

    @rule(n_keys=st.integers(0, 5))
    def add(self, n_keys):
        keep = self.memory.ids[:1]
        self.ever.append(
            self.memory.add(
                {"x": torch.tensor([len(self.ever)])}, self.rng.normal(size=(n_keys, 3)) if n_keys else None, keep
            )
        )
        assert set(keep) <= set(self.memory.ids)

    @precondition(lambda self: len(self.memory))
    @rule(data=st.data())
    def use(self, data):
        pick = st.sampled_from(self.memory.ids)
        a, b = data.draw(pick), data.draw(pick)
        self.memory.connect(a, b, {"position": [1, 2]})
        self.memory.add_keys(a, self.rng.normal(size=(2, 3)))
        self.memory.touch([b])

    @precondition(lambda self: len(self.memory))
    @rule(data=st.data())
    def evict(self, data):
        self.memory.evict(data.draw(st.sampled_from(self.memory.ids)))

    @invariant()
    def nothing_dangles(self):
        memory = self.memory
        assert len(memory) <= 4
        assert set(memory.graph.nodes) == set(memory.ids)
        assert set(memory.key_owners.tolist()) <= set(memory.ids)
        assert len(memory.keys) == len(memory.key_owners)
        assert all((memory.key_owners == fragment).sum() <= 3 for fragment in memory.ids)
        assert sorted(self.evicted + memory.ids) == self.ever == list(range(len(self.ever)))
        match = memory.match(self.rng.normal(size=(5, 3)))
        assert set(match.fragment_ids.tolist()) <= {*memory.ids, -1}

    @rule()
    def save_and_load(self):
        copy = LongTermMemory(capacity=4, keys_per_fragment=3)
        copy.load_state_dict(self.memory.state_dict())
        assert_equal(copy, self.memory)
        # What happens next is the same too: the next victim among the rest.
        for memory in (copy, LongTermMemory(capacity=4)):
            memory.load_state_dict(self.memory.state_dict())
        assert copy.add({}) == len(self.ever)


TestAnySequenceOfOperations = AnySequenceOfOperations.TestCase
TestAnySequenceOfOperations.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def assert_equal(a, b):
    assert a.ids == b.ids
    np.testing.assert_array_equal(a.keys, b.keys)
    np.testing.assert_array_equal(a.key_owners, b.key_owners)
    assert sorted(map(str, a.graph.edges(data=True))) == sorted(map(str, b.graph.edges(data=True)))
    assert {i: str(a[i]) for i in a.ids} == {i: str(b[i]) for i in b.ids}


def test_saving_to_a_file_and_loading_is_the_identity(tmp_path):
    memory = LongTermMemory(capacity=5)
    shared = torch.randn(3)
    for index in range(7):
        memory.add(
            {"own": torch.full((2,), index), "shared": shared, "name": str(index), "none": None}, np.eye(4)[:2] + index
        )
        memory.connect(memory.ids[0], memory.ids[-1], {"position": [index, 1], "kind": "fracture"})
    memory.save(tmp_path / "memory.safetensors")
    copy = LongTermMemory(capacity=5)
    copy.load(tmp_path / "memory.safetensors")
    assert_equal(copy, memory)
    assert copy.add({}) == memory.add({})
    assert copy.ids == memory.ids
    assert [path.name for path in tmp_path.iterdir()] == ["memory.safetensors"]


def test_the_least_recently_used_fragment_is_evicted_unless_it_is_to_be_kept():
    memory = LongTermMemory(capacity=3)
    a, b, c = (memory.add(name) for name in "abc")
    memory.touch([a])
    d = memory.add("d")
    assert memory.ids == [a, c, d]
    e = memory.add("e", keep=[c])
    assert memory.ids == [c, d, e]
    assert b not in memory


def test_a_memory_full_of_fragments_in_use_refuses_more_and_stays_as_it_is():
    memory = LongTermMemory(capacity=2)
    ids = [memory.add("a", [[1.0]]), memory.add("b")]
    with pytest.raises(ValueError, match="capacity"):
        memory.add("c", [[1.0]], keep=ids)
    assert memory.ids == ids
    assert len(memory.keys) == 1


def test_match_is_the_best_cosine_similarity_of_each_query():
    rng = np.random.default_rng(0)
    memory = LongTermMemory()
    keys = rng.normal(size=(20, 6)) * rng.uniform(0.1, 10, (20, 1))
    for row in range(0, 20, 2):
        memory.add(None, keys[row : row + 2])
    queries = rng.normal(size=(7, 6))
    cosine = (queries @ keys.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(keys, axis=1)
    match = memory.match(queries)
    np.testing.assert_array_equal(match.fragment_ids, cosine.argmax(1) // 2)
    np.testing.assert_allclose(match.similarity, cosine.max(1), rtol=1e-5)


def test_match_in_an_empty_memory_finds_nothing():
    match = LongTermMemory().match(np.ones((2, 3)))
    assert match.fragment_ids.tolist() == [-1, -1]
    assert (match.similarity == -np.inf).all()


def test_a_zero_query_matches_with_similarity_zero():
    memory = LongTermMemory()
    memory.add(None, [[1.0, 0.0]])
    assert memory.match(np.zeros((1, 2))).similarity[0] == 0.0


@pytest.mark.parametrize("keys", [[[0.0, 0.0]], [[np.nan, 1.0]], [[1.0, 2.0, 3.0]], [1.0, 2.0]])
def test_bad_keys_are_refused_before_anything_is_stored(keys):
    memory = LongTermMemory()
    memory.add(None, [[1.0, 0.0]])
    with pytest.raises(ValueError, match="key"):
        memory.add(None, keys)
    assert len(memory) == 1


def test_a_fragment_that_is_not_held_is_named_in_the_error():
    memory = LongTermMemory()
    for call in (
        lambda: memory[3],
        lambda: memory.evict(3),
        lambda: memory.touch([3]),
        lambda: memory.connect(3, 3, {}),
    ):
        with pytest.raises(KeyError, match="no fragment 3"):
            call()


@pytest.mark.parametrize("limits", [{"capacity": 0}, {"keys_per_fragment": 0}])
def test_limits_below_one_are_refused(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        LongTermMemory(**limits)


def test_a_state_with_dangling_references_is_refused():
    memory = LongTermMemory()
    memory.add(None, [[1.0]])
    state = memory.state_dict()
    state["edges"] = [[0, 5, {}]]
    with pytest.raises(ValueError, match="damaged"):
        LongTermMemory().load_state_dict(state)


def test_files_that_are_truncated_foreign_or_missing_give_clear_errors(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state({"a": torch.zeros(100)}, path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:4], b"", b"not a state file at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            load_state(path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a FARL state file"):
        load_state(path)
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "absent")


def test_a_state_survives_with_its_types_and_without_pickle(tmp_path):
    state = {
        "a": [1, 2.5, "x", None, True],
        7: {"t": torch.arange(3), "empty": torch.empty(0, 2)},
        "t2": torch.eye(2).T,
    }
    save_state(state, tmp_path / "s")
    copy = load_state(tmp_path / "s")
    assert str(copy) == str(state)
    with pytest.raises(TypeError, match="cannot save a set"):
        save_state({"a": {1}}, tmp_path / "other")
    assert not (tmp_path / "other").exists()
