"""A run that is stopped anywhere and resumed is, bit for bit, the run that was never stopped."""

import json
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks._small_runs import KINDS, logged, parameters, small_run
from farl.envs.state import CannotRestoreError
from farl.errors import ConfigError
from farl.experiment.callbacks import Status
from farl.experiment.checkpoint import latest_checkpoint, read_checkpoint
from farl.experiment.interruption import TrainingInterrupted
from farl.experiment.manifest import write_manifest
from farl.experiment.run import resume, train
from farl.memory.storage import save_state


class StopAt:
    """Raises the signal of Ctrl-C once a number of timesteps is reached."""

    def __init__(self, timesteps: int) -> None:
        self.timesteps, self.sent = timesteps, False

    def started(self, timesteps: int, total_timesteps: int) -> None:
        pass

    def progressed(self, status: Status) -> None:
        if status.timesteps >= self.timesteps and not self.sent:
            self.sent = True
            signal.raise_signal(signal.SIGINT)

    def finished(self) -> None:
        pass


@pytest.fixture(autouse=True)
def reports_at_every_step_and_nothing_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farl.experiment.callbacks.SECONDS_BETWEEN_REPORTS", -1.0)
    monkeypatch.setattr("farl.agents.explorer.ROLLOUT", 100)
    monkeypatch.setattr("farl.experiment.run.write_report", lambda *_: None)
    monkeypatch.setattr("farl.sb3.exploration.ExplorationCallback.draw", lambda _: {})
    monkeypatch.setattr("farl.exploration.ExplorationRecord.overview", lambda _: None)


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_run_is_the_run_that_was_never_stopped(kind: str, tmp_path: Path) -> None:
    config = small_run(kind, tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train(config, whole)
    chance = random.Random(kind)
    first, second = sorted(chance.sample(range(10, config.total_timesteps - 30), 2))
    with pytest.raises(TrainingInterrupted) as stopped:
        train(config, parts, StopAt(first))
    assert stopped.value.timesteps < first + 10
    torch.rand(7)
    with pytest.raises(TrainingInterrupted):
        resume(parts, observer=StopAt(second))
    np.random.seed(3)  # noqa: NPY002
    resume(parts)
    expected = logged(whole)
    assert len(expected["progress.csv/timesteps"]) > 1
    assert config.far is None or "recognition" in kind or "places" in kind or expected["fragments"] > 1
    np.testing.assert_equal(logged(parts), expected)
    np.testing.assert_equal(parameters(parts, config), parameters(whole, config))


# DQN explores the longer the larger its budget is, SAC here ends with an episode, and the noise of gSDE is drawn anew.
DEPEND_ON_THE_BUDGET = {"DQN", "FAR(DQN)", "SAC", "PPO with gSDE"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "levels"])  # whose tasks are its budget
def test_a_finished_run_goes_on_to_a_larger_budget_as_if_it_had_been_given_from_the_start(
    kind: str, tmp_path: Path
) -> None:
    settings = json.loads(json.dumps(KINDS[kind]).replace('"linear(1e-3)"', "1e-3"))  # schedules would be stretched
    total = settings.pop("total_timesteps", 256)
    longer = small_run(kind, tmp_path, **settings, total_timesteps=2 * total)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train(longer, whole)
    train(longer.model_copy(update={"total_timesteps": total}), parts)
    metrics = resume(parts, total_timesteps=2 * total)
    assert metrics["total_timesteps"] >= 2 * total
    if kind not in DEPEND_ON_THE_BUDGET:
        np.testing.assert_equal(parameters(parts, longer), parameters(whole, longer))


def test_what_was_logged_after_the_checkpoint_is_logged_once(tmp_path: Path) -> None:
    config = small_run("FAR(PPO)", tmp_path, checkpoints={"freq": 30, "keep": 3})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train(config, whole)
    with pytest.raises(TrainingInterrupted):
        train(config, parts, StopAt(200))
    *_, latest = sorted((parts / "checkpoints").iterdir())
    shutil.rmtree(latest)  # as if it had been killed, long after the checkpoint before
    resume(parts)
    np.testing.assert_equal(logged(parts), logged(whole))
    np.testing.assert_equal(parameters(parts, config), parameters(whole, config))


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    for name, checkpoints in (("few", {}), ("many", {"freq": 30, "keep": 1}), ("timely", {"minutes": 0.005})):
        (tmp_path / name).mkdir()
        train(small_run("FAR(Fast(PPO))", tmp_path, checkpoints=checkpoints), tmp_path / name)
    np.testing.assert_equal(logged(tmp_path / "many"), logged(tmp_path / "few"))
    np.testing.assert_equal(logged(tmp_path / "timely"), logged(tmp_path / "few"))


def test_run_without_a_checkpoint_begins_anew_in_its_directory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_run("A2C", tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    train(config, whole)
    with pytest.raises(TrainingInterrupted):
        train(config, killed, StopAt(100))
    shutil.rmtree(killed / "checkpoints")
    resume(killed)
    assert "begins anew" in caplog.text
    np.testing.assert_equal(logged(killed), logged(whole))


@pytest.mark.parametrize("kind", ["FAR(PPO)", "DQN", "FARMap"])
def test_new_episodes_begin_where_environments_cannot_be_restored(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(venv: object) -> None:
        raise CannotRestoreError("it is a robot")

    monkeypatch.setattr("farl.experiment.run.get_state", refuse)
    config = small_run(kind, tmp_path)
    with pytest.raises(TrainingInterrupted):
        train(config, tmp_path, StopAt(100))
    assert "cannot be restored after a stop (it is a robot)" in caplog.text
    metrics = resume(tmp_path)
    assert metrics["episodes_cut"] == config.environment.n_envs
    assert metrics["total_timesteps"] - config.total_timesteps < 64


@pytest.mark.parametrize("part", ["run", "model", "exploration", "environments"])
def test_state_that_is_not_as_it_was_written_is_refused_and_nothing_is_written(part: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(small_run("A2C", tmp_path), tmp_path, StopAt(100))
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    state = read_checkpoint(checkpoint)
    save_state(state | {part: {"other": 1}}, checkpoint.path / "state.safetensors")
    (checkpoint.path / "manifest.json").unlink()
    write_manifest(checkpoint.path, checkpoint.timesteps, checkpoint.algorithm, checkpoint.far)
    with pytest.raises(ConfigError, match=r"its state is damaged|cannot go on from its checkpoint"):
        resume(tmp_path)
    assert latest_checkpoint(tmp_path / "checkpoints") == checkpoint


@pytest.mark.parametrize("kind", ["FAR(PPO)", "FARMap", "DQN", "levels"])
def test_a_run_that_was_killed_after_its_last_step_writes_what_is_missing(kind: str, tmp_path: Path) -> None:
    config = small_run(kind, tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    train(config, whole)
    shutil.copytree(whole, killed)
    (killed / "metrics.json").unlink()
    resume(killed)
    np.testing.assert_equal(logged(killed), logged(whole))
    np.testing.assert_equal(parameters(killed, config), parameters(whole, config))
    assert len(list((killed / "checkpoints").iterdir())) == len(list((whole / "checkpoints").iterdir()))
    with pytest.raises(ConfigError, match="done already"):
        resume(killed)


@pytest.mark.parametrize("kind", ["PPO", "FAR(Fast(PPO))", "RecurrentPPO"])
def test_a_last_rollout_that_goes_beyond_the_budget_can_be_stopped_too(kind: str, tmp_path: Path) -> None:
    config = small_run(kind, tmp_path, total_timesteps=200)  # rollouts of 64: the last one ends at 256
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train(config, whole)
    with pytest.raises(TrainingInterrupted) as stopped:
        train(config, parts, StopAt(230))
    assert 200 < stopped.value.timesteps < 256
    resume(parts)
    np.testing.assert_equal(logged(parts), logged(whole))
    np.testing.assert_equal(parameters(parts, config), parameters(whole, config))
