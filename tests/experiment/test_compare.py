import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from farl.cli import main
from farl.experiment.compare.curves import read_curve
from farl.experiment.compare.runs import collect, group_runs
from farl.experiment.config import ExperimentConfig
from farl.experiment.loading import load_config, resolved_yaml
from farl.experiment.statistics import (
    estimate,
    interquartile_mean,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

SMALL = "total_timesteps: 128\ndevice: cpu\nenvironment: {id: CartPole-v1}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@cache
def config_of(overrides: tuple[str, ...]) -> ExperimentConfig:
    return load_config("small.yaml", overrides)


def finished(path: Path, overrides: list[str], **metrics: Any) -> None:
    """A run directory as training leaves it."""
    config = config_of(tuple(text for text in overrides if not text.startswith(("seed=", "name="))))
    given = dict(text.split("=", 1) for text in overrides)
    config = config.model_copy(update={"name": given.get("name", "small"), "seed": int(given.get("seed", 0))})
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(resolved_yaml(config))
    facts = {"versions": {"farl": "1", "torch": "2"}, "ep_rew_mean": None, "coverage": None} | metrics
    (path / "metrics.json").write_text(json.dumps(facts))
    steps = range(0, 1001, 100)
    rows = [f"{step},{metrics.get('coverage', 0) * step / 1000}" for step in steps]
    (path / "progress.csv").write_text("time/total_timesteps,exploration/coverage\n" + "\n".join(rows) + "\n")


def study(folder: Path, seeds: int = 6) -> None:
    for seed in range(seeds):
        common = [f"seed={seed}"]
        finished(folder / f"runs/a/seed={seed}", [*common, "name=a", "far={}"], coverage=0.9 + 0.01 * seed)
        finished(folder / f"runs/b/seed={seed}", [*common, "name=b"], coverage=0.5 + 0.01 * seed)


def test_seeds_are_folded_and_groups_named_by_what_differs(folder: Path) -> None:
    for seed in (0, 1):
        for rate in (0.1, 0.2):
            overrides = [f"seed={seed}", f"algorithm.hyperparameters.learning_rate={rate}"]
            finished(folder / f"runs/small/rate={rate},seed={seed}", overrides, ep_rew_mean=1.0)
    runs = collect(["small"]).runs
    groups = group_runs(runs)
    assert [group.name for group in groups] == ["learning_rate=0.1", "learning_rate=0.2"]
    assert [run.seed for run in groups[0].runs] == [0, 1]
    assert [group.name for group in group_runs(runs, ["algorithm"])] == ["PPO"]
    study(folder)
    assert [group.name for group in group_runs(collect(["runs/a", "runs/b"]).runs)] == ["a", "b"]


def test_environments_are_tasks_not_groups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(5):
        for name in ("CartPole-v1", "Acrobot-v1"):
            overrides = [f"seed={seed}", f"environment.id={name}"]
            finished(folder / f"runs/{name}/{seed}", overrides, coverage=0.1 * seed)
    assert [group.name for group in group_runs(collect(["runs"]).runs)] == ["small"]
    assert main(["compare", "runs"]) == 0
    told = capsys.readouterr().out
    for title in ("coverage in CartPole-v1", "coverage in Acrobot-v1", "coverage in all environments"):
        assert title in told


def test_compare_writes_table_csv_pictures_and_one_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(folder)
    assert main(["compare", "runs/a", "runs/b"]) == 0
    told = capsys.readouterr().out
    assert "a is better than b" in told
    assert "better than b: difference 0." in told
    assert "Too few seeds" not in told
    with (folder / "comparison/comparison.csv").open() as stream:
        rows = {row["group"]: row for row in csv.DictReader(stream)}
    assert float(rows["a"]["iqm"]) == pytest.approx(0.925)
    assert float(rows["a"]["optimality_gap"]) == pytest.approx(0.075)
    assert float(rows["b"]["iqm_low"]) < 0.525 < float(rows["b"]["iqm_high"])
    assert len((folder / "comparison/runs.csv").read_text().splitlines()) == 13
    pictures = {path.stem for path in (folder / "comparison").glob("*.png")}
    assert pictures == {"curves", "scores", "profile", "improvement"}
    page = (folder / "comparison/comparison.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page


def test_what_a_reader_must_know_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(folder, seeds=3)
    (folder / "runs/a/seed=2/metrics.json").unlink()
    finished(folder / "runs/a/again", ["seed=0", "name=a", "far={}"], coverage=0.9)
    finished(folder / "runs/a/none", ["seed=9", "name=a", "far={}"])
    finished(folder / "runs/a/other", ["seed=8", "name=a", "far={}"], coverage=0.9, versions={"farl": "2"})
    assert main(["compare", "runs"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for note in (
        "Too few seeds for a claim",
        "a is ahead, in too few runs for a claim, of b",
        "1 runs have not finished",
        "1 runs repeat the settings and seed",
        "1 of 4 runs of 'a'",
        "different versions of farl",
    ):
        assert note in told, note


def test_groups_that_cannot_be_told_apart_are_not_ranked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(6):
        finished(folder / f"runs/a/{seed}", [f"seed={seed}", "name=a"], ep_rew_mean=float(seed % 3))
        finished(folder / f"runs/b/{seed}", [f"seed={seed}", "name=b"], ep_rew_mean=float(seed % 3))
    assert main(["compare", "runs", "--lower-is-better"]) == 0
    told = capsys.readouterr().out
    assert "a and b cannot be told apart" in told
    assert "optimality gap" in told


def test_less_can_be_better(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(folder)
    assert main(["compare", "runs", "--lower-is-better"]) == 0
    assert "b is better than a: difference -" in capsys.readouterr().out  # lower is better


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "runs/c"], "no such folder of runs; did you mean runs/"),
        (["compare", "runs", "--by", "algoritm"], "did you mean algorithm"),
        (["compare", "runs", "--metric", "covrage"], "did you mean coverage?"),
        (["compare", "runs", "--out", "small.yaml"], "is a file"),
        (["compare", "."], ""),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    study(folder, seeds=1)
    if not message:
        (folder / "empty").mkdir()
        arguments, message = ["compare", "empty"], "holds no run"
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_curves_come_from_tensorboard_where_there_is_no_csv(folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "run/tensorboard")) as writer:
        for step in (10, 20):
            writer.add_scalar("exploration/coverage", step / 100, step)
    curve = read_curve(folder / "run", "exploration/coverage")
    assert curve is not None
    assert_allclose(curve, ([10, 20], [0.1, 0.2]), rtol=1e-6)
    assert read_curve(folder / "run", "rollout/ep_rew_mean") is None


def test_statistics_are_those_of_rliable() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 7, 3))
    groups = list(first.T)
    assert_allclose(interquartile_mean(*groups), metrics.aggregate_iqm(first))
    assert_allclose(mean(*groups), metrics.aggregate_mean(first))
    assert_allclose(median(*groups), metrics.aggregate_median(first))
    assert_allclose(optimality_gap(0.5)(*groups), metrics.aggregate_optimality_gap(first, 0.5))
    for task in range(3):
        expected = metrics.probability_of_improvement(first[:, [task]], second[:, [task]])
        assert_allclose(probability_of_improvement(first[:, task], second[:, task]), expected)


def test_intervals_hold_what_they_promise() -> None:
    """Of many samples with mean 0 nineteen in twenty intervals cover it, percentile intervals a few less."""
    rng = np.random.default_rng(0)
    intervals = [estimate([rng.normal(size=20)], mean, resamples=500) for _ in range(200)]
    covered = np.mean([found.low <= 0 <= found.high for found in intervals])
    assert 0.85 < covered < 0.99
    groups = [rng.normal(size=5), np.array([3.0]), rng.normal(size=8)]  # of different sizes, one of a single run
    found = estimate(groups, interquartile_mean)
    assert found.low < found.value < found.high
    assert estimate(groups, interquartile_mean) == found
    assert estimate([np.array([2.0, 2.0])], mean).low == 2.0


def test_a_profile_falls_from_all_runs_to_none() -> None:
    share, low, high = performance_profile([np.array([0.2, 0.4, 0.6])], np.array([0.0, 0.3, 0.7]))
    assert_allclose(share, [1, 2 / 3, 0])
    assert (low <= share).all()
    assert (share <= high).all()
