"""One environment as a configuration describes it, and the spaces that it has."""

import inspect
import pkgutil
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.error import Error as GymnasiumError

from farl.envs.miniworld import PREFIX as MINIWORLD
from farl.envs.miniworld import register_miniworld
from farl.envs.registry import BATCHED_KINDS, known_spaces
from farl.errors import ConfigError, did_you_mean
from farl.experiment.config import EnvironmentConfig
from farl.experiment.named_environments import AnyEnv, find_wrapper, find_wrapper_spaces, known_environments
from farl.experiment.own_code import find_environment

if TYPE_CHECKING:
    from farl.envs.atari_games import AtariSettings

REFUSALS = (TypeError, ValueError, AssertionError, AttributeError, KeyError, GymnasiumError)
_EXTRAS = {"ale_py": "atari", "cv2": "atari", "gym3": "procgen", "procgen": "procgen"}


def spaces_of(environment: EnvironmentConfig) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """The spaces of observations and actions. One copy is made to learn them, unless they are known.

    :raises ConfigError: the environment or a wrapper refuses its arguments, or a package is missing
    """
    if environment.vec_wrappers and (told := _told_by_wrappers(environment)) is not None:
        return told
    if not (environment.wrappers or environment.vec_wrappers):
        known = known_spaces(environment.id, environment.kind, environment.observation, environment.kwargs)
        if known is not None:
            return known
    if environment.kind in BATCHED_KINDS and not environment.vec_wrappers:
        return batched_spaces(environment)
    if environment.kind == "atari" and not (environment.wrappers or environment.vec_wrappers):
        return _atari_spaces(environment)
    if environment.kind in ("gymnasium", "minigrid") and not environment.vec_wrappers:
        # A wrapper of the user's own may look for the monitor, which takes Stable-Baselines3 and torch.
        probe: Any = make_one(environment, monitored=any(":" in wrapper.name for wrapper in environment.wrappers))
    else:
        from farl.experiment.environments import make_probe

        probe = make_probe(environment)
    probe.close()
    return probe.observation_space, probe.action_space


def _told_by_wrappers(environment: EnvironmentConfig) -> tuple[gym.Space[Any], gym.Space[Any]] | None:
    """The spaces, where all wrappers around the environments tell them from those of the one inside."""
    tell = [tells for wrapper in environment.vec_wrappers if (tells := find_wrapper_spaces(wrapper)) is not None]
    if len(tell) < len(environment.vec_wrappers):
        return None
    found = spaces_of(environment.model_copy(update={"vec_wrappers": []}))
    try:
        for tells, wrapper in zip(tell, environment.vec_wrappers, strict=True):
            found = tells(found[0], **wrapper.kwargs)
    except REFUSALS as error:
        raise ConfigError(refused(environment, error)) from None
    return found


def batched_spaces(environment: EnvironmentConfig) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """The spaces of an environment that only comes many at once, if it takes its arguments. None is made.

    :raises ConfigError: it refuses its arguments, or a package is missing
    """
    check = pkgutil.resolve_name(BATCHED_KINDS[environment.kind].spaces)
    _, *known = inspect.signature(check).parameters
    for key in environment.kwargs:
        if key not in known:
            raise ConfigError(f"kwargs: {environment.kind} has no argument {key!r}{did_you_mean(key, known)}")
    try:
        found: tuple[gym.Space[Any], gym.Space[Any]] = check(environment.id, **environment.kwargs)
    except TypeError as error:
        raise ConfigError(f"{environment.id} cannot be made with these kwargs: {error}") from None
    return found


def _atari_spaces(environment: EnvironmentConfig) -> tuple[gym.Space[Any], gym.Space[Any]]:
    from farl.envs.atari_games import game_spaces

    try:
        return game_spaces(environment.id, atari_settings(environment))
    except ImportError as error:
        raise ConfigError(_missing_package(environment.id, error)) from None
    except REFUSALS as error:
        raise ConfigError(refused(environment, error)) from None


def make_one(
    environment: EnvironmentConfig,
    render_mode: str | None = None,
    passive_checker: bool = True,
    monitored: bool = True,
) -> AnyEnv:
    """One environment with its wrappers. Its returns are measured below the user's wrappers.

    :param passive_checker: whether Gymnasium warns about what the environment returns first
    :param monitored: whether Stable-Baselines3's monitor lies around it, below the wrappers

    :raises ConfigError: the environment or a wrapper refuses its arguments, or a package is missing.
    """
    if environment.id not in gym.registry:
        known_environments()
    if environment.id.startswith(MINIWORLD):
        register_miniworld()
    try:
        if environment.kind == "atari":
            from farl.envs.atari import make_atari_env

            env = make_atari_env(environment.id, atari_settings(environment), render_mode)
        else:
            kwargs = environment.kwargs if render_mode is None else {**environment.kwargs, "render_mode": render_mode}
            own = ":" in environment.id
            made: AnyEnv = gym.make(
                find_environment(environment.id, environment.folder) if own else environment.id,
                disable_env_checker=not passive_checker,
                **kwargs,
            )
            env = _prepare_minigrid(made, environment) if environment.kind == "minigrid" else made
            if monitored:
                from stable_baselines3.common.monitor import Monitor

                env = Monitor(env)
        for wrapper in environment.wrappers:
            env = find_wrapper(wrapper, environment.folder)(env, **wrapper.kwargs)
            require(env, gym.Env, wrapper.name)
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(_missing_package(environment.id, error)) from None
    except REFUSALS as error:
        raise ConfigError(refused(environment, error)) from None
    return env


def atari_settings(environment: EnvironmentConfig) -> "AtariSettings":
    """The settings in kwargs.

    :raises ConfigError: there is no such setting
    """
    from farl.envs.atari_games import AtariSettings

    known = [field.name for field in fields(AtariSettings)]
    for key in environment.kwargs:
        if key not in known:
            raise ConfigError(f"kwargs: atari has no argument {key!r}{did_you_mean(key, known)}")
    return AtariSettings(**environment.kwargs)


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


def require(wrapped: Any, kind: type[Any], name: str) -> None:
    """Refuse what a function returned in place of an environment."""
    if not isinstance(wrapped, kind):
        raise ConfigError(f"{name} returns {type(wrapped).__name__}, not an environment")


def refused(environment: EnvironmentConfig, error: BaseException) -> str:
    """Say that an environment, or a wrapper, does not take its arguments."""
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
