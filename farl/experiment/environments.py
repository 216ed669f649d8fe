"""Builds the vectorised environment that a configuration describes."""

import os
import pkgutil
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

from farl.envs.atari import AtariVecEnv
from farl.envs.atari_games import STACK
from farl.envs.registry import BATCHED_KINDS
from farl.envs.state import Restorable
from farl.envs.vector import batch_maker
from farl.errors import ConfigError
from farl.experiment.checked_env import CheckedEnv
from farl.experiment.config import EnvironmentConfig
from farl.experiment.named_environments import AnyEnv, find_vec_wrapper, known_environments
from farl.experiment.one_environment import REFUSALS, atari_settings, batched_spaces, make_one, refused, require
from farl.experiment.own_code import find_environment
from farl.experiment.workers import WorkerVecEnv

_WORKER_TIMEOUT = 600.0


def make_probe(environment: EnvironmentConfig) -> AnyEnv | VecEnv:
    """One copy, to learn its spaces and metadata from.

    :raises ConfigError: as ``make_one``.
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

    :raises ConfigError: the environment or a wrapper refuses its arguments, or a package is missing.
    """
    count = environment.n_envs if n_envs is None else n_envs
    if render_mode is not None:
        _quiet_libraries()

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

    :raises ConfigError: a module of the user's own cannot be imported.
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
    if environment.id not in gym.registry:
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
    except REFUSALS as error:
        raise ConfigError(refused(environment, error)) from None


def _make_ale(environment: EnvironmentConfig, count: int) -> VecEnv:
    if environment.id not in gym.registry:
        known_environments()
    return AtariVecEnv(environment.id, count, atari_settings(environment))


def _quiet_libraries() -> None:
    """Keep SDL from looking for a screen, a loudspeaker and a session, and from saying that it found none."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())


def _make_batched(environment: EnvironmentConfig, count: int, render_mode: str | None) -> VecEnv:
    maker: Any = pkgutil.resolve_name(BATCHED_KINDS[environment.kind].entry_point)
    batched_spaces(environment)  # raises where it does not take an argument
    made: VecEnv = maker(environment.id, count, render_mode=render_mode, **environment.kwargs)
    return made


def _wrap_together(venv: VecEnv, environment: EnvironmentConfig) -> VecEnv:
    wrapped = venv
    try:
        for wrapper in environment.vec_wrappers:
            wrapped = find_vec_wrapper(wrapper, environment.folder)(wrapped, **wrapper.kwargs)
            require(wrapped, VecEnv, wrapper.name)
    except REFUSALS as error:
        venv.close()
        raise ConfigError(refused(environment, error)) from None
    return wrapped
