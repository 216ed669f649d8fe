"""The JSON Schema of YAML files: editors complete and check them by it."""

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from farl.errors import ConfigError
from farl.experiment.algorithms import ALGORITHMS
from farl.experiment.config import ExperimentConfig
from farl.experiment.signatures import signature_of

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", type(None): "null"}
_SCHEDULE = Callable[[float], float]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file: an ExperimentConfig, or what a file adds to its ``base``."""
    schema = ExperimentConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"] = {
        "base": {
            "type": "string",
            "description": "Another YAML file, or the name of one that comes with FARL, which this file changes.",
        },
        **schema["properties"],
    }
    # What a file with a base leaves out stands in the base.
    schema["$defs"]["EnvironmentConfig"].pop("required")
    required = schema.pop("required")
    schema["anyOf"] = [{"required": ["base"]}, {"required": required}]
    # A file with a base may leave the algorithm's name to it: then any hyperparameter may stand there.
    schema["$defs"]["AlgorithmConfig"]["allOf"] = [
        {
            "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
            "then": {"properties": {"hyperparameters": hyperparameter_schema(name)}},
        }
        for name in ALGORITHMS
        if _is_installed(name)
    ]
    schema["$defs"]["AlgorithmConfig"]["properties"]["name"]["examples"] = list(ALGORITHMS)
    return schema


def hyperparameter_schema(name: str) -> dict[str, Any]:
    """The hyperparameters of an algorithm with their types and defaults, from its own signature.

    :param name: A name of ``ALGORITHMS``.
    :return: A JSON Schema of the section ``algorithm.hyperparameters``.
    :raises ConfigError: the algorithm's package is not installed.
    """
    parameters = signature_of(name).parameters.values()
    properties = {parameter.name: _property(parameter.annotation, parameter.default) for parameter in parameters}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(annotation: Any, default: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    options = _options(annotation)
    if options:
        entry = options[0] if len(options) == 1 else {"anyOf": options}
    if default is None or isinstance(default, bool | int | float | str):
        entry = {**entry, "default": default}
    return entry


def _options(annotation: Any) -> list[dict[str, Any]]:
    """What may stand for a parameter; empty where anything may."""
    if annotation == _SCHEDULE:
        return [{"type": "string", "pattern": r"^\s*\w+\(.*\)\s*$", "examples": ["linear(2.5e-4)"]}]
    if get_origin(annotation) is Literal:
        return [{"enum": list(get_args(annotation))}]
    if get_origin(annotation) is dict:
        return [{"type": "object"}]
    if annotation in _JSON_TYPES:
        return [{"type": _JSON_TYPES[annotation]}]
    inner = get_args(annotation)
    if not inner or get_origin(annotation) in (type, tuple, list):
        return []
    parts = [_options(part) for part in inner]
    return [option for part in parts for option in part] if all(parts) else []


def _is_installed(name: str) -> bool:
    try:
        signature_of(name)
    except ConfigError:
        return False
    return True
