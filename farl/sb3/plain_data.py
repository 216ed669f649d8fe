"""What Stable-Baselines3 pickles into a model's zip, as plain data: spaces, schedules, classes by name, arrays.

Reading plain data builds only what is listed here. Nothing else is imported, and no code of the file's own runs.

It is JSON, for so is the zip's own list of attributes. ``farl.plain`` is for states: trees of tensors and arrays.
"""

import base64
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from farl.errors import ConfigError
from farl.plain import generator_of

__all__ = ["NotPlain", "from_plain", "to_plain"]

_TRUSTED = ("farl", "gymnasium", "sb3_contrib", "stable_baselines3", "torch")
"""Packages whose classes may be named."""
_NAMED = (torch.nn.Module, torch.optim.Optimizer, BaseBuffer)
"""What such a class must be: a policy, a layer, an optimiser or a buffer."""
_BY_ATTRIBUTES = {
    "farl.experiment.schedules:Schedule",
    "stable_baselines3.common.noise:NormalActionNoise",
    "stable_baselines3.common.noise:OrnsteinUhlenbeckActionNoise",
    "stable_baselines3.common.utils:ConstantSchedule",
    "stable_baselines3.common.utils:FloatSchedule",
    "stable_baselines3.common.utils:LinearSchedule",
}
"""Classes whose instances are told by their attributes."""
_MOST_DEEP = 60


class NotPlain(TypeError):
    """A value that cannot be told as plain data."""


def to_plain(value: Any) -> Any:
    """Return a value as JSON can hold it; each thing that JSON does not know is ``{kind: content}``.

    :raises NotPlain: for any other kind of value
    """
    if value is None or isinstance(value, bool | str) or type(value) in (int, float):
        return value
    if type(value) is list:
        return [to_plain(part) for part in value]
    for kind, (is_one, pack, _) in _KINDS.items():
        if is_one(value):
            return {kind: pack(value)}
    raise NotPlain(f"{type(value).__module__}.{type(value).__qualname__}")


def from_plain(data: Any, depth: int = 0) -> Any:
    """Build what ``to_plain`` told.

    :raises ConfigError: it is damaged, or names what is not known here
    """
    if depth > _MOST_DEEP:
        raise ConfigError("plain data is nested too deeply")
    if isinstance(data, list):
        return [from_plain(part, depth + 1) for part in data]
    if not isinstance(data, dict):
        return data
    kind, content = next(iter(data.items())) if len(data) == 1 else ("", None)
    if kind not in _KINDS:
        raise ConfigError(f"plain data of an unknown kind {str(kind)[:40]!r}")
    try:
        return _KINDS[kind][2](from_plain(content, depth + 1))
    except ConfigError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AssertionError, AttributeError, OverflowError) as error:
        raise ConfigError(f"plain data of kind {kind!r} is damaged: {str(error)[:100]}") from None


def _exactly(*types: type[Any]) -> Callable[[Any], bool]:
    return lambda value: type(value) in types


def _array(value: Any) -> Any:
    if value.dtype.kind not in "biufc":
        raise NotPlain(f"an array of {value.dtype}")
    return [value.dtype.str, list(value.shape), base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()]


def _make_array(told: Any) -> Any:
    name, shape, content = told
    dtype = np.dtype(str(name))
    if dtype.kind not in "biufc" or min(shape, default=0) < 0:
        raise ValueError("no array of numbers")
    raw = base64.b64decode(content, validate=True)
    if len(raw) != dtype.itemsize * math.prod(shape):
        raise ValueError("its size is not that of its shape")
    return np.frombuffer(raw, dtype).reshape(shape).copy()


def _reference(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _name(value: type[Any]) -> str:
    reference = _reference(value)
    try:
        return _reference(_named(reference))
    except ValueError as error:
        raise NotPlain(str(error)) from None


def _named(reference: Any) -> type[Any]:
    found = _find(str(reference))
    if not issubclass(found, _NAMED):
        raise ValueError(f"{str(reference)[:80]} is no policy, layer, optimiser or buffer")
    return found


def _find(reference: str) -> type[Any]:
    """The class of that name. What a module merely imported, such as ``subprocess``, is none of its classes."""
    module, _, name = reference.partition(":")
    if module.split(".")[0] not in _TRUSTED:
        raise ValueError(f"{module[:60]} is no package that is known here")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise ValueError(f"there is no {reference[:80]}") from None
    if not isinstance(found, type) or _reference(found) != reference:
        raise ValueError(f"{reference[:80]} is no class")
    return found


def _object(value: Any) -> Any:
    return [_reference(type(value)), {":dict:": [[name, to_plain(part)] for name, part in vars(value).items()]}]


def _make_object(told: Any) -> Any:
    reference, attributes = told
    if reference not in _BY_ATTRIBUTES:
        raise ValueError(f"{str(reference)[:80]} is not built from attributes")
    made = object.__new__(_find(reference))
    made.__dict__.update(attributes)
    return made


def _generator(value: Any) -> Any:
    return [type(value.bit_generator).__name__, to_plain(value.bit_generator.state)]


def _space(value: spaces.Space[Any]) -> Any:
    """The arguments of a space, and the state of its random numbers."""
    arguments: list[Any]
    if isinstance(value, spaces.Box):
        arguments = [value.low, value.high, list(value.shape), value.dtype.str]
    elif isinstance(value, spaces.Discrete):
        arguments = [int(value.n), int(value.start), value.dtype.str]
    elif isinstance(value, spaces.MultiDiscrete):
        arguments = [value.nvec, value.dtype.str, value.start]
    elif isinstance(value, spaces.MultiBinary):
        arguments = [value.n if isinstance(value.n, int) else list(value.n)]
    elif isinstance(value, spaces.Dict):
        arguments = [[[key, part] for key, part in value.spaces.items()]]
    else:
        assert isinstance(value, spaces.Tuple)
        arguments = [list(value.spaces)]
    return [type(value).__name__, to_plain(arguments), to_plain(value._np_random)]


def _make_space(told: Any) -> spaces.Space[Any]:
    name, arguments, random = told
    made: spaces.Space[Any]
    if name == "Box":
        low, high, shape, dtype = arguments
        made = spaces.Box(low, high, tuple(shape), np.dtype(dtype).type)
    elif name == "Discrete":
        made = spaces.Discrete(arguments[0], start=arguments[1], dtype=np.dtype(arguments[2]).type)
    elif name == "MultiDiscrete":
        made = spaces.MultiDiscrete(arguments[0], np.dtype(arguments[1]).type, start=arguments[2])
    elif name == "MultiBinary":
        made = spaces.MultiBinary(arguments[0])
    elif name == "Dict":
        made = spaces.Dict(dict(arguments[0]))
    elif name == "Tuple":
        made = spaces.Tuple(arguments[0])
    else:
        raise ValueError("unknown space")
    made._np_random = random
    return made


_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict, spaces.Tuple)

_Kind = tuple[Callable[[Any], bool], Callable[[Any], Any], Callable[[Any], Any]]
_KINDS: dict[str, _Kind] = {
    ":tuple:": (_exactly(tuple), lambda value: [to_plain(part) for part in value], tuple),
    ":dict:": (
        _exactly(dict, OrderedDict),
        lambda value: [[to_plain(key), to_plain(part)] for key, part in value.items()],
        dict,
    ),
    ":deque:": (
        _exactly(deque),
        lambda value: [value.maxlen, [to_plain(part) for part in value]],
        lambda told: deque(told[1], told[0]),
    ),
    ":array:": (_exactly(np.ndarray), _array, _make_array),
    ":scalar:": (
        lambda value: isinstance(value, np.generic),
        lambda value: _array(np.asarray(value)),
        lambda told: _make_array(told)[()],
    ),
    ":tensor:": (
        _exactly(torch.Tensor, torch.nn.Parameter),
        lambda value: _array(value.detach().cpu().numpy()),
        lambda told: torch.from_numpy(_make_array(told)),
    ),
    ":dtype:": (lambda value: isinstance(value, np.dtype), lambda value: value.str, np.dtype),
    ":device:": (_exactly(torch.device), str, lambda told: torch.device(str(told))),
    ":space:": (_exactly(*_SPACES), _space, _make_space),
    ":random:": (_exactly(np.random.Generator), _generator, lambda told: generator_of(told[1])),
    ":train_freq:": (
        _exactly(TrainFreq),
        lambda value: [value.frequency, value.unit.value],
        lambda told: TrainFreq(told[0], TrainFrequencyUnit(told[1])),
    ),
    ":number_type:": (
        lambda value: isinstance(value, type) and issubclass(value, np.number | np.bool_),
        lambda value: np.dtype(value).str,
        lambda told: np.dtype(told).type,
    ),
    ":class:": (lambda value: isinstance(value, type), _name, _named),
    ":object:": (lambda value: _reference(type(value)) in _BY_ATTRIBUTES, _object, _make_object),
}
