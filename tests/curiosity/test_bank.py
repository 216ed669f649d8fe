import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farl.curiosity import RND, ModuleBank, Transitions
from farl.curiosity.tiles import tile


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200))
def test_tiles_hold_every_sample_once_beside_its_own_kind_and_about_double_the_work_at_most(slots):
    slots = np.array(slots)
    tiles = tile(slots)
    assert (tiles.fragment_ids[tiles.row.numpy()] == slots).all()
    assert (tiles.samples[tiles.row, tiles.column].numpy() == np.arange(len(slots))).all()
    rows, width = tiles.samples.shape
    distinct = len(set(slots.tolist()))
    assert rows * width < 2 * len(slots) + 10 * distinct


def transitions(n, shape=(5,), seed=0):
    observations = torch.rand((n, *shape), generator=torch.Generator().manual_seed(seed))
    return Transitions(observations, torch.zeros(n), observations)


def loaded_bank(module, n_modules, **kwargs):
    bank = ModuleBank(module, **kwargs)
    for fragment in range(n_modules):
        state = bank.initial_state()
        generator = torch.Generator().manual_seed(fragment)
        state["parameters"] = {
            name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in state["parameters"].items()
        }
        bank.load(fragment, state)
    return bank


def alone(module, bank, fragment):
    predictor = copy.deepcopy(module.predictor)
    predictor.load_state_dict(bank.state(fragment)["parameters"])
    return predictor.requires_grad_(True)


@pytest.mark.parametrize("shape", [(5,), (3, 8, 8)])
@pytest.mark.parametrize("fragments", [[0] * 9, [0, 3, 3, 1, 0, 3, 3, 3, 3], list(range(9))])
def test_surprisal_in_one_batch_equals_each_module_alone(shape, fragments):
    module = RND(shape, features=6, hidden=8)
    bank = loaded_bank(module, 9)
    prepared = module.prepare(transitions(9, shape))
    errors = bank.surprisal(np.array(fragments), prepared)
    for sample, fragment in enumerate(fragments):
        own = {name: tensor[sample : sample + 1] for name, tensor in prepared.items()}
        assert errors[sample] == pytest.approx(module.surprisal(alone(module, bank, fragment), own).item(), rel=1e-4)


def test_training_in_one_batch_equals_each_module_alone_with_torchs_adam():
    module = RND((5,), features=6, hidden=8)
    bank = loaded_bank(module, 4, learning_rate=1e-2)
    predictors = [alone(module, bank, fragment) for fragment in range(4)]
    optimizers = [torch.optim.Adam(predictor.parameters(), 1e-2) for predictor in predictors]
    rng = np.random.default_rng(0)
    for step in range(20):
        ids = rng.choice([0, 2, 3], size=12, p=[0.7, 0.2, 0.1])
        prepared = module.prepare(transitions(12, seed=step))
        bank.train(ids, prepared)
        for fragment in np.unique(ids):
            rows = torch.from_numpy(np.flatnonzero(ids == fragment))
            own = {name: tensor[rows] for name, tensor in prepared.items()}
            optimizers[fragment].zero_grad()
            module.loss(predictors[fragment], own).mean().backward()
            optimizers[fragment].step()
    for fragment in range(4):
        for name, tensor in predictors[fragment].named_parameters():
            torch.testing.assert_close(bank.state(fragment)["parameters"][name], tensor.detach(), rtol=1e-4, atol=1e-6)
    assert bank.state(1)["steps"] == 0


def test_a_module_moves_to_memory_and_back_without_a_trace():
    module = RND((5,), features=6, hidden=8)
    stays, travels = loaded_bank(module, 3), loaded_bank(module, 3)
    for step in range(6):
        for fragment in (0, 2):
            travels.load(fragment, travels.unload(fragment))
        ids = np.array([0, 0, 2, 1])
        prepared = module.prepare(transitions(4, seed=step))
        torch.testing.assert_close(stays.train(ids, prepared), travels.train(ids, prepared))
        torch.testing.assert_close(stays.surprisal(ids, prepared), travels.surprisal(ids, prepared))


@pytest.mark.parametrize("shape", [(5,), (3, 8, 8)])
def test_what_a_module_computes_does_not_depend_on_its_slot_to_the_bit(shape):
    """Matrix libraries round by alignment and by the place in a batch: neither may follow from where modules lie."""
    module = RND(shape, features=7, hidden=9)  # odd sizes: nothing is aligned by chance
    stays, travels = loaded_bank(module, 5), loaded_bank(module, 5)
    rng = np.random.default_rng(0)
    for step in range(12):
        waiting = [
            (fragment, travels.unload(fragment)) for fragment in rng.permutation(5)[: rng.integers(1, 6)].tolist()
        ]
        for fragment, state in waiting:
            travels.load(fragment, state)
        ids = rng.integers(0, 5, size=11)
        prepared = module.prepare(transitions(11, shape, seed=step))
        assert torch.equal(stays.train(ids, prepared), travels.train(ids, prepared))
        for size in (1, 4, 11):
            some = {name: tensor[:size] for name, tensor in prepared.items()}
            assert torch.equal(stays.surprisal(ids[:size], some), travels.surprisal(ids[:size], some))


def test_a_freed_slot_is_used_again_and_starts_from_the_new_state():
    module = RND((5,), features=6, hidden=8)
    bank = loaded_bank(module, 2)
    bank.train(np.array([0, 1]), module.prepare(transitions(2)))
    bank.unload(0)
    bank.load(7, bank.initial_state())
    prepared = module.prepare(transitions(3))
    expected = module.surprisal(module.predictor, prepared)
    torch.testing.assert_close(bank.surprisal(np.array([7, 7, 7]), prepared), expected)
    assert sorted(bank.fragment_ids) == [1, 7]
    with pytest.raises(ValueError, match="loaded already"):
        bank.load(7, bank.initial_state())
