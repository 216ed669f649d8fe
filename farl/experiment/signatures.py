"""What algorithms take. The signatures of those that YAML can name lie in a table, so that a check of a file imports
neither torch nor Stable-Baselines3. ``python -m farl.experiment.signatures`` writes the table anew.
"""

import importlib.metadata
import importlib.resources
import importlib.util
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from farl.experiment.algorithms import ALGORITHMS, algorithm_class

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["ELSEWHERE", "SCHEDULE", "Signature", "default_hyperparameters", "read_signature", "signature_of"]

# Parameters that the rest of the configuration decides, and where to write them instead.
ELSEWHERE = {
    "policy": "algorithm.policy",
    "env": "environment",
    "seed": "the top-level seed",
    "device": "the top-level device",
    "tensorboard_log": "logging.tensorboard",
    "verbose": "logging",
    "_init_setup_model": "nothing: it is internal",
    "far": "the top-level far section",
}
SCHEDULE = Callable[[float], float]

_TABLE = "signatures.json"
_PACKAGES = ("stable_baselines3", "sb3_contrib")


class _Noise:
    """Stands for Stable-Baselines3's ``ActionNoise``."""


_TYPES: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "null": type(None),
    "schedule": SCHEDULE,
    "function": Callable,
    "class": type[Any],
    "mapping": dict[str, Any],
    "noise": _Noise,
}


@dataclass(frozen=True)
class Signature:
    """What a check of a configuration needs to know of an algorithm.

    :ivar name: name of the algorithm's class
    :ivar parameters: its hyperparameters
    :ivar policies: each policy that it has -> the keyword arguments of that policy
    :ivar off_policy: whether it learns from a replay buffer
    :ivar fast: whether there is a ``Fast`` of it
    """

    name: str
    parameters: Mapping[str, inspect.Parameter]
    policies: Mapping[str, tuple[str, ...]]
    off_policy: bool
    fast: bool

    @property
    def defaults(self) -> dict[str, Any]:
        """Return every hyperparameter with its default."""
        return {name: parameter.default for name, parameter in self.parameters.items()}


def signature_of(name: str) -> Signature:
    """Return the signature of an algorithm, from the table, or from the class where another version is installed.

    :param name: a name of ``ALGORITHMS``
    :raises ConfigError: the name is unknown, or its package is not installed
    """
    package = ALGORITHMS.get(name, "")
    table = _read_table()
    # FARL's own extend those of Stable-Baselines3.
    needed = ["stable_baselines3", *([package] if package in _PACKAGES else [])]
    known = name in table["algorithms"] and all(importlib.util.find_spec(each) is not None for each in needed)
    if known and all(table["versions"][each] == _version(each) for each in needed):
        return _from_table(name)
    return read_signature(algorithm_class(name))


def read_signature(algorithm: "type[BaseAlgorithm]") -> Signature:
    """Return the signature of a class, from the class itself."""
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    from farl.sb3.fast import why_not_fast

    of_policies = {name: inspect.signature(policy).parameters for name, policy in algorithm.policy_aliases.items()}
    always = ("observation_space", "action_space", "lr_schedule")
    return Signature(
        algorithm.__name__,
        _hyperparameters(algorithm),
        {name: tuple(key for key in parameters if key not in always) for name, parameters in of_policies.items()},
        issubclass(algorithm, OffPolicyAlgorithm),
        why_not_fast(algorithm) is None,
    )


def default_hyperparameters(algorithm: "type[BaseAlgorithm]") -> dict[str, Any]:
    """Return every hyperparameter of a class with its default."""
    return {name: parameter.default for name, parameter in _hyperparameters(algorithm).items()}


def _hyperparameters(algorithm: "type[BaseAlgorithm]") -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(algorithm).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in ELSEWHERE}


def make_table(signatures: Iterable[Signature]) -> dict[str, Any]:
    """Return signatures as JSON can hold them, with the versions of the packages that they are of."""
    policies: list[list[str]] = []  # those of many algorithms take the same
    algorithms = {}
    for signature in signatures:
        taken = {name: list(arguments) for name, arguments in signature.policies.items()}
        policies += [arguments for arguments in taken.values() if arguments not in policies]
        algorithms[signature.name] = {
            "off_policy": signature.off_policy,
            "fast": signature.fast,
            "policies": {name: policies.index(arguments) for name, arguments in taken.items()},
            "parameters": {
                name: [_to_words(parameter.annotation), parameter.default]
                for name, parameter in signature.parameters.items()
            },
        }
    versions = {package: _version(package) for package in _PACKAGES}
    return {"versions": versions, "policies": policies, "algorithms": algorithms}


@cache
def _from_table(name: str) -> Signature:
    table = _read_table()
    entry = table["algorithms"][name]
    parameters = {
        key: inspect.Parameter(
            key,
            inspect.Parameter.KEYWORD_ONLY,
            default=tuple(default) if isinstance(default, list) else default,
            annotation=_from_words(words),
        )
        for key, (words, default) in entry["parameters"].items()
    }
    policies = {policy: tuple(table["policies"][index]) for policy, index in entry["policies"].items()}
    return Signature(name, parameters, policies, entry["off_policy"], entry["fast"])


def _to_words(annotation: Any) -> Any:
    """A type as JSON: a word of ``_TYPES``, a list of alternatives, or what a literal or a tuple holds."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (UnionType, Union):
        return [_to_words(part) for part in inner]
    if origin is Literal:
        return {"literal": list(inner)}
    if origin is tuple:
        return {"tuple": [_to_words(part) for part in inner]}
    if origin is type:
        return "class"
    if inspect.isclass(annotation) and annotation.__name__ == "ActionNoise":
        return "noise"
    return next(word for word, known in _TYPES.items() if known == annotation)


def _from_words(words: Any) -> Any:
    if isinstance(words, str):
        return _TYPES[words]
    if isinstance(words, list):
        return reduce(or_, map(_from_words, words))
    if "literal" in words:
        return Literal[tuple(words["literal"])]
    return tuple[tuple(_from_words(word) for word in words["tuple"])]  # type: ignore[misc]


@cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _read_table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(importlib.resources.files("farl.experiment").joinpath(_TABLE).read_bytes())
    return table


if __name__ == "__main__":
    found = make_table(read_signature(algorithm_class(name)) for name in ALGORITHMS)
    rows = [f"  {json.dumps(key)}: {json.dumps(found[key])}" for key in ("versions", "policies")]
    entries = [f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in found["algorithms"].items()]
    rows.append('  "algorithms": {\n' + ",\n".join(entries) + "\n  }")
    Path(__file__).with_name(_TABLE).write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
