import math

import numpy as np
import pytest
import torch

from farl.curiosity import ICM, ActionSpec, ModuleBank, Transitions
from farl.curiosity.dynamics import ForwardDynamics, action_loss

ACTIONS = ActionSpec(3, discrete=True)


def transitions(n=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    before, after = torch.randn((2, n, 5), generator=generator)
    return Transitions(before, torch.arange(n) % 3, after)


def test_surprisal_is_half_the_squared_error_between_predicted_and_learnt_features():
    icm = ICM((5,), ACTIONS, features=4, hidden=8)
    seen = transitions()
    networks = icm.predictor
    before, after = (networks.inverse_dynamics.encoder(part) for part in (seen.observations, seen.next_observations))
    predicted = networks.forward_dynamics(before, torch.eye(3)[seen.actions])
    by_hand = 0.5 * ((predicted - after) ** 2).sum(1) / 4
    torch.testing.assert_close(icm.surprisal(icm.predictor, icm.prepare(seen)), by_hand)


def test_loss_is_a_fifth_forward_and_four_fifths_inverse():
    icm = ICM((5,), ACTIONS, features=4, hidden=8)
    seen = transitions()
    prepared = icm.prepare(seen)
    _, _, logits = icm.predictor.inverse_dynamics(prepared["inputs"], prepared["next_inputs"])
    inverse = torch.nn.functional.cross_entropy(logits, seen.actions, reduction="none")
    by_hand = 0.2 * icm.surprisal(icm.predictor, prepared) + 0.8 * inverse
    torch.testing.assert_close(icm.loss(icm.predictor, prepared), by_hand)


def test_the_encoder_learns_by_the_inverse_loss_alone():
    for weight, moves in ((1.0, False), (0.2, True)):
        icm = ICM((5,), ACTIONS, features=4, hidden=8, forward_weight=weight)
        bank = ModuleBank(icm, 1e-2)
        bank.load(0, bank.initial_state())
        bank.train(np.zeros(8, np.int64), icm.prepare(transitions()))
        for name, tensor in bank.state(0)["parameters"].items():
            if "encoder" in name and "weight" in name:
                assert torch.equal(tensor, dict(icm.predictor.named_parameters())[name]) != moves


def test_it_learns_to_tell_the_action_and_to_predict_what_it_does():
    icm = ICM((5,), ACTIONS, features=8, hidden=32)
    bank = ModuleBank(icm, 3e-3)
    bank.load(0, bank.initial_state())
    steps = torch.eye(5)[:3]
    first = last = None
    for step in range(300):
        before = torch.randn((64, 5), generator=torch.Generator().manual_seed(step))
        actions = torch.arange(64) % 3
        prepared = icm.prepare(Transitions(before, actions, before + steps[actions]))
        last = bank.train(np.zeros(64, np.int64), prepared).mean()
        first = last if first is None else first
    assert last < 0.3 * first


def test_atari_preset_has_512_features_and_an_inverse_network_1024_512_actions():
    icm = ICM((4, 84, 84), ActionSpec(18, discrete=True), features=512, hidden=512, blocks=4)
    inverse = icm.predictor.inverse_dynamics.inverse
    assert [(layer.in_features, layer.out_features) for layer in inverse if hasattr(layer, "in_features")] == [
        (1024, 512),
        (512, 18),
    ]
    assert len(icm.predictor.forward_dynamics.blocks) == 4


def test_residual_blocks_are_told_the_action_in_every_layer():
    network = ForwardDynamics(features=2, n_actions=1, hidden=2, blocks=1)
    for layer, weight in (
        (network.first, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        (network.blocks[0][0], [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
        (network.blocks[0][1], [[1.0, 0.0, 0.0], [0.0, 1.0, 10.0]]),
        (network.last, [[1.0, 0.0, 0.0], [0.0, 1.0, 100.0]]),
    ):
        torch.nn.init.zeros_(layer.bias)
        layer.weight.data = torch.tensor(weight)
    # hidden (1, 2); inner (1 + 3, 2); hidden + (4, 2 + 30) = (5, 34); last (5, 34 + 300)
    out = network(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]))
    torch.testing.assert_close(out, torch.tensor([[5.0, 334.0]]))


def test_action_loss_is_cross_entropy_or_mean_squared_error():
    one_hot = torch.tensor([[0.0, 1.0]])
    assert action_loss(torch.tensor([[0.0, math.log(3.0)]]), one_hot, True).item() == pytest.approx(-math.log(0.75))
    assert action_loss(torch.tensor([[1.0, 3.0]]), one_hot, False).item() == pytest.approx((1 + 4) / 2)


def test_actions_are_encoded_one_hot_or_as_they_are():
    assert ActionSpec(3, discrete=True).encode(torch.tensor([[2], [0]])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert ActionSpec(2, discrete=False).encode(torch.tensor([[0.5, -1.0]])).tolist() == [[0.5, -1.0]]
