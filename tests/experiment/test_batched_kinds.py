from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farl.errors import ConfigError
from farl.experiment.config import EnvironmentConfig
from farl.experiment.environments import make_vec_env
from farl.experiment.loading import parse_config
from farl.experiment.recording import record
from farl.experiment.run import train
from farl.experiment.run_directory import create_run_directory

SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}


def experiment(environment: dict[str, Any], policy: str = "MlpPolicy", **more: Any) -> dict[str, Any]:
    return {
        "total_timesteps": 128,
        "device": "cpu",
        "torch_threads": 1,
        "environment": environment,
        "algorithm": {"name": "PPO", "policy": policy, "hyperparameters": SMALL},
        **more,
    }


def test_control_trains_from_yaml_and_its_level_moves_the_observations():
    config = parse_config(experiment({"id": "Acrobot", "kind": "control", "n_envs": 4, "kwargs": {"level": 2}}))
    assert train(config)["total_timesteps"] == 128
    shifted = make_vec_env(config.environment, seed=0).reset()
    assert np.abs(shifted).max() > 1


@pytest.mark.parametrize("task", ["CartPole", "Acrobot", "LunarLander"])
def test_control_is_drawn_as_gymnasium_draws_it(task: str):
    if task == "LunarLander":
        pytest.importorskip("Box2D")
    venv = make_vec_env(EnvironmentConfig(id=task, kind="control"), 0, n_envs=2, render_mode="rgb_array")
    venv.reset()
    first = venv.get_images()
    for _ in range(5):
        venv.step(np.zeros(2, np.int64))
    later = venv.get_images()
    assert all(picture is not None and picture.shape[2] == 3 and picture.std() > 0 for picture in first)
    assert all(np.any(before != after) for before, after in zip(first, later, strict=True))


def test_procgen_trains_from_yaml_is_evaluated_and_recorded(tmp_path: Path):
    pytest.importorskip("procgen")
    environment = {"id": "starpilot", "kind": "procgen", "n_envs": 4, "kwargs": {"distribution_mode": "easy"}}
    config = parse_config(experiment(environment, "CnnPolicy", evaluation={"freq": 64, "episodes": 1}))
    run = create_run_directory("small", tmp_path / "run")
    metrics = train(config, run.path)
    assert metrics["evaluation_ep_rew_mean"] is not None
    assert record(run, tmp_path / "agent.gif", 1, deterministic=False, seed=0).frames > 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"id": "starpilo", "kind": "procgen"}, "environment.id: unknown procgen environment 'starpilo'; did you mean"),
        ({"id": "CartPole-v1", "kind": "control"}, "did you mean CartPole"),
        ({"id": "maze", "kind": "procgen", "kwargs": {"levels": 3}}, "no argument 'levels'; did you mean num_levels"),
        ({"id": "maze", "kind": "procgen", "kwargs": {"start_level": -3}}, "do not exist"),
        ({"id": "CartPole", "kind": "control", "wrappers": ["TimeAware"]}, "takes no wrappers"),
        ({"id": "CartPole", "kind": "control", "vector_backend": "subproc", "n_envs": 2}, "remove it"),
    ],
)
def test_bad_input_names_the_key(environment: dict[str, Any], message: str):
    policy = "CnnPolicy" if environment["kind"] == "procgen" else "MlpPolicy"
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        parse_config(experiment(environment, policy))
