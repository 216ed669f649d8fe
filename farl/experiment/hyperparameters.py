"""The settings of a run for TensorBoard's tabs Text and HParams."""

import html
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from farl.experiment.config import ExperimentConfig
from farl.experiment.logs import summary_writer
from farl.experiment.signatures import default_hyperparameters

__all__ = ["LogHyperparameters", "settings_in_force"]

_NOT_FOR_TEXT = ("stdout", "log", "json", "csv")
_SECTIONS = ("far", "far.criterion", "far.recall", "evaluation", "sequence")
"""Sections that may be null; whether they are is a setting of its own."""


class LogHyperparameters(BaseCallback):
    """Writes the settings to TensorBoard once: a table in the tab Text, and what the tab HParams compares runs by.

    The tab takes all settings that differ between the runs it finds as its columns, as long as no run lays the columns
    down for all: SB3's ``HParam`` would. Its metrics are the scalars, coverage, evaluation and forgetting among them.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__()
        self._config = config

    def _on_training_start(self) -> None:
        settings = settings_in_force(self._config, self.model)
        rows = "\n".join(f"|{_cell(key)}|{_cell(value)}|" for key, value in sorted(settings.items()))
        self.logger.record("config/table", f"|key|value|\n|-|-|\n{rows}", exclude=_NOT_FOR_TEXT)
        self.logger.dump(self.model.num_timesteps)
        writer = summary_writer(self.logger)
        if writer is not None:
            from torch.utils.tensorboard.summary import hparams

            plain = {
                key: value if isinstance(value, bool | int | float) else str(value) for key, value in settings.items()
            }
            _, start, _ = hparams(plain, {})  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(start)

    def _on_step(self) -> bool:
        return True


def settings_in_force(config: ExperimentConfig, model: BaseAlgorithm) -> dict[str, Any]:
    """Return every setting by its dotted name, the algorithm's own defaults included."""
    settings = config.flat()
    algorithm = getattr(type(model), "algorithm_class", type(model))  # FAR(PPO) takes what PPO takes
    for name, value in default_hyperparameters(algorithm).items():
        if name not in config.algorithm.hyperparameters:
            settings[f"algorithm.hyperparameters.{name}"] = value
    settings = {key: value for key, value in settings.items() if key not in _SECTIONS and value != {}}
    for section in _SECTIONS:
        part: Any = config.model_dump()
        for key in section.split("."):
            part = None if part is None else part.get(key)
        settings[f"{section}.on"] = part is not None
    return settings


def _cell(value: Any) -> str:
    """A value as text in a table of Markdown, whatever it holds."""
    return html.escape(str(value)).replace("|", "\\|").replace("\n", " ")
