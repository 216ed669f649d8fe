import numpy as np
import pytest

from farl.curiosity.forgetting import AWAY, ForgettingMeter

PLACES = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)


def see(meter, place, error, reward=0.0):
    meter.observe(PLACES[[place]], np.array([error]), np.array([reward]))


def leave(meter, steps=AWAY):
    """Spend steps elsewhere, always at the same place."""
    for _ in range(steps):
        see(meter, 199, 1.0)


def test_hand_made_case_one_place_forgotten_one_learnt_better():
    meter = ForgettingMeter()
    see(meter, 0, error=2.0)
    see(meter, 1, error=4.0)
    leave(meter)
    meter.summary()
    see(meter, 0, error=8.0, reward=0.5)  # four times as large as before
    see(meter, 1, error=1.0, reward=0.1)  # a quarter
    see(meter, 2, error=27.0)  # never seen before
    found = meter.summary()
    assert found == {
        "forgetting_ratio": pytest.approx(1.0),
        "revisit_bonus": pytest.approx(0.3),
        "novelty_contrast": pytest.approx(27.0 / 4.5),
        "error_after_100": pytest.approx(4.5),
    }
    assert meter.summary() == {}


def test_ratio_is_the_error_now_over_the_error_at_the_last_visit_not_the_first():
    meter = ForgettingMeter()
    for error in (9.0, 1.0, 3.0):
        see(meter, 0, error)
        leave(meter)
        found = meter.summary()
    assert found["forgetting_ratio"] == pytest.approx(3.0)


def test_lingering_is_no_return():
    meter = ForgettingMeter()
    for _ in range(50):
        see(meter, 0, 1.0)
    assert set(meter.summary()) == {"error_after_1"}


def test_errors_are_told_apart_by_the_decade_of_the_time_away():
    meter = ForgettingMeter()
    for steps, error in ((0, 1.0), (5, 2.0), (50, 3.0), (500, 4.0)):
        leave(meter, steps)
        see(meter, 0, error)
    found = meter.summary()
    assert found["error_after_1"] > 1.0  # 2, and 1 at the place elsewhere
    assert found["error_after_10"] == 3.0
    assert found["error_after_100"] == 4.0


def test_a_small_table_stays_small_and_counts_what_it_has_lost_as_neither_new_nor_known():
    meter = ForgettingMeter(capacity=8)
    for place in range(150):
        see(meter, place, 1.0)
    meter.summary()
    for place in range(150):
        see(meter, place, 5.0)
    assert "novelty_contrast" not in meter.summary()
    assert len(meter.state_dict()["rows"]) <= 8


def test_state_dict_continues_with_the_same_measurements():
    rng = np.random.default_rng(1)
    meter, copy = ForgettingMeter(64), ForgettingMeter(64, seed=5)
    steps = [(rng.integers(20, size=4), rng.exponential(size=4)) for _ in range(600)]
    for places, errors in steps[:300]:
        meter.observe(PLACES[places], errors, errors)
    copy.load_state_dict(meter.state_dict())
    for places, errors in steps[300:]:
        meter.observe(PLACES[places], errors, errors)
        copy.observe(PLACES[places], errors, errors)
    assert meter.summary() == copy.summary() != {}
