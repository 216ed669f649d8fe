import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farl.errors import ConfigError
from farl.experiment.checkpoint import latest_checkpoint, save_checkpoint
from farl.experiment.config import ExperimentConfig
from farl.experiment.environments import make_vec_env
from farl.experiment.learner import build_learner
from farl.experiment.run_directory import RunDirectory


@pytest.fixture
def model(make_config: Callable[..., ExperimentConfig]) -> Any:
    config = make_config()
    return build_learner(config, make_vec_env(config.environment, 0))


def save(folder: Path, model: Any, timesteps: int, keep: int = 2) -> Path:
    model.num_timesteps = timesteps
    return save_checkpoint(folder, model, "PPO", {}, keep)


def test_only_the_latest_are_kept_and_the_latest_is_found(tmp_path: Path, model: Any) -> None:
    for timesteps in (5, 100, 20, 100):
        save(tmp_path, model, timesteps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000100", "step_000000100.2"]
    assert latest_checkpoint(tmp_path).path.name == "step_000000100.2"


def test_crash_while_saving_leaves_the_old_checkpoint_alone(
    tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, model, 5)

    def crash(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("farl.experiment.checkpoint.save_state", crash)
        with pytest.raises(OSError, match="disk full"):
            save(tmp_path, model, 10)
    assert latest_checkpoint(tmp_path).timesteps == 5
    (tmp_path / ".unfinished-left").mkdir()  # as after a power failure
    save(tmp_path, model, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000005", "step_000000010"]


def truncate(folder: Path) -> None:
    with (folder / "model.zip").open("rb+") as stream:
        stream.truncate(100)


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "state.safetensors").write_bytes(content)


def garble_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "model.zip: damaged"),
        (flip_a_byte, "checksum"),
        (garble_the_manifest, r"manifest.json: damaged"),
        (lambda folder: (folder / "manifest.json").unlink(), "not a FARL checkpoint"),
        (lambda folder: (folder / "model.zip").unlink(), "model.zip: missing"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    tmp_path: Path, model: Any, damage: Callable[[Path], None], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = save(tmp_path, model, 5)
    damage(save(tmp_path, model, 10))
    assert latest_checkpoint(tmp_path).timesteps == 5
    (told,) = caplog.records
    assert re.search(message, told.message)
    assert told.message.endswith(f"going by the checkpoint before: {first}")
    damage(first)
    with pytest.raises(ConfigError, match=f"{message}.*no other that is whole; train again with: farl train"):
        latest_checkpoint(tmp_path)


def test_no_change_of_a_manifest_goes_unseen(tmp_path: Path, model: Any) -> None:
    manifest = save(tmp_path, model, 5) / "manifest.json"
    whole = manifest.read_bytes()
    content = json.loads(whole)
    changed = [
        json.dumps(content | {"timesteps": 6}).encode(),
        json.dumps(content | {"files": {"../other": content["files"]["model.zip"]}}).encode(),
        json.dumps(content | {"files": {**content["files"], "model.zip": 3}}).encode(),
        b"[" * 100_000,
        *(whole[:end] for end in range(0, len(whole) - 2, 23)),
        *(whole[:at] + b"7" + whole[at + 1 :] for at in range(0, len(whole), 31) if whole[at : at + 1] not in b"7 "),
    ]
    for bad in changed:
        manifest.write_bytes(bad)
        with pytest.raises(ConfigError):
            latest_checkpoint(tmp_path)
    manifest.write_bytes(whole)
    assert latest_checkpoint(tmp_path).timesteps == 5


def test_damaged_config_is_never_taken_for_another(
    tmp_path: Path, make_config: Callable[..., ExperimentConfig], caplog: pytest.LogCaptureFixture
) -> None:
    run, config = RunDirectory(tmp_path), make_config()
    run.write_config(config)
    whole = run.config_file.read_bytes()
    for size in range(0, len(whole), 7):
        run.config_file.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"config\.yaml: was edited, or is damaged"):
            run.read_config()
    run.config_file.write_bytes(whole.replace(b"seed: 0", b"seed: 1"))
    with pytest.raises(ConfigError, match="train anew"):
        run.read_config()
    copy = run.checkpoints / "step_000000064" / "config.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(whole)
    assert run.read_config() == config
    assert "was edited or damaged" in caplog.text


def test_run_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint"):
        latest_checkpoint(tmp_path / "checkpoints")
