"""Checks across a configuration's sections: what its types cannot say, and what only the real environment knows.

Each check yields ``(key path, problem)`` pairs, so that all problems are reported at once.
"""

import importlib
import math
from collections.abc import Callable, Iterator

import gymnasium as gym
import numpy as np
import psutil
from gymnasium import spaces

from farl.envs.registry import BATCHED_KINDS
from farl.errors import ConfigError, did_you_mean
from farl.experiment.algorithms import algorithm_class
from farl.experiment.config import AlgorithmConfig, EnvironmentConfig, WrapperConfig
from farl.experiment.hyperparameter_values import hyperparameter_problems
from farl.experiment.named_environments import check_vec_wrapper, find_wrapper, id_problem
from farl.experiment.one_environment import spaces_of
from farl.experiment.signatures import Signature, signature_of
from farl.validation import Problem

_DISCRETE_ONLY = ("DQN", "QRDQN")
_CONTINUOUS_ONLY = ("SAC", "TD3", "DDPG", "TQC", "CrossQ")
_SMALLEST_CNN_IMAGE = 36


def algorithm_problems(algorithm: AlgorithmConfig) -> Iterator[Problem]:
    """Unknown algorithm, policy or hyperparameter, and values the algorithm cannot take."""
    try:
        found = signature_of(algorithm.name)
    except ConfigError as error:
        yield ("algorithm", "name"), str(error)
        return
    if algorithm.policy not in found.policies:
        hint = did_you_mean(algorithm.policy, found.policies)
        yield ("algorithm", "policy"), f"{algorithm.name} has no policy {algorithm.policy!r}{hint}"
    if algorithm.fast and not found.fast:
        yield ("algorithm", "fast"), _why_not_fast(algorithm.name)
    for name, problem in hyperparameter_problems(found, algorithm.policy, algorithm.hyperparameters).items():
        yield ("algorithm", "hyperparameters", name), problem


def _why_not_fast(name: str) -> str:
    from farl.sb3.fast import why_not_fast

    return why_not_fast(algorithm_class(name)) or ""


def environment_problems(environment: EnvironmentConfig) -> Iterator[Problem]:
    """Unknown environment, wrapper or argument."""
    if environment.kind != "minigrid" and environment.observation is not None:
        yield ("environment", "observation"), "only environments of kind minigrid have it; remove it"
    problem = id_problem(environment)
    if problem is not None:
        yield ("environment", "id"), problem
    if environment.kind in BATCHED_KINDS and environment.wrappers:
        yield ("environment", "wrappers"), f"kind {environment.kind} steps all copies in one call and takes no wrappers"
    if environment.kind in BATCHED_KINDS and environment.vector_backend not in ("auto", "dummy"):
        yield ("environment", "vector_backend"), f"kind {environment.kind} has threads or batches of its own; remove it"
    if environment.vector_backend == "ale" and environment.kind != "atari":
        yield ("environment", "vector_backend"), "only kind atari has the backend ale; use auto, dummy or subproc"
    elif environment.vector_backend == "ale" and environment.wrappers:
        yield ("environment", "wrappers"), "the backend ale steps all copies in one call and takes no wrappers"
    elif (
        environment.vector_backend == "batch" and problem is None and (reason := _why_no_batch(environment)) is not None
    ):
        yield ("environment", "vector_backend"), reason
    check_both: tuple[tuple[str, list[WrapperConfig], Callable[..., object]], ...] = (
        ("wrappers", environment.wrappers, find_wrapper),
        ("vec_wrappers", environment.vec_wrappers, check_vec_wrapper),
    )
    for key, wrappers, check in check_both:
        for index, wrapper in enumerate(wrappers):
            try:
                check(wrapper, environment.folder)
            except ConfigError as error:
                yield ("environment", key, str(index)), str(error)
    if environment.kind == "atari":
        try:
            importlib.import_module("cv2")
        except ImportError:
            yield ("environment", "kind"), "atari needs OpenCV: pip install 'farl[atari]'"


def _why_no_batch(environment: EnvironmentConfig) -> str | None:
    from farl.experiment.environments import why_no_batch

    return why_no_batch(environment)


def device_problem(device: str) -> str | None:
    """Why the device cannot be used on this machine, or None."""
    kind, _, index = device.partition(":")
    if kind not in ("cuda", "mps"):
        return None
    import torch

    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        return f"{device} is not available on this machine ({torch.cuda.device_count()} GPUs found); use auto or cpu"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "mps is not available on this machine; use auto or cpu"
    return None


def combination_problems(environment: EnvironmentConfig, algorithm: AlgorithmConfig) -> Iterator[Problem]:
    """What does not fit together. May make one copy of the environment, to learn its spaces."""
    try:
        observation_space, action_space = spaces_of(environment)
    except ConfigError as error:
        yield ("environment",), str(error)
        return
    found = signature_of(algorithm.name)
    yield from _space_problems(environment, algorithm, observation_space, action_space)
    yield from _batch_problems(environment, algorithm, found)
    yield from _memory_problems(environment, algorithm, found, observation_space)


def _space_problems(
    environment: EnvironmentConfig,
    algorithm: AlgorithmConfig,
    observation: gym.Space[object],
    action: gym.Space[object],
) -> Iterator[Problem]:
    name, policy = algorithm.name, algorithm.policy
    if name in _DISCRETE_ONLY and not isinstance(action, spaces.Discrete):
        yield (
            ("algorithm", "name"),
            f"{name} needs discrete actions, {environment.id} has {_brief(action)}; use PPO or SAC",
        )
    if name in _CONTINUOUS_ONLY and not isinstance(action, spaces.Box):
        yield (
            ("algorithm", "name"),
            f"{name} needs continuous actions, {environment.id} has {_brief(action)}; use PPO or DQN",
        )
    if isinstance(observation, spaces.Dict) and not policy.startswith("MultiInput"):
        fix = (
            "set environment.kind: minigrid or use MultiInputPolicy"
            if "MiniGrid" in environment.id
            else ("use MultiInputPolicy")
        )
        yield ("algorithm", "policy"), f"{policy} cannot read the dictionary observations of {environment.id}; {fix}"
    elif policy.startswith("MultiInput") and not isinstance(observation, spaces.Dict):
        yield (
            ("algorithm", "policy"),
            f"{policy} needs dictionary observations, found {_brief(observation)}; use MlpPolicy",
        )
    elif not isinstance(
        observation, spaces.Dict | spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    ):
        yield (
            ("environment", "id"),
            f"observations of type {type(observation).__name__} are not supported; add a wrapper",
        )
    if policy.startswith("Cnn"):
        custom = "features_extractor_class" in (algorithm.hyperparameters.get("policy_kwargs") or {})
        if not is_image(observation):
            yield (
                ("algorithm", "policy"),
                f"{policy} needs uint8 images, {environment.id} has {_brief(observation)}; use MlpPolicy",
            )
        elif not custom and min(sorted(observation.shape or ())[1:]) < _SMALLEST_CNN_IMAGE:
            size = "x".join(map(str, observation.shape or ()))
            least = f"{_SMALLEST_CNN_IMAGE}x{_SMALLEST_CNN_IMAGE}"
            yield ("algorithm", "policy"), f"{policy} needs images of at least {least}, found {size}; use MlpPolicy"


def _batch_problems(environment: EnvironmentConfig, algorithm: AlgorithmConfig, found: Signature) -> Iterator[Problem]:
    settings = {**found.defaults, **algorithm.hyperparameters}
    n_envs = environment.n_envs
    if found.off_policy:
        train_freq = settings.get("train_freq")
        if n_envs > 1 and isinstance(train_freq, list) and "episode" in train_freq:
            yield (
                ("algorithm", "hyperparameters", "train_freq"),
                f"training per episode needs environment.n_envs: 1, found {n_envs}; count steps instead: [1, step]",
            )
        return
    if "batch_size" not in settings:
        return
    rollout, batch = int(settings["n_steps"]) * n_envs, int(settings["batch_size"])
    if rollout % batch:
        near = sorted((size for size in _divisors(rollout)), key=lambda size: abs(size - batch))[:2]
        yield (
            ("algorithm", "hyperparameters", "batch_size"),
            f"a rollout of {rollout} steps (n_steps {settings['n_steps']} x n_envs {n_envs}) is not a multiple of "
            f"batch_size {batch}; use {' or '.join(map(str, sorted(near)))}",
        )
    if rollout == 1:
        yield ("algorithm", "hyperparameters", "n_steps"), "n_steps x n_envs must be more than 1"


def _memory_problems(
    environment: EnvironmentConfig,
    algorithm: AlgorithmConfig,
    found: Signature,
    observation: gym.Space[object],
) -> Iterator[Problem]:
    settings = {**found.defaults, **algorithm.hyperparameters}
    off_policy = found.off_policy
    name = "buffer_size" if off_policy else "n_steps"
    if name not in settings:
        return  # it stores no observations
    rows = int(settings[name]) * (1 if off_policy else environment.n_envs)
    copies = 2 if off_policy and not settings.get("optimize_memory_usage") else 1
    needed = rows * copies * _bytes(observation)
    available = psutil.virtual_memory().total
    if needed > available:
        yield (
            ("algorithm", "hyperparameters", name),
            f"{rows:,} observations need {needed / 2**30:,.0f} GiB of memory, this machine has "
            f"{available / 2**30:,.0f} GiB; lower {name}",
        )


def is_image(space: gym.Space[object]) -> bool:
    """Whether Stable-Baselines3 takes observations for images; asking it would import torch."""
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) == 3
        and space.dtype == np.uint8
        and bool((space.low == 0).all() and (space.high == 255).all())
    )


def _brief(space: gym.Space[object]) -> str:
    if isinstance(space, spaces.Box):
        return f"Box of shape {space.shape} and type {space.dtype}"
    return str(space)


def _bytes(space: gym.Space[object]) -> int:
    if isinstance(space, spaces.Dict):
        return sum(_bytes(part) for part in space.spaces.values())
    return math.prod(space.shape or (1,)) * np.dtype(space.dtype or np.float32).itemsize


def _divisors(number: int) -> Iterator[int]:
    for small in range(1, math.isqrt(number) + 1):
        if number % small == 0:
            yield small
            yield number // small
