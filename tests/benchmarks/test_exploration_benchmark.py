import pytest

from benchmarks.exploration import BENCHMARK, MINIGRID, SCRIPTS, are_rooms, far_settings, lead, rooms
from farl.sb3.config import FARConfig


def test_the_lead_is_paired_by_seed_and_condition():
    def row(method, seed, coverage, condition="hub"):
        return {"method": method, "condition": condition, "seed": seed, "coverage": coverage, "coverage_end": 1.0}

    rows = [
        row("recognition-graph", 0, 0.5),
        row("rnd", 0, 0.25),
        row("rnd", 1, 0.1),  # nothing to compare it with
        {"method": "icm", "condition": "hub", "seed": 0, "error": "failed"},
        row("rnd", 0, 0.75, "chain"),
        row("recognition-graph", 0, 0.5, "chain"),
    ]
    found = {(each["condition"], each["method"]): each["coverage_ahead"] for each in lead(rows)}
    assert found == {("hub, graph ahead of", "rnd"): 0.25, ("chain, graph ahead of", "rnd"): -0.25}


@pytest.mark.parametrize("condition", ["hub-2-5", "chain-12-goal-life", "keycorridor-s3r3"])
def test_every_method_has_settings_in_every_kind_of_world(condition):
    methods = set(BENCHMARK.methods) - set(SCRIPTS)
    parsed = {method: FARConfig.parse(far_settings(method, condition)) for method in methods}
    assert [method for method, config in parsed.items() if config is None] == ["ppo"]


def test_a_weight_in_the_name_of_a_method_is_that_of_its_reward_in_minigrid():
    settings = far_settings("recognition-graph:0.05", "multiroom-n4")
    assert settings is not None
    assert settings["intrinsic_coef"] == 0.05


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("hub-2-5", ("hub-2-5", None, False, 500)),
        ("chain-12-noise.05-life", ("chain-12", "color-.05", False, None)),
        ("tree-3-4-pixel.2-goal", ("tree-3-4", "pixel-.2", True, 500)),
        ("hub-3-8-distractor3-goal-life", ("hub-3-8", "distractor-3", True, None)),
        ("chain-120-light0.25", ("chain-120", "light-0.25", False, 500)),
    ],
)
def test_conditions_are_read(condition, expected):
    assert tuple(rooms(condition).values()) == expected
    assert are_rooms(condition)


def test_all_listed_conditions_can_be_made_and_others_are_refused():
    assert all(are_rooms(condition) for condition in BENCHMARK.conditions if condition not in MINIGRID)
    for wrong in ("hub-2", "chain-0", "tree", "hub-2-5-noise", "hub-2-5-noise2", "hub-2-5-life-goal", "multiroom-n9"):
        assert not are_rooms(wrong)
