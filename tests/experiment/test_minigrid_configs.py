"""MiniGrid's exploration tasks with each observation that the kind minigrid offers."""

import pytest

from farl.experiment.loading import load_config
from farl.experiment.run import train
from farl.experiment.shipped import shipped_configs

SMALL = (
    "total_timesteps=128",
    "environment.n_envs=2",
    "environment.kwargs.max_steps=20",
    "algorithm.hyperparameters.n_steps=32",
    "algorithm.hyperparameters.batch_size=32",
    "far.warmup=20",
    "far.batch_size=16",
)
NAMES = [name for name in shipped_configs() if name.startswith("minigrid")]


def run(name: str, *settings: str) -> None:
    metrics = train(load_config(name, [*SMALL, *settings]))
    assert metrics["total_timesteps"] == 128
    assert metrics["ep_len_mean"] is not None
    assert metrics["coverage"] is not None


@pytest.mark.parametrize("name", NAMES)
def test_every_task_trains(name: str) -> None:
    run(name)


@pytest.mark.parametrize(("observation", "policy"), [("symbolic", "MlpPolicy"), ("rgb", "CnnPolicy")])
def test_symbols_and_pictures_work_too(observation: str, policy: str) -> None:
    run("minigrid_keycorridor", f"environment.observation={observation}", f"algorithm.policy={policy}")


@pytest.mark.parametrize("module", ["ride", "e3b", "combination"])
def test_other_bonuses_are_one_override_away(module: str) -> None:
    run("minigrid_multiroom", f"far.module={module}")
