"""The state of environments, to be saved and to go on from: theirs, of their wrappers, and of many at once.

An environment, or a wrapper, joins by two methods: ``get_state()`` returns all that decides what happens next, as
arrays, numbers, strings, lists, tuples, sets and dicts of these, and random generators; ``set_state(state)`` takes it
up. Without them, what is data in an object's attributes is its state. Where these hold other objects, all of them are
pickled, and read back only where this user has written them. Environments of Box2D are played again from where the
episode began. What can be restored in no way raises ``CannotRestoreError``.
"""

import functools
import io
import pickle
import types
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from farl.errors import ConfigError
from farl.plain import Known, NotPlainError, from_plain, put_into, to_plain
from farl.seal import is_sealed, seal

__all__ = ["CannotRestoreError", "Restorable", "get_state", "set_state"]

_KNOWN: Known = {"RunningMeanStd": RunningMeanStd, "StackedObservations": StackedObservations}
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
_CONSTANT = (*_FUNCTIONS, types.ModuleType, type, EnvSpec)
_LINKS = ("env", "venv", "class_attributes")  # of wrappers

Layer = Any
"""An environment or a wrapper."""


class CannotRestoreError(ConfigError):
    """An environment whose state cannot be saved, or not be restored: it says why."""


def get_state(venv: VecEnv) -> dict[str, Any]:
    """Return the state of vectorised environments with all their wrappers, as plain data.

    :raises CannotRestoreError: if a part of it cannot be saved
    """
    *wrappers, base = layers = _vec_layers(venv)
    if isinstance(base, DummyVecEnv | SubprocVecEnv):
        try:
            envs = base.env_method("get_state")
        except AttributeError:
            raise CannotRestoreError("its environments have no get_state") from None
        below = {"envs": envs, "infos": to_plain(list(base.reset_infos))}
        return {"wrappers": _snapshot(wrappers), "base": below}
    return {"wrappers": _snapshot(layers), "base": None}


def set_state(venv: VecEnv, state: Mapping[str, Any]) -> None:
    """Put vectorised environments, which have been reset, into a state that ``get_state`` returned.

    :raises CannotRestoreError: if it is not one of such environments
    """
    *wrappers, base = layers = _vec_layers(venv)
    below = state["base"]
    if below is None:
        _restore(layers, state["wrappers"])
        return
    if not isinstance(base, DummyVecEnv | SubprocVecEnv) or len(below["envs"]) != base.num_envs:
        raise CannotRestoreError("it was saved of another number or kind of environments")
    _restore(wrappers, state["wrappers"])
    for env, each in enumerate(below["envs"]):
        base.env_method("set_state", each, indices=env)
    base.reset_infos = from_plain(below["infos"])


class Restorable(gym.Wrapper[Any, Any, Any, Any]):
    """Gives an environment with all its wrappers the two methods ``get_state`` and ``set_state``.

    :param env: the environment; this is to be the outermost wrapper
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._replays = type(env.unwrapped).__module__.startswith("gymnasium.envs.box2d.")
        self._beginning: dict[str, Any] | None = None
        self._actions: list[Any] = []
        self._seen: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        if not self._replays:
            return self.env.reset(seed=seed, options=options)
        generator = None if seed is not None else self.unwrapped.np_random.bit_generator.state
        self._beginning, self._actions = {"seed": seed, "options": options, "generator": generator}, []
        self._seen, info = self.env.reset(seed=seed, options=options)
        return self._seen, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        if not self._replays:
            return self.env.step(action)
        self._actions.append(action)
        result = self.env.step(action)
        self._seen = result[0]
        return result

    def get_state(self) -> dict[str, Any]:
        """Return the state of the environment and its wrappers, as plain data.

        :raises CannotRestoreError: if it cannot be saved
        """
        if not self._replays:
            return {"layers": _snapshot(_layers(self.env)), "episode": None}
        episode = to_plain((self._beginning, self._actions, self._seen))
        return {"layers": _snapshot(_layers(self.env)[:-1]), "episode": episode}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Put the environment, which has been reset, into a state that ``get_state`` returned.

        :raises CannotRestoreError: if it is not one of this environment, or does not lead to where it led
        """
        if state["episode"] is None:
            _restore(_layers(self.env), state["layers"])
            return
        beginning, actions, seen = from_plain(state["episode"])
        if beginning is not None:
            if beginning["generator"] is not None:
                self.unwrapped.np_random.bit_generator.state = beginning["generator"]
            self.reset(seed=beginning["seed"], options=beginning["options"])
            self._beginning = beginning
            for action in actions:
                self.step(action)
            if not _same(self._seen, seen):
                raise CannotRestoreError(f"{_name(self.unwrapped)} played again shows something else")
        _restore(_layers(self.env)[:-1], state["layers"])


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(np.array_equal(a, b))


def _layers(env: Any) -> list[Layer]:
    """An environment's wrappers, the outermost first, and the environment itself."""
    found = [env]
    while isinstance(found[-1], gym.Wrapper):
        found.append(found[-1].env)
    return found


def _vec_layers(venv: VecEnv) -> list[Layer]:
    found: list[Any] = [venv]
    while isinstance(found[-1], VecEnvWrapper):
        found.append(found[-1].venv)
    return found


def _snapshot(layers: Sequence[Layer]) -> dict[str, Any]:
    """The state of each layer: as data, or all of them pickled.

    :raises CannotRestoreError: if neither can be
    """
    ways = [_own_way(layer) for layer in layers]
    seen: dict[int, Any] = {}
    try:
        states = [
            to_plain(_attributes(layer), _KNOWN, seen) if way is None else to_plain(way[0](layer))
            for layer, way in zip(layers, ways, strict=True)
        ]
        return {"names": [_name(layer) for layer in layers], "states": states, "pickled": None}
    except NotPlainError:
        pass
    states = [None if way is None else to_plain(way[0](layer)) for layer, way in zip(layers, ways, strict=True)]
    content = _pickled([None if way else _attributes(layer) for layer, way in zip(layers, ways, strict=True)], layers)
    try:
        mark = seal(content)
    except OSError as error:
        raise CannotRestoreError(f"no key to seal it with: {error}") from None
    pickled = {"content": to_plain(content), "mark": mark}
    return {"names": [_name(layer) for layer in layers], "states": states, "pickled": pickled}


def _restore(layers: Sequence[Layer], state: Mapping[str, Any]) -> None:
    names = [_name(layer) for layer in layers]
    if names != state["names"]:
        raise CannotRestoreError(f"it was saved of {', '.join(state['names'])}, and this is {', '.join(names)}")
    attributes: Sequence[Mapping[str, Any] | None] = [None] * len(layers)
    if state["pickled"] is not None:
        content = from_plain(state["pickled"]["content"])
        if not is_sealed(content, state["pickled"]["mark"]):
            raise CannotRestoreError("it was pickled by another user, or on another machine, and pickles can run code")
        attributes = _Unpickler(io.BytesIO(content), layers).load()
    for layer, own, unpickled in zip(layers, state["states"], attributes, strict=True):
        way = _own_way(layer)
        if way is not None:
            way[1](layer, from_plain(own))
        else:
            found = unpickled if own is None else put_into(_attributes(layer), own, _KNOWN)
            vars(layer).update(_without_spaces(layer, found or {}))


def _without_spaces(layer: Layer, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be set; the generators of spaces, which are saved by name, go into the spaces that are there."""
    rest = dict(attributes)
    for name, value in attributes.items():
        if isinstance(space := vars(layer).get(name), spaces.Space):
            space._np_random = value
            del rest[name]
    return rest


def _attributes(layer: Layer) -> dict[str, Any]:
    """All attributes of a layer that may change; of spaces their generators."""
    found: dict[str, Any] = {}
    for name, value in vars(layer).items():
        if isinstance(value, spaces.Space):
            if value._np_random is not None:
                found[name] = value._np_random
        elif name not in _LINKS and not isinstance(value, _CONSTANT):
            found[name] = value
    return found


def _pickled(attributes: list[Any], layers: Sequence[Layer]) -> bytes:
    file = io.BytesIO()
    try:
        _Pickler(file, layers).dump(attributes)
    except Exception as error:  # whatever an object raises that is not made to be pickled
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CannotRestoreError(f"{_name(layers[-1])} has no get_state, and cannot be pickled: {reason}") from None
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Writes a number where a layer is meant: it stays the object that it is."""

    def __init__(self, file: io.BytesIO, layers: Sequence[Layer]) -> None:
        super().__init__(file, protocol=5)
        self._numbers = {id(layer): number for number, layer in enumerate(layers)}

    def persistent_id(self, obj: Any) -> int | None:
        return self._numbers.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, layers: Sequence[Layer]) -> None:
        super().__init__(file)
        self._layers = layers

    def persistent_load(self, pid: Any) -> Any:
        return self._layers[pid]


def _own_way(layer: Layer) -> tuple[Any, Any] | None:
    """How a layer's state is got and set, if it has a way of its own."""
    kind = type(layer)
    if callable(getattr(kind, "get_state", None)) and callable(getattr(kind, "set_state", None)):
        return kind.get_state, kind.set_state
    if kind.__module__.startswith("ale_py."):
        return _get_atari, _set_atari
    return None


def _get_atari(env: Any) -> dict[str, Any]:
    machine = env.ale.cloneState(include_rng=True).serialize()
    return {"machine": machine, "generator": env._np_random}


def _set_atari(env: Any, state: Mapping[str, Any]) -> None:
    from ale_py import ALEState

    env.ale.restoreState(ALEState(state["machine"]))
    env._np_random = state["generator"]


def _name(layer: Layer) -> str:
    return type(layer).__name__
