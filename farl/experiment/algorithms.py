"""The algorithms that YAML can name."""

import importlib
from functools import cache
from typing import TYPE_CHECKING

from farl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["ALGORITHMS", "algorithm_class"]

ALGORITHMS = {
    **dict.fromkeys(("PPO", "A2C", "DQN", "SAC", "TD3", "DDPG"), "stable_baselines3"),
    **dict.fromkeys(("TRPO", "RecurrentPPO", "QRDQN", "TQC", "CrossQ"), "sb3_contrib"),
    "FARMap": "farl.agents.farmap",
    "FARMapPlus": "farl.agents.farmap_plus",
    "FARMapRobot": "farl.agents.robot",
    "FrontierExplorer": "farl.agents.frontier",
    "ParticlePPO": "farl.agents.particle_ppo",
}
"""Name of an algorithm -> the package it comes from."""


@cache
def algorithm_class(name: str) -> "type[BaseAlgorithm]":
    """The class behind a name of ``ALGORITHMS``.

    :raises ConfigError: the name is unknown, or its package is not installed (the message names the pip command).
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {name!r}{did_you_mean(name, ALGORITHMS, limit=20)}")
    try:
        module = importlib.import_module(ALGORITHMS[name])
    except ImportError:
        raise ConfigError(f"{name} needs sb3-contrib: pip install 'farl[contrib]'") from None
    found: type[BaseAlgorithm] = getattr(module, name)
    return found
