import math

import pytest
import torch

from farl.curiosity import RIDE, ActionSpec, ModuleBank, Transitions

ACTIONS = ActionSpec(2, discrete=True)


def prepare(module, before, after):
    seen = (torch.tensor([[float(place)]]) for place in (before, after))
    return module.prepare(Transitions(next(seen), torch.zeros(1), next(seen)))


def test_bonus_is_the_impact_over_the_root_of_the_episodes_visits():
    module = RIDE((1,), ACTIONS)
    outputs = {"impact": torch.tensor([6.0])}
    steps = [((0, 1), True), ((1, 0), False), ((0, 1), False), ((1, 1), False), ((1, 0), True)]
    bonuses = [module.bonus(outputs, prepare(module, *pair), torch.tensor([start])).item() for pair, start in steps]
    root = math.sqrt
    assert bonuses == pytest.approx([6.0, 6 / root(2), 6 / root(2), 6 / root(3), 6.0])  # 0 was the start


def test_impact_is_the_distance_between_learnt_features():
    module = RIDE((3,), ACTIONS, features=4, hidden=8)
    before, after = torch.randn(2, 5, 3)
    outputs = module.evaluate(module.predictor, module.prepare(Transitions(before, torch.zeros(5), after)))
    encode = module.predictor.inverse_dynamics.encoder
    torch.testing.assert_close(outputs["impact"], ((encode(after) - encode(before)) ** 2).sum(1).sqrt())


def test_the_encoder_learns_by_the_forward_loss_too():
    module = RIDE((3,), ACTIONS, forward_weight=1.0)
    bank = ModuleBank(module, 1e-2)
    bank.load(0, bank.initial_state())
    before, after = torch.randn(2, 5, 3)
    bank.train(torch.zeros(5, dtype=torch.int64).numpy(), module.prepare(Transitions(before, torch.zeros(5), after)))
    name = next(name for name in bank.state(0)["parameters"] if "encoder" in name)
    assert not torch.equal(bank.state(0)["parameters"][name], dict(module.predictor.named_parameters())[name])
