import numpy as np
import pytest

from benchmarks.continual import BENCHMARK, SUITES, orders_of, paired, run, summary, with_suite
from benchmarks.harness import Job
from farl.continual import METHODS, Run

SMALL = {suite: {"orders": 2, "sweep_orders": 2, "particles": 2, "chunk": 8} for suite in SUITES} | {"sweep": True}
FEW = SMALL | {"sweep": False}


def test_a_run_chooses_its_setting_on_validation_samples():
    row = run(Job("continual", "sgd", "splitdigits", 0, SMALL))
    assert len(row["sweep"]) == len(METHODS["sgd"].rates)
    best = max(row["sweep"], key=lambda cell: cell["validation"])
    assert (row["rate"], row["accuracy"]) == (best["rate"], pytest.approx(best["test"]))
    assert set(BENCHMARK.metrics) - {"over_average", "over_ewc"} <= set(row)


def test_methods_are_paired_with_averaging_and_ewc_by_seed_and_suite():
    def row(method, condition, seed, accuracy):
        return {"method": method, "condition": condition, "seed": seed, "accuracy": accuracy}

    rows = [row("average", "a", 0, 0.8), row("average", "a", 1, 0.7), row("ewc", "a", 0, 0.5), row("ewc", "b", 1, 0.1)]
    derived = paired([*rows, row("wpf", "a", 0, 0.9), row("wpf", "a", 1, 0.6), {"method": "wpf", "error": "x"}])
    found = {(r["method"], r["seed"]): r for r in derived if r["condition"] == "a"}
    assert found["wpf", 0]["over_average"] == pytest.approx(0.1)
    assert found["wpf", 0]["over_ewc"] == pytest.approx(0.4)
    assert found["wpf", 1]["over_average"] == pytest.approx(-0.1)
    assert "over_ewc" not in found["wpf", 1]
    assert "over_average" not in found["average", 0]


def test_the_last_layer_filter_is_above_averaging_and_ewc_and_does_not_mind_the_order():
    rows = {name: run(Job("continual", name, "splitdigits", 1, FEW)) for name in ("last-layer", "average", "ewc")}
    assert rows["last-layer"]["accuracy"] > 0.02 + max(rows["average"]["accuracy"], rows["ewc"]["accuracy"])
    assert rows["last-layer"]["order_std"] < 1e-9


def test_settings_that_diverge_are_left_out(monkeypatch):
    row = run(Job("continual", "si", "splitdigits", 0, SMALL))
    assert any("validation" not in cell for cell in row["sweep"])
    assert row["accuracy"] > 0.7


def test_the_summary_is_the_mean_over_orders():
    accuracy = np.array([[[0.5, 0.5], [0.9, 0.5], [0.8, 1.0]], [[0.5, 0.5], [1.0, 0.6], [0.6, 0.8]]])
    predictions = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    row = summary(Run(accuracy, np.ones(2), predictions, np.ones((2, 2)), 4.0, 2_000_000))
    assert row["accuracy"] == pytest.approx(0.8)
    assert row["order_std"] == pytest.approx(0.1)
    assert row["forgetting"] == pytest.approx(0.25)
    assert row["order_variation"] == 1.0
    assert (row["seconds"], row["megabytes"]) == (2.0, 2.0)
    assert row["curves"]["accuracy_on_tasks_seen"]["y"] == pytest.approx([0.95, 0.8])


def test_all_methods_and_seeds_see_the_same_orders():
    assert orders_of(5, 10) == orders_of(5, 10)
    assert all(sorted(order) == list(range(5)) for order in orders_of(5, 10))


def test_suite_is_another_name_for_conditions():
    assert with_suite(["--suite", "splitmnist", "--suite=splitdigits"]) == [
        "--conditions",
        "splitmnist",
        "--conditions=splitdigits",
    ]
