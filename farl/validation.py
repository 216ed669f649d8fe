"""What pydantic finds wrong, in words that name the setting and the fix."""

import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from farl.errors import MOST_PROBLEMS, did_you_mean

KeyPath = tuple[str, ...]
Problem = tuple[KeyPath, str]
"""Where something is wrong, and what."""


def validation_problems(error: ValidationError, data: Any, model: type[BaseModel]) -> Iterator[Problem]:
    """Say what is wrong with data that a model refused, once each.

    :param error: what the model raised
    :param data: what it was given
    :param model: the model
    """
    seen: set[Problem] = set()
    for number, detail in enumerate(error.errors(include_url=False)):
        if len(seen) >= MOST_PROBLEMS:
            yield (), f"and {error.error_count() - number:,} more problems"
            return
        if detail["type"] == "default_factory_not_called":
            continue  # a default that depends on what is wrong already
        path = _key_path(detail["loc"], data, missing=detail["type"] == "missing")
        message = plain(detail["msg"])
        if detail["type"] == "extra_forbidden":
            message = f"unknown key{did_you_mean(path[-1], _known_keys(model, detail['loc'][:-1]), limit=12)}"
        elif detail["type"] == "union_tag_invalid":
            context = detail["ctx"]
            tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            path = (*path, "name")
            message = f"unknown name {context['tag']!r}{did_you_mean(str(context['tag']), tags)}"
        elif detail["type"] == "union_tag_not_found":
            message = f"say which one by its name, for instance {'.'.join(path)}.name=...; see farl list modules"
        elif detail["type"] in _EXPECTED:
            message = f"expected {_expected(detail['type'], detail['input'])}, found {short(detail['input'])}"
        elif detail["type"] == "missing":
            message = "this key is required"
        elif detail["type"] in ("model_type", "model_attributes_type", "dict_type"):
            message = f"expected a section of 'key: value' lines, found {short(detail['input'])}"
        elif not isinstance(detail["input"], dict) and not message.rstrip().endswith(short(detail["input"])):
            message = f"{message}, found {short(detail['input'])}"
        if (path, message) not in seen:
            seen.add((path, message))
            yield path, message


_EXPECTED = {"int_type": "a whole number", "float_type": "a number", "bool_type": "true or false"}


def _expected(kind: str, value: Any) -> str:
    """What pydantic wanted in place of a value of another type."""
    return "a number" if kind == "int_type" and not isinstance(value, float) else _EXPECTED[kind]


def plain(message: str) -> str:
    """Pydantic's message in fewer words."""
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    for long, brief in (
        ("should be greater than or equal to", "must be at least"),
        ("should be less than or equal to", "must be at most"),
        ("should be", "must be"),
        ("String should match pattern", "must match"),
    ):
        message = message.replace(long, brief)
    return message[:1].lower() + message[1:]


def short(value: Any) -> str:
    """A value as it stands in a message."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    text = "null" if value is None else text
    return text if len(text) <= 60 else text[:57] + "..."


def _key_path(location: Iterable[int | str], data: Any, missing: bool) -> KeyPath:
    """Pydantic's location without the names it adds for the branches of a union."""
    parts = list(location)
    path: list[str] = []
    for index, part in enumerate(parts):
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            data = data[part]
        if inside or (missing and index == len(parts) - 1):
            path.append(str(part))
    return tuple(path)


def _known_keys(root: type[BaseModel], location: Iterable[int | str]) -> set[str]:
    """The keys that may stand at a location of a model."""
    models: list[type[BaseModel]] = [root]
    for part in location:
        deeper = [
            inner
            for model in models
            if part in model.model_fields
            for inner in _models(model.model_fields[str(part)].annotation)
        ]
        if deeper:
            models = deeper
            continue
        tagged = [model for model in models if part == model.__name__ or _has_tag(model, part)]
        models = tagged or models
    return {name for model in models for name in model.model_fields}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, types.UnionType, list, dict):
        for inner in get_args(annotation):
            yield from _models(inner)


def _has_tag(model: type[BaseModel], tag: int | str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())
