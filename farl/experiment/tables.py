"""Tables that grow while a run goes on: ``progress.csv`` and ``evaluations.csv``."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.logger import KVWriter, filter_excluded_keys

from farl.experiment.files import write_atomically

__all__ = ["GrowingTable", "ProgressTable", "read_table"]

TIMESTEPS = "timesteps"


class GrowingTable:
    """A CSV file whose rows and columns grow, with the timesteps in its first column.

    What is written is there at once, for those who watch. A new column has the whole file written anew, which is rare.

    :param path: path of the file
    :param until: keep the rows of an earlier part of the run up to these timesteps; 0 begins anew
    """

    def __init__(self, path: Path, until: int = 0) -> None:
        self._path = path
        self._columns: list[str] = [TIMESTEPS]
        kept: list[dict[str, str]] = []
        if until and path.is_file():
            kept = [row for row in _whole_rows(path) if _number(row.get(TIMESTEPS)) <= until]
            self._columns = list(kept[0]) if kept else self._columns
        if kept or path.exists():
            self._rewrite(kept)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows; each has ``timesteps``."""
        new = [key for row in rows for key in row if key not in self._columns]
        if new or not self._path.is_file():
            kept = _whole_rows(self._path) if self._path.is_file() else []
            self._columns += sorted(set(new))
            self._rewrite([*kept, *rows])
            return
        with self._path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, self._columns).writerows(rows)

    def _rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._path, text.getvalue())


class ProgressTable(KVWriter):
    """Writes every number that SB3's logger gets to a ``GrowingTable``, a row for each time that it is dumped.

    :param table: where to
    """

    def __init__(self, table: GrowingTable) -> None:
        self._table = table

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Write a row."""
        values = filter_excluded_keys(key_values, key_excluded, "csv")
        row = {key: value for key, value in values.items() if isinstance(value, int | float) or hasattr(value, "item")}
        if row:
            self._table.add([{TIMESTEPS: step, **row}])

    def close(self) -> None:
        """There is nothing to close."""


def read_table(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Return the columns of a table, float64[rows] each, NaN where a row has none; empty if there is no such file."""
    rows = _whole_rows(path) if path.is_file() else []
    return {key: np.array([_number(row[key]) for row in rows]) for key in (rows[0] if rows else ())}


def _whole_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file whose last line may have been cut off."""
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
