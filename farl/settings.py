"""What all settings have in common, wherever they are declared."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Base of all settings: unknown keys are errors, and numbers must be finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)
