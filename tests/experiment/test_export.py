import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from farl import FAR
from farl.cli import main
from farl.errors import ConfigError
from farl.experiment.export import push
from farl.experiment.one_environment import make_one

FAR_RUN = (
    "total_timesteps: 256\ndevice: cpu\n"
    "environment: {id: farl/HeteroRooms-2x3-v0, kind: minigrid, n_envs: 2, kwargs: {max_steps: 20},\n"
    "  normalize_observations: true}\n"
    "algorithm: {hyperparameters: {n_steps: 32, batch_size: 32, n_epochs: 1, policy_kwargs: {net_arch: [8]}}}\n"
    "far: {warmup: 16, module: rnd, criterion: {name: uniform, every: 20}}\n"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of FAR(PPO) with some fragments."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "rooms.yaml").write_text(FAR_RUN)
    assert main(["train", str(folder / "rooms.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    out = trained.parent / "agent"
    assert main(["export", str(trained), "--out", str(out), "--episodes", "2"]) == 0
    return out


def test_an_export_holds_what_others_need(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names >= {
        "README.md",
        "config.yaml",
        "evaluation.json",
        "far_model.zip",
        "metrics.json",
        "model.zip",
        "replay.mp4",
        "vec_normalize.pkl",
    }
    card = (exported / "README.md").read_text()
    for text in ("FAR(PPO) on farl/HeteroRooms-2x3-v0", 'PPO.load("model.zip")', "95% interval", "library_name:"):
        assert text in card
    # It knew no reward but curiosity's: it plays as it was trained, and coverage is what it came to.
    assert "with sampled actions" in card
    assert "| coverage | 0." in card
    assert not json.loads((exported / "evaluation.json").read_text())["deterministic"]


def test_episodes_that_would_not_end_are_cut_off_as_the_card_says(trained: Path) -> None:
    out = trained.parent / "short"
    assert main(["export", str(trained), "--out", str(out), "--episodes", "1", "--max-steps", "7"]) == 0
    card = (out / "README.md").read_text()
    assert "Over 1 episode of one trained agent, with sampled actions, cut off after 7 steps." in card
    assert "| unknown |" in card
    assert json.loads((out / "evaluation.json").read_text())["lengths"] == [7]


def test_it_loads_without_farl_and_acts_as_the_checkpoint(exported: Path, trained: Path) -> None:
    from farl.experiment.checkpoint import latest_checkpoint
    from farl.experiment.run_directory import RunDirectory

    plain = PPO.load(exported / "model.zip", device="cpu")
    model = FAR(PPO).load(latest_checkpoint(RunDirectory(trained).checkpoints).model_file, device="cpu")
    observations = np.random.default_rng(0).random((8, *plain.observation_space.shape)).astype(np.float32)  # type: ignore[misc]
    np.testing.assert_array_equal(
        plain.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
    config = RunDirectory(trained).read_config()
    normalised = VecNormalize.load(
        str(exported / "vec_normalize.pkl"), DummyVecEnv([lambda: make_one(config.environment)])
    )
    assert not normalised.training


def test_the_thin_model_has_the_same_modules_and_goes_on_learning(exported: Path, trained: Path) -> None:
    whole = trained / "checkpoints"
    (checkpoint,) = whole.glob("step_*/model.zip")
    assert (exported / "far_model.zip").stat().st_size < 0.6 * checkpoint.stat().st_size
    from farl.experiment.environments import make_vec_env
    from farl.experiment.run_directory import RunDirectory

    config = RunDirectory(trained).read_config()
    venv = make_vec_env(config.environment, 0)
    thin = FAR(PPO).load(exported / "far_model.zip", env=venv, device="cpu")
    full = FAR(PPO).load(checkpoint, env=venv, device="cpu")
    assert thin.curiosity.fragments == full.curiosity.fragments > 1
    _assert_equal(thin.curiosity.state_dict(), full.curiosity.state_dict())
    thin.learn(64)
    venv.close()


def _assert_equal(first: Any, second: Any, moments: bool = False) -> None:
    if isinstance(first, torch.Tensor):
        assert moments or torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            _assert_equal(value, second[key], moments or "moment" in str(key))
    elif isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            _assert_equal(one, other, moments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "absent", "--out", "x"], "no such run"),
        (["export", "RUN"], "--out"),
        (["export", "RUN", "--out", "RUN"], "is not an empty folder"),
        (["push", "RUN", "me/agent", "--episodes", "1"], "not logged in"),
    ],
)
def test_bad_input_is_one_line(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main([str(trained) if word == "RUN" else word for word in arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload asks for."""

    files: ClassVar[dict[str, bytes]] = {}
    address: ClassVar[str] = ""

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else self._chunks()
        if self.headers.get("Authorization") != "Bearer hf_test":
            return self._answer(401, {"error": "who are you?"})
        if self.path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            return self._answer(
                200,
                {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]},
            )
        if self.path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self._answer(200, {"commitUrl": f"{self.address}/me/agent/commit/1", "commitOid": "1"})
        return self._answer(200, {"url": f"{self.address}/me/agent", "name": "me/agent", "id": "me/agent"})

    def do_GET(self) -> None:
        self._answer(200, {"id": "me/agent", "siblings": [], "sha": "0"})

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    pytest.importorskip("huggingface_hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", _Hub.address)  # HF_ENDPOINT, read on import
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    yield _Hub
    server.shutdown()


def test_push_uploads_the_export(trained: Path, hub: type[_Hub], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(trained), "me/agent", "--episodes", "1"]) == 0
    assert f"{hub.address}/me/agent/commit/1" in capsys.readouterr().out
    assert {"README.md", "model.zip", "config.yaml"} <= set(hub.files)
    assert hub.files["README.md"].startswith(b"---\n")


@pytest.mark.parametrize(
    ("token", "repository", "message"),
    [
        ("hf_test", "not a name", "is no name of a repository"),
        ("hf_wrong", "me/agent", "cannot be reached, or refuses"),
    ],
)
def test_a_hub_that_refuses_is_one_line(
    exported: Path, hub: type[_Hub], monkeypatch: pytest.MonkeyPatch, token: str, repository: str, message: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match=message):
        push(exported, repository, private=True)
