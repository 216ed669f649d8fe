import numpy as np
import pytest
import torch

from farl.curiosity import ActionSpec, Disagreement, ModuleBank, Transitions

ACTIONS = ActionSpec(2, discrete=True)


def test_bonus_is_the_variance_surprisal_the_error_of_the_mean_and_loss_the_mean_error():
    module = Disagreement((3,), ACTIONS, models=2)
    predictions = torch.tensor([[[1.0, 4.0], [3.0, 0.0]]])  # one sample, two models, two features
    prepared = {"inputs": torch.zeros(1, 1), "features": torch.tensor([[2.0, 1.0]])}
    outputs = module.evaluate(lambda _: predictions, prepared)
    assert module.bonus(outputs, prepared, torch.zeros(1)).item() == pytest.approx((1.0 + 4.0) / 2)
    assert outputs["surprisal"].item() == pytest.approx((0.0 + 1.0) / 2)
    assert module.loss(lambda _: predictions, prepared).item() == pytest.approx((1.0 + 9.0 + 1.0 + 1.0) / 4)


def test_the_models_read_features_and_action_and_differ_from_the_start():
    module = Disagreement((3,), ACTIONS, models=4, features=8, hidden=16)
    before, after = torch.randn(2, 6, 3)
    prepared = module.prepare(Transitions(before, torch.arange(6) % 2, after))
    torch.testing.assert_close(prepared["inputs"], torch.cat([module.target(before), torch.eye(2)[[0, 1] * 3]], 1))
    predictions = module.predictor(prepared["inputs"][:, None])
    assert predictions.shape == (6, 4, 8)
    alone = prepared["inputs"]
    for layer in module.predictor:
        alone = alone @ layer.weight[2] + layer.bias[2] if hasattr(layer, "weight") else layer(alone)
    torch.testing.assert_close(predictions[:, 2], alone)
    assert predictions.var(1).min() > 0


def test_noise_does_not_go_on_rewarding_while_the_error_stays():
    """Unpredictable next observations: RND-like errors stay, the models come to agree."""
    module = Disagreement((3,), ACTIONS, hidden=32, features=8)
    bank = ModuleBank(module, 3e-3)
    bank.load(0, bank.initial_state())
    ids = np.zeros(64, np.int64)
    measured = []
    for step in range(300):
        noise = torch.randn((64, 3), generator=torch.Generator().manual_seed(step))
        prepared = module.prepare(Transitions(torch.ones(64, 3), torch.zeros(64), noise))
        outputs = bank.evaluate(ids, prepared)
        measured.append((outputs["variance"].mean().item(), outputs["surprisal"].mean().item()))
        bank.train(ids, prepared)
    assert measured[-1][0] < 0.02 * measured[0][0]
    assert measured[-1][1] > 0.2 * measured[0][1]
