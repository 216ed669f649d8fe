"""Samples that are the same are looked at once, and nothing else changes."""

import numpy as np
import pytest
import torch
from torch import nn

from farl.curiosity import RND, ModuleBank, Transitions
from farl.curiosity.block import Block
from farl.curiosity.fragment_modules import FragmentModules
from farl.curiosity.samples import Samples, kinds_of, once_each, select
from farl.curiosity.training import ModuleTrainer
from farl.memory import LongTermMemory


def repeated(count, n_kinds=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.rand((n_kinds, 5), generator=generator)
    observations = kinds[torch.randint(n_kinds, (count,), generator=generator)]
    return Transitions(observations, torch.zeros(count), observations)


def fragment_modules(module, n_fragments=3):
    modules = FragmentModules(ModuleBank(module, 1e-2), LongTermMemory(capacity=8))
    for fragment in range(n_fragments):
        modules.memory.add({}, np.ones((1, 6), np.float32))
        state = modules.bank.initial_state()
        state["parameters"] = {name: part + 0.1 * fragment for name, part in state["parameters"].items()}
        modules.bank.load(fragment, state)
    return modules


def test_equal_samples_have_equal_numbers_and_each_is_counted():
    prepared = {"a": torch.tensor([1.0, 2.0, 1.0, 1.0]), "b": torch.tensor([[0], [0], [0], [1]])}
    numbers = kinds_of(prepared)
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 3
    first, counts = once_each(numbers, len(numbers))
    assert first.tolist() == [0, 1, 3]
    assert counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize("moves", [False, True])
def test_a_block_is_what_its_modules_say_step_by_step_at_a_fraction_of_the_samples(moves, monkeypatch):
    module = RND((5,), features=6, hidden=8)
    modules = fragment_modules(module)
    steps, n_envs = 30, 4
    prepared = module.prepare(repeated(steps * n_envs))
    looked_at = []
    evaluate = modules.evaluate
    monkeypatch.setattr(modules, "evaluate", lambda ids, rows: looked_at.append(len(ids)) or evaluate(ids, rows))
    block, rng = Block(modules, prepared, n_envs), np.random.default_rng(0)
    active = np.array([0, 1, 1, 2])
    for step in range(steps):
        found = block.outputs(step, active)["surprisal"]
        rows = {name: tensor[step * n_envs : (step + 1) * n_envs] for name, tensor in prepared.items()}
        torch.testing.assert_close(found, evaluate(active, rows)["surprisal"])
        if moves and step % 3 == 0:
            active = active.copy()
            active[step % n_envs] = rng.integers(3)
            block.moved(step, np.array([step % n_envs]))
    assert sum(looked_at) <= 7 * 3


def test_training_on_one_of_each_by_their_number_is_training_on_all():
    module = RND((5,), features=6, hidden=8)
    prepared, ids = module.prepare(repeated(64)), np.arange(64) % 3
    pairs = kinds_of(prepared, module.determined_by) * 3 + ids
    first, counts = once_each(pairs, int(pairs.max()) + 1)
    assert len(first) < 30
    banks = [fragment_modules(module).bank for _ in range(2)]
    for _ in range(5):
        losses = banks[0].train(ids, prepared)
        fewer = banks[1].train(ids[first], select(prepared, first), counts)
        assert float(losses.mean()) == pytest.approx(float(fewer @ torch.from_numpy(counts).float() / 64), rel=1e-4)
    for fragment in range(3):
        for name, one in banks[0].state(fragment)["parameters"].items():
            torch.testing.assert_close(one, banks[1].state(fragment)["parameters"][name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dropout", [False, True])
def test_the_trainer_looks_once_unless_chance_has_a_part(dropout, monkeypatch):
    module = RND((5,), features=6, hidden=8)
    if dropout:
        module.predictor = nn.Sequential(module.predictor, nn.Dropout(0.1))
        module.takes_stacked_samples = False
    modules = fragment_modules(module)
    trained, train = [], modules.train
    monkeypatch.setattr(modules, "train", lambda ids, *rest: trained.append(len(ids)) or train(ids, *rest))
    trainer = ModuleTrainer(modules, batch_size=32)
    trainer._waiting = [Samples(module.prepare(repeated(96)), np.zeros(96, int), np.zeros(96, int), np.arange(96) + 1)]
    loss = trainer.update(module, np.array([200]), 96)
    assert np.isfinite(loss)
    assert (max(trained) <= 7) != dropout
