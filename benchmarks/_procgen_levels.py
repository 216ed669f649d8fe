"""Levels of a ProcGen game in sequence, as an experiment of the command line's kind."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

N_ENVS, N_STEPS = 16, 64
FIRST_LEVEL, EPISODES = 20, 10
ALGORITHMS: dict[str, dict[str, Any]] = {
    "adam": {"name": "PPO", "optimizer": "Adam"},
    "trac": {"name": "PPO", "optimizer": "TRAC"},
    "particle": {"name": "ParticlePPO", "optimizer": "TRAC", "hyperparameters": {"n_particles": 3}},
}
"""The methods that this suite has."""


def run_game(game: str, method: str, seed: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Take one learner through ``levels`` levels of ``iterations`` rollouts each, one level a task."""
    from farl.experiment.loading import parse_config
    from farl.experiment.run import train

    chosen = ALGORITHMS[method]
    levels, steps = parameters["levels"], parameters["iterations"] * N_ENVS * N_STEPS
    kwargs = {"distribution_mode": "easy", "num_levels": 1, "start_level": FIRST_LEVEL, "num_threads": 1}
    config = parse_config(
        {
            "total_timesteps": levels * steps,
            "seed": seed,
            "device": "cpu",
            "torch_threads": 1,
            "environment": {
                "id": game,
                "kind": "procgen",
                "n_envs": N_ENVS,
                "normalize_rewards": True,
                "kwargs": kwargs,
            },
            "sequence": {
                "steps": steps,
                "episodes": EPISODES,
                "tasks": [{"kwargs": {"start_level": FIRST_LEVEL + level}} for level in range(levels)],
            },
            "algorithm": {
                "name": chosen["name"],
                "policy": "CnnPolicy",
                "hyperparameters": {
                    "n_steps": N_STEPS,
                    "batch_size": 256,
                    "n_epochs": 2,
                    "learning_rate": 1e-3,
                    "ent_coef": 0.01,
                    "policy_kwargs": {"optimizer_class": chosen["optimizer"]},
                    **chosen.get("hyperparameters", {}),
                },
            },
        }
    )
    began = time.perf_counter()
    returns = train(config)["sequence_returns"]
    learnt = [row[-1] for row in returns]
    return {
        "mean_return": float(np.mean(learnt)),
        "later_return": float(np.mean(learnt[1:])),
        "earlier_return": float(np.mean(returns[-1][:-1])),
        "steps": levels * steps,
        "seconds": time.perf_counter() - began,
        "sequence_returns": returns,
    }
