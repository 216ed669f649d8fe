"""Where the log of a run goes: TensorBoard, ``progress.csv``, and on request Weights & Biases and MLflow."""

import os
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

from farl.experiment.config import ExperimentConfig
from farl.experiment.run_directory import RunDirectory
from farl.experiment.tables import GrowingTable, ProgressTable

__all__ = ["CHARTS", "cut_events", "event_sizes", "make_logger", "summary_writer"]

_EVENTS = "events.out.tfevents.*"

CHARTS: dict[str, dict[str, list[str]]] = {
    "1 What it explored": {
        "coverage": ["exploration/coverage", "exploration/episode_coverage", "eval/coverage"],
        "intrinsic reward": ["far/intrinsic_reward", "far/intrinsic_return"],
        "surprisal": ["far/surprisal"],
    },
    "2 What it earned": {
        "return": ["rollout/ep_rew_mean", "eval/mean_reward"],
        "length of an episode": ["rollout/ep_len_mean", "eval/mean_ep_length"],
        "success": ["rollout/success_rate"],
    },
    "3 What it remembers": {
        "fragments": ["far/fragments", "far/fractures"],
        "recalls": ["far/recalls"],
        "memory": ["far/memory_mb", "far/disk_mb", "far/active_memory"],
    },
    "4 What it forgot": {
        "forgetting": ["far/forgetting_ratio", "far/novelty_contrast"],
        "error by steps since the last visit": ["far/error_after_.*"],
        "bonus on a return": ["far/revisit_bonus"],
        "return on each task": ["sequence/return_on_task_.*", "sequence/mean_return_so_far"],
    },
    "5 Particles": {
        "effective sample size": ["particles/ess"],
        "return of each particle": ["particles/return_.*"],
    },
    "6 How it learns": {
        "losses": [
            "train/loss",
            "train/value_loss",
            "train/policy_gradient_loss",
            "far/module_loss",
            "far/critic_loss",
        ],
        "entropy": ["train/entropy_loss", "train/ent_coef"],
        "change of the policy": ["train/approx_kl", "train/clip_fraction"],
        "learning rate": ["train/learning_rate"],
        "speed": ["time/fps"],
    },
}
"""The charts of TensorBoard's tab Custom Scalars: category -> chart -> regular expressions of the tags in it."""


def make_logger(run: RunDirectory | None, config: ExperimentConfig, timesteps: int) -> Logger:
    """Return the logger of a run; without a directory nothing is written.

    :param timesteps: done already; what was logged beyond them is taken back from ``progress.csv``
    :raises ConfigError: a package is missing
    """
    if run is None:
        return Logger(folder=None, output_formats=[])
    outputs: list[KVWriter] = [ProgressTable(GrowingTable(run.progress_file, timesteps))]
    if config.logging.tensorboard:
        outputs.append(TensorBoardOutputFormat(str(run.tensorboard)))
        if not timesteps:
            _write_layout(outputs[-1].writer)  # type: ignore[attr-defined]
    if config.logging.wandb or config.logging.mlflow:
        from farl.experiment.trackers import MLflowOutput, WandbOutput

        outputs += [WandbOutput(run, config)] if config.logging.wandb else []
        outputs += [MLflowOutput(run, config)] if config.logging.mlflow else []
    return Logger(folder=str(run.path), output_formats=outputs)


def summary_writer(logger: Logger) -> Any:
    """Return torch's ``SummaryWriter`` behind a logger, for what SB3 has no words for; None if there is none."""
    outputs = [each for each in logger.output_formats if isinstance(each, TensorBoardOutputFormat)]
    return outputs[0].writer if outputs else None


def event_sizes(run: RunDirectory, logger: Logger) -> dict[str, int]:
    """Return the size of each TensorBoard file, with all that was logged written out."""
    writer = summary_writer(logger)
    if writer is not None:
        writer.flush()
    return {file.name: file.stat().st_size for file in sorted(run.tensorboard.glob(_EVENTS))}


def cut_events(run: RunDirectory, sizes: Mapping[str, int]) -> None:
    """Take away what was logged after ``event_sizes`` returned these: it will be logged again."""
    for file in run.tensorboard.glob(_EVENTS):
        size = sizes.get(file.name)
        if size is None:
            file.unlink()
        elif file.stat().st_size > size:
            os.truncate(file, size)


def _write_layout(writer: Any) -> None:
    layout = {
        category: {name: ["Multiline", [f"^{tag}$" for tag in tags]] for name, tags in charts.items()}
        for category, charts in CHARTS.items()
    }
    writer.add_custom_scalars(layout)
