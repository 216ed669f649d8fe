import numpy as np
import pytest
import torch

from benchmarks._lifelong import THRESHOLDS, Collector, level_offsets, smoothed, time_to_threshold
from benchmarks._results import read_results
from benchmarks._stacked_ppo import StackedPPO, StackedSettings
from benchmarks.continual_rl import BENCHMARK, METHODS, OPTIONS, each_seed, run, with_suite
from benchmarks.harness import Job, main
from farl.envs.control_tasks import TASKS

torch.set_num_threads(1)


@pytest.mark.parametrize("method", ["adam", "trac", "replay", "redo", "ewc", "particle"])
def test_a_run_gives_every_metric_of_each_seed(method):
    row = run(Job("continual_rl", method, "CartPole", 1, {"levels": 2, "iterations": 2}))
    derived = each_seed([{"method": method, "condition": "CartPole", "seed": 1, **row}])
    assert [single["seed"] for single in derived] == [3, 4, 5]
    for single in derived:
        assert set(BENCHMARK.metrics) - {"order_std"} <= set(single)


def test_the_first_level_has_no_offset_and_seeds_differ_in_the_order_of_the_others():
    offsets = level_offsets("CartPole", [0, 1], 6)
    assert (offsets[0] == 0).all()
    assert {tuple(row) for row in offsets[:, 0].tolist()} == {tuple(row) for row in offsets[:, 1].tolist()}
    assert (offsets[:, 0] != offsets[:, 1]).any()


def test_collected_steps_are_those_of_the_episodes():
    learner = StackedPPO(4, 2, [0, 1], lambda p: torch.optim.SGD(p, lr=0.1), StackedSettings(hidden=(8,)))
    episodes = Collector("CartPole", [0, 1]).play(learner, np.full((2, 4), 5.0, np.float32), max_steps=30)
    # CartPole pays 1 a step.
    np.testing.assert_array_equal(episodes.rollout.lengths, episodes.returns.sum(1))
    for r, length in enumerate(episodes.rollout.lengths):
        assert (episodes.rollout.observations[r, :length] > 0).all(), "each observation is offset by 5"
        assert (episodes.rollout.log_prob[r, :length] < 0).all()
    # An episode that fell ends with what its last step paid.
    first = int(episodes.returns[0, 0])
    if first < 30:
        assert float(episodes.rollout.returns[0, first - 1]) == pytest.approx(1 / 20, abs=1e-5)


def test_time_to_threshold_counts_levels_that_never_reach_it():
    returns = np.array([[0.0] * 6, [0, 0, 9, 9, 9, 9], [0.0] * 6])
    assert time_to_threshold(returns, 9.0, window=2) == (4 + 6) / 2
    assert set(THRESHOLDS) == set(TASKS)


def test_curves_are_means_of_equal_stretches():
    assert smoothed(np.arange(6.0), points=3) == {"x": [2.0, 4.0, 6.0], "y": [0.5, 2.5, 4.5]}


def test_suite_names_its_conditions():
    assert with_suite(["--suite", "control"]) == ["--conditions", "CartPole,Acrobot,LunarLander"]


def test_the_quick_size_writes_its_table(tmp_path):
    assert main(BENCHMARK, ["--quick", "--methods", "trac", "--out", str(tmp_path), "--jobs", "1"]) == 0
    document = read_results(tmp_path / "results.json")
    assert document["summary"]["trac"]["CartPole"]["mean_return"]["n"] == 3
    assert (tmp_path / "curve_return.png").is_file()


def test_no_option_has_the_name_of_a_method():
    assert not set(METHODS) & set(OPTIONS)


def test_procgen_levels_are_learnt_in_sequence(monkeypatch):
    pytest.importorskip("procgen")
    monkeypatch.setattr("benchmarks._procgen_levels.EPISODES", 1)
    parameters = {"levels": 2, "iterations": 1}
    row = run(Job("continual_rl", "trac", "starpilot", 0, parameters))
    assert [len(returns) for returns in row["sequence_returns"]] == [1, 2]
    with pytest.raises(ValueError, match="the suite procgen has the methods"):
        run(Job("continual_rl", "redo", "starpilot", 0, parameters))
