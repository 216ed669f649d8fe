"""Schedules written in YAML: ``linear(2.5e-4)`` falls from 2.5e-4 to zero over the training run."""

import math
import re
from dataclasses import dataclass

from farl.errors import did_you_mean

_CALL = re.compile(r"^\s*([A-Za-z_]\w*)\s*\(([^()]*)\)\s*$")
_ARGUMENTS = {
    "constant": ("value",),
    "linear": ("start", "end"),
    "cosine": ("start", "end"),
    "exponential": ("start", "end"),
}
_WITH_DEFAULT_END = ("linear", "cosine")


@dataclass(frozen=True)
class Schedule:
    """A value as a function of the remaining progress, which Stable-Baselines3 counts from 1 down to 0.

    - ``constant(value)``
    - ``linear(start, end=0)``
    - ``cosine(start, end=0)``: half a cosine wave
    - ``exponential(start, end)``: geometric, so both are positive

    A plain class with fields, so that a model that holds one can be saved and sent to another process.
    """

    kind: str
    start: float
    end: float

    def __call__(self, progress_remaining: float) -> float:
        """The value at ``progress_remaining`` in [0, 1]; below 0, that at the end."""
        # The last rollout may go beyond the total: a linear rate would turn negative, and the last update unlearn.
        progress_remaining = max(progress_remaining, 0.0)
        if self.kind == "cosine":
            progress_remaining = (1 - math.cos(math.pi * progress_remaining)) / 2
        if self.kind == "exponential":
            return self.end * math.pow(self.start / self.end, progress_remaining)
        return self.end + (self.start - self.end) * progress_remaining


def parse_schedule(text: str) -> Schedule:
    """Read ``linear(3e-4)`` and its like.

    :raises ValueError: not a known schedule, or wrong arguments; the message says which are known
    """
    match = _CALL.match(text)
    if match is None:
        raise ValueError(f"{text!r} is neither a number nor a schedule such as linear(2.5e-4)")
    kind, inside = match.groups()
    if kind not in _ARGUMENTS:
        raise ValueError(f"unknown schedule {kind!r}{did_you_mean(kind, _ARGUMENTS)}")
    try:
        values = [float(part) for part in inside.split(",")] if inside.strip() else []
    except ValueError:
        raise ValueError(f"the arguments of {text!r} must be numbers") from None
    fewest = 1 if kind in _WITH_DEFAULT_END else len(_ARGUMENTS[kind])
    if not fewest <= len(values) <= len(_ARGUMENTS[kind]):
        raise ValueError(f"{text!r}: write {kind}({', '.join(_ARGUMENTS[kind])})")
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError(f"{text!r}: the arguments must be finite and not negative")
    if kind == "exponential" and min(values) == 0:
        raise ValueError(f"{text!r}: an exponential schedule needs a start and an end above zero")
    end = values[0] if kind == "constant" else (values[1] if len(values) == 2 else 0.0)
    return Schedule(kind, values[0], end)
