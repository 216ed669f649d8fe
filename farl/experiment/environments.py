"""Builds the vectorised environment that a configuration describes."""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, partial
from typing import Any

import gymnasium as gym
from gymnasium.error import Error as GymnasiumError
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

import farl.envs
from farl.envs.atari import STACK, AtariSettings, AtariVecEnv, make_atari_env
from farl.envs.control import TASKS, ControlVecEnv
from farl.envs.miniworld import PREFIX as MINIWORLD
from farl.envs.miniworld import register_miniworld
from farl.envs.procgen import GAMES, ProcgenVecEnv
from farl.envs.state import Restorable
from farl.envs.vector import batch_maker
from farl.errors import ConfigError, did_you_mean
from farl.experiment.checked_env import CheckedEnv
from farl.experiment.config import EnvironmentConfig, WrapperConfig
from farl.experiment.own_code import find_environment, find_named
from farl.experiment.workers import WorkerVecEnv

AnyEnv = gym.Env[Any, Any]

_REFUSALS = (TypeError, ValueError, AssertionError, AttributeError, KeyError, GymnasiumError)
_WORKER_TIMEOUT = 600.0
_EXTRAS = {"ale_py": "atari", "cv2": "atari", "envpool": "envpool", "gym3": "procgen", "procgen": "procgen"}

BATCHED_KINDS = {"procgen": (ProcgenVecEnv, GAMES), "control": (ControlVecEnv, tuple(TASKS))}
"""Kind -> the VecEnv that steps all copies in one call, and the ids that it takes."""


@cache
def known_environments() -> dict[str, str]:
    """Every id that Gymnasium can make -> the kind that suits it."""
    importlib.import_module("minigrid")
    if importlib.util.find_spec("ale_py") is not None:
        gym.register_envs(importlib.import_module("ale_py"))
    return {name: _kind(str(spec.entry_point)) for name, spec in gym.registry.items()}


def id_problem(environment: EnvironmentConfig) -> str | None:
    """Why the id cannot be made, or None."""
    if environment.kind in BATCHED_KINDS:
        ids = BATCHED_KINDS[environment.kind][1]
        hint = did_you_mean(environment.id, ids, limit=16)
        return None if environment.id in ids else f"unknown {environment.kind} environment {environment.id!r}{hint}"
    name = environment.id
    if name.startswith(MINIWORLD):
        try:
            register_miniworld()
        except ConfigError as error:
            return str(error)
        known = {**known_environments(), **dict.fromkeys(gym.registry, "gymnasium")}
    else:
        known = known_environments()
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

    Raises:
        ConfigError: the name is unknown, or an argument is.
    """
    return _find(wrapper, _wrappers(), folder, gym.Env)


def find_vec_wrapper(wrapper: WrapperConfig, folder: str | None = None) -> Callable[..., VecEnv]:
    """The class behind the name of a wrapper around all environments at once.

    Raises:
        ConfigError: the name is unknown, or an argument is.
    """
    return _find(wrapper, _vec_wrappers(), folder, VecEnv)


def _find(wrapper: WrapperConfig, known: Mapping[str, Any], folder: str | None, kind: type[Any]) -> Callable[..., Any]:
    """The class that is known by a name, or written as package.module:Class; a function may stand for a class.

    Raises:
        ConfigError: the name is unknown, or an argument is.
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
    parameters = dict(list(inspect.signature(found).parameters.items())[1:])
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return found
    for key in wrapper.kwargs:
        if key not in parameters:
            raise ConfigError(f"wrapper {name} has no argument {key!r}{did_you_mean(key, parameters)}")
    required = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    missing = [key for key in required if key not in wrapper.kwargs]
    if missing:
        raise ConfigError(f"wrapper {name} needs kwargs: {', '.join(missing)}")
    return found


def make_one(environment: EnvironmentConfig, render_mode: str | None = None, passive_checker: bool = True) -> AnyEnv:
    """One environment with its wrappers. Its returns are measured below the user's wrappers.

    :param passive_checker: whether Gymnasium warns about what the environment returns first

    Raises:
        ConfigError: the environment or a wrapper refuses its arguments, or a package is missing.
    """
    known_environments()
    if environment.id.startswith(MINIWORLD):
        register_miniworld()
    try:
        if environment.kind == "atari":
            env = make_atari_env(environment.id, _atari_settings(environment), render_mode)
        else:
            kwargs = environment.kwargs if render_mode is None else {**environment.kwargs, "render_mode": render_mode}
            own = ":" in environment.id
            made: AnyEnv = gym.make(
                find_environment(environment.id, environment.folder) if own else environment.id,
                disable_env_checker=not passive_checker,
                **kwargs,
            )
            env = Monitor(_prepare_minigrid(made, environment) if environment.kind == "minigrid" else made)
        for wrapper in environment.wrappers:
            env = find_wrapper(wrapper, environment.folder)(env, **wrapper.kwargs)
            _require(env, gym.Env, wrapper.name)
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(_missing_package(environment.id, error)) from None
    except _REFUSALS as error:
        raise ConfigError(_refused(environment, error)) from None
    return env


def make_probe(environment: EnvironmentConfig) -> AnyEnv | VecEnv:
    """One copy, to learn its spaces and metadata from.

    Raises:
        ConfigError: as ``make_one``.
    """
    if environment.kind == "atari":
        # Frames are stacked outside of one environment, and the wrappers know how it is drawn.
        return make_vec_env(environment.model_copy(update={"vector_backend": "dummy"}), seed=0, n_envs=1)
    if environment.kind in BATCHED_KINDS:
        return _wrap_together(_make_batched(environment, 1, None), environment)
    one = make_one(environment)
    return _wrap_together(DummyVecEnv([lambda: one]), environment) if environment.vec_wrappers else one


def make_vec_env(
    environment: EnvironmentConfig,
    seed: int,
    n_envs: int | None = None,
    render_mode: str | None = None,
    restart: bool = False,
) -> VecEnv:
    """All copies of the environment at once, seeded; with VecNormalize outermost where the configuration asks.

    :param restart: whether an environment that fails is made anew; else an ``EnvironmentFault`` says what is wrong

    Raises:
        ConfigError: the environment or a wrapper refuses its arguments, or a package is missing.
    """
    count = environment.n_envs if n_envs is None else n_envs

    def make_numbered(number: int) -> AnyEnv:
        # What Gymnasium's own checker only warns of, and only at the first step, is an error here, at all steps.
        make = partial(make_one, environment, render_mode, passive_checker=False)
        return Restorable(CheckedEnv(make, environment.id, number, restart, environment.timeout))

    venv: VecEnv
    if environment.kind in BATCHED_KINDS:
        venv = _make_batched(environment, count, render_mode)
    elif environment.vector_backend == "ale" and render_mode is None:  # pictures in colour come from the wrappers
        venv = _make_ale(environment, count)
    elif _steps_a_batch(environment) and render_mode is None and not restart:
        venv = _make_batch(environment, count)
    elif environment.vector_backend == "subproc" and count > 1:
        venv = WorkerVecEnv(
            [partial(make_numbered, number) for number in range(count)],
            # A worker stops what hangs in Python by itself, a little earlier.
            timeout=_WORKER_TIMEOUT if environment.timeout is None else 1.5 * environment.timeout + 1.0,
            restart=restart,
        )
    else:
        venv = DummyVecEnv([partial(make_numbered, number) for number in range(count)])
    if environment.kind == "atari" and not isinstance(venv, AtariVecEnv):
        venv = VecTransposeImage(VecFrameStack(venv, STACK))
    venv = _wrap_together(venv, environment)
    venv.seed(seed)
    if environment.normalize_observations or environment.normalize_rewards:
        venv = VecNormalize(
            venv, norm_obs=environment.normalize_observations, norm_reward=environment.normalize_rewards
        )
    return venv


def why_no_batch(environment: EnvironmentConfig) -> str | None:
    """Why all copies of an environment cannot be stepped in one call, or None if they can.

    Raises:
        ConfigError: a module of the user's own cannot be imported.
    """
    if environment.wrappers:
        return "wrappers lie around each copy, and here there is only one of all; use dummy or subproc"
    if environment.timeout is not None:
        return "timeout is that of one copy, and here all are stepped in one call; use dummy or subproc"
    if (
        environment.kind not in ("gymnasium", "minigrid")
        or environment.observation == "rgb"
        or _batch(environment) is None
    ):
        return (
            f"{environment.id} has no vector_entry_point that takes these kwargs and resets each copy in the step in "
            "which it ends (Gymnasium's autoreset mode SAME_STEP); use dummy or subproc"
        )
    return None


def _steps_a_batch(environment: EnvironmentConfig) -> bool:
    wanted = environment.vector_backend
    return wanted == "batch" or (wanted == "auto" and why_no_batch(environment) is None)


def _batch(environment: EnvironmentConfig) -> Callable[[int], VecEnv] | None:
    known_environments()
    own = ":" in environment.id
    found = find_environment(environment.id, environment.folder) if own else environment.id
    kwargs = dict(environment.kwargs)
    if environment.kind == "minigrid":
        kwargs["observation"] = environment.observation or "one_hot"
    make = batch_maker(gym.spec(found.rpartition(":")[2]) if isinstance(found, str) else found, kwargs)
    return None if make is None else partial(make, **kwargs)


def _make_batch(environment: EnvironmentConfig, count: int) -> VecEnv:
    make = _batch(environment)
    assert make is not None  # as the checks have said
    try:
        return make(count)
    except _REFUSALS as error:
        raise ConfigError(_refused(environment, error)) from None


def _make_ale(environment: EnvironmentConfig, count: int) -> VecEnv:
    known_environments()
    return AtariVecEnv(environment.id, count, _atari_settings(environment))


def _atari_settings(environment: EnvironmentConfig) -> AtariSettings:
    known = [field.name for field in fields(AtariSettings)]
    for key in environment.kwargs:
        if key not in known:
            raise ConfigError(f"kwargs: atari has no argument {key!r}{did_you_mean(key, known)}")
    return AtariSettings(**environment.kwargs)


def _make_batched(environment: EnvironmentConfig, count: int, render_mode: str | None) -> VecEnv:
    maker: Callable[..., VecEnv] = BATCHED_KINDS[environment.kind][0]
    known = set(inspect.signature(maker).parameters) - {"game", "task", "num_envs", "seed", "render_mode"}
    for key in environment.kwargs:
        if key not in known:
            raise ConfigError(f"kwargs: {environment.kind} has no argument {key!r}{did_you_mean(key, known)}")
    try:
        return maker(environment.id, count, render_mode=render_mode, **environment.kwargs)
    except TypeError as error:
        raise ConfigError(f"{environment.id} cannot be made with these kwargs: {error}") from None


def _wrap_together(venv: VecEnv, environment: EnvironmentConfig) -> VecEnv:
    wrapped = venv
    try:
        for wrapper in environment.vec_wrappers:
            wrapped = find_vec_wrapper(wrapper, environment.folder)(wrapped, **wrapper.kwargs)
            _require(wrapped, VecEnv, wrapper.name)
    except _REFUSALS as error:
        venv.close()
        raise ConfigError(_refused(environment, error)) from None
    return wrapped


def _require(wrapped: Any, kind: type[Any], name: str) -> None:
    """Refuse what a function returned in place of an environment."""
    if not isinstance(wrapped, kind):
        raise ConfigError(f"{name} returns {type(wrapped).__name__}, not an environment")


def _prepare_minigrid(env: AnyEnv, environment: EnvironmentConfig) -> AnyEnv:
    import minigrid.wrappers

    from farl.envs.minigrid_wrappers import FastPartialView, OneHotObs, PositionInfo

    if not hasattr(env.unwrapped, "agent_pos"):
        raise ConfigError(f"{environment.id} is no MiniGrid environment; set environment.kind to gymnasium")
    wrapped: AnyEnv = PositionInfo(FastPartialView(env))
    if environment.observation in (None, "one_hot"):
        return OneHotObs(wrapped)
    views: Any = minigrid.wrappers  # untyped
    if environment.observation == "rgb":
        wrapped = views.RGBImgPartialObsWrapper(wrapped, tile_size=8)
    image: AnyEnv = views.ImgObsWrapper(wrapped)
    return image


def _kind(entry_point: str) -> str:
    if "minigrid" in entry_point:
        return "minigrid"
    return "atari" if "ale_py" in entry_point else "gymnasium"


@cache
def _wrappers() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module_name in ("minigrid.wrappers", "gymnasium.wrappers", "farl.envs.minigrid", "farl.envs.miniworld"):
        module = importlib.import_module(module_name)
        for name in dir(module):
            entry = getattr(module, name)
            if inspect.isclass(entry) and issubclass(entry, gym.Wrapper) and not name.startswith("_"):
                found[name] = entry
    return found


@cache
def _vec_wrappers() -> dict[str, Any]:
    own = importlib.import_module("farl.agents.observation")
    stable_baselines = importlib.import_module("stable_baselines3.common.vec_env")
    found = {name: getattr(own, name) for name in own.__all__}
    for name in stable_baselines.__all__:
        entry = getattr(stable_baselines, name)
        if inspect.isclass(entry) and issubclass(entry, VecEnvWrapper) and entry not in (VecEnvWrapper, VecNormalize):
            found[name] = entry
    return found


def _refused(environment: EnvironmentConfig, error: BaseException) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].split(" was raised from the env")[0]
    return f"{environment.id} cannot be made with these kwargs and wrappers: {first}"


def _missing_package(environment_id: str, error: ImportError) -> str:
    package = (error.name or "").split(".")[0]
    if package in _EXTRAS:
        return f"{environment_id} needs {package}: pip install 'farl[{_EXTRAS[package]}]'"
    first = (str(error).strip().splitlines() or ["a package is missing"])[0]
    return f"{environment_id} cannot be made: {first}"


def describe_environments() -> dict[str, str]:
    """Every id -> its kind, and for FARL's own what they are; FARL's first."""
    own = farl.envs.list_envs()
    known = known_environments() | {name: kind for kind, (_, ids) in BATCHED_KINDS.items() for name in ids}
    ordered = [*own, *sorted(set(known) - set(own))]
    return {name: "  ".join(filter(None, [f"kind: {known[name]}", own.get(name)])) for name in ordered}
