"""The same log for Weights & Biases and for MLflow. Their own settings, as ``WANDB_MODE=offline``, apply."""

import importlib
from typing import Any

from stable_baselines3.common.logger import Image, KVWriter

from farl.errors import ConfigError
from farl.experiment.config import ExperimentConfig
from farl.experiment.run_directory import RunDirectory

__all__ = ["MLflowOutput", "WandbOutput"]


class WandbOutput(KVWriter):
    """Sends numbers and pictures to Weights & Biases, as one run in the project ``farl``.

    :raises ConfigError: if the package is missing
    """

    def __init__(self, run: RunDirectory, config: ExperimentConfig) -> None:
        self._wandb = _import("wandb")
        settings = config.flat()
        self._run = self._wandb.init(project="farl", name=run.path.name, dir=str(run.path), config=settings)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Send what was logged."""
        found = _numbers(key_values)
        pictures = {name: self._wandb.Image(image.image) for name, image in _pictures(key_values).items()}
        if found or pictures:
            self._run.log({**found, **pictures, "timesteps": step})

    def close(self) -> None:
        """Send the rest."""
        self._run.finish()


class MLflowOutput(KVWriter):
    """Sends numbers and pictures to MLflow, as one run in the experiment ``farl``.

    :raises ConfigError: if the package is missing
    """

    def __init__(self, run: RunDirectory, config: ExperimentConfig) -> None:
        self._mlflow = _import("mlflow")
        self._mlflow.set_experiment("farl")
        self._client = self._mlflow.MlflowClient()
        experiment = self._mlflow.get_experiment_by_name("farl")
        created = self._client.create_run(experiment.experiment_id, run_name=run.path.name)
        self.run_id = str(created.info.run_id)
        for key, value in config.flat().items():
            self._client.log_param(self.run_id, key, str(value)[:500])

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Send what was logged."""
        for key, value in _numbers(key_values).items():
            self._client.log_metric(self.run_id, key, value, step=step)
        for name, image in _pictures(key_values).items():
            self._client.log_image(self.run_id, image.image, f"{name}/{step:012d}.png")

    def close(self) -> None:
        """Say that the run has ended."""
        self._client.set_terminated(self.run_id)


def _numbers(key_values: dict[str, Any]) -> dict[str, float]:
    found = {}
    for key, value in key_values.items():
        if isinstance(value, int | float) or (hasattr(value, "item") and getattr(value, "size", 1) == 1):
            found[key] = float(value)
    return found


def _pictures(key_values: dict[str, Any]) -> dict[str, Image]:
    return {key: value for key, value in key_values.items() if isinstance(value, Image)}


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(f"logging.{package} needs {package}: pip install 'farl[{package}]'") from None
