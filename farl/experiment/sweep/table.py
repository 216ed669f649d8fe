"""Shows how a sweep goes: a table that updates in place on a terminal, a line for each event elsewhere."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from farl.experiment.sweep.execution import Outcome, State, Task, read_progress

_ROWS = 24
"""Most runs that the table lists; the rest is counted."""
_STYLES: dict[State, str] = {"finished": "green", "failed": "red", "running": "cyan", "interrupted": "yellow"}
_ORDER: dict[State, int] = {"running": 0, "failed": 1, "interrupted": 2, "waiting": 3, "finished": 4}


class SweepTable:
    """What stands where with all runs."""

    def __init__(self, labels: Sequence[str], console: Console) -> None:
        self._states: dict[str, State] = dict.fromkeys(labels, "waiting")
        self._notes = dict.fromkeys(labels, "")
        self._console = console
        self._began = time.monotonic()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "SweepTable":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.update(self._draw(), refresh=True)
            self._live.stop()

    def known(self, label: str, outcome: Outcome) -> None:
        """A run had ended before this command."""
        self._states[label], self._notes[label] = outcome.state, _note(outcome)

    def ended(self, label: str, outcome: Outcome) -> None:
        """A run has ended."""
        self.known(label, outcome)
        if self._live is None:
            count = sum(state in ("finished", "failed") for state in self._states.values())
            self._say(f"{count} of {len(self._states)}: {label}: {outcome.state}  {_note(outcome)}")

    def look(self, tasks: Sequence[Task]) -> None:
        """Read how far the runs are."""
        for task in tasks:
            if self._states[task.label] not in ("waiting", "running"):
                continue
            progress = read_progress(task.path)
            if progress is None:
                continue
            if self._states[task.label] == "waiting" and self._live is None:
                self._say(f"{task.label}: started")
            self._states[task.label] = "running"
            share = min(progress["timesteps"] / max(progress["total_timesteps"], 1), 1.0)
            self._notes[task.label] = f"{share:4.0%}  {progress['line']}"
        if self._live is not None:
            self._live.update(self._draw(), refresh=True)

    @property
    def counts(self) -> Counter[State]:
        """How many runs are in each state."""
        return Counter(self._states.values())

    def _draw(self) -> Table:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        table = Table(title=f"{counts}  {minutes}:{seconds:02}", title_justify="left", expand=False)
        for column in ("run", "state", ""):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        labels = list(self._states)
        if len(labels) > _ROWS:
            labels = sorted(labels, key=lambda label: _ORDER[self._states[label]])[:_ROWS]
        for label in labels:
            state = self._states[label]
            table.add_row(label, state, self._notes[label], style=_STYLES.get(state, "dim"))
        if len(labels) < len(self._states):
            table.add_row(f"and {len(self._states) - len(labels)} more", "", "", style="dim")
        return table

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)


def _note(outcome: Outcome) -> str:
    return outcome.error or summary(outcome.metrics or {})


def summary(metrics: dict[str, Any]) -> str:
    """The numbers of a finished run in one line."""
    parts = [
        f"{name} {metrics[key]:.3g}"
        for key, name in (("ep_rew_mean", "return"), ("coverage", "coverage"), ("fragments", "fragments"))
        if metrics.get(key) is not None
    ]
    return "  ".join([*parts, f"{metrics['wall_seconds']:,.0f} s"] if "wall_seconds" in metrics else parts)
