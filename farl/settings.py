"""What all settings have in common, wherever they are declared."""

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Base of all settings: unknown keys are errors, and numbers must be finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)


def default_of(function: Callable[..., Any], parameter: str) -> Any:
    """Return the default of a parameter, so that settings need not state it once more.

    :raises KeyError: if there is no such parameter
    """
    return inspect.signature(function).parameters[parameter].default
