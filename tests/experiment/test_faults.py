"""Whatever an environment does, the run ends with one line and everything that was learnt is kept."""

import base64
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks._faulty import BAD_OBSERVATIONS, BAD_REWARDS, Faulty
from benchmarks._injected import inject_fault
from farl.cli import main
from farl.commands.train import finish
from farl.errors import ConfigError
from farl.experiment import checkpoint
from farl.experiment.checked_env import CheckedEnv, EnvironmentFault
from farl.experiment.checkpoint import latest_checkpoint, latest_path
from farl.experiment.config import ExperimentConfig
from farl.experiment.failure import TrainingFailed
from farl.experiment.hyperparameters import _cell
from farl.experiment.lock import hold
from farl.experiment.manifest import write_manifest
from farl.experiment.report import write_comparison, write_report
from farl.experiment.run import resume, train
from farl.experiment.run_directory import RunDirectory
from farl.sb3.archives import look_at

MakeConfig = Callable[..., ExperimentConfig]
WORDS = {
    "raises": "raised in step 20 of its episode 2: ValueError: the robot fell over (_faulty.py:",
    "observation-nan": "returned NaN (1 of 3 numbers) in the observation",
    "observation-inf": "returned infinity (1 of 3 numbers) in the observation",
    "observation-shape": "an array of shape (1,) as the observation, whose space has the shape (3,)",
    "observation-dtype": "type <U1 as the observation, which must be numbers of shape (3,)",
    "observation-outside": "1e+38 in the observation[1], outside of its space [-1, 1]",
    "observation-none": "returned None as the observation",
    "observation-ragged": "as the observation, which must be numbers",
    "observation-dict": "dict {'x': 1} as the observation",
    "reward-nan": "returned NaN as the reward",
    "reward-inf": "returned infinity as the reward",
    "reward-none": "returned None as the reward",
    "reward-text": "returned str '1' as the reward",
    "reward-huge": "too large for a float32",
    "tuple": "a tuple of 4 instead of (observation, reward, terminated, truncated, info)",
    "flag": "None for terminated",
}


@pytest.fixture(autouse=True)
def no_faults_yet() -> Iterator[None]:
    Faulty.faults = 0
    yield
    Faulty.faults = 0


def _environment(fault: str, **settings: Any) -> dict[str, Any]:
    kwargs = {"fault": fault, **settings.pop("kwargs", {})}
    return {"id": "benchmarks._faulty:Faulty", "n_envs": 2, "kwargs": kwargs, **settings}


def _play(env: CheckedEnv, steps: int) -> None:
    for _ in range(steps):
        if env.step(0)[2]:
            env.reset()


@pytest.mark.parametrize("fault", [*WORDS])
def test_each_fault_of_an_environment_is_named(fault: str) -> None:
    env = CheckedEnv(lambda: Faulty(fault), "Faulty", 3)
    env.reset(seed=0)
    with pytest.raises(EnvironmentFault) as raised:
        _play(env, 30)
    told = str(raised.value)
    assert told.startswith("environment 3 (Faulty) ")
    assert WORDS[fault].replace("step 20", "step 10") in told
    assert "\n" not in told
    assert len(told) < 300


BATCH_WORDS = {
    "observation-nan": "environment 1 returned NaN (1 of 3 numbers) in the observation",
    "observation-inf": "environment 1 returned infinity (1 of 3 numbers) in the observation",
    "observation-outside": "environment 1 returned 1e+38 in the observation[1], outside of its space [-1, 1]",
    "observation-shape": "environment 0 returned an array of shape (1,) as the observation, whose space has",
    "observation-dtype": "environment 0 returned an array of shape (3,) and type <U1 as the observation",
    "observation-none": "the environments returned None as the observations, which must be numbers of shape (3, 3)",
    "observation-ragged": "the environments returned list [[0.0], [0.0, 1.0]] as the observations",
    "observation-dict": "the environments returned dict {'x': 1} as the observations",
}


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("at", [0, 20])
@pytest.mark.parametrize("fault", BAD_OBSERVATIONS)
def test_what_environments_of_one_batch_show_is_looked_at(
    fault: str, at: int, normalised: bool, make_config: MakeConfig, tmp_path: Path
) -> None:
    if fault not in ("observation-nan", "observation-inf", "observation-outside") and (normalised or at == 0):
        return  # Stable-Baselines3 and its wrappers stumble over these themselves
    environment = {
        "id": "benchmarks._faulty:Faulty-v0",
        "n_envs": 3,
        "kwargs": {"fault": fault, "at": at},
        "normalize_observations": normalised,
    }
    hyperparameters = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
    config = make_config(environment=environment, algorithm={"name": "PPO", "hyperparameters": hyperparameters})
    with pytest.raises((TrainingFailed, ConfigError)) as raised:
        train(config, tmp_path)
    assert BATCH_WORDS[fault] in str(raised.value)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("read-only", 1, "error: training failed after 128 timesteps: permission denied ("),
        ("twice", 130, "ended at once; go on from the latest checkpoint with: farl resume "),
    ],
)
def test_what_is_told_and_kept_where_a_directory_becomes_read_only_or_nobody_waits(
    fault: str, code: int, words: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # pytest's are closed to whom the process becomes
        found, told, _, saved = inject_fault(fault, Path(folder) / "run")
        assert (found, saved) == (code, 64)
        assert told.startswith(words)


def test_every_bad_value_has_words_of_its_own() -> None:
    assert {*BAD_OBSERVATIONS, *BAD_REWARDS} <= WORDS.keys()


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_a_run_whose_environment_raises_keeps_what_was_learnt_and_goes_on(
    tmp_path: Path, make_config: MakeConfig, algorithm: str
) -> None:
    far = {"warmup": 10} if algorithm == "PPO" else None
    hyperparameters = {
        "PPO": {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}},
        "DQN": {"buffer_size": 1000, "learning_starts": 20, "policy_kwargs": {"net_arch": [8]}},
    }[algorithm]
    config = make_config(
        environment=_environment("raises", kwargs={"at": 50, "times": 1}),
        algorithm={"name": algorithm, "hyperparameters": hyperparameters},
        far=far,
    )
    with pytest.raises(TrainingFailed) as raised:
        train(config, tmp_path)
    failure = raised.value
    assert failure.timesteps == 98, "both environments had taken 49 steps"
    assert "environment 0" in failure.reason
    assert WORDS["raises"].split(": ")[1] in failure.reason
    assert len(failure.lines) == 3
    assert all("\n" not in line for line in failure.lines)
    assert "Traceback" in (tmp_path / "error.txt").read_text()
    assert "_faulty.py" in (tmp_path / "error.txt").read_text()
    assert latest_checkpoint(tmp_path / "checkpoints").timesteps == 98
    assert resume(tmp_path)["total_timesteps"] >= 256
    assert not (tmp_path / "error.txt").exists(), "it belongs to the attempt that failed"


@pytest.mark.parametrize("fault", ["raises", "reset-raises", "observation-nan", "reward-none", "hangs"])
def test_an_environment_is_made_anew_where_that_is_asked_for(
    tmp_path: Path, make_config: MakeConfig, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    environment = _environment(fault, kwargs={"at": 30, "times": 2}, timeout=0.2 if fault == "hangs" else None)
    metrics = train(make_config(environment=environment, on_error="restart_env"), tmp_path)
    assert metrics["total_timesteps"] == 256
    assert metrics["environment_restarts"] == 2
    assert len([record for record in caplog.records if "made anew" in record.message]) == 2


def test_an_environment_that_never_works_ends_the_run_after_three_tries(make_config: MakeConfig) -> None:
    environment = _environment("reset-raises", kwargs={"at": 0})
    with pytest.raises(TrainingFailed, match=r"raised in reset\(\): LookupError: no such level"):
        train(make_config(environment=environment, on_error="restart_env"))
    assert Faulty.faults == 4


def test_a_loss_that_is_no_number_ends_the_run_with_weights_that_are(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(
        environment=_environment("large-reward"),  # allowed, but its square is not a float32
        algorithm={"name": "A2C", "hyperparameters": {"policy_kwargs": {"net_arch": [8]}}},
    )
    with pytest.raises(TrainingFailed, match=r"train/value_loss became inf; lower learning_rate") as raised:
        train(config, tmp_path)
    assert raised.value.checkpoint is not None


def test_weights_that_became_nan_are_named_and_never_saved(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(self: Any) -> bool:
        if self.num_timesteps == 100:
            next(self.model.policy.parameters()).data.fill_(float("nan"))
        return True

    monkeypatch.setattr("farl.experiment.callbacks.RunTracker._on_step", poison)
    with pytest.raises(TrainingFailed, match=r"weights of the policy became NaN or infinite \(\S+\)") as raised:
        train(make_config(checkpoints={"freq": 64}), tmp_path)
    assert "nothing was saved" in raised.value.lost
    assert raised.value.checkpoint == latest_checkpoint(tmp_path / "checkpoints").path
    assert latest_checkpoint(tmp_path / "checkpoints").timesteps == 64


def test_a_callback_that_raises_costs_nothing(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any) -> bool:
        if self.num_timesteps > 100:
            raise KeyError("somebody's own mistake")
        return True

    monkeypatch.setattr("farl.experiment.callbacks.RunTracker._on_step", broken)
    with pytest.raises(TrainingFailed, match=r"KeyError: \"somebody's own mistake\" \(test_faults.py:\d+\)"):
        train(make_config(), tmp_path)
    assert latest_checkpoint(tmp_path / "checkpoints").timesteps == 100  # what the callback looked at is done again


def test_values_a_little_outside_are_said_once_and_whole_numbers_must_be_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wide(Faulty):
        def step(self, action: Any) -> Any:
            return np.full(3, 1.5, np.float32), 0.0, False, False, {}

    env = CheckedEnv(Wide, "Wide", 0)
    env.reset(seed=0)
    for _ in range(5):
        env.step(0)
    assert [record.message for record in caplog.records] == [
        "environment 0 (Wide) returned 1.5 in the observation[0], outside of its space [-1, 1]; said once"
    ]


def test_a_second_process_on_a_run_is_refused_and_a_killed_one_is_no_hindrance(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom farl.experiment.lock import hold\n"
        "with hold(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(ConfigError, match=rf"process {other.pid} on \S+, since .*, is writing to it"),
            hold(tmp_path),
        ):
            pass
        other.kill()
    with hold(tmp_path), pytest.raises(ConfigError, match=f"process {os.getpid()} on"), hold(tmp_path):
        pass
    with hold(tmp_path):
        pass


def test_a_full_disk_costs_what_came_after_the_latest_checkpoint(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = checkpoint.save_state

    def full(*arguments: Any, **options: Any) -> None:
        if latest_path(tmp_path / "checkpoints") is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saved(*arguments, **options)

    def no_room(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "save_state", full)
    monkeypatch.setattr("farl.experiment.failure.write_atomically", no_room)
    with pytest.raises(TrainingFailed, match=r"^the disk is full$") as raised:
        train(make_config(checkpoints={"freq": 64}), tmp_path)
    failure = raised.value
    assert failure.lost == "what came after the latest checkpoint could not be saved: the disk is full"
    assert failure.log is None
    assert failure.checkpoint == latest_checkpoint(tmp_path / "checkpoints").path
    assert latest_checkpoint(tmp_path / "checkpoints").timesteps == 64


def test_a_directory_that_is_deleted_meanwhile_is_made_again_with_all_that_was_learnt(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()

    def delete(self: Any) -> bool:
        if self.num_timesteps == 150:
            shutil.rmtree(run)
        return True

    monkeypatch.setattr("farl.experiment.callbacks.RunTracker._on_step", delete)
    monkeypatch.setattr("farl.experiment.failure._SECONDS_BETWEEN_LOOKS", -1.0)
    with pytest.raises(TrainingFailed, match="deleted or moved while it was written to") as raised:
        train(make_config(), run)
    assert latest_checkpoint(run / "checkpoints").timesteps == raised.value.timesteps == 150
    monkeypatch.undo()
    assert resume(run)["total_timesteps"] >= 256


def test_a_crafted_model_runs_nothing_unless_it_is_trusted(
    tmp_path: Path, make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run, mark = tmp_path / "run", tmp_path / "code-ran"
    run.mkdir()
    train(make_config(far={"warmup": 10}), run)
    folder = latest_checkpoint(run / "checkpoints").path
    assert not look_at(folder / "model.zip").pickled, "our own checkpoints hold no pickles"
    with zipfile.ZipFile(folder / "model.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    payload = f"cposix\nsystem\n(Vtouch {mark}\ntR.".encode()
    extra = {"start_time": {":type:": "int", ":serialized:": base64.b64encode(payload).decode()}}
    members["data"] = json.dumps(json.loads(members["data"]) | extra).encode()
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    (folder / "manifest.json").unlink()
    write_manifest(folder, 256, "PPO", far=True)
    out = str(tmp_path / "out")
    for command, *options in (["evaluate"], ["record"], ["resume", "--timesteps", "512"], ["export", "--out", out]):
        assert main([command, str(run), *options]) == 2
        told = capsys.readouterr().err
        assert "holds pickled objects (start_time)" in told
        assert "--trust" in told
    assert not mark.exists()
    assert main(["evaluate", str(run), "--episodes", "1", "--trust"]) == 0
    assert mark.exists()


def test_episodes_that_never_end_are_cut_off_and_that_is_said(
    tmp_path: Path, make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_config(environment=_environment("endless")), tmp_path)
    assert main(["evaluate", str(tmp_path), "--episodes", "4", "--max-steps", "50"]) == 0
    assert "2 after 50 steps" in " ".join(capsys.readouterr().out.split())
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert (result["cut"], result["episodes"], result["lengths"]) == (2, 2, [50, 50])


def test_names_and_values_cannot_write_into_a_page_or_a_table(tmp_path: Path, make_config: MakeConfig) -> None:
    bad = "<img src=x onerror=alert(1)></script><!--"
    run = tmp_path / "run"
    run.mkdir()
    metrics = train(make_config(environment=_environment("", kwargs={"folder": bad})), run)
    write_comparison({bad: RunDirectory(run)}, tmp_path / "both.html")
    RunDirectory(run).write_metrics(metrics | {"name": bad, "environment": bad, "algorithm": bad})
    write_report(RunDirectory(run), metrics | {"name": bad, "environment": bad, "algorithm": bad})
    for page in (tmp_path / "both.html", run / "report.html"):
        assert "<img src=x" not in page.read_text()
        assert "onerror" in page.read_text(), "it is told as it is"
    assert "<img" not in _cell(bad)
    assert "|" not in _cell("a|b").replace("\\|", "")


def test_the_command_tells_a_failure_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise TrainingFailed("why", 5, Path("runs/x"), Path("runs/x/checkpoints/step_5"))

    assert finish(RunDirectory(Path("runs/x")), fail) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: training failed after 5 timesteps: why",
        "saved runs/x/checkpoints/step_5; go on with: farl resume runs/x",
    ]
