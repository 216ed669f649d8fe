import re

import numpy as np
import pytest

from benchmarks import exploration
from benchmarks._explored import FirstVisits, Progress, auc
from benchmarks.exploration import BENCHMARK, MINIGRID, ORACLE, SCRIPTS, are_rooms, far_settings, lead, rooms
from benchmarks.harness import Job, main
from farl.envs.room_chain import RoomChainVecEnv
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
    methods = set(BENCHMARK.methods) - {*SCRIPTS, ORACLE}
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


def test_the_oracle_pays_each_agent_once_for_a_cell_in_an_episode():
    env = FirstVisits(RoomChainVecEnv(2, cols=2, max_steps=4), weight=2.0)
    env.reset()
    paid = [env.step(np.array(actions))[1].tolist() for actions in ([2, 0], [2, 0], [0, 0], [0, 2])]
    assert paid == [[2.0, 2.0], [2.0, 0.0], [0.0, 0.0], [0.0, 2.0]]
    assert env.step(np.array([2, 0]))[1].tolist() == [2.0, 2.0]  # episodes have begun anew
    assert np.array(env.paid).sum(axis=0).tolist() == [3.0, 3.0]


def test_auc_counts_ties_half():
    positive = np.array([True, True, False, False])
    assert auc(np.array([2.0, 3.0, 0.0, 1.0]), positive) == 1.0
    assert auc(np.array([0.0, 1.0, 2.0, 3.0]), positive) == 0.0
    assert auc(np.ones(4), positive) == 0.5
    assert auc(np.array([1.0, 0.0, 0.0, 0.0]), positive) == 0.75


def test_the_frontier_is_what_lies_beside_cells_that_nobody_has_visited():
    env = FirstVisits(RoomChainVecEnv(1, cols=2, max_steps=None), weight=1.0)
    progress = Progress(env, one_map=True, with_goal=False, oracle=env)
    env.reset()
    progress.follow()
    for step, action in enumerate((2, 0, 2)):
        _, _, dones, infos = env.step(np.array([action]))
        progress.saw(step + 1, dones, infos, ends_rollout=step == 2)
    assert progress.aucs == [1.0]  # two steps into new cells were paid, one turn beside new cells was not
    assert progress.metrics()["frontier_auc"] == 1.0
    assert progress.metrics()["known_share"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("method", ["oracle", "recognition", "advice-script", "random-walk", "ppo"])
def test_methods_are_run_by_their_names(method):
    found = exploration.run(Job("exploration", method, "chain-2", 0, {"steps": 4_096, "layout_seed": 0}))
    assert 0.1 < found["coverage_end"] <= 1.0
    assert (found["frontier_auc"] is not None) == (method in ("oracle", "recognition"))
    if method == "oracle":
        assert found["frontier_auc"] > 0.9


def test_help_says_a_line_about_every_method(capsys):
    with pytest.raises(SystemExit):
        main(BENCHMARK, ["--help"])
    told = capsys.readouterr().out.partition("options:")[0]
    for method in (*exploration.SETTINGS, *SCRIPTS, ORACLE):
        assert re.search(f"`{method}`", told), method
