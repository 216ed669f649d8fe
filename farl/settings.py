"""What all settings have in common, wherever they are declared."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator


class StrictModel(BaseModel):
    """Base of all settings: unknown keys are errors, numbers must be finite, and values keep their types.

    Text is no number and ``true`` is not 1, in Python as in YAML. Only what loses nothing is converted: ``1e6`` to a
    whole number, a list to a tuple, and numpy's scalars to Python's.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _convert_without_loss(cls, settings: Any) -> Any:
        if not isinstance(settings, Mapping):
            return settings
        fields = cls.model_fields
        return {
            name: _converted(value, fields[name].annotation) if name in fields else value
            for name, value in settings.items()
        }


def _converted(value: Any, annotation: Any) -> Any:
    """Return a value as the type that an annotation asks for where that loses nothing, else as it is."""
    value = value.item() if isinstance(value, np.generic) else value
    types = get_args(annotation) or (annotation,)
    if isinstance(value, list | tuple):
        for option in (annotation, *types):  # tuple[float, float], or that or null
            if get_origin(option) is tuple:
                return tuple(_converted(each, get_args(option)[0]) for each in value)
    if int in types and float not in types and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def default_of(function: Callable[..., Any], parameter: str) -> Any:
    """Return the default of a parameter, so that settings need not state it once more.

    :raises KeyError: if there is no such parameter
    """
    return inspect.signature(function).parameters[parameter].default
