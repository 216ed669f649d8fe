"""The folder that an experiment writes: never over another run, and readable again by ``evaluate`` and ``resume``."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farl.errors import ConfigError, did_you_mean
from farl.experiment.config import ExperimentConfig
from farl.experiment.files import write_atomically
from farl.experiment.loading import load_config, resolved_yaml
from farl.experiment.lock import LOCK_FILE

RUNS = Path("runs")
_SEAL = "# sha256 of all lines above: "

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDirectory:
    """Where each thing of a run lies.

    :param path: the folder
    :param trusted: whether pickled objects in its checkpoints are read, which can run code
    """

    path: Path
    trusted: bool = False

    @property
    def config_file(self) -> Path:
        """The configuration as resolved."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, one folder each."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard events: the run directory itself, so that TensorBoard calls the run by its name."""
        older = self.path / "tensorboard"
        return older if older.is_dir() else self.path

    @property
    def progress_file(self) -> Path:
        """All that was logged, a row for each time."""
        return self.path / "progress.csv"

    @property
    def evaluations_file(self) -> Path:
        """A row for each episode of each evaluation while training."""
        return self.path / "evaluations.csv"

    @property
    def best(self) -> Path:
        """Folder of the checkpoint that was best in evaluation."""
        return self.path / "best"

    @property
    def record_file(self) -> Path:
        """What was recorded of the exploration, for the report."""
        return self.exploration / "record.safetensors"

    @property
    def exploration(self) -> Path:
        """Folder of exploration pictures."""
        return self.path / "exploration"

    @property
    def metrics_file(self) -> Path:
        """The outcome as JSON."""
        return self.path / "metrics.json"

    @property
    def report_file(self) -> Path:
        """The outcome as one self-contained page."""
        return self.path / "report.html"

    @property
    def error_file(self) -> Path:
        """Why the latest attempt failed: the whole traceback."""
        return self.path / "error.txt"

    def write_config(self, config: ExperimentConfig) -> None:
        """Write the resolved configuration; its last line is a checksum of the rest."""
        text = resolved_yaml(config)
        write_atomically(self.config_file, f"{text}{_SEAL}{_sha256(text)}\n")

    def read_config(self, total_timesteps: int | None = None) -> ExperimentConfig:
        """Read the resolved configuration back; where it is damaged, that of the latest checkpoint.

        :param total_timesteps: another budget than it has
        :raises ConfigError: there is none that is whole and valid, or the budget is not
        """
        changes = [] if total_timesteps is None else [f"total_timesteps={total_timesteps}"]
        copies = sorted(self.checkpoints.glob("step_*/config.yaml"), reverse=True)
        for file in (self.config_file, *copies):
            if _is_whole(file):
                if file != self.config_file:
                    _log.warning("%s: was edited or damaged; going by the copy in %s", self.config_file, file.parent)
                return load_config(file, changes)
        raise ConfigError(
            f"{self.config_file}: was edited, or is damaged: its last line, a checksum, is missing or wrong. A run "
            f"goes on as it began; with other settings, train anew: farl train {self.config_file} --out DIR"
        )

    def is_complete(self, timesteps: int) -> bool:
        """Whether ``metrics.json`` is of so many timesteps; a run that was killed at its end may lack it."""
        try:
            metrics = json.loads(self.metrics_file.read_text(encoding="utf-8"))
            return int(metrics["total_timesteps"]) >= timesteps
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write ``metrics.json``."""
        write_atomically(self.metrics_file, json.dumps(metrics, indent=2) + "\n")


def create_run_directory(name: str, out: Path | None) -> RunDirectory:
    """Make the folder of a new run: ``out``, or the next free of ``runs/NAME``, ``runs/NAME-2``, ...

    :raises ConfigError: ``out`` is taken, or the folder cannot be made
    """
    if out is not None:
        if out.is_dir() and not _is_empty(out):
            raise ConfigError(
                f"--out {out}: the directory is not empty; choose another, or continue that run with: farl resume {out}"
            )
        _make(out, exist_ok=True)
        return RunDirectory(out)
    number = 1
    while True:
        path = RUNS / (name if number == 1 else f"{name}-{number}")
        if not os.path.lexists(path):
            try:
                _make(path, exist_ok=False)
                return RunDirectory(path)
            except FileExistsError:
                pass  # another process took the name first
        number += 1


def open_run_directory(reference: str | Path, trust: bool = False) -> RunDirectory:
    """The run that the user means: its folder, or its name under ``runs/``.

    :raises ConfigError: there is no such run
    """
    path = Path(reference)
    if not path.exists() and (RUNS / path).is_dir():
        path = RUNS / path
    if not path.exists():
        known = [str(run.parent) for run in RUNS.glob("*/config.yaml")]
        hint = did_you_mean(str(path), known) or "; farl train makes one"
        raise ConfigError(f"{reference}: no such run{hint}")
    if not path.is_dir():
        raise ConfigError(f"{reference}: is a file; give the run's directory, such as runs/quickstart")
    run = RunDirectory(path, trust)
    if not run.config_file.is_file():
        raise ConfigError(f"{reference}: is not a run directory (it holds no config.yaml)")
    return run


def discard_if_empty(run: RunDirectory) -> None:
    """Remove the folder of a run that wrote nothing."""
    if run.path.is_dir() and _is_empty(run.path):
        shutil.rmtree(run.path, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but the lock of a run that ended before it wrote anything."""
    return all(entry.name == LOCK_FILE for entry in folder.iterdir())


def _make(path: Path, exist_ok: bool) -> None:
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except FileExistsError:
        if not exist_ok:
            raise
        raise ConfigError(f"cannot write to {path}: it is a file; choose a directory with --out DIR") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot write to {path}: {reason}; choose another place with --out DIR") from None


def _is_whole(file: Path) -> bool:
    """Whether a configuration ends in the checksum of all that comes before it."""
    try:
        text, _, seal = file.read_bytes().decode("utf-8").rpartition(_SEAL)
    except (OSError, UnicodeDecodeError):
        return False
    return seal == f"{_sha256(text)}\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
