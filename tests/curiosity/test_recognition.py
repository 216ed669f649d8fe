from typing import Any

import numpy as np
import pytest
import torch

from farl.curiosity import ActionSpec, Transitions
from farl.curiosity.recognition import Recognition, direction
from farl.curiosity.recognition_settings import RecognitionConfig

TURNS = ActionSpec(2, discrete=True)
VIEWS = torch.eye(12)


def module(**settings: Any) -> Recognition:
    return Recognition((12,), TURNS, threshold=0.99, seed=0, **settings)


def step(curiosity: Recognition, before: list[int], actions: list[int], after: list[int], starts: bool = False) -> Any:
    """The bonus of one step; views are one-hot."""
    transitions = Transitions(VIEWS[before], torch.tensor(actions), VIEWS[after])
    prepared = curiosity.prepare(transitions)
    outputs = curiosity.evaluate(curiosity.predictor, prepared)
    begins = np.full(len(before), starts)
    curiosity.locate(prepared, begins)
    return curiosity.bonus(outputs, prepared, torch.from_numpy(begins))


def test_a_place_is_paid_once_an_episode() -> None:
    curiosity = module()
    paid = [step(curiosity, [0], [0], [view]).item() for view in (1, 2, 1, 3)]
    again = step(curiosity, [3], [0], [1], starts=True).item()
    assert [*paid, again] == [1.0, 1.0, 0.0, 1.0, 1.0]


def test_counts_fall_with_the_root_and_errors_are_paid_at_first_visits() -> None:
    counting = module(pays="count")
    assert [step(counting, [0], [0], [1]).item() for _ in range(4)] == pytest.approx([n**-0.5 for n in (1, 2, 3, 4)])
    erring = module(pays="error")
    first, second = (step(erring, [0], [0], [1]).item() for _ in range(2))
    assert first > 0.0
    assert second == 0.0


def test_what_is_rare_is_paid_more_once_an_episode() -> None:
    curiosity = module(pays="rare")
    visits = ((1, False), (1, False), (1, True), (2, False), (1, True))
    paid = [step(curiosity, [0], [0], [view], starts).item() for view, starts in visits]
    assert paid == pytest.approx([1.0, 0.0, 3**-0.5, 1.0, 4**-0.5])


def test_where_layouts_differ_rarity_is_paid_and_nothing_is_advised() -> None:
    curiosity = module(shaping=0.1)
    step(curiosity, [0], [0], [1])
    step(curiosity, [1], [0], [2])
    assert curiosity.advice.any()
    curiosity.localiser.layouts.differ = True
    assert step(curiosity, [2], [1], [1], starts=True).item() == pytest.approx(2**-0.5)
    assert not curiosity.advice.any()


def test_nothing_is_paid_until_it_is_calibrated_nor_while_the_norm_adapts() -> None:
    curiosity = Recognition((12,), TURNS, calibration=20, seed=0)
    transitions = Transitions(VIEWS, torch.zeros(12), VIEWS)
    curiosity.warm_up(transitions)
    prepared = curiosity.prepare(transitions)
    outputs = curiosity.evaluate(curiosity.predictor, prepared)
    assert not curiosity.bonus(outputs, prepared, torch.zeros(12, dtype=torch.bool)).any()
    assert len(curiosity.places) == 0
    paid = [step(curiosity, [0, 1], [0, 0], [n % 5, 5 + n % 5]).sum().item() for n in range(12)]
    assert paid[:9] == [0.0] * 9
    assert sum(paid[9:]) > 0.0
    assert curiosity.places.possible > 0.9


def walk(curiosity: Recognition, steps: int, rng: np.random.Generator) -> list[Any]:
    """An agent in a ring of ten views, action 0 onwards and 1 back, that does what it is advised."""
    here, seen = 0, []
    for _ in range(steps):
        advised = curiosity.advice
        action = int(advised[0].argmax()) if len(advised) and advised[0].any() else int(rng.integers(2))
        there = (here + (1, -1)[action]) % 10
        bonus = step(curiosity, [here], [action], [there]).item()
        seen.append((action, round(bonus, 6)))
        here = there
    return seen


def test_advice_leads_round_the_whole_ring_at_once() -> None:
    curiosity = module(shaping=0.1)
    walk(curiosity, 12, np.random.default_rng(0))
    assert len(curiosity.places) == 10
    walk(curiosity, 40, np.random.default_rng(0))
    assert (curiosity.graph.successor[:10] >= 0).sum() >= 19


def test_it_goes_on_as_it_was_saved() -> None:
    curiosity, other = module(shaping=0.1), module(shaping=0.1)
    walk(curiosity, 7, np.random.default_rng(0))
    other.load_state_dict(curiosity.state_dict())
    assert walk(curiosity, 15, np.random.default_rng(1)) == walk(other, 15, np.random.default_rng(1))


def test_where_an_episode_begins_is_known_before_its_first_step() -> None:
    curiosity = module(shaping=0.1)
    walk(curiosity, 12, np.random.default_rng(0))
    curiosity.arrive(VIEWS[[11]], torch.tensor([0]), len(curiosity.localiser.here))  # a place that was never seen
    assert int(curiosity.localiser.here[0]) == len(curiosity.places) - 1
    assert curiosity.advice[0].sum() == 1.0


def test_a_full_store_goes_on_with_fewer_places() -> None:
    curiosity = module(shaping=0.1, capacity=6)
    walk(curiosity, 60, np.random.default_rng(0))
    assert len(curiosity.places) <= 6


def test_continuous_actions_have_directions() -> None:
    assert direction(ActionSpec(1, discrete=False), torch.tensor([0.5, -0.5])).tolist() == [0, 1]  # of shape ()
    found = direction(ActionSpec(2, discrete=False), torch.tensor([[0.1, 0.9], [-0.8, 0.2], [0.3, -0.4], [0.5, 0.1]]))
    assert found.tolist() == [1, 2, 3, 0]


def test_the_graph_is_left_out_unless_it_is_asked_for() -> None:
    plain = RecognitionConfig().build((12,), TURNS, 0)
    assert plain.n_advised == RecognitionConfig().n_advised(TURNS) == 0
    led = RecognitionConfig.model_validate({"name": "recognition", "graph": {}})
    assert led.build((12,), TURNS, 0).n_advised == led.n_advised(TURNS) == 2
