"""``farl.load_run``: a run as an object, for notebooks and scripts."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from farl.errors import ConfigError
from farl.experiment.checkpoint import hold_normalisation, latest_checkpoint
from farl.experiment.config import ExperimentConfig
from farl.experiment.environments import make_vec_env
from farl.experiment.learner import load_learner
from farl.experiment.report.data import read_record
from farl.experiment.run_directory import RunDirectory, open_run_directory
from farl.experiment.tables import read_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Run", "load_run"]


def load_run(path: str | Path, trust: bool = False) -> "Run":
    """Return a run by its directory, or by its name under ``runs/``; one that still goes on, as far as it is.

    :param trust: whether to read pickled objects in its checkpoints, which can run code; FARL writes none unless you
        gave an algorithm objects of a kind of your own
    :raises ConfigError: there is no such run
    """
    return Run(open_run_directory(path, trust))


class Run:
    """What a run directory holds, read when it is asked for.

    :param directory: the run directory
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self.path = directory.path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def config(self) -> ExperimentConfig:
        """The settings, every default written out."""
        return self.directory.read_config()

    @property
    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds.

        :raises ConfigError: the run has not ended yet
        """
        try:
            found: dict[str, Any] = json.loads(self.directory.metrics_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{self.path}: has no metrics.json yet; it is written when the run ends") from None
        return found

    @property
    def scalars(self) -> "pd.DataFrame":
        """All that was logged, a column for each tag, NaN where a row has none, indexed by ``timesteps``.

        :raises ConfigError: pandas is missing
        """
        return self._frame(self.directory.progress_file).set_index("timesteps")

    @property
    def evaluations(self) -> "pd.DataFrame":
        """The episodes of the evaluations while training: timesteps, episode, return, length and coverage.

        :raises ConfigError: pandas is missing
        """
        frame = self._frame(self.directory.evaluations_file)
        columns = ["timesteps", "episode", "return", "length", "coverage"]
        return frame.reindex(columns=[*columns, *(name for name in frame if name not in columns)])

    @cached_property
    def env(self) -> VecEnv:
        """The environments, new, as many as in training; with the run's ``VecNormalize``, which stands still."""
        venv = make_vec_env(self.config.environment, self.config.seed)
        if isinstance(venv, VecNormalize):  # else a run has its environments before its first checkpoint, too
            hold_normalisation(latest_checkpoint(self.directory.checkpoints), venv)
        return venv

    @cached_property
    def model(self) -> BaseAlgorithm:
        """The model of the latest checkpoint, with ``env``.

        :raises ConfigError: there is no checkpoint that can be loaded
        """
        return load_learner(
            self.config, latest_checkpoint(self.directory.checkpoints), self.env, self.directory.trusted
        )

    @cached_property
    def best_model(self) -> BaseAlgorithm:
        """The model that was best in an evaluation while training, without an environment.

        :raises ConfigError: the run was never evaluated
        """
        if not self.directory.best.is_dir():
            raise ConfigError(f"{self.path}: was not evaluated while training; train with evaluation.freq=50000")
        return load_learner(self.config, latest_checkpoint(self.directory.best), None, self.directory.trusted)

    @cached_property
    def figures(self) -> "dict[str, Figure]":
        """The pictures of the exploration and of tasks in sequence, drawn anew, by name; empty where there are none."""
        from farl.figures import task_matrix

        record = read_record(self.directory)
        found = {} if record is None else record.draw()
        ended = self.directory.metrics_file.is_file()
        returns = (self.metrics.get("sequence_returns") if ended else None) or []
        return found | ({"task_matrix": task_matrix(returns)} if any(returns) else {})

    @staticmethod
    def _frame(path: Path) -> "pd.DataFrame":
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError("tables need pandas: pip install pandas") from None
        return pd.DataFrame(read_table(path) or {"timesteps": np.zeros(0)})
