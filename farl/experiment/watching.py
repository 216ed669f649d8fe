"""``farl watch``: what a run is doing, in the terminal, while another process trains it or afterwards."""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from farl.experiment.config import ExperimentConfig
from farl.experiment.run_directory import RunDirectory
from farl.experiment.tables import read_table

__all__ = ["dashboard", "watch"]

Columns = Mapping[str, npt.NDArray[np.float64]]

_SHOWN = {
    "rollout/ep_rew_mean": "return",
    "eval/mean_reward": "return in evaluation",
    "exploration/coverage": "coverage",
    "exploration/episode_coverage": "coverage of an episode",
    "far/fragments": "fragments in memory",
    "far/recalls": "recalls",
    "far/intrinsic_reward": "intrinsic reward",
    "far/surprisal": "surprisal",
    "far/forgetting_ratio": "forgetting",
    "sequence/mean_return_so_far": "return over tasks",
    "particles/ess": "effective sample size",
    "train/loss": "loss",
    "time/fps": "steps per second",
}
_BARS = "▁▂▃▄▅▆▇█"
_QUIET = 120.0
"""Seconds without a new row after which a run is said to be quiet."""


def watch(run: RunDirectory, console: Console, interval: float = 2.0, once: bool = False) -> None:
    """Show the dashboard until the run ends, or Ctrl-C.

    :param interval: seconds between two looks
    :param once: show it once and return
    """
    config = run.read_config()
    if once or not console.is_terminal:
        console.print(dashboard(run, config))
        return
    with Live(dashboard(run, config), console=console, refresh_per_second=4) as live:
        while not run.metrics_file.is_file():
            time.sleep(interval)
            live.update(dashboard(run, config))


def dashboard(run: RunDirectory, config: ExperimentConfig) -> RenderableType:
    """Return the state of a run: how far it is, and the course of its main numbers."""
    columns = read_table(run.progress_file)
    steps = columns.get("timesteps", np.zeros(0))
    done = float(np.nanmax(steps, initial=0.0))
    total = max(config.total_timesteps, 1)
    head = Text(f"{done:,.0f} of {total:,} timesteps ({min(done / total, 1.0):.0%})   {_state(run)}")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "now", "lowest", "highest", "course"):
        table.add_column(name, justify="left" if name in ("", "course") else "right")
    for tag, name in _SHOWN.items():
        values = columns.get(tag, np.zeros(0))
        values = values[np.isfinite(values)]
        if len(values):
            numbers = (f"{value:,.4g}" for value in (values[-1], values.min(), values.max()))
            table.add_row(name, *numbers, sparkline(values, 40))
    if not table.row_count:
        table.add_row("nothing has been logged yet", "", "", "", "")
    title = f"{config.name}, {config.algorithm.name} on {config.environment.id}, seed {config.seed}"
    return Panel(
        Group(head, ProgressBar(total=total, completed=min(done, total)), table), title=title, title_align="left"
    )


def sparkline(values: npt.NDArray[np.float64], width: int) -> str:
    """Draw a course of numbers in a line of bars, each the mean of a part of them."""
    parts = [float(part.mean()) for part in np.array_split(values, min(width, len(values)))]
    low, span = min(parts), max(max(parts) - min(parts), 1e-12)
    return "".join(_BARS[min(int((value - low) / span * len(_BARS)), len(_BARS) - 1)] for value in parts)


def _state(run: RunDirectory) -> str:
    if run.metrics_file.is_file():
        return "finished"
    try:
        quiet = time.time() - run.progress_file.stat().st_mtime
    except FileNotFoundError:
        return "has just begun"
    return (
        "going on" if quiet < _QUIET else f"quiet for {quiet / 60:.0f} min; if it has stopped: farl resume {run.path}"
    )
