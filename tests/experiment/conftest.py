from collections.abc import Callable
from typing import Any

import pytest

from farl.experiment.config import ExperimentConfig
from farl.experiment.loading import parse_config

SMALL_NETWORK = {"policy_kwargs": {"net_arch": [8]}}


@pytest.fixture
def make_config() -> Callable[..., ExperimentConfig]:
    """Build a small PPO experiment on CartPole, with the given sections replaced."""

    def make(**changes: Any) -> ExperimentConfig:
        data: dict[str, Any] = {
            "name": "small",
            "total_timesteps": 256,
            "device": "cpu",
            "torch_threads": 1,
            "environment": {"id": "CartPole-v1", "n_envs": 2},
            "algorithm": {
                "name": "PPO",
                "hyperparameters": {
                    "n_steps": 32,
                    "batch_size": 32,
                    "n_epochs": 1,
                    "learning_rate": "linear(1e-3)",
                    **SMALL_NETWORK,
                },
            },
        }
        return parse_config(data | changes)

    return make
