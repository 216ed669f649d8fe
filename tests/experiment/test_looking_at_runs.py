"""What a run leaves to be looked at: tables, settings, films, reports, and the ways to open it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata

import farl
from farl.cli import main
from farl.errors import ConfigError
from farl.experiment.config import ExperimentConfig
from farl.experiment.hyperparameters import settings_in_force
from farl.experiment.recording import record
from farl.experiment.report import summary_rows, write_comparison
from farl.experiment.run import resume, train
from farl.experiment.run_directory import RunDirectory
from farl.experiment.tables import GrowingTable, read_table
from farl.experiment.watching import dashboard, sparkline, watch

MakeConfig = Callable[..., ExperimentConfig]
ROOMS = {"id": "farl/HeteroRooms-2x3-v0", "kind": "minigrid", "n_envs": 2, "kwargs": {"max_steps": 40}}
FAR = {"warmup": 20, "criterion": {"name": "uniform", "every": 40}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from farl.experiment.loading import parse_config

    data: dict[str, Any] = {
        "name": "small", "total_timesteps": 256, "device": "cpu", "torch_threads": 1, "environment": ROOMS, "far": FAR,
        "evaluation": {"freq": 128, "episodes": 2},
        "algorithm": {
            "name": "PPO",
            "hyperparameters": {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}},
        },
    }  # fmt: skip
    path = tmp_path_factory.mktemp("runs") / "small"
    path.mkdir()
    train(parse_config(data), path)
    return path


def test_a_run_opens_as_an_object(run: Path) -> None:
    loaded = farl.load_run(run)
    assert loaded.config.name == "small"
    assert loaded.metrics["total_timesteps"] == 256
    assert loaded.scalars.index[-1] == 256
    assert loaded.scalars["exploration/coverage"].dropna().iloc[-1] == pytest.approx(loaded.metrics["coverage"])
    assert loaded.evaluations["timesteps"].tolist() == [128, 128, 256, 256]
    assert loaded.evaluations["coverage"].between(0, 1).all()
    assert {"visits", "fragment_map", "surprisal", "memory_graph"} <= set(loaded.figures)
    actions, _ = loaded.model.predict(loaded.env.reset())
    assert actions.shape == (2,)
    assert loaded.best_model.num_timesteps in (128, 256)


def test_pictures_drawn_anew_are_those_of_the_run(run: Path) -> None:
    names = {path.stem for path in (run / "exploration").glob("*.png")} - {"overview"}
    assert set(farl.load_run(run).figures) == names


def test_settings_tell_every_default_and_nothing_that_is_empty(run: Path) -> None:
    loaded = farl.load_run(run)
    settings = settings_in_force(loaded.config, loaded.model)
    for name in ("gamma", "gae_lambda", "clip_range"):
        assert f"algorithm.hyperparameters.{name}" in settings
    assert settings["far.criterion.name"] == "uniform"
    assert settings["far.on"] is True
    assert settings["sequence.on"] is False
    assert not any("inspect._empty" in str(value) for value in settings.values())
    assert "gae_lambda" in run.joinpath("config.yaml").read_text()


def test_no_run_lays_down_the_columns_of_the_tab_hparams(run: Path) -> None:
    log = EventAccumulator(str(run)).Reload()
    content = log.summary_metadata
    tags = set(log.PluginTagToContent("hparams"))
    assert hparams_metadata.SESSION_START_INFO_TAG in tags
    assert hparams_metadata.EXPERIMENT_TAG not in tags
    assert "custom_scalars__config__" in content
    assert {"exploration/coverage", "eval/mean_reward", "far/forgetting_ratio"} & set(log.Tags()["scalars"])


def test_each_quantity_has_one_name(run: Path) -> None:
    names = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    assert "far/fragments" in names
    assert not {"exploration/fragments", "exploration/recalls", "explore/coverage"} & set(names)


def test_a_film_of_an_evaluation_is_among_the_images(run: Path) -> None:
    log = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    (film, *_) = log.Images("evaluation/episode")
    assert film.encoded_image_string.startswith(b"GIF89a")


def test_growing_table_keeps_up_with_new_columns_and_takes_back_what_lies_ahead(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table = GrowingTable(path)
    table.add([{"timesteps": 1, "a": 1.0}])
    table.add([{"timesteps": 2, "b": 2.0}])
    table.add([{"timesteps": 3, "a": 3.0}])
    columns = read_table(path)
    np.testing.assert_array_equal(columns["a"], [1, np.nan, 3])
    np.testing.assert_array_equal(columns["b"], [np.nan, 2, np.nan])
    GrowingTable(path, until=2).add([{"timesteps": 4, "a": 4.0}])
    np.testing.assert_array_equal(read_table(path)["timesteps"], [1, 2, 4])


def test_table_whose_last_line_was_cut_off_is_read_without_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    GrowingTable(path).add([{"timesteps": 1, "a": 12.0}, {"timesteps": 2, "a": 345.0}])
    path.write_text(path.read_text()[:-4])
    np.testing.assert_array_equal(read_table(path)["a"], [12.0])
    GrowingTable(path, until=1).add([{"timesteps": 2, "a": 6.0}])
    np.testing.assert_array_equal(read_table(path)["a"], [12.0, 6.0])


def test_resumed_run_goes_on_in_the_same_tables(tmp_path: Path, make_config: MakeConfig) -> None:
    path = tmp_path / "run"
    path.mkdir()
    train(make_config(total_timesteps=128, evaluation={"freq": 64, "episodes": 1}), path)
    resume(path, 256)
    steps = read_table(path / "progress.csv")["timesteps"]
    assert (np.diff(steps) >= 0).all()
    assert steps[-1] == 256
    assert read_table(path / "evaluations.csv")["timesteps"].tolist() == [64, 128, 192, 256]


def test_run_is_watched_while_it_goes_on_and_when_it_has_ended(run: Path, tmp_path: Path) -> None:
    def shown(directory: RunDirectory) -> str:
        console = Console(record=True, width=120)
        console.print(dashboard(directory, RunDirectory(run).read_config()))
        return console.export_text()

    text = shown(RunDirectory(run))
    assert "256 of 256 timesteps (100%)" in text
    assert "finished" in text
    assert "coverage" in text
    assert "has just begun" in shown(RunDirectory(tmp_path))
    (tmp_path / "progress.csv").write_text((run / "progress.csv").read_text())
    assert "going on" in shown(RunDirectory(tmp_path))
    watch(RunDirectory(run), Console(record=True))  # no terminal: it returns at once


def test_sparkline_follows_the_numbers() -> None:
    assert sparkline(np.arange(8.0), 8) == "▁▂▃▄▅▆▇█"
    assert len(sparkline(np.zeros(500), 40)) == 40


def test_report_is_one_page_that_shows_each_picture_once(run: Path) -> None:
    page = (run / "report.html").read_text()
    data = json.loads(page.split("<script type='application/json' id='data'>")[1].split("</script>")[0])
    assert {"coverage", "surprisal", "fragments"} <= {chart["title"] for chart in data["curves"]}
    assert len(data["trace"]["steps"]) == 128
    assert sum(data["trace"]["fractures"]) > 0
    assert {"graph", "map"} <= set(data)
    body = page.split("<script type='application/json'")[0]
    assert "http://" not in body
    assert "https://" not in body


def test_report_over_twenty_long_runs_takes_seconds(tmp_path: Path, run: Path) -> None:
    rng = np.random.default_rng(0)
    runs = {}
    for number in range(20):
        directory = RunDirectory(tmp_path / f"run-{number}")
        directory.path.mkdir()
        steps = np.arange(2048, 1_000_001, 2048)
        table = GrowingTable(directory.progress_file)
        tags = [f"far/{i}" for i in range(30)] + ["exploration/coverage", "rollout/ep_rew_mean", "far/surprisal"]
        table.add([{"timesteps": int(t), **dict(zip(tags, rng.random(len(tags)), strict=True))} for t in steps])
        (directory.path / "metrics.json").write_bytes((run / "metrics.json").read_bytes())
        runs[f"run-{number}"] = directory
    began = time.process_time()
    write_comparison(runs, tmp_path / "runs.html")
    assert time.process_time() - began < 20
    page = (tmp_path / "runs.html").read_text()
    data = json.loads(page.split("<script type='application/json' id='data'>")[1].split("</script>")[0])
    assert {series["run"] for chart in data["curves"] for series in chart["series"]} == set(runs)


def test_report_and_watch_from_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main(["report", str(run), str(run), "--out", "both.html"]) == 0
    assert (tmp_path / "both.html").is_file()
    assert main(["report", str(run), "--out", "nowhere/both.html"]) == 2
    assert "there is no directory nowhere" in capsys.readouterr().err
    assert main(["watch", str(run), "--once"]) == 0
    assert "finished" in capsys.readouterr().out


def test_agents_without_reward_from_outside_are_recorded_as_they_train(run: Path, tmp_path: Path) -> None:
    acted = record(RunDirectory(run), tmp_path / "a.gif", 1, deterministic=None, seed=0)
    assert not acted.deterministic
    assert acted.frames == 41
    (episode,) = acted.episodes
    assert episode.coverage is not None
    assert 0 < episode.coverage <= 1
    assert record(RunDirectory(run), tmp_path / "b.gif", 1, deterministic=True, seed=0).deterministic


def test_agents_with_reward_take_their_likeliest_actions(tmp_path: Path, make_config: MakeConfig) -> None:
    path = tmp_path / "run"
    path.mkdir()
    train(make_config(), path)
    acted = record(RunDirectory(path), tmp_path / "a.gif", 1, deterministic=None, seed=0)
    assert acted.deterministic
    assert acted.episodes[0].coverage is None


def test_task_matrix_is_logged_to_its_last_row(tmp_path: Path, make_config: MakeConfig) -> None:
    path = tmp_path / "run"
    path.mkdir()
    sequence = {"steps": 64, "episodes": 1, "tasks": [{"kwargs": {"level": level}} for level in range(3)]}
    environment = {"id": "CartPole", "kind": "control", "n_envs": 2}
    metrics = train(make_config(total_timesteps=192, environment=environment, sequence=sequence), path)
    log = EventAccumulator(str(path), size_guidance={"images": 0}).Reload()
    assert len(metrics["sequence_returns"]) == 3
    assert [event.step for event in log.Scalars("sequence/return_on_task_0")] == [64, 128, 192]
    assert len(log.Images("sequence/task_matrix")) == 2
    assert summary_rows(metrics)["return on each task at the end"].count("/") == 2
    page = (path / "report.html").read_text()
    assert json.loads(page.split("id='data'>")[1].split("</script>")[0])["tasks"] == metrics["sequence_returns"]


def test_summary_says_where_coverage_is_that_of_many_layouts() -> None:
    metrics = {
        "algorithm": "PPO", "environment": "x", "total_timesteps": 1, "wall_seconds": 1.0, "steps_per_second": 1.0,
        "coverage": 1.0, "episode_coverage": 0.3, "worlds_differ": True, "coverage_90_timesteps": 5,
        "fragments": 1280, "fragments_in_memory": 52,
    }  # fmt: skip
    rows = summary_rows(metrics)
    assert rows["cells covered in any layout"] == "100.0%"
    assert rows["covered in an episode"] == "30.0%"
    assert "coverage" not in rows
    assert "90% covered after" not in rows
    assert rows["fragments"] == "1,280 opened, 52 in memory now"
    # Of 33 fractures and the start, 34 fragments. What is seen is more than what is stood on.
    rows = summary_rows(metrics | {"fragments": 33, "fragments_in_memory": 34, "worlds_differ": False, "seen": 0.99})
    assert rows["fragments"] == "34"
    assert (rows["cells visited"], rows["seen in the present episode"]) == ("100.0%", "99.0%")


def test_run_that_has_not_ended_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(ConfigError, match=r"has no metrics\.json yet"):
        _ = farl.load_run(tmp_path).metrics
    with pytest.raises(ConfigError, match="no such run"):
        farl.load_run(tmp_path / "nothing")


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_trackers_get_the_same_in_their_offline_modes(
    package: str, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    path = tmp_path / "run"
    path.mkdir()
    train(make_config(environment=ROOMS, far=FAR, logging={package: True}), path)
    if package == "wandb":
        (kept,) = (path / "wandb").glob("offline-run-*/run-*.wandb")
        content = kept.read_bytes()
        assert b"exploration/coverage" in content
        assert list((path / "wandb").glob("offline-run-*/files/media/images/exploration/visits*.png"))
        return
    import mlflow

    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("farl").experiment_id])
    assert found.info.status == "FINISHED"
    assert "exploration/coverage" in found.data.metrics
    assert found.data.params["far.criterion.name"] == "uniform"
    assert [item.path for item in client.list_artifacts(found.info.run_id, "exploration")]


def test_missing_tracker_is_named_with_its_extra(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'farl\[wandb\]'"):
        train(make_config(logging={"wandb": True}), tmp_path)


def test_libraries_that_draw_find_no_session_missing() -> None:
    code = """
from farl.experiment.config import EnvironmentConfig
from farl.experiment.environments import make_vec_env
venv = make_vec_env(EnvironmentConfig(id="CartPole-v1"), 0, 1, "rgb_array")
venv.reset()
assert venv.get_images()[0].any()
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG", "SDL"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "XDG_RUNTIME_DIR" not in done.stderr
