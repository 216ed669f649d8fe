"""Shows how training goes: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from farl.experiment.callbacks import Observer, Status
from farl.experiment.playing import Observe

_SECONDS_BETWEEN_LINES = 10.0


def make_observer(console: Console) -> Observer:
    """The observer that suits where the console writes to."""
    return ProgressBar(console) if console.is_terminal else ProgressLines(console)


class ProgressBar:
    """A live bar with return, coverage, fragments, recalls and speed."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[steps]}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
        )
        self._task: TaskID | None = None

    def started(self, timesteps: int, total_timesteps: int) -> None:
        """Show the bar."""
        self._task = self._progress.add_task(
            "", total=total_timesteps, completed=timesteps, steps=f"{timesteps:,}", status=""
        )
        self._progress.start()

    def progressed(self, status: Status) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(
                self._task,
                completed=min(status.timesteps, status.total_timesteps),
                steps=f"{status.timesteps:,}",
                status=describe(status),
            )

    def finished(self) -> None:
        """Leave the bar where it is and give the terminal back."""
        self._progress.stop()


class ProgressLines:
    """One line every ten seconds, for files and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0
        self._status: Status | None = None
        self._shown: Status | None = None

    def started(self, timesteps: int, total_timesteps: int) -> None:
        """Say where training starts."""
        self._last = time.monotonic()
        self._say(f"training from timestep {timesteps:,} to {total_timesteps:,}")

    def progressed(self, status: Status) -> None:
        """Write a line if the last one is old enough."""
        self._status = status
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._show(status)

    def finished(self) -> None:
        """Write the last line."""
        if self._status is not None and self._status != self._shown:
            self._show(self._status)

    def _show(self, status: Status) -> None:
        self._last = time.monotonic()
        self._shown = status
        share = min(status.timesteps / status.total_timesteps, 1.0)  # the last rollout may go over
        self._say(f"{status.timesteps:,} timesteps ({share:.0%})  {describe(status)}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def describe(status: Status) -> str:
    """The numbers that are known, in one line."""
    parts = [
        f"return {status.ep_rew_mean:.3g}" if status.ep_rew_mean is not None else None,
        f"coverage {status.coverage:.0%}" if status.coverage is not None else None,
        f"fragments {status.fragments}" if status.fragments is not None else None,
        f"recalls {status.recalls}" if status.recalls is not None else None,
        f"{status.steps_per_second:,.0f} steps/s",
    ]
    return "  ".join(part for part in parts if part is not None)


@contextmanager
def episodes_bar(console: Console, episodes: int) -> Iterator[Observe | None]:
    """A bar that counts the episodes, and the steps, that ``play`` plays; nothing where nobody looks."""
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("episodes"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[steps]:,} steps"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=episodes, steps=0)
        steps = 0

        def observe(_: Any, actions: Any, starts: npt.NDArray[np.bool_], infos: list[dict[str, Any]]) -> bool:
            nonlocal steps
            if actions is not None:
                steps += len(infos)
                ended = sum("episode" in infos[env] for env in np.flatnonzero(starts))
                progress.update(task, advance=ended, steps=steps)
            return False

        yield observe
