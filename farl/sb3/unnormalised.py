"""What a vector environment would return if it had no ``VecNormalize``, through whatever wrappers there are."""

import copy
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from farl.errors import ConfigError
from farl.sb3.observations import Array, Observation

_PASS_ON = (VecNormalize, VecMonitor, VecCheckNan, VecVideoRecorder)
"""Wrappers that are left out: without normalisation, none of them changes an observation."""

Infos = list[dict[str, Any]]


class Unnormalised:
    """Follows an environment and says what it would have returned without ``VecNormalize``.

    Its statistics drift, and recall keys that were stored would drift out of reach with them. Where it is the outermost
    wrapper, this is what it received. Wrappers around it are run a second time, on what it received: copies of them,
    so that the environment's own are left alone. Without any ``VecNormalize`` everything is returned as it is.

    :param env: what the algorithm steps, before it is reset
    :raises ConfigError: if a wrapper around ``VecNormalize`` cannot be copied
    """

    def __init__(self, env: VecEnv) -> None:
        self.env = env
        outer = _wrappers(env)
        normalisers = [wrapper for wrapper in outer if isinstance(wrapper, VecNormalize)]
        self._outermost: VecEnv | None = None
        if normalisers:
            self._innermost = normalisers[-1]
            self._terminal = _watch_terminal(self._innermost.venv)
            self._received = _Received(self._innermost.venv)
            self._outermost = self._received
            for wrapper in reversed(outer[: outer.index(self._innermost)]):
                if not isinstance(wrapper, _PASS_ON):
                    self._outermost = _copy(wrapper, self._outermost)

    @property
    def changes(self) -> bool:
        """Whether there is a ``VecNormalize``."""
        return self._outermost is not None

    def reset(self, observations: Observation) -> Observation:
        """Return the first observations of E episodes.

        :param observations: what ``env.reset`` returned
        """
        if self._outermost is None:
            return observations
        self._received.observations = self._innermost.get_original_obs()
        return self._outermost.reset()  # type: ignore[return-value]

    def step(self, observations: Observation, actions: Array, dones: Array, infos: Infos) -> tuple[Observation, Infos]:
        """Return the observations and the infos of one step; episodes that ended have their true last observation.

        :param observations: what ``env.step`` returned, as the rest
        :param actions: what ``env.step`` was given
        """
        if self._outermost is None:
            return observations, infos
        received = self._received
        received.observations = self._innermost.get_original_obs()
        received.rewards, received.dones = np.asarray(self._innermost.old_reward), dones
        received.infos = [dict(info) for info in infos]  # for wrappers that change them
        for env, last in self._terminal.observations.items():
            received.infos[env]["terminal_observation"] = last
        self._outermost.step_async(actions)
        observations, _, _, infos = self._outermost.step_wait()  # type: ignore[assignment]
        return observations, infos

    def original_rewards(self, rewards: Array) -> Array:
        """Return the rewards of the latest step, [E], as ``VecNormalize`` received them."""
        return rewards if self._outermost is None else np.asarray(self._innermost.old_reward)


def original_observations(observations: Observation, env: VecEnv) -> Observation:
    """Return the latest observations without ``VecNormalize`` for those who only look now and then.

    Unlike ``Unnormalised`` this follows nothing: where a wrapper other than a transposition lies around
    ``VecNormalize``, the observations are returned as they are.

    :param observations: the latest as they came out of ``env``
    """
    outer = _wrappers(env)
    normalisers = [wrapper for wrapper in outer if isinstance(wrapper, VecNormalize)]
    if not normalisers:
        return observations
    original: Observation = normalisers[-1].get_original_obs()
    for wrapper in reversed(outer[: outer.index(normalisers[-1])]):
        if isinstance(wrapper, VecTransposeImage):
            original = wrapper.transpose_observations(original)
        elif not isinstance(wrapper, _PASS_ON):
            return observations
    return original


def unnormalised_space(env: VecEnv) -> spaces.Space[Any]:
    """Return the space of the observations that ``Unnormalised`` returns.

    ``VecNormalize`` declares images to be numbers: where nothing else changes observations, they are images here.
    """
    inner: Any = env
    while isinstance(inner, _PASS_ON):
        inner = inner.venv
    normalised = inner is not env and any(isinstance(wrapper, VecNormalize) for wrapper in _wrappers(env))
    return inner.observation_space if normalised else env.observation_space


def _wrappers(env: VecEnv) -> list[VecEnvWrapper]:
    """Return all wrappers, the outermost first."""
    found: list[VecEnvWrapper] = []
    while isinstance(env, VecEnvWrapper):
        found.append(env)
        env = env.venv
    return found


class _Received(VecEnvWrapper):
    """Stands in for a ``VecNormalize`` and hands on what that one received."""

    observations: Any
    rewards: Array
    dones: Array
    infos: Infos

    def reset(self) -> Any:
        return self.observations

    def step_async(self, actions: Array) -> None:
        pass

    def step_wait(self) -> Any:
        return self.observations, self.rewards, self.dones, self.infos


class _TerminalObservations:
    """Takes the place of an environment's ``step_wait`` and keeps the last observations of episodes that ended.

    ``VecNormalize`` replaces them by what it makes of them, and clips: what an episode shows at its end alone would be
    lost.
    """

    def __init__(self, env: VecEnv) -> None:
        self.env = env
        self.observations: dict[int, Any] = {}

    def __call__(self) -> Any:
        stepped = type(self.env).step_wait(self.env)
        _, _, dones, infos = stepped
        ended = [env for env in np.flatnonzero(dones).tolist() if "terminal_observation" in infos[env]]
        self.observations = {env: infos[env]["terminal_observation"] for env in ended}
        return stepped


def _watch_terminal(env: VecEnv) -> _TerminalObservations:
    watching = vars(env).get("step_wait")
    if not isinstance(watching, _TerminalObservations):
        watching = _TerminalObservations(env)
        vars(env)["step_wait"] = watching
    return watching


def _copy(wrapper: VecEnvWrapper, inside: VecEnv) -> VecEnvWrapper:
    """Return a wrapper in the same state around another environment."""
    kept = {id(wrapper.venv): inside, id(wrapper.class_attributes): wrapper.class_attributes}
    copied: VecEnvWrapper = object.__new__(type(wrapper))
    try:
        vars(copied).update({name: copy.deepcopy(value, kept) for name, value in vars(wrapper).items()})
    except (TypeError, NotImplementedError, RecursionError) as error:
        raise ConfigError(
            f"{type(wrapper).__name__} around VecNormalize cannot be copied ({error}), which FAR needs to see "
            "observations without normalisation: put VecNormalize around it"
        ) from None
    return copied
