import pytest

from benchmarks.exploration import BENCHMARK, SCRIPTS, far_settings, lead
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
