"""Builds or loads the algorithm that a configuration names, with or without fragmentation and recall."""

import warnings
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from farl.errors import ConfigError
from farl.experiment.algorithms import algorithm_class
from farl.experiment.checkpoint import Checkpoint
from farl.experiment.compiler import import_compiler_on_demand
from farl.experiment.config import ExperimentConfig, describe_learner
from farl.experiment.hyperparameter_values import build_hyperparameters
from farl.sb3 import FAR, Fast
from farl.sb3.archives import look_at, refusal
from farl.sb3.stepping import Stepwise

_REFUSALS = (ValueError, TypeError, AssertionError, RuntimeError, KeyError, NotImplementedError, MemoryError)


def limit_threads(config: ExperimentConfig) -> None:
    """Let torch use as many threads as the configuration says."""
    if config.torch_threads is not None:
        torch.set_num_threads(config.torch_threads)


def learner_class(config: ExperimentConfig) -> type[BaseAlgorithm]:
    """The algorithm, in ``Fast`` and ``FAR`` where the configuration says so; it can be stopped between any steps."""
    import_compiler_on_demand()
    learner = algorithm_class(config.algorithm.name)
    if config.algorithm.fast:
        learner = Fast(learner)
    return Stepwise(learner if config.far is None else FAR(learner))


def build_learner(config: ExperimentConfig, venv: VecEnv) -> BaseAlgorithm:
    """A new, untrained model.

    :raises ConfigError: the algorithm refuses its hyperparameters
    """
    hyperparameters = build_hyperparameters(
        algorithm_class(config.algorithm.name), config.algorithm.hyperparameters, venv.action_space.shape or ()
    )
    arguments: dict[str, Any] = {"far": config.far} if config.far is not None else {}
    try:
        return learner_class(config)(
            config.algorithm.policy, venv, seed=config.seed, device=config.device, **hyperparameters, **arguments
        )
    except _REFUSALS as error:
        raise ConfigError(
            f"{config.algorithm.name} cannot be built from this configuration: {_brief(error)}"
        ) from error


def load_learner(
    config: ExperimentConfig, checkpoint: Checkpoint, venv: VecEnv | None, trust: bool = False
) -> BaseAlgorithm:
    """The model of a checkpoint.

    :param trust: whether to read pickled objects, which can run code; FARL's own checkpoints hold none, unless you
        gave the algorithm objects of a kind of your own
    :raises ConfigError: the checkpoint belongs to another algorithm or another environment
    """
    wanted = (config.algorithm.name, config.far is not None)
    if (checkpoint.algorithm, checkpoint.far) != wanted:
        raise ConfigError(
            f"{checkpoint.path}: holds {describe_learner(checkpoint.algorithm, checkpoint.far)}, but config.yaml says "
            f"{describe_learner(*wanted)}; put the run's own checkpoints and config.yaml back together"
        )
    archive = look_at(checkpoint.model_file)
    if archive.pickled and not trust:
        names = ", ".join(sorted(archive.pickled)[:5])
        raise ConfigError(
            f"{checkpoint.model_file}: holds pickled objects ({names}), which can run code when they are read; where "
            "you trust the file, say --trust (trust=True in Python)"
        )
    try:
        with warnings.catch_warnings():  # of what was looked at already
            warnings.simplefilter("ignore", UserWarning)
            return learner_class(config).load(
                checkpoint.model_file, env=venv, device=config.device, custom_objects=archive.plain
            )
    except Exception as error:  # any reader in the zip may fail on a foreign file
        reason = refusal(error) or _brief(error)
        raise ConfigError(
            f"{checkpoint.model_file}: cannot be loaded for {config.environment.id}: {reason}; it was made "
            "by another experiment or another version"
        ) from error


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
