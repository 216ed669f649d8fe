import copy

import numpy as np
import pytest
import torch

from farl.curiosity import RND, ActionSpec, FARCuriosity, Seen, Transitions
from farl.curiosity.replay import Reservoir
from farl.fragmentation import CUSUM, KeyRecall, NoRecall, Ratio, Uniform, ZScore
from farl.memory import LongTermMemory
from farl.sb3.build import build_curiosity
from farl.sb3.config import FARConfig

N_ENVS = 4


def make(criterion=None, gate=0.98, capacity=50, recall=True, seed=0, **kwargs):
    memory = LongTermMemory(capacity)
    kwargs = {"learning_rate": 3e-3, "warmup": 40, "epochs": 2, "batch_size": 32} | kwargs
    return FARCuriosity(
        RND((6,), features=16, hidden=32, seed=1),
        memory,
        criterion,
        KeyRecall(memory, gate) if recall else NoRecall(),
        N_ENVS,
        seed=seed,
        **kwargs,
    )


def room(index, rng, n=N_ENVS):
    """Observations of a room: near its own random centre."""
    centre = np.random.default_rng(100 + index).normal(size=6)
    return (centre + 0.02 * rng.normal(size=(n, 6))).astype(np.float32)


def see(curiosity, observations):
    tensor = torch.from_numpy(observations)
    return curiosity.step(Transitions(tensor, torch.zeros(len(tensor)), tensor), np.zeros(len(tensor), bool))


def stay(curiosity, index, rng, steps=200):
    surprisal = []
    for step in range(steps):
        surprisal.append(see(curiosity, room(index, rng)).surprisal.mean())
        if step % 20 == 19:
            curiosity.update()
    return surprisal


def test_warm_up_gives_no_reward_and_no_fragment_and_trains_nothing():
    curiosity = make(Uniform(1))
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert (see(curiosity, room(0, rng)).intrinsic_reward == 0).all()
    assert curiosity.update() is None
    assert curiosity.fragments == 1
    assert (see(curiosity, room(0, rng)).intrinsic_reward > 0).all()


def test_seen_places_become_boring():
    curiosity, rng = make(), np.random.default_rng(0)
    surprisal = stay(curiosity, 0, rng)
    assert np.mean(surprisal[-20:]) < 0.35 * np.mean(surprisal[10:30])


def test_fragmentation_and_recall_forget_less_than_one_module_does():
    """Room 0, another for long, then room 0 again: is it as boring as it was?"""

    def error_on_return(curiosity):
        rng = np.random.default_rng(0)
        for _ in range(10):  # the warm-up of the norm sees both rooms
            see(curiosity, np.concatenate([room(0, rng, 2), room(1, rng, 2)]))
        first = np.mean(stay(curiosity, 0, rng, 300)[-50:])
        stay(curiosity, 1, rng, 600)
        error = np.mean([see(curiosity, room(0, rng)).surprisal.mean() for _ in range(20)])
        return error, error / first

    one_module, one_module_ratio = error_on_return(make(None, batch_size=16))
    curiosity = make(Ratio(5.0, min_samples=20), gate=0.9, batch_size=16)
    fragmented, fragmented_ratio = error_on_return(curiosity)
    assert fragmented < 0.5 * one_module
    assert fragmented_ratio < 2.0 < 5.0 < one_module_ratio
    assert curiosity.recalls > 0


def test_environments_in_different_fragments_get_reward_and_training_of_their_own():
    curiosity, rng = make(Ratio(3.0, min_samples=20), batch_size=8), np.random.default_rng(0)
    stay(curiosity, 0, rng, 100)
    mixed = room(0, rng)
    mixed[2:] = room(1, rng, 2)
    step = see(curiosity, mixed)
    assert step.events.active[:2].tolist() == [0, 0]
    assert 0 not in step.events.active[2:].tolist()
    before = curiosity.modules.bank.state(0)["parameters"]
    for _ in range(10):
        mixed[2:] = room(1, rng, 2)
        see(curiosity, mixed)
    curiosity.update()
    assert any((before[name] != tensor).any() for name, tensor in curiosity.modules.bank.state(0)["parameters"].items())
    assert curiosity.modules.bank.state(int(step.events.active[2]))["steps"] > 0


def test_samples_that_fill_no_minibatch_wait_for_the_next_update():
    curiosity, rng = make(warmup=1, batch_size=10), np.random.default_rng(0)
    see(curiosity, room(0, rng))
    for expected in (None, None, "loss", None, "loss"):  # 4, 8, 12, 6, 10 samples
        see(curiosity, room(0, rng))
        assert (curiosity.update() is None) == (expected is None)
    assert curiosity.modules.bank.state(0)["steps"] == 2 * curiosity.trainer.epochs


def test_modules_not_in_use_return_to_long_term_memory_with_what_they_learnt():
    curiosity, rng = make(Ratio(3.0, min_samples=20)), np.random.default_rng(0)
    stay(curiosity, 0, rng, 100)
    stay(curiosity, 1, rng, 60)
    active = set(curiosity.router.active.tolist())
    assert 0 not in active
    assert set(curiosity.modules.bank.fragment_ids) == active
    assert curiosity.memory[0]["steps"] > 0


@pytest.mark.parametrize(
    "criterion", [lambda: Ratio(3.0, min_samples=20), lambda: ZScore(3.0, 10, 0.05), lambda: Uniform(30)]
)
def test_a_saved_curiosity_continues_as_if_never_saved(criterion):
    rng = np.random.default_rng(0)
    curiosity, copy = make(criterion(), train_fraction=0.5), make(criterion(), train_fraction=0.5, seed=9)
    for index in (0, 1, 0):
        stay(curiosity, index, rng, 60)
    see(curiosity, room(2, rng))  # with samples pending
    copy.load_state_dict(curiosity.state_dict())
    for index in (2, 0, 1):
        observations = [room(index, rng) for _ in range(40)]
        for step, seen in enumerate(observations):
            ours, theirs = see(curiosity, seen), see(copy, seen)
            np.testing.assert_array_equal(ours.intrinsic_reward, theirs.intrinsic_reward)
            np.testing.assert_array_equal(ours.events, theirs.events)
            if step % 20 == 19:
                assert curiosity.update() == copy.update()
    assert curiosity.fragments == copy.fragments > 2


def test_saving_changes_nothing():
    rng = np.random.default_rng(0)
    saved, not_saved = make(Uniform(30)), make(Uniform(30))
    for step in range(200):
        seen = room(step // 50, rng)
        np.testing.assert_array_equal(see(saved, seen).intrinsic_reward, see(not_saved, seen).intrinsic_reward)
        if step % 10 == 0:
            saved.state_dict()
            assert saved.update() == not_saved.update()


def test_an_evicted_fragment_is_gone_everywhere_even_with_samples_pending():
    curiosity, rng = make(Uniform(10), capacity=6, gate=2.0, batch_size=4), np.random.default_rng(0)
    for step in range(300):
        see(curiosity, room(step % 3, rng))
        if step % 50 == 49:
            assert curiosity.update() > 0
    held = set(curiosity.memory.ids)
    assert len(held) == 6 < curiosity.fragments
    assert set(curiosity.modules.bank.fragment_ids) <= held
    assert set(curiosity.reward_norm.statistics.fragment_ids.tolist()) <= held
    assert set(curiosity.router.criterion.statistics.fragment_ids.tolist()) <= held


def test_a_fragment_that_is_given_up_by_hand_is_gone_too():
    curiosity, rng = make(Uniform(10), gate=2.0, batch_size=4, keep_loaded=50), np.random.default_rng(0)
    stay(curiosity, 0, rng, 60)
    given_up = curiosity.modules.bank.fragment_ids[0]
    assert given_up not in curiosity.router.active
    curiosity.memory.evict(given_up)
    with pytest.raises(KeyError, match=f"no fragment {given_up}"):
        curiosity.modules.state(given_up)
    stay(curiosity, 0, rng, 20)
    assert given_up not in curiosity.modules.bank
    assert given_up not in curiosity.reward_norm.statistics.fragment_ids
    assert given_up not in curiosity.router.criterion.statistics.fragment_ids


@pytest.mark.parametrize("criterion", [None, Uniform(30), CUSUM(min_samples=20)])
def test_many_steps_at_once_are_as_many_single_steps(criterion):
    def rooms(rng):
        """Each environment goes from room to room at a time of its own."""
        for step in range(240):
            yield np.concatenate([room((step + 7 * env) // 40 % 3, rng, 1) for env in range(N_ENVS)])

    one_by_one, at_once = (make(copy.deepcopy(criterion), join_within=5) for _ in range(2))
    walk = list(rooms(np.random.default_rng(0)))
    for begin in range(0, len(walk), 60):
        block = walk[begin : begin + 60]
        singly = [see(one_by_one, observations) for observations in block]
        tensors = [torch.from_numpy(observations) for observations in block]
        together = at_once.steps(
            [Seen(Transitions(seen, torch.zeros(N_ENVS), seen), np.zeros(N_ENVS, bool)) for seen in tensors]
        )
        for ours, theirs in zip(together, singly, strict=True):
            np.testing.assert_array_equal(ours.events.active, theirs.events.active)
            np.testing.assert_allclose(ours.surprisal, theirs.surprisal, rtol=1e-3)
            np.testing.assert_allclose(ours.intrinsic_reward, theirs.intrinsic_reward, rtol=1e-3)
        assert at_once.update() == pytest.approx(one_by_one.update(), rel=1e-3)
    assert (at_once.fragments, at_once.recalls) == (one_by_one.fragments, one_by_one.recalls)
    assert at_once.forgetting.summary() == pytest.approx(one_by_one.forgetting.summary(), rel=1e-3)
    if criterion is not None:
        assert at_once.fragments > 2
        assert at_once.recalls > 0


@pytest.mark.parametrize("criterion", [{"name": "cusum", "min_samples": 20}, {"name": "uniform", "every": 3}])
@pytest.mark.parametrize("n_envs", [2, 5])
def test_a_state_goes_on_with_another_number_of_environments_through_fractures_and_recalls(n_envs, criterion):
    def places(number):
        recall = {"keys": "places", "threshold": 0.995}
        far = {"criterion": criterion, "recall": recall, "warmup": 40, "learning_rate": 3e-3, "batch_size": 16}
        return build_curiosity(FARConfig.parse(far), (6,), ActionSpec(2, discrete=True), number, "cpu", 0)

    def wander(curiosity, steps, rooms):
        n = len(curiosity.router.active)
        for step in range(steps):
            seen = torch.from_numpy(room(rooms[step // 60 % 3], rng, n))
            curiosity.step(Transitions(seen, torch.zeros(n, dtype=torch.int64), seen), np.zeros(n, bool))
            if step % 20 == 19:
                curiosity.update()

    rng = np.random.default_rng(0)
    curiosity = places(7 - n_envs)
    wander(curiosity, 121, rooms=(0, 1, 2))  # behind a border, with new places noted and samples pending
    loaded = places(n_envs)
    loaded.load_state_dict(curiosity.state_dict())
    before, recalls = loaded.fragments, loaded.recalls
    wander(loaded, 240, rooms=(2, 3, 4))
    assert loaded.fragments > before
    assert loaded.recalls > recalls


def test_recall_off_opens_a_new_fragment_at_every_fracture():
    curiosity, rng = make(Uniform(40), recall=False), np.random.default_rng(0)
    stay(curiosity, 0, rng, 60)
    assert curiosity.recalls == 0
    assert curiosity.fragments > 3


def test_a_recall_happens_only_where_the_stored_module_predicts_better():
    """Every key resembles every other here: it is the prediction alone that keeps an environment where it is."""
    recalls = {}
    for confirm in (False, True):
        rng = np.random.default_rng(0)
        curiosity = make(Uniform(100), gate=-1.0, confirm_recall=confirm, batch_size=8)
        for index in (0, 1, 0, 1):
            stay(curiosity, index, rng, 60)
        seen, recalls[confirm] = room(0, rng), curiosity.recalls
        before = curiosity.router.active.copy()
        step = see(curiosity, seen)
        prepared = curiosity.module.prepare(Transitions(*[torch.from_numpy(seen)] * 3))
        for env in np.flatnonzero(step.events.recalled) if confirm else []:
            own = {name: tensor[env : env + 1] for name, tensor in prepared.items()}
            curiosity.modules._load(before[env : env + 1])
            assert step.surprisal[env] < curiosity.modules.bank.surprisal(before[env : env + 1], own).item()
    assert 0 < recalls[True] < 0.5 * recalls[False]


@pytest.mark.parametrize("new_module", ["copy", "fresh"])
def test_a_new_fragment_starts_as_a_copy_of_the_one_it_follows_or_fresh(new_module):
    curiosity, rng = make(Uniform(100), recall=False, new_module=new_module), np.random.default_rng(0)
    fresh = curiosity.modules.bank.initial_state()["parameters"]
    while curiosity.fragments == 1:
        stay(curiosity, 0, rng, 1)
        curiosity.update()
    learnt, opened = curiosity.modules.state(0), curiosity.modules.state(1)
    assert opened["steps"] == 0 < learnt["steps"]
    expected = learnt["parameters"] if new_module == "copy" else fresh
    for name, tensor in expected.items():
        torch.testing.assert_close(opened["parameters"][name], tensor)


def test_samples_under_suspicion_go_to_the_fragment_that_the_environment_turns_out_to_be_in():
    curiosity, rng = make(CUSUM(min_samples=50), batch_size=8), np.random.default_rng(0)
    stay(curiosity, 0, rng)
    before = curiosity.modules.bank.state(0)["steps"]
    while curiosity.fragments == 1:
        see(curiosity, room(1, rng))
        assert curiosity.samples_since_update < 100
    assert curiosity.samples_since_update > N_ENVS  # it took some steps to be sure
    for _ in range(60):
        see(curiosity, room(1, rng))
    curiosity.update()
    # Fragment 0 learns no more than the few samples of room 0 that were left over, and those before the suspicion.
    assert curiosity.modules.state(0)["steps"] <= before + 2
    assert curiosity.modules.state(1)["steps"] > 20


def test_samples_under_suspicion_wait_for_one_update_and_no_longer():
    curiosity, rng = make(CUSUM(threshold=1e9, min_samples=50), batch_size=1), np.random.default_rng(0)
    stay(curiosity, 0, rng)
    trained = []
    for _ in range(3):
        for _ in range(10):
            see(curiosity, room(1, rng))
        before = curiosity.modules.state(0)["steps"]
        curiosity.update()
        trained.append(curiosity.modules.state(0)["steps"] - before)
    assert trained[0] == 0
    assert trained[1] > 0


def test_replay_keeps_an_old_room_in_mind_without_fragments():
    def error_on_return(replay):
        curiosity, rng = make(replay=replay, batch_size=8), np.random.default_rng(0)
        stay(curiosity, 0, rng)
        stay(curiosity, 1, rng)
        return see(curiosity, room(0, rng)).surprisal.mean()

    assert error_on_return(Reservoir(500)) < 0.5 * error_on_return(None)
