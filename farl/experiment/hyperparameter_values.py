"""Hyperparameters as YAML writes them: what is wrong with them, and the Python objects that they stand for."""

import inspect
import math
import pkgutil
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from farl.errors import did_you_mean
from farl.experiment.schedules import parse_schedule
from farl.experiment.signatures import ELSEWHERE, SCHEDULE, Signature

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["build_hyperparameters", "hyperparameter_problems"]

_UNIT_INTERVAL = frozenset(
    {"gamma", "gae_lambda", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps"}
)
_AT_LEAST_ONE = frozenset(
    {"n_steps", "batch_size", "n_epochs", "buffer_size", "target_update_interval", "stats_window_size", "n_particles"}
)
_ABOVE_ZERO = frozenset({"learning_rate", "clip_range", "clip_range_vf", "max_grad_norm", "target_kl"})
_ANY_SIGN = frozenset({"sde_sample_freq", "gradient_steps", "target_entropy"})
_LARGEST_INTEGER = 10**9
_OWN_CLASSES: dict[str, dict[str, str]] = {
    "activation_fn": {"LayerNormLeakyReLU": "farl.sb3.networks:LayerNormLeakyReLU"},
    "optimizer_class": {"TRAC": "farl.optimisers:TracAdam"},
    "features_extractor_class": {"ImpalaCNN": "farl.sb3.networks:ImpalaCNN"},
}
"""What policy_kwargs can name besides the classes of torch and Stable-Baselines3, and where it is."""
_USUAL_CLASSES = {
    "activation_fn": ("ELU", "GELU", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Tanh"),
    "optimizer_class": ("Adam", "AdamW", "RMSprop", "SGD"),
    "features_extractor_class": ("CombinedExtractor", "FlattenExtractor", "NatureCNN"),
}
"""What it often names of theirs: that these exist is known without torch."""
_NOISES = {"normal": "NormalActionNoise", "ornstein_uhlenbeck": "OrnsteinUhlenbeckActionNoise"}
_NOISE_CALL = re.compile(r"^\s*(\w+)\s*\(\s*([0-9.eE+-]+)\s*\)\s*$")


def build_hyperparameters(
    algorithm: "type[BaseAlgorithm]", given: dict[str, Any], action_shape: tuple[int, ...]
) -> dict[str, Any]:
    """The checked hyperparameters as Python objects: schedules, tuples, classes and noises instead of their names."""
    import numpy as np
    from stable_baselines3.common import noise

    parameters = inspect.signature(algorithm).parameters
    built: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, str) and _takes_schedule(parameters[name]):
            value = parse_schedule(value)
        elif name == "action_noise" and isinstance(value, str):
            kind, sigma = _parse_noise(value)
            value = getattr(noise, _NOISES[kind])(np.zeros(action_shape), np.full(action_shape, sigma))
        elif name == "policy_kwargs" and value:
            value = {key: _class_named(key, entry) for key, entry in value.items()}
        elif name == "train_freq" and isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, float) and value.is_integer() and _wants_integer(parameters[name]):
            value = int(value)
        built[name] = value
    return built


def hyperparameter_problems(signature: Signature, policy: str, given: dict[str, Any]) -> dict[str, str]:
    """What is wrong with each hyperparameter, by name; empty when all is well."""
    return dict(_problems(signature, policy, given))


def _problems(signature: Signature, policy: str, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    known = signature.parameters
    for name, value in given.items():
        if name in ELSEWHERE:
            yield name, f"is not a hyperparameter here; use {ELSEWHERE[name]}"
        elif name not in known:
            yield name, f"{signature.name} has no such hyperparameter{did_you_mean(name, known)}"
        elif name == "policy_kwargs" and value is not None:
            problem = _policy_kwargs_problem(signature, policy, value)
            if problem:
                yield name, problem
        else:
            problem = _value_problem(known[name], value)
            if problem:
                yield name, problem


def _value_problem(parameter: inspect.Parameter, value: Any) -> str | None:
    name = parameter.name
    if isinstance(value, str) and _takes_schedule(parameter):
        try:
            parse_schedule(value)
        except ValueError as error:
            return str(error)
        return None
    if name == "action_noise" and value is not None:
        try:
            _parse_noise(value)
        except ValueError as error:
            return str(error)
        return None
    if isinstance(value, str) and re.match(r"\s*(linear|cosine|constant|exponential)\s*\(", value):
        return f"{value!r}: {name} takes no schedule, only a fixed value"
    if "type[" in str(parameter.annotation) and value is not None:
        return "takes a Python class and cannot be set from YAML; leave it out"
    if isinstance(value, bool) and not _accepts(parameter.annotation, value, strict=True):
        return f"expected {_type_name(parameter)}, found {str(value).lower()}"
    if not _accepts(parameter.annotation, value) or (isinstance(value, str) and not _takes_text(parameter)):
        return f"expected {_type_name(parameter)}, found {value!r}"
    return _range_problem(name, value)


def _range_problem(name: str, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, found {value}"
    if abs(value) > _LARGEST_INTEGER:
        return f"must be at most {_LARGEST_INTEGER:,}"
    if name in _UNIT_INTERVAL and not 0 <= value <= 1:
        return f"must be between 0 and 1, found {value}"
    if name in _AT_LEAST_ONE and value < 1:
        return f"must be at least 1, found {value}"
    if name in _ABOVE_ZERO and value <= 0:
        return f"must be above 0, found {value}"
    if name not in _ANY_SIGN and value < 0:
        return f"must not be negative, found {value}"
    return None


def _policy_kwargs_problem(signature: Signature, policy: str, given: Any) -> str | None:
    if not isinstance(given, dict):
        return f"expected a mapping such as {{net_arch: [64, 64]}}, found {given!r}"
    known = signature.policies.get(policy)
    if known is None:
        return None  # the policy's name is reported where it stands
    for key, value in given.items():
        if key not in known:
            return f"{policy} has no argument {key!r}{did_you_mean(key, known)}"
        if value not in (*_OWN_CLASSES.get(key, ()), *_USUAL_CLASSES.get(key, ())):
            try:
                _class_named(key, value)
            except ValueError as error:
                return str(error)
        if key == "net_arch" and not _is_net_arch(value):
            return f"net_arch must be a list of layer widths or {{pi: [64], vf: [64]}}, found {value!r}"
    return None


def _is_net_arch(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(widths, list) and _is_net_arch(widths) for widths in value.values())
    return isinstance(value, list) and all(
        isinstance(width, int) and not isinstance(width, bool) and 0 < width <= 65_536 for width in value
    )


def _class_named(key: str, value: Any) -> Any:
    """``activation_fn: Tanh`` -> torch.nn.Tanh, and so for optimisers and feature extractors."""
    if not key.endswith(("_class", "activation_fn")) or not isinstance(value, str):
        return value
    import torch
    from stable_baselines3.common import torch_layers

    namespace, base = {
        "activation_fn": (torch.nn, torch.nn.Module),
        "optimizer_class": (torch.optim, torch.optim.Optimizer),
    }.get(key, (torch_layers, torch_layers.BaseFeaturesExtractor))
    own = _OWN_CLASSES.get(key, {}).get(value)
    found = pkgutil.resolve_name(own) if own is not None else getattr(namespace, value, None)
    if not (inspect.isclass(found) and issubclass(found, base)):
        known = [name for name, entry in vars(namespace).items() if inspect.isclass(entry) and issubclass(entry, base)]
        known += _OWN_CLASSES.get(key, {})
        raise ValueError(f"unknown {key} {value!r}{did_you_mean(value, known)}")
    return found


def _parse_noise(text: Any) -> tuple[str, float]:
    match = _NOISE_CALL.match(text) if isinstance(text, str) else None
    if match is None or match.group(1) not in _NOISES:
        raise ValueError(f"expected normal(SIGMA) or ornstein_uhlenbeck(SIGMA), found {text!r}")
    try:
        sigma = float(match.group(2))
    except ValueError:
        raise ValueError(f"{text!r}: SIGMA must be a number") from None
    if not 0 <= sigma < math.inf:
        raise ValueError(f"{text!r}: SIGMA must not be negative")
    return match.group(1), sigma


def _takes_schedule(parameter: inspect.Parameter) -> bool:
    return str(SCHEDULE) in str(parameter.annotation)


def _takes_text(parameter: inspect.Parameter) -> bool:
    return any(word in str(parameter.annotation) for word in ("str", "Literal"))


def _wants_integer(parameter: inspect.Parameter) -> bool:
    return parameter.annotation in (int, int | None)


def _accepts(annotation: Any, value: Any, strict: bool = False) -> bool:
    config = ConfigDict(arbitrary_types_allowed=True)
    try:
        TypeAdapter(annotation, config=config).validate_python(value, strict=strict)
    except ValidationError:
        return False
    return True


def _type_name(parameter: inspect.Parameter) -> str:
    if _takes_schedule(parameter):
        return "a number or a schedule such as linear(2.5e-4)"
    if get_origin(parameter.annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(parameter.annotation)))
    name = parameter.annotation.__name__ if inspect.isclass(parameter.annotation) else str(parameter.annotation)
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}
    return " or ".join(words.get(part.strip(), part.strip()) for part in name.split("|"))
