"""The number that a run is judged by."""

from collections.abc import Mapping
from typing import Any

from farl.errors import ConfigError, did_you_mean

ALIASES = {
    "return": "ep_rew_mean",
    "evaluation_return": "evaluation_ep_rew_mean",
    "length": "ep_len_mean",
    "success": "success_rate",
}
"""What people call a metric -> its key in ``metrics.json``."""
_AUTO = ("evaluation_ep_rew_mean", "coverage", "ep_rew_mean")


def metric_key(name: str, metrics: Mapping[str, Any]) -> str:
    """The key in ``metrics.json`` behind a metric's name; ``auto`` is the first of evaluation, coverage and return.

    :raises ConfigError: the run has no such number.
    """
    if name == "auto":
        found = next((key for key in _AUTO if metrics.get(key) is not None), None)
        if found is None:
            raise ConfigError("the run has neither evaluation, coverage nor return; name a number with --metric")
        return found
    key = ALIASES.get(name, name)
    value = metrics.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = [other for other, found in metrics.items() if isinstance(found, int | float)]
        known = [*numbers, *(alias for alias, behind in ALIASES.items() if behind in numbers)]
        raise ConfigError(f"the run has no number {name!r}{did_you_mean(name, known, limit=30)}")
    return key


def metric_value(name: str, metrics: Mapping[str, Any]) -> float:
    """The number that a run is judged by.

    :raises ConfigError: the run has no such number.
    """
    return float(metrics[metric_key(name, metrics)])
