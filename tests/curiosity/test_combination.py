import numpy as np
import pytest
import torch

from farl.curiosity import E3B, RND, ActionSpec, Combination, ModuleBank, PseudoCount, Transitions
from farl.sb3.config import FARConfig

ACTIONS = ActionSpec(2, discrete=True)


def make(mode, **kwargs):
    return Combination(RND((3,)), PseudoCount((3,)), mode, **kwargs)


def combine(module, *pairs):
    for lifelong, episodic in pairs:
        combined = module.combine(torch.tensor(lifelong), torch.tensor(episodic))
    return combined.tolist()


def test_product():
    assert combine(make("product"), ([2.0, 3.0], [5.0, 0.0])) == [10.0, 0.0]


def test_modulated_is_equation_1_of_never_give_up():
    """Lifelong bonuses 1, 3, 2, 6 have mean 3 and (sample) variance 14/3: 6 lies 3 / 2.16 above, 2 below the mean."""
    modulator = 1 + 3 / np.sqrt(14 / 3)
    module = make("modulated")
    assert combine(module, ([1.0, 3.0], [1.0, 1.0]), ([2.0, 6.0], [5.0, 5.0])) == pytest.approx([5.0, 5.0 * modulator])
    limited = make("modulated", limit=1.5)
    assert combine(limited, ([1.0, 3.0], [1.0, 1.0]), ([2.0, 6.0], [5.0, 5.0])) == pytest.approx([5.0, 7.5])


def test_sum_weighs_bonuses_over_their_standard_deviations():
    module = make("sum", weight=0.25)
    by_hand = 0.25 * 6.0 / np.std([1, 3, 2, 6], ddof=1) + 0.75 * 40.0 / np.std([10, 10, 20, 40], ddof=1)
    assert combine(module, ([1.0, 3.0], [10.0, 10.0]), ([2.0, 6.0], [20.0, 40.0]))[1] == pytest.approx(by_hand)


def test_the_whole_bonus_is_made_of_both_modules_own():
    lifelong, episodic = RND((3,), seed=4), PseudoCount((3,))
    module = Combination(lifelong, episodic, "product")
    seen = Transitions(torch.randn(2, 3), torch.zeros(2), torch.randn(2, 3))
    bank = ModuleBank(module)
    bank.load(0, bank.initial_state())
    for visit in (1, 2):
        prepared = module.prepare(seen)
        outputs = bank.evaluate(np.zeros(2, np.int64), prepared)
        bonus = module.bonus(outputs, prepared, torch.tensor([visit == 1] * 2))
        expected = lifelong.surprisal(lifelong.predictor, lifelong.prepare(seen)) / np.sqrt(visit)
        torch.testing.assert_close(bonus, expected)


def test_the_episodic_network_learns_whatever_fragment_the_sample_falls_into():
    module = Combination(RND((3,)), E3B((3,), ACTIONS), learning_rate=1e-2)
    before = module.get_extra_state()["shared"]["parameters"]
    seen = Transitions(torch.randn(8, 3), torch.arange(8) % 2, torch.randn(8, 3))
    module.learn_shared(module.prepare(seen))
    after = module.get_extra_state()["shared"]
    assert after["steps"] == 1
    assert any(not torch.equal(before[name], tensor) for name, tensor in after["parameters"].items())
    assert set(dict(module.predictor.named_parameters())) == set(dict(RND((3,)).predictor.named_parameters()))


def test_it_can_be_fragmented_where_its_lifelong_module_can():
    parts = {"name": "combination", "episodic": {"name": "e3b"}}
    assert FARConfig.parse({"module": {**parts, "lifelong": {"name": "icm"}}}).criterion is not None
    with pytest.raises(ValueError, match="its lifelong part, re3, cannot be"):
        FARConfig.parse({"module": {**parts, "lifelong": {"name": "re3"}}, "criterion": {"name": "zscore"}})
