"""A model's zip is looked at before it is read, and checkpoints hold nothing that could run code."""

import base64
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from farl import FAR
from farl.errors import ConfigError
from farl.experiment.schedules import Schedule
from farl.sb3.archives import look_at, save_without_pickles
from farl.sb3.plain_data import NotPlain, from_plain, to_plain

VALUES = [
    {"a": (1, 2.5, None, True, "text"), 3: [np.float32(1.5), np.arange(6).reshape(2, 3)]},
    deque([{"r": 1.0, "l": 3}], maxlen=100),
    torch.arange(4.0),
    torch.device("cpu"),
    np.dtype("uint8"),
    np.float32,
    TrainFreq(4, TrainFrequencyUnit.EPISODE),
    torch.nn.ReLU,
    torch.optim.Adam,
    RolloutBuffer,
    spaces.Dict(
        {
            "image": spaces.Box(0, 255, (3, 8, 8), np.uint8),
            "state": spaces.Box(np.array([-1, -np.inf]), np.array([1, np.inf]), dtype=np.float32),
            "more": spaces.Tuple([spaces.Discrete(3, start=2), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4)]),
        }
    ),
]


def small() -> dict[str, Any]:
    """Settings of a small model; the algorithms write into them."""
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}


class Bad:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/farl_ran_code",)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_plain_data_is_the_same_again_by_way_of_json(value: Any) -> None:
    again = from_plain(json.loads(json.dumps(to_plain(value))))
    assert type(again) is type(value)
    assert repr(again) == repr(value)
    assert to_plain(again) == to_plain(value)


def test_schedules_and_noise_go_on_as_they_were() -> None:
    for schedule in (
        FloatSchedule(Schedule("cosine", 1e-3, 1e-4)),
        ConstantSchedule(0.2),
        LinearSchedule(1.0, 0.1, 0.5),
    ):
        again = from_plain(json.loads(json.dumps(to_plain(schedule))))
        assert [again(x) for x in (1, 0.7, 0.1)] == [schedule(x) for x in (1, 0.7, 0.1)]
    noise = from_plain(to_plain(NormalActionNoise(np.zeros(2), np.ones(2))))
    assert noise().shape == (2,)
    space = spaces.Box(0, 1, (2,), seed=3)
    space.sample()
    np.testing.assert_array_equal(from_plain(to_plain(space)).sample(), space.sample())


@pytest.mark.parametrize("value", [lambda x: x, Bad, Bad(), os.system, np.array([None]), object()])
def test_nothing_else_is_plain(value: Any) -> None:
    with pytest.raises(NotPlain):
        to_plain(value)


@pytest.mark.parametrize(
    "data",
    [
        {":class:": "subprocess:Popen"},
        {":class:": "torch.utils.cpp_extension:subprocess"},
        {":class:": "torch.utils.cpp_extension:subprocess.Popen"},
        {":class:": "builtins:eval"},
        {":class:": "torch:load"},
        {":class:": 3},
        {":object:": ["torch.nn:Module", {":dict:": []}]},
        {":array:": ["<f4", [1_000_000_000], ""]},
        {":array:": ["|O", [1], "AAAA"]},
        {":space:": ["Box", [0], None]},
        {":space:": ["Env", [], None]},
        {":unknown:": 1},
        {":dict:": [[[], 1]]},
        {"a": 1, "b": 2},
    ],
)
def test_damaged_and_hostile_plain_data_is_refused(data: Any) -> None:
    with pytest.raises(ConfigError):
        from_plain(data)


def _with_data(path: Path, **values: Any) -> Path:
    """Change the data of a model's zip."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["data"] = json.dumps(json.loads(members["data"]) | values).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _pickled(value: Any) -> dict[str, str]:
    return {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(value)).decode()}


@pytest.mark.parametrize(("algorithm", "env"), [(PPO, "CartPole-v1"), (DQN, "CartPole-v1"), (SAC, "Pendulum-v1")])
def test_without_pickles_a_model_is_the_same(algorithm: Any, env: str, tmp_path: Path) -> None:
    model = FAR(algorithm)("MlpPolicy", env, far={"warmup": 5}, seed=0, **small())
    save_without_pickles(model, tmp_path / "model.zip")
    archive = look_at(tmp_path / "model.zip")
    assert not archive.pickled
    assert {"observation_space", "action_space", "policy_class", "lr_schedule"} <= archive.plain.keys()
    again = FAR(algorithm).load(tmp_path / "model.zip", env=gym.make(env), device="cpu")
    observation = model.observation_space.sample()
    for each in (model, again):
        each.answer = each.predict(observation, deterministic=True)[0]
    np.testing.assert_array_equal(again.answer, model.answer)
    assert again.learn(40).num_timesteps >= 40


def test_far_warns_in_one_line_of_what_runs_and_not_of_what_is_usual(tmp_path: Path) -> None:
    model = FAR(PPO)("MlpPolicy", "CartPole-v1", far={}, n_steps=16, batch_size=16, seed=0, **small())
    model.save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FAR(PPO).load(tmp_path / "model", device="cpu")
    with pytest.raises(ConfigError, match=r"load it with farl\.FAR\(PPO\)\.load"):
        PPO.load(tmp_path / "model", device="cpu")
    Path("/tmp/farl_ran_code").unlink(missing_ok=True)
    _with_data(tmp_path / "model.zip", bad=_pickled(Bad()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FAR(PPO).load(tmp_path / "model", None, "cpu", {"bad": 1}).bad == 1
    assert not Path("/tmp/farl_ran_code").exists()
    with pytest.warns(UserWarning, match=r"reading it calls posix:system: load only files that you trust"):
        FAR(PPO).load(tmp_path / "model", device="cpu")
    Path("/tmp/farl_ran_code").unlink(missing_ok=True)


def test_weights_that_are_more_than_tensors_are_refused_in_our_words(tmp_path: Path) -> None:
    model = FAR(PPO)("MlpPolicy", "CartPole-v1", far={}, n_steps=16, batch_size=16, **small())
    model.save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO()
    torch.save({"weight": Bad()}, content)
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name, old in members.items():
            archive.writestr(name, content.getvalue() if name == "policy.pth" else old)
    with pytest.raises(ConfigError, match="objects that are no tensors") as raised:
        FAR(PPO).load(tmp_path / "model.zip", device="cpu")
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize("inner", [False, True])
def test_a_zip_that_inflates_is_refused_before_it_is_read(tmp_path: Path, inner: bool) -> None:
    path = tmp_path / "model.zip"
    target: Any = io.BytesIO() if inner else path
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("data", "w") as stream:
        for _ in range(150):
            stream.write(bytes(1_000_000))
    if inner:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("policy.pth", target.getvalue())
            archive.writestr("data", "{}")
    with pytest.raises(ConfigError, match=r"would unpack to 150,000,000 bytes"):
        FAR(PPO).load(path, device="cpu")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(50)])
def test_what_is_no_zip_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    with pytest.raises(ConfigError, match="no model of Stable-Baselines3, or damaged"):
        FAR(PPO).load(tmp_path / "model.zip")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_one_line_however_it_is_compressed(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("data", json.dumps({"numbers": list(range(200))}))
    whole = path.read_bytes()
    content = whole.index(b"data") + 4
    path.write_bytes(whole[: content + 9] + bytes(20) + whole[content + 29 :])
    with pytest.raises(ConfigError, match="or damaged") as caught:
        FAR(PPO).load(path, device="cpu")
    assert all("\n" not in line and len(line) <= 300 for line in caught.value.problems)


def test_a_member_that_is_shorter_than_it_is_said_to_be_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "{}")
    whole = path.read_bytes()
    sizes = whole.index(b"PK\x01\x02") + 20  # in the central directory: compressed, and not
    path.write_bytes(whole[:sizes] + struct.pack("<II", 1_000, 1_000) + whole[sizes + 8 :])
    with pytest.raises(ConfigError, match="or damaged"):
        FAR(PPO).load(path, device="cpu")


def test_a_model_without_its_spaces_is_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("data", "{}")
    with pytest.raises(ConfigError, match="it holds no action_space and no observation_space"):
        FAR(PPO).load(tmp_path / "model.zip", device="cpu")
