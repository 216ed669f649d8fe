import pytest
import torch

from farl.curiosity import NovelD, Transitions


def step(module, before, after, start, novelty=(4.0, 1.0)):
    observations = torch.tensor([[float(before)]]), torch.tensor([[float(after)]])
    prepared = module.prepare(Transitions(observations[0], torch.zeros(1), observations[1]))
    outputs = {"surprisal": torch.tensor([novelty[0]]), "surprisal_before": torch.tensor([novelty[1]])}
    return module.bonus(outputs, prepared, torch.tensor([start])).item()


def test_bonus_is_the_rise_in_novelty_and_never_negative():
    module = NovelD((1,), alpha=0.5)
    assert step(module, 0, 1, True, (9.0, 4.0)) == pytest.approx(3.0 - 0.5 * 2.0)
    assert step(module, 1, 2, False, (1.0, 9.0)) == 0.0


def test_only_the_first_visit_of_an_episode_is_rewarded_and_the_start_counts_as_visited():
    module = NovelD((1,))
    rewarded = [step(module, *pair, start) > 0 for *pair, start in [(0, 1, True), (1, 2, False), (2, 1, False)]]
    assert rewarded == [True, True, False]
    assert step(module, 1, 0, False) == 0.0  # back at the start
    assert step(module, 0, 1, True) > 0  # a new episode


def test_novelty_before_is_that_of_the_observation_left_behind():
    module = NovelD((3,), features=4, hidden=8)
    before, after = torch.randn(2, 6, 3)
    outputs = module.evaluate(module.predictor, module.prepare(Transitions(before, torch.zeros(6), after)))
    for name, observations in (("surprisal", after), ("surprisal_before", before)):
        by_hand = ((module.predictor(observations) - module.target(observations)) ** 2).mean(1)
        torch.testing.assert_close(outputs[name], by_hand)
