"""Small runs of every kind of agent, and all that two of them have to agree in to be the same run."""

import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from farl.experiment.checkpoint import latest_checkpoint
from farl.experiment.config import ExperimentConfig
from farl.experiment.learner import load_learner
from farl.experiment.loading import parse_config
from farl.experiment.tables import read_table

OF_THE_CLOCK = ("time/fps", "time/time_elapsed")
NOT_COMPARED = {"wall_seconds", "steps_per_second", "machine"}

ROOMS = {"id": "farl/RoomChain-v0", "n_envs": 2, "kwargs": {"start": "anywhere", "noise": "color-.05", "max_steps": 45}}
NORMALISED = {"id": "CartPole-v1", "n_envs": 2, "normalize_observations": True, "normalize_rewards": True}
MAPS = {"id": "farl/MapWorld-Small-v0", "n_envs": 2, "kwargs": {"max_steps": 150}}
FAR = {
    "warmup": 40,
    "criterion": {"name": "ratio", "threshold": 1.1, "min_samples": 8},
    "batch_size": 16,
    "memory": {"capacity": 6},
}
NET = {"policy_kwargs": {"net_arch": [8]}}


def on_policy(name: str, **changes: Any) -> dict[str, Any]:
    epochs = {} if name == "A2C" else {"n_epochs": 2, "batch_size": 32}
    lstm = {"policy_kwargs": {"net_arch": [8], "lstm_hidden_size": 8}} if name == "RecurrentPPO" else NET
    hyperparameters = {"n_steps": 32, "learning_rate": "linear(1e-3)", **epochs, **lstm, **changes.pop("with", {})}
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    return {"name": name, "policy": policy, "hyperparameters": hyperparameters, **changes}


DQN = {"name": "DQN", "hyperparameters": {"buffer_size": 300, "learning_starts": 20, "train_freq": [5, "step"], **NET}}
SAC = {
    "name": "SAC",
    "hyperparameters": {
        "buffer_size": 300,
        "learning_starts": 20,
        "train_freq": [1, "episode"],
        "use_sde": True,
        **NET,
    },
}
NOISY = {"action_noise": "ornstein_uhlenbeck(0.2)"}
TD3 = {
    "name": "TD3",
    "hyperparameters": {"buffer_size": 300, "learning_starts": 20, "train_freq": [7, "step"], **NOISY, **NET},
}
PENDULUM = {"id": "Pendulum-v1", "kwargs": {"max_episode_steps": 30}}
EVALUATED = {"evaluation": {"freq": 64, "episodes": 2}}
FARMAP = {"name": "FARMap", "policy": "MultiInputPolicy"}
LEVELS = [{"kwargs": {"level": level}} for level in range(3)]
SEQUENCE = {
    "environment": {"id": "CartPole", "kind": "control", "n_envs": 2, "normalize_rewards": True},
    "sequence": {"tasks": LEVELS, "steps": 100, "episodes": 1, "reset": ["normalization", "optimizer"]},
    "total_timesteps": 300,
}
OUTSIDE = {"vec_wrappers": [{"name": "farl.sb3.vec_env:FARVecEnv", "kwargs": {"far": FAR, "seed": 0, "device": "cpu"}}]}

BASE: dict[str, Any] = {
    "name": "small",
    "total_timesteps": 256,
    "device": "cpu",
    "environment": {"id": "CartPole-v1", "n_envs": 2},
    "logging": {"image_freq": 0},
}

KINDS: dict[str, dict[str, Any]] = {
    "PPO": {"algorithm": on_policy("PPO"), "environment": NORMALISED, **EVALUATED},
    "PPO with gSDE": {
        "algorithm": on_policy("PPO", **{"with": {"use_sde": True, "sde_sample_freq": 4}}),
        "environment": PENDULUM,
    },
    "A2C": {"algorithm": on_policy("A2C", **{"with": {"n_steps": 16}})},
    "RecurrentPPO": {"algorithm": on_policy("RecurrentPPO")},
    "Fast(PPO)": {"algorithm": on_policy("PPO", fast=True), "environment": ROOMS},
    "Fast(A2C)": {"algorithm": on_policy("A2C", fast=True)},
    "Fast(RecurrentPPO)": {"algorithm": on_policy("RecurrentPPO", fast=True)},
    "FAR(PPO)": {"algorithm": on_policy("PPO"), "environment": ROOMS, "far": FAR},
    "FAR(Fast(PPO))": {"algorithm": on_policy("PPO", fast=True), "environment": ROOMS, "far": FAR, **EVALUATED},
    "FAR(PPO), recognition": {
        "algorithm": on_policy("PPO"),
        "environment": ROOMS,
        "far": {"module": "recognition", "warmup": 40, "batch_size": 16},
    },
    "FAR(Fast(PPO)), graph of places": {
        "algorithm": on_policy("PPO", fast=True),
        "environment": ROOMS,
        "far": {"warmup": 40, "batch_size": 16},
    },
    "FAR(PPO), disk": {
        "algorithm": on_policy("PPO"),
        "environment": {**ROOMS, "normalize_rewards": True},
        "far": {**FAR, "memory": {"host": 2, "disk": "DISK"}},
    },
    "DQN": {"algorithm": DQN, "environment": {**NORMALISED, "n_envs": 1}, **EVALUATED},
    "FAR(DQN)": {"algorithm": DQN, "environment": ROOMS, "far": FAR},
    "SAC": {"algorithm": SAC, "environment": PENDULUM},
    "TD3": {"algorithm": TD3, "environment": PENDULUM},
    "ParticlePPO": {"algorithm": {**on_policy("ParticlePPO", **{"with": {"n_particles": 3, "acting": "thompson"}})}},
    "FARMap": {"algorithm": FARMAP, "environment": MAPS, "total_timesteps": 900},
    "FARMapPlus": {"algorithm": {**FARMAP, "name": "FARMapPlus"}, "environment": MAPS, "total_timesteps": 900},
    "levels": {"algorithm": on_policy("PPO"), **SEQUENCE},
    "FARVecEnv": {"algorithm": on_policy("PPO"), "environment": {**ROOMS, **OUTSIDE}},
}


def small_run(kind: str, folder: Path, **changes: Any) -> ExperimentConfig:
    """Return the configuration of a kind of run.

    :param folder: where it keeps what lies outside of its run directory
    :param changes: changed sections
    """
    text = json.dumps(BASE | KINDS[kind] | changes)
    return parse_config(json.loads(text.replace("DISK", str(folder / "disk"))))


def logged(path: Path) -> dict[str, Any]:
    """All that a run has logged but for what the clock tells."""
    tables = {
        f"{name}/{key}": column.tolist()
        for name in ("progress.csv", "evaluations.csv")
        for key, column in read_table(path / name).items()
        if key not in OF_THE_CLOCK
    }
    scalars: dict[str, Any] = {}
    for file in path.glob("events.*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in {*events.Tags()["scalars"]} - {*OF_THE_CLOCK}:
            scalars.setdefault(f"events/{tag}", []).extend((event.step, event.value) for event in events.Scalars(tag))
    scalars = {tag: sorted(points) for tag, points in scalars.items()}
    metrics = json.loads((path / "metrics.json").read_text())
    return tables | scalars | {name: value for name, value in metrics.items() if name not in NOT_COMPARED}


def parameters(path: Path, config: ExperimentConfig) -> Any:
    """All parameters, optimisers and curiosity at the end."""
    model = load_learner(config, latest_checkpoint(path / "checkpoints"), None)
    return flat(model.get_parameters())


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        parts: Any = tree.items()
    elif isinstance(tree, list | tuple):
        parts = enumerate(tree)
    else:
        return {name: tree.detach().cpu().numpy() if isinstance(tree, torch.Tensor) else tree}
    return {key: value for part, inner in parts for key, value in flat(inner, f"{name}/{part}").items()}
