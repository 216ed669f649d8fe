import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks._kills import forked
from benchmarks._small_runs import logged, parameters
from farl.cli import main
from farl.errors import ConfigError
from farl.experiment import checkpoint
from farl.experiment.pool import run_in_processes
from farl.experiment.run_directory import RunDirectory
from farl.experiment.sweep.backends import BACKENDS, Resources
from farl.experiment.sweep.execution import Outcome, Task, execute, own_stop_file
from farl.experiment.sweep.objective import metric_value
from farl.experiment.sweep.plan import plan_runs, sort_overrides
from farl.experiment.sweep.settings import SweepConfig, parse_seeds, split_values

SMALL = (
    "total_timesteps: 128\ndevice: cpu\nlogging: {tensorboard: false}\nenvironment: {id: CartPole-v1, n_envs: 2}\n"
    "algorithm: {hyperparameters: {n_steps: 32, batch_size: 32, n_epochs: 1, policy_kwargs: {net_arch: [8]}}}\n"
)
LEARNING_RATE = "algorithm.hyperparameters.learning_rate"
CHECKPOINTS = "checkpoints: {freq: 48}\n"
CHANGES = ("wall_seconds", "steps_per_second")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are done in this process: as the other backends do, without their start."""

    def in_this_process(tasks: Any, resources: Resources, tick: Callable[[], None], stopped: Callable[[], bool]) -> Any:
        for task in tasks:
            yield task, execute(task)
            tick()
            if stopped():
                return

    monkeypatch.setitem(BACKENDS, "local", in_this_process)


def outcome(path: Path) -> dict[str, Any]:
    """What a run came to, but for the time it took."""
    metrics: dict[str, Any] = json.loads((path / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key not in CHANGES}


def task(path: Path, **changes: Any) -> Task:
    (planned,) = plan_runs([str(path / "small.yaml")], [f"{key}={value}" for key, value in changes.items()])
    return Task("one", path / "one", planned.config, 1, path / "stop")


def test_runs_are_every_combination_seed_by_seed_and_named_by_what_differs(folder: Path) -> None:
    runs = plan_runs(["small.yaml"], [f"{LEARNING_RATE}=1e-3,1e-4"], [0, 3])
    assert [run.label for run in runs] == [
        "small/learning_rate=1e-3,seed=0",
        "small/learning_rate=1e-4,seed=0",
        "small/learning_rate=1e-3,seed=3",
        "small/learning_rate=1e-4,seed=3",
    ]
    assert runs[3].path == Path("runs/small/learning_rate=1e-4,seed=3")
    assert runs[3].config.seed == 3
    assert runs[3].config.algorithm.hyperparameters["learning_rate"] == 1e-4
    assert {run.config.name for run in runs} == {"small"}


def test_names_of_settings_are_as_long_as_tells_them_apart(folder: Path) -> None:
    grid = {"far.module.name": ["rnd", "icm"], "algorithm.name": ["PPO"], "far.recall.threshold": ["0.9"]}
    labels = [run.label for run in plan_runs(["small.yaml"], ["far={}"], [0], grid)]
    assert labels[1] == "small/module=icm,algorithm=PPO,threshold=0.9,seed=0"
    grid = {"far.criterion.threshold": ["2", "3"], "far.recall.threshold": ["0.9"]}
    labels = [run.label for run in plan_runs(["small.yaml"], ["far={}"], [0], grid)]
    assert labels[0] == "small/criterion.threshold=2,recall.threshold=0.9,seed=0"


def test_the_section_sweep_says_the_same_as_the_options(folder: Path) -> None:
    section = f"sweep:\n  seeds: 0-1\n  grid:\n    {LEARNING_RATE}: [0.001, 0.0001]\n"
    (folder / "many.yaml").write_text(SMALL + section)
    runs = plan_runs(["many.yaml"])
    assert len(runs) == 4
    assert runs[0].config.sweep is None
    assert len(plan_runs(["many.yaml"], seeds=[5])) == 2
    with pytest.raises(ConfigError, match=r"farl sweep many.yaml"):
        raise_from_main(["train", "many.yaml"])


def raise_from_main(arguments: list[str]) -> None:
    from farl.cli import _parse

    options = _parse(arguments)
    options.command(options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "small.yaml", "seed=0,1,2"], "farl sweep small.yaml --seeds 0,1,2"),
        (["train", "small.yaml", "far.criterion.threshold=2,4"], "--grid far.criterion.threshold=2,4"),
        (["validate", "small.yaml", "seed=0,1"], "farl sweep small.yaml --seeds 0,1"),
        (["sweep", "small.yaml", "--seeds", "4-0"], "single seeds or ranges"),
        (["sweep", "small.yaml", "--grid", "seed"], "write KEY=A,B"),
        (["sweep", "small.yaml", "--grid", "sed=1,2"], "did you mean seed?"),
        (["sweep", "small.yaml", "--grid", f"{LEARNING_RATE}=1e-3,fast"], "learning_rate"),
        (["sweep", "small.yaml", "--grid", f"{LEARNING_RATE}=1e-3,1e-3"], "asked for twice"),
        (["sweep", "seed=1"], "give a CONFIG"),
        (["sweep", "smal.yaml"], "no such file"),
        (["sweep", "small.yaml", "--option", "a=1"], "the backend local has no options"),
        (["sweep", "small.yaml", "--backend", "slurm"], "no sbatch"),
        (["sweep", "small.yaml", "--optuna", "3"], "nothing to search"),
        (["sweep", "small.yaml", "--optuna", "3", "--search", f"{LEARNING_RATE}={{log: [1, 0.1]}}"], "smallest"),
        (["sweep", "small.yaml", "--pbt", "2", "--search", "environment.n_envs=[1, 2]"], "cannot change while"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert [path.name for path in folder.iterdir() if path.name != "runs" or any(path.iterdir())] == ["small.yaml"]


def test_values_are_split_outside_of_brackets_and_quotes() -> None:
    assert split_values("2,[64, 64],linear(1e-3),'a,b'") == ["2", "[64, 64]", "linear(1e-3)", "'a,b'"]
    assert sort_overrides(["a=1,2", "b=[1,2]", "c=3"]) == (["b=[1,2]", "c=3"], {"a": ["1", "2"]})
    assert parse_seeds("3,0-1") == [0, 1, 3]
    assert SweepConfig(seeds="0-2").seeds == [0, 1, 2]  # type: ignore[arg-type]
    spaces = {"a": {"log": [1e-5, 1e-3]}, "b": {"integer": [1, 9]}, "c": [True, "x"]}
    search = SweepConfig(search=spaces).search  # type: ignore[arg-type]
    assert (search["a"].log, search["b"].integer, search["c"].choice) == ((1e-5, 1e-3), (1, 9), [True, "x"])


@pytest.mark.usefixtures("here")
def test_finished_runs_are_kept_failed_ones_isolated_and_retried(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "small.yaml", "--seeds", "0-1"]
    broken = folder / "breaks.py"
    broken.write_text(
        "import pathlib\nimport gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Breaks(CartPoleEnv):\n"
        "    def step(self, action):\n"
        "        if pathlib.Path('broken').exists():\n            raise RuntimeError('the wheel came off')\n"
        "        return super().step(action)\n"
        "gym.register('Breaks-v0', Breaks, max_episode_steps=20)\n"
    )
    sys.path.insert(0, str(folder))
    try:
        (folder / "small.yaml").write_text(SMALL.replace("CartPole-v1", "breaks:Breaks-v0"))
        (folder / "broken").touch()
        assert main(command) == 1
        told = capsys.readouterr()
        assert "failed: small/seed=0" in told.err
        assert "the wheel came off" in told.err
        assert "the wheel came off" in (folder / "runs/small/seed=0/error.txt").read_text()
        (folder / "broken").unlink()
        assert main(command) == 1  # what failed is left alone
        assert main([*command, "--retry"]) == 0
        assert not (folder / "runs/small/seed=0/error.txt").exists()
        before = (folder / "runs/small/seed=1/metrics.json").stat().st_mtime_ns
        assert main(["sweep", "small.yaml", "--seeds", "0-2"]) == 0
        assert (folder / "runs/small/seed=1/metrics.json").stat().st_mtime_ns == before
        assert "3 of 3 runs finished" in capsys.readouterr().out
    finally:
        sys.path.remove(str(folder))


@pytest.mark.usefixtures("here")
def test_a_sweep_writes_over_no_other_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "small.yaml", "--seeds", "0"]) == 0
    before = outcome(folder / "runs/small/seed=0")
    assert main(["sweep", "small.yaml", "--seeds", "0-1", "total_timesteps=64"]) == 2
    assert "total_timesteps=128 instead of 64" in capsys.readouterr().err
    assert outcome(folder / "runs/small/seed=0") == before
    assert not (folder / "runs/small/seed=1").exists()
    assert main(["train", "small.yaml"]) == 0
    assert (folder / "runs/small-2/metrics.json").is_file()


@pytest.mark.usefixtures("here")
def test_dry_run_lists_the_runs_and_the_time_and_trains_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farl.experiment.callbacks.SECONDS_BETWEEN_REPORTS", -1.0)
    monkeypatch.setattr("farl.commands.sweep._PROBE_SECONDS", 0.01)  # stopped long before its end
    assert main(["sweep", "small.yaml", "--seeds", "0-2", "--dry-run"]) == 0
    assert not caplog.messages  # nobody has asked for a stop
    told = capsys.readouterr().out
    assert "3 runs" in told
    assert "runs/small/seed=2" in told
    assert "steps/s" in told
    assert not (folder / "runs").exists()


def test_a_run_that_is_told_to_stop_saves_and_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farl.experiment.callbacks.SECONDS_BETWEEN_REPORTS", -1.0)
    monkeypatch.setattr("farl.experiment.sweep.execution._SECONDS_BETWEEN_REPORTS", -1.0)
    one = task(folder)
    one.path.mkdir()
    own_stop_file(one.path).touch()
    RunDirectory(one.path).write_config(one.config)
    (one.path / "checkpoints").mkdir()
    one.stop_file.touch()
    assert execute(one).state == "interrupted"
    assert (one.path / "checkpoints").is_dir()
    one.stop_file.unlink()
    own_stop_file(one.path).unlink(missing_ok=True)
    done = execute(one)
    assert done.state == "finished"
    assert done.metrics is not None
    assert done.metrics["total_timesteps"] >= 128
    assert execute(one) == done
    assert not (one.path / ".progress.json").exists()


@pytest.mark.parametrize(
    ("backend", "options"), [("local", {}), ("slurm", {"cluster": "local"}), ("ray", {})], ids=["local", "slurm", "ray"]
)
def test_a_run_comes_to_the_same_in_every_backend(folder: Path, backend: str, options: dict[str, Any]) -> None:
    pytest.importorskip({"slurm": "submitit", "ray": "ray"}.get(backend, "torch"))
    expected = execute(task(folder))
    tasks = [Task(f"run {n}", folder / f"run-{n}", task(folder).config, 1, folder / "stop") for n in range(2)]
    resources = Resources(2, 1, folder, options)
    ended_runs = BACKENDS[backend](tasks, resources, lambda: None, lambda: False)
    found = {one.label: ended for one, ended in ended_runs}
    assert set(found) == {"run 0", "run 1"}
    assert expected.metrics is not None
    for ended in found.values():
        assert ended.state == "finished", ended.error
        assert ended.metrics is not None
        for key, value in expected.metrics.items():
            if key not in CHANGES:
                assert ended.metrics[key] == value, key


def _die_on_one(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 10


def test_a_task_whose_process_dies_takes_no_other_along() -> None:
    found = dict(run_in_processes(_die_on_one, iter(range(3)), 2))
    assert found == {0: 0, 1: None, 2: 20}


@pytest.mark.usefixtures("here")
def test_a_sweep_that_is_stopped_goes_on_to_the_end_of_every_run(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL.replace("128", "3000") + "checkpoints: {freq: 256}\n")
    command = ["sweep", "small.yaml", "--seeds", "0-1", "--jobs", "2"]
    with subprocess.Popen([sys.executable, "-m", "farl", *command], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while not any(folder.glob("runs/small/*/checkpoints/step*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert main(command) == 0
    for seed in (0, 1):
        done = outcome(folder / f"runs/small/seed={seed}")
        assert done["seed"] == seed
        assert done["total_timesteps"] >= 3_000
    before = outcome(folder / "runs/small/seed=0")
    assert main(command) == 0  # nothing is left to do
    assert outcome(folder / "runs/small/seed=0") == before


@pytest.mark.usefixtures("here")
def test_a_sweep_that_is_killed_twice_equals_the_one_that_was_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farl.experiment.run.write_report", lambda *_: None)
    monkeypatch.setattr("farl.sb3.exploration.ExplorationCallback.draw", lambda _: {})
    (folder / "small.yaml").write_text(SMALL.replace("{tensorboard: false}", "{image_freq: 0}") + CHECKPOINTS)
    grid = ["--seeds", "0-1", "--grid", f"{LEARNING_RATE}=1e-3,1e-4"]

    def sweep(out: str, dies_after: int | None = None) -> bool:
        """Go on with a sweep; end the process after so many checkpoints, the last of them half written."""

        def work() -> None:
            written, save = [0], checkpoint.save_state

            def save_or_die(state: Any, file: Path) -> None:
                written[0] += 1
                save(state, file)
                if written[0] == dies_after:
                    os.truncate(file, file.stat().st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)

            checkpoint.save_state = save_or_die  # type: ignore[assignment]
            assert main(["sweep", "small.yaml", *grid, "--out", out]) == 0

        return forked(work)

    assert not sweep("whole")
    assert sweep("parts", 2)  # in the first run
    assert sweep("parts", 6)  # in the third
    assert not sweep("parts")
    runs = sorted(path.parent.relative_to("whole") for path in Path("whole").rglob("metrics.json"))
    assert len(runs) == 4
    for run in runs:
        whole, parts = folder / "whole" / run, folder / "parts" / run
        np.testing.assert_equal(logged(parts), logged(whole))
        config = RunDirectory(whole).read_config()
        np.testing.assert_equal(parameters(parts, config), parameters(whole, config))


@pytest.mark.usefixtures("here")
def test_a_search_continues_and_its_best_configuration_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    command = ["sweep", "small.yaml", "--metric", "return", "--search", f"{LEARNING_RATE}={{log: [1e-5, 1e-2]}}"]
    command += ["--search", "algorithm.hyperparameters.policy_kwargs.net_arch=[[4], [8, 8]]"]
    assert main([*command, "--optuna", "2"]) == 0
    written = {path: path.stat().st_mtime_ns for path in folder.glob("runs/small/optuna/trial=*/metrics.json")}
    assert main([*command, "--optuna", "4"]) == 0
    assert all(path.stat().st_mtime_ns == time_written for path, time_written in written.items())
    told = capsys.readouterr().out
    assert "4 trials finished" in told
    trials = sorted((folder / "runs/small/optuna").glob("trial=*"))
    assert len(trials) == 4
    rates = {RunDirectory(path).read_config().algorithm.hyperparameters["learning_rate"] for path in trials}
    assert len(rates) == 4
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    best = max(metric_value("return", json.loads((path / "metrics.json").read_text())) for path in trials)
    assert f"best: {best:.4g}" in told
    assert main(["train", "runs/small/optuna/best.yaml", "--out", "best"]) == 0
    assert main([*command, "--optuna", "4", "--metric", "length"]) == 2
    assert "another metric" in capsys.readouterr().err


def test_a_population_is_trained_by_ray_tune(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray.tune")
    command = ["sweep", "small.yaml", "--pbt", "2", "--jobs", "2", "--metric", "return", "total_timesteps=640"]
    assert main([*command, "--search", f"{LEARNING_RATE}={{log: [1e-5, 1e-2]}}"]) == 0
    assert "best: " in capsys.readouterr().out
    assert RunDirectory(folder / "runs/small/pbt").path.joinpath("best.yaml").is_file()


def test_metrics_have_the_names_people_use() -> None:
    metrics = {"ep_rew_mean": 3.0, "coverage": 0.5, "evaluation_ep_rew_mean": None, "name": "x"}
    assert metric_value("auto", metrics) == 0.5
    assert metric_value("return", metrics) == 3.0
    assert metric_value("auto", metrics | {"evaluation_ep_rew_mean": 7.0}) == 7.0
    with pytest.raises(ConfigError, match=r"did you mean coverage\?"):
        metric_value("covrage", metrics)
    with pytest.raises(ConfigError, match="no number 'name'"):
        metric_value("name", metrics)


def test_an_outcome_says_why_a_run_failed(folder: Path) -> None:
    config = task(folder).config
    broken = config.model_copy(update={"environment": config.environment.model_copy(update={"id": "Nowhere-v0"})})
    ended = execute(Task("one", folder / "one", broken, 1, folder / "stop"))
    assert ended == Outcome("failed", error=ended.error)
    assert "Nowhere" in str(ended.error)
