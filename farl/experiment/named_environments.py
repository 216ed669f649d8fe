"""Environments and wrappers by the names that YAML gives them. What one of them is made of is imported on demand."""

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import gymnasium as gym

import farl.envs
from farl.envs.miniworld import PREFIX as MINIWORLD
from farl.envs.miniworld import register_miniworld
from farl.envs.registry import BATCHED_KINDS
from farl.errors import ConfigError, did_you_mean
from farl.experiment.config import EnvironmentConfig, WrapperConfig
from farl.experiment.own_code import find_environment, find_named

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

AnyEnv = gym.Env[Any, Any]

_TOLD_BY = {
    "EgocentricObservation": "farl.agents.observation_spaces:egocentric_spaces",
    "FARMapObservation": "farl.agents.observation_spaces:farmap_spaces",
}
"""Wrapper around all environments at once -> the function that tells its spaces from those of the environments. Its
other arguments are the wrapper's."""


@cache
def known_environments() -> dict[str, str]:
    """Every id that Gymnasium can make -> the kind that suits it."""
    importlib.import_module("minigrid")
    _register_atari()
    return {name: _kind(str(spec.entry_point)) for name, spec in gym.registry.items()}


def _register_atari() -> None:
    if importlib.util.find_spec("ale_py") is not None:
        gym.register_envs(importlib.import_module("ale_py"))


def id_problem(environment: EnvironmentConfig) -> str | None:
    """Why the id cannot be made, or None."""
    if environment.kind in BATCHED_KINDS:
        ids = BATCHED_KINDS[environment.kind].ids
        hint = did_you_mean(environment.id, ids, limit=16)
        return None if environment.id in ids else f"unknown {environment.kind} environment {environment.id!r}{hint}"
    name = environment.id
    if name.startswith(MINIWORLD):
        try:
            register_miniworld()
        except ConfigError as error:
            return str(error)
    elif name.startswith("ALE/"):
        _register_atari()
    if name in gym.registry:
        return None
    # All others are imported only to find the name among them, or one like it.
    known = {**known_environments(), **dict.fromkeys(gym.registry, "gymnasium")}
    if ":" in name:
        try:
            find_environment(name, environment.folder)
        except ConfigError as error:
            return str(error)
        return None
    if name in known:
        return None
    if name.startswith("ALE/") and importlib.util.find_spec("ale_py") is None:
        return f"unknown environment {name!r}: Atari needs an extra: pip install 'farl[atari]'"
    return f"unknown environment {name!r}{did_you_mean(name, known)}; farl list envs prints all"


def find_wrapper(wrapper: WrapperConfig, folder: str | None = None) -> Callable[..., AnyEnv]:
    """The class behind the name of a wrapper around one environment.

    :raises ConfigError: the name is unknown, or an argument is.
    """
    # MiniGrid's wrappers, which bring networkx, are imported only where no other has the name.
    known = _wrappers("farl.envs.miniworld", "gymnasium.wrappers")
    if wrapper.name not in known:
        known = known | _wrappers("minigrid.wrappers", "farl.envs.minigrid")
    return _find(wrapper, known, folder, gym.Env)


def find_vec_wrapper(wrapper: WrapperConfig, folder: str | None = None) -> "Callable[..., VecEnv]":
    """The class behind the name of a wrapper around all environments at once.

    :raises ConfigError: the name is unknown, or an argument is.
    """
    from stable_baselines3.common.vec_env import VecEnv

    return _find(wrapper, _vec_wrappers(), folder, VecEnv)


def check_vec_wrapper(wrapper: WrapperConfig, folder: str | None = None) -> None:
    """Refuse a wrapper around all environments at once that is none, or does not take its arguments.

    :raises ConfigError: the name is unknown, or an argument is.
    """
    if find_wrapper_spaces(wrapper) is None:
        find_vec_wrapper(wrapper, folder)


def find_wrapper_spaces(wrapper: WrapperConfig) -> Callable[..., Any] | None:
    """The function that tells the spaces of a wrapper around all environments at once, of observations and actions.

    :return: None where only the wrapper itself can tell them
    :raises ConfigError: the wrapper has no such argument
    """
    if wrapper.name not in _TOLD_BY or wrapper.kwargs.get("settings") is not None:
        return None
    found: Callable[..., Any] = pkgutil.resolve_name(_TOLD_BY[wrapper.name])
    _check_arguments(wrapper, found)
    return found


def _find(wrapper: WrapperConfig, known: Mapping[str, Any], folder: str | None, kind: type[Any]) -> Callable[..., Any]:
    """The class that is known by a name, or written as package.module:Class; a function may stand for a class.

    :raises ConfigError: the name is unknown, or an argument is.
    """
    name = wrapper.name
    if ":" in name:
        found: Any = find_named(name, folder)
    else:
        found = known.get(name)
    if name == "VecNormalize":
        raise ConfigError("VecNormalize is environment.normalize_observations and environment.normalize_rewards")
    if found is None:
        raise ConfigError(f"unknown wrapper {name!r}{did_you_mean(name, known)}; or write package.module:Class")
    if not (inspect.isfunction(found) or (inspect.isclass(found) and issubclass(found, kind))):
        what = "gymnasium.Wrapper" if kind is gym.Env else "stable_baselines3.common.vec_env.VecEnvWrapper"
        raise ConfigError(f"{name} is no wrapper: neither a {what} nor a function")
    _check_arguments(wrapper, found)
    return found


def _check_arguments(wrapper: WrapperConfig, found: Callable[..., Any]) -> None:
    name = wrapper.name
    parameters = dict(list(inspect.signature(found).parameters.items())[1:])
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in wrapper.kwargs:
        if key not in parameters:
            raise ConfigError(f"wrapper {name} has no argument {key!r}{did_you_mean(key, parameters)}")
    required = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    missing = [key for key in required if key not in wrapper.kwargs]
    if missing:
        raise ConfigError(f"wrapper {name} needs kwargs: {', '.join(missing)}")


def _kind(entry_point: str) -> str:
    if "minigrid" in entry_point:
        return "minigrid"
    return "atari" if "ale_py" in entry_point else "gymnasium"


@cache
def _wrappers(*modules: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module_name in modules:
        module = importlib.import_module(module_name)
        for name in dir(module):
            entry = getattr(module, name)
            if inspect.isclass(entry) and issubclass(entry, gym.Wrapper) and not name.startswith("_"):
                found[name] = entry
    return found


@cache
def _vec_wrappers() -> dict[str, Any]:
    from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize

    own = importlib.import_module("farl.agents.observation")
    stable_baselines = importlib.import_module("stable_baselines3.common.vec_env")
    found = {name: getattr(own, name) for name in own.__all__}
    for name in stable_baselines.__all__:
        entry = getattr(stable_baselines, name)
        if inspect.isclass(entry) and issubclass(entry, VecEnvWrapper) and entry not in (VecEnvWrapper, VecNormalize):
            found[name] = entry
    return found


def describe_environments() -> dict[str, str]:
    """Every id -> its kind, and for FARL's own what they are; FARL's first."""
    own = farl.envs.list_envs()
    known = known_environments() | {name: kind for kind, batched in BATCHED_KINDS.items() for name in batched.ids}
    ordered = [*own, *sorted(set(known) - set(own))]
    return {name: "  ".join(filter(None, [f"kind: {known[name]}", own.get(name)])) for name in ordered}
