"""What every curiosity module keeps to, whatever its formula: run over the registry, so a new one is tested by name."""

import numpy as np
import pytest
import torch

from farl.curiosity import MODULES, ActionSpec, ModuleBank, Transitions
from farl.curiosity.module import CuriosityModule
from farl.sb3.build import build_curiosity
from farl.sb3.config import FARConfig

N_ENVS = 3
ACTIONS = ActionSpec(4, discrete=True)
FRAGMENTABLE = [name for name, config in MODULES.items() if config().why_not_fragmentable() is None]


def settings(name):
    return FARConfig.parse({"module": {"name": name}}).module


def build(name, shape=(6,), actions=ACTIONS, seed=1) -> CuriosityModule:
    return settings(name).build(shape, actions, seed)


def transitions(n, shape=(6,), actions=ACTIONS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    before, after = torch.rand((2, n, *shape), generator=generator)
    if len(shape) == 3:
        before, after = (before * 255).to(torch.uint8), (after * 255).to(torch.uint8)
    chosen = torch.randint(0, 4, (n,), generator=generator)
    if not actions.discrete:
        chosen = torch.rand((n, actions.size), generator=generator)
    return Transitions(before, chosen, after)


def walk(steps, seed=0):
    """Transitions of a walk in which observations return, with episodes of 25 steps, as (transitions, starts)."""
    rng = np.random.default_rng(seed)
    places = torch.from_numpy(rng.normal(size=(8, 6)).astype(np.float32))
    at = rng.integers(8, size=N_ENVS)
    for step in range(steps):
        actions = rng.integers(4, size=N_ENVS)
        then = (at + actions) % 8
        starts = np.array([(step + 5 * env) % 25 == 0 or step == 0 for env in range(N_ENVS)])
        yield Transitions(places[at], torch.from_numpy(actions), places[then]), starts
        at = then


def make_curiosity(name, seed=1, **far):
    config = FARConfig.parse({"module": {"name": name}, "warmup": 30, "batch_size": 16, **far})
    return build_curiosity(config, (6,), ACTIONS, N_ENVS, "cpu", seed)


def reward_and_learn(curiosity, steps):
    for step, (seen, starts) in enumerate(steps):
        yield curiosity.step(seen, starts).intrinsic_reward
        if step % 20 == 19:
            curiosity.update()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("shape", [(6,), (3, 9, 9), (2, 40, 40)])
@pytest.mark.parametrize("actions", [ACTIONS, ActionSpec(2, discrete=False)])
def test_every_kind_of_observation_and_action_gives_one_finite_reward_a_sample(name, shape, actions):
    module = build(name, shape, actions)
    bank = ModuleBank(module)
    bank.load(0, bank.initial_state())
    module.warm_up(transitions(20, shape, actions))
    prepared = module.prepare(transitions(N_ENVS, shape, actions))
    outputs = bank.evaluate(np.zeros(N_ENVS, np.int64), prepared)
    bonus = module.bonus(outputs, prepared, torch.ones(N_ENVS, dtype=torch.bool))
    assert outputs["surprisal"].shape == bonus.shape == (N_ENVS,)
    assert torch.isfinite(bonus).all()
    assert (bonus >= 0).all()


@pytest.mark.parametrize("name", MODULES)
def test_a_saved_curiosity_continues_as_if_never_saved(name, tmp_path):
    steps = list(walk(160))
    original, copy = make_curiosity(name), make_curiosity(name, seed=5)
    for _ in reward_and_learn(original, steps[:85]):
        pass
    torch.save(original.state_dict(), tmp_path / "state")
    copy.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for ours, theirs in zip(reward_and_learn(original, steps[85:]), reward_and_learn(copy, steps[85:]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", MODULES)
def test_a_saved_curiosity_goes_on_with_another_number_of_environments(name):
    curiosity = make_curiosity(name)
    for _ in reward_and_learn(curiosity, walk(40)):
        pass
    config = FARConfig.parse({"module": {"name": name}, "warmup": 30})
    other = build_curiosity(config, (6,), ACTIONS, 2, "cpu", 0)
    other.load_state_dict(curiosity.state_dict())
    for seen, starts in walk(5):
        two = Transitions(*(part[:2] for part in seen))
        assert np.isfinite(other.step(two, starts[:2]).intrinsic_reward).all()


@pytest.mark.parametrize("name", MODULES)
def test_a_seed_decides_all_weights_and_leaves_the_global_random_state_alone(name):
    before = torch.get_rng_state()
    first, second = build(name, seed=3).state_dict(), build(name, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("name", FRAGMENTABLE)
def test_fragments_evaluated_in_one_batch_equal_each_alone(name):
    module = build(name)
    bank = ModuleBank(module, 1e-2)
    for fragment in range(3):
        bank.load(fragment, bank.initial_state())
        bank.train(np.full(8, fragment), module.prepare(transitions(8, seed=fragment)))
    ids = np.array([2, 0, 1, 0, 2])
    prepared = module.prepare(transitions(5, seed=9))
    together = bank.evaluate(ids, prepared)
    for sample, fragment in enumerate(ids):
        own = {key: tensor[sample : sample + 1] for key, tensor in prepared.items()}
        for key, value in bank.evaluate(np.array([fragment]), own).items():
            torch.testing.assert_close(together[key][sample], value[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FRAGMENTABLE)
def test_fragmentable_modules_fragment_recall_and_learn(name):
    criterion = {"name": "uniform", "every": 15}
    curiosity = make_curiosity(name, criterion=criterion, recall={"threshold": 0.9}, learning_rate=3e-3)
    for reward in reward_and_learn(curiosity, walk(120)):
        assert np.isfinite(reward).all()
    assert curiosity.fragments > 2
    assert curiosity.recalls > 0
    assert all(curiosity.modules.state(fragment)["parameters"] for fragment in curiosity.memory.ids)


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(FRAGMENTABLE)))
def test_modules_that_cannot_be_fragmented_say_why_and_are_not_by_default(name):
    reason = settings(name).why_not_fragmentable()
    assert FARConfig.parse({"module": {"name": name}}).criterion is None
    with pytest.raises(ValueError, match=f"module {name} cannot be fragmented: {reason[:20]}.*set criterion: null"):
        FARConfig.parse({"module": {"name": name}, "criterion": {"name": "ratio"}})
