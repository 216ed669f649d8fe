import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from farl.cli import main

SMALL = (
    "total_timesteps: 128\ndevice: cpu\nenvironment: {id: CartPole-v1, n_envs: 2}\n"
    "algorithm: {hyperparameters: {n_steps: 32, batch_size: 32, n_epochs: 1, policy_kwargs: {net_arch: [8]}}}\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def finished(folder: Path) -> Path:
    assert main(["train", "small.yaml"]) == 0
    return folder / "runs" / "small"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The single line that a command answers bad input with."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_train_ends_with_a_summary_and_never_writes_over_a_run(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "metrics.json").read_bytes()
    assert main(["train", "small.yaml", "seed=1"]) == 0
    captured = capsys.readouterr()
    assert (finished / "metrics.json").read_bytes() == before
    assert (finished.parent / "small-2" / "metrics.json").is_file()
    assert "run directory: runs/small-2" in captured.err
    for word in ("timesteps", "mean return", "runs/small-2/report.html", "tensorboard --logdir"):
        assert word in captured.out
    assert "not empty" in refused(["train", "small.yaml", "--out", str(finished)], capsys)


def test_overrides_may_stand_on_both_sides_of_options(folder: Path) -> None:
    assert main(["train", "small.yaml", "seed=1", "--out", "here", "name=other"]) == 0
    text = (folder / "here" / "config.yaml").read_text()
    assert "seed: 1" in text
    assert "name: other" in text


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_trained_agent_plays_with_as_many_threads_as_it_was_trained_with(
    finished: Path, tmp_path: Path, command: str
) -> None:
    options = ["--episodes", "1"] if command == "evaluate" else ["--episodes", "1", "--out", str(tmp_path / "agent")]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert main([command, str(finished), *options]) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_evaluate_resume_and_record_work_on_a_finished_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "small", "--episodes", "3", "--stochastic"]) == 0
    assert "interquartile mean" in capsys.readouterr().out
    assert (finished / "evaluation.json").is_file()
    assert "--timesteps" in refused(["resume", str(finished)], capsys)
    assert main(["resume", str(finished), "--timesteps", "192"]) == 0
    assert "192" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"seed: 1\nseed: 2\n", "duplicate key"),
        (b"\x00\x01\x02", "binary"),
        (b"\xff\xfe\xfa", "UTF-8"),
        (b"- 1\n", "list"),
        (b"[" * 5000, "nested"),
        (b"base: nothere.yaml\n", "no such file"),
        (SMALL.encode() + b"sed: 3\n", "did you mean seed?"),
        (SMALL.replace("CartPole", "CartPoel").encode(), "did you mean CartPole-v1"),
        (SMALL.replace("128", "many").encode(), "expected a whole number"),
        (SMALL.replace("128", "-128").encode(), "at least 1"),
        (SMALL.replace("128", ".nan").encode(), "total_timesteps"),
        (SMALL.replace("128", "1" + "0" * 100).encode(), "total_timesteps"),
    ],
)
@pytest.mark.parametrize("command", ["train", "validate"])
def test_bad_config_is_one_line_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes, message: str
) -> None:
    (folder / "bad.yaml").write_bytes(content)
    assert message in refused([command, "bad.yaml"], capsys)
    assert sorted(path.name for path in folder.iterdir()) == ["bad.yaml", "small.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "x"], "did you mean train?"),
        (["train"], "CONFIG"),
        (["train", "quickstrat"], "did you mean quickstart?"),
        (["train", "."], "is a directory"),
        (["train", "small.yaml", "--ot", "x"], "unknown argument"),
        (["train", "small.yaml", "seed"], "key=value"),
        (["train", "small.yaml", "--out", "small.yaml"], "it is a file"),
        (["train", "small.yaml", "--out", "small.yaml/run"], "not a directory"),
        (["train", "small.yaml", "--out", "/proc/nowhere"], "cannot write"),
        (["evaluate", "runs/absent"], "no such run"),
        (["evaluate", "small.yaml"], "is a file"),
        (["resume", "."], "not a run directory"),
        (["evaluate", "x", "--episodes", "0"], "whole number from 1"),
        (["evaluate", "x", "--episodes", "many"], "whole number"),
        (["evaluate", "x", "--seed", "-1"], "whole number from 0"),
        (["resume", "x", "--timesteps", "nan"], "whole number"),
        (["record", "x", "a=b"], "unknown argument"),
        (["list", "everything"], "envs"),
    ],
)
def test_bad_arguments_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refused(arguments, capsys)
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


def test_truncated_and_missing_checkpoints_are_one_line(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint,) = (finished / "checkpoints").iterdir()
    with (checkpoint / "model.zip").open("rb+") as stream:
        stream.truncate(200)
    for command in ("evaluate", "resume", "record"):
        extra = ["--timesteps", "1000"] if command == "resume" else []
        assert "model.zip: damaged" in refused([command, str(finished), *extra], capsys)
    for file in checkpoint.iterdir():
        file.unlink()
    checkpoint.rmdir()
    assert "has no checkpoint" in refused(["evaluate", str(finished)], capsys)


def test_environment_that_draws_nothing_cannot_be_recorded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "blind.py").write_text(
        "import gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Blind(CartPoleEnv):\n    metadata = {'render_modes': []}\n"
        "gym.register('Blind-v0', Blind, max_episode_steps=20)\n"
    )
    sys.path.insert(0, str(folder))
    try:
        assert main(["train", "small.yaml", "environment.id=blind:Blind-v0", "--out", "blind"]) == 0
        assert "no render mode 'rgb_array'" in refused(["record", "blind"], capsys)
    finally:
        sys.path.remove(str(folder))


def test_lists_print_what_yaml_can_name(capsys: pytest.CaptureFixture[str]) -> None:
    for what, expected in (
        ("envs", "farl/HeteroRooms-3x3-v0"),
        ("algorithms", "PPO"),
        ("modules", "rnd"),
        ("configs", "quickstart"),
    ):
        assert main(["list", what]) == 0
        assert any(line.split()[0] == expected for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list", "configs"], ["train", "--help"]])
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom farl.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert 'torch' not in sys.modules and 'stable_baselines3' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_validating_and_building_import_nothing_that_only_later_steps_need() -> None:
    code = (
        "import sys\nfrom farl.cli import main\nassert main(['validate', 'quickstart']) == 0\n"
        "from farl.experiment.loading import load_config\nfrom farl.experiment.run import train\n"
        "from farl.experiment.learner import build_learner\nfrom farl.experiment.environments import make_vec_env\n"
        "config = load_config('rnd_baseline')\nbuild_learner(config, make_vec_env(config.environment, seed=0))\n"
        "late = {'matplotlib', 'scipy', 'numba', 'torch._dynamo', 'farl.particles', 'farl.continual', 'imageio'}\n"
        "assert not late & sys.modules.keys(), late & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_saves_and_says_how_to_resume(folder: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "farl", "train", "small.yaml", "total_timesteps=1e7", "checkpoints.freq=1e4"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + 120
        while not (folder / "runs" / "small" / "checkpoints").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert "stopping at the next step, to save first" in errors
    assert "go on with: farl resume runs/small" in errors
    assert "Traceback" not in errors
