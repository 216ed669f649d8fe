"""What became of a run, in words and with units."""

from typing import Any

__all__ = ["summary_rows"]


def summary_rows(metrics: dict[str, Any]) -> dict[str, str]:
    """The metrics that have a value, in words and with units."""
    get = metrics.get
    differ = bool(get("worlds_differ"))
    visited = "coverage" if get("seen") is None else "cells visited"
    shown = {
        "algorithm": metrics["algorithm"],
        "environment": metrics["environment"],
        "timesteps": f"{metrics['total_timesteps']:,}",
        "wall-clock time": _duration(metrics["wall_seconds"]),
        "steps per second": f"{metrics['steps_per_second']:,.0f}",
        "mean return": _number(get("ep_rew_mean"), ".3g"),
        "mean return in evaluation": _number(get("evaluation_ep_rew_mean"), ".3g"),
        "success rate": _number(get("success_rate"), ".0%"),
        "cells covered in any layout" if differ else visited: _number(get("coverage"), ".1%"),
        "covered in an episode": _number(get("episode_coverage"), ".1%"),
        "seen in the present episode": _number(get("seen"), ".1%"),
        "covered in evaluation": _number(get("evaluation_coverage"), ".1%"),
        "90% covered after": None if differ else _number(get("coverage_90_timesteps"), ",", " timesteps"),
        "fragments": _fragments(get("fragments"), get("fragments_in_memory")),
        "recalls": _number(get("recalls"), ","),
        "return on each task at the end": _last_row(get("sequence_returns")),
        "long-term memory": _number((get("ltm_bytes") or 0) / 2**20 or None, ".2f", " MiB"),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _fragments(opened: int | None, held: int | None) -> str | None:
    if opened is None:
        return None
    # Of what no fracture opened, the fragments at the starts, there can be more in memory.
    return f"{opened:,} opened, {held:,} in memory now" if held and held < opened else f"{held or opened:,}"


def _last_row(returns: list[list[float]] | None) -> str | None:
    return " / ".join(f"{value:.3g}" for value in returns[-1]) if returns and returns[-1] else None


def _number(value: float | None, form: str, unit: str = "") -> str | None:
    return None if value is None else f"{value:{form}}{unit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
