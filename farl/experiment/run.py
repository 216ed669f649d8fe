"""Trains: a checked configuration becomes metrics and, given a directory, everything worth keeping of the run."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from farl.errors import ConfigError
from farl.experiment.callbacks import Observer, PeriodicCheckpoints, RunTracker
from farl.experiment.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from farl.experiment.config import ExperimentConfig
from farl.experiment.environments import make_vec_env
from farl.experiment.failure import Soundness, TrainingFailed, close_quietly, failed
from farl.experiment.hyperparameters import LogHyperparameters
from farl.experiment.interruption import StopRequest, TrainingInterrupted, stop_on_signals
from farl.experiment.learner import build_learner, learner_name, load_learner
from farl.experiment.lock import hold
from farl.experiment.logs import make_logger
from farl.experiment.metrics import curiosity_metrics, episode_metrics, library_versions, machine_facts
from farl.experiment.periodic_evaluation import PeriodicEvaluation
from farl.experiment.recording import RENDER_MODE, frame_rate
from farl.experiment.report import write_report
from farl.experiment.run_directory import RunDirectory
from farl.experiment.sequence import TaskSequence, task_at, task_environments
from farl.experiment.tables import GrowingTable
from farl.memory.storage import save_state
from farl.sb3.exploration import ExplorationCallback

_EVALUATION_SEED_OFFSET = 10_000


def train(config: ExperimentConfig, run_dir: Path | None = None, observer: Observer | None = None) -> dict[str, Any]:
    """Train from scratch and return the metrics.

    A plain function of its configuration: it can be sent to another process, and without ``run_dir`` it writes nothing.

    Args:
        config: a checked configuration, from ``load_config``.
        run_dir: an existing, empty directory for logs, checkpoints, pictures, ``metrics.json`` and ``report.html``.
        observer: told about the progress.

    Raises:
        ConfigError: the environment or the algorithm refuses the configuration.
        TrainingInterrupted: a signal came; a checkpoint was saved first.
        TrainingFailed: the environment, the algorithm or a callback raised; a checkpoint was saved first.
    """
    run = RunDirectory(run_dir) if run_dir is not None else None
    return _Training(config, run, observer).run(None)


def resume(
    run_dir: Path, total_timesteps: int | None = None, observer: Observer | None = None, trust: bool = False
) -> dict[str, Any]:
    """Go on from the latest checkpoint of a run, in the same directory, to the end of its budget.

    Args:
        run_dir: the directory of the run.
        total_timesteps: a new budget for the whole run. Schedules are stretched to it.
        observer: told about the progress.
        trust: whether to read pickled objects in the model's file, which can run code.

    Raises:
        ConfigError: there is nothing to resume, or the checkpoint is damaged or foreign.
        TrainingInterrupted: a signal came; a checkpoint was saved first.
        TrainingFailed: the environment, the algorithm or a callback raised; a checkpoint was saved first.
    """
    run = RunDirectory(run_dir, trust)
    config = run.read_config()
    checkpoint = latest_checkpoint(run.checkpoints)
    if total_timesteps is not None:
        config = config.model_copy(update={"total_timesteps": total_timesteps})
    if checkpoint.timesteps >= config.total_timesteps:
        raise ConfigError(
            f"{run_dir}: {checkpoint.timesteps:,} of {config.total_timesteps:,} timesteps are done already; "
            f"give a larger total, for instance: farl resume {run_dir} --timesteps {2 * checkpoint.timesteps}"
        )
    return _Training(config, run, observer).run(checkpoint)


class _Training:
    """One run of the training loop, from scratch or from a checkpoint."""

    def __init__(self, config: ExperimentConfig, run: RunDirectory | None, observer: Observer | None) -> None:
        self.config = config
        self.run_directory = run
        self.observer = observer
        self.exploration = ExplorationCallback(
            out_dir=run.exploration if run is not None else None,
            image_freq=config.logging.image_freq,
            axes=config.logging.axes,
        )
        self.restart = config.on_error == "restart_env"
        self.soundness = Soundness(run.path if run is not None else None, counting=self.restart)
        self.sequence = TaskSequence(config) if config.sequence is not None else None
        self.seconds_before = 0.0
        self.began = time.monotonic()

    def run(self, checkpoint: Checkpoint | None) -> dict[str, Any]:
        config = self.config
        if config.torch_threads is not None:
            torch.set_num_threads(config.torch_threads)
        run = self.run_directory
        with stop_on_signals() as stop, hold(run.path) if run is not None else nullcontext():
            # A resumed run meets new episodes, not the first ones again.
            seed = (config.seed + (checkpoint.timesteps if checkpoint else 0)) % 2**32
            timesteps = checkpoint.timesteps if checkpoint else 0
            venv = make_vec_env(task_environments(config)[task_at(config, timesteps)], seed, restart=self.restart)
            try:
                self.tracker = RunTracker(config.total_timesteps, self.exploration, self.observer, stop)
                self.model = self._build(venv, checkpoint)
                return self._learn(stop, fresh=checkpoint is None)
            finally:
                if self.observer is not None:
                    self.observer.finished()
                # A sequence of tasks has put others in their place.
                live = self.model.get_env() if hasattr(self, "model") else None
                close_quietly(live if live is not None else venv, "an environment")

    def _build(self, venv: VecEnv, checkpoint: Checkpoint | None) -> BaseAlgorithm:
        if checkpoint is None:
            return build_learner(self.config, venv)
        trust = self.run_directory is not None and self.run_directory.trusted
        model = load_learner(self.config, checkpoint, venv, trust)
        state = restore_checkpoint(checkpoint, model)
        self.exploration.load_state_dict(state["exploration"])
        self.tracker.goal_timesteps = state["goal_timesteps"]
        if self.sequence is not None:
            self.sequence.returns = [list(row) for row in state.get("sequence", [])]
        self.seconds_before = state["seconds"]
        return model

    def _learn(self, stop: StopRequest, fresh: bool) -> dict[str, Any]:
        config, model = self.config, self.model
        if self.run_directory is not None:
            self.run_directory.write_config(config)
            self.run_directory.error_file.unlink(missing_ok=True)
        model.set_logger(make_logger(self.run_directory, config, 0 if fresh else model.num_timesteps))
        evaluation = self._evaluation()
        path = self.run_directory.path if self.run_directory is not None else None
        callbacks: list[BaseCallback] = [self.soundness, self.exploration, self.tracker]
        if evaluation is not None:
            callbacks.append(evaluation)
        if self.sequence is not None:
            callbacks.append(self.sequence)
        if fresh:
            callbacks.insert(0, LogHyperparameters(config))
        if self.run_directory is not None:
            callbacks.append(PeriodicCheckpoints(config.checkpoints.freq, self._save))
        try:
            # learn() adds what is asked for to what is done: asking for the rest keeps the schedules where they were.
            model.learn(
                config.total_timesteps - model.num_timesteps,
                callback=callbacks,
                log_interval=config.logging.interval,
                reset_num_timesteps=fresh,
            )
            saved = self._save() if self.run_directory is not None else None
        except Exception as error:  # whatever fails, what was learnt until then is kept
            raise self._failed(error) from error
        finally:
            if evaluation is not None:
                close_quietly(evaluation, "an environment of the evaluation")
            close_quietly(model.logger, "the log")
        if stop.requested and model.num_timesteps < config.total_timesteps:
            raise TrainingInterrupted(model.num_timesteps, path, saved, stop.number)
        metrics = self._metrics(evaluation)
        if self.run_directory is not None:
            try:
                save_state(self.exploration.state_dict(), self.run_directory.record_file)
                self.run_directory.write_metrics(metrics)
                write_report(self.run_directory, metrics)
            except Exception as error:
                raise self._failed(error) from error
        return metrics

    def _failed(self, error: Exception) -> TrainingFailed:
        run = self.run_directory
        if run is None:
            return failed(error, self.model, None, self._save)

        def save() -> Path:
            if not run.config_file.is_file():  # somebody deleted it
                run.path.mkdir(parents=True, exist_ok=True)
                run.write_config(self.config)
            return self._save()

        return failed(error, self.model, run, save)

    def _evaluation(self) -> PeriodicEvaluation | None:
        settings, environment, run = self.config.evaluation, self.config.environment, self.run_directory
        if settings is None:
            return None
        seed = self.config.seed + _EVALUATION_SEED_OFFSET

        def make(n_envs: int, render_mode: str | None = None) -> VecEnv:
            venv = make_vec_env(environment, seed, n_envs, render_mode)
            if isinstance(venv, VecNormalize):
                venv.training = venv.norm_reward = False
            return venv

        table = None if run is None else GrowingTable(run.evaluations_file, self.model.num_timesteps)
        films = run is not None and self.config.logging.tensorboard and frame_rate(environment) is not None
        return PeriodicEvaluation(
            settings,
            make(min(environment.n_envs, settings.episodes)),
            table,
            self._save_best,
            (lambda: make(1, RENDER_MODE)) if films else None,
        )

    def _save_best(self) -> None:
        if self.run_directory is not None:
            save_checkpoint(self.run_directory.best, self.model, self.config.algorithm.name, {}, keep=1, replay=False)

    def _save(self) -> Path:
        assert self.run_directory is not None
        extra = {
            "exploration": self.exploration.state_dict(),
            "goal_timesteps": self.tracker.goal_timesteps,
            "seconds": self._seconds(),
            "sequence": self.sequence.returns if self.sequence is not None else [],
        }
        return save_checkpoint(
            self.run_directory.checkpoints,
            self.model,
            self.config.algorithm.name,
            extra,
            self.config.checkpoints.keep,
            copies=[self.run_directory.config_file],
        )

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _metrics(self, evaluation: PeriodicEvaluation | None) -> dict[str, Any]:
        seconds = self._seconds()
        return {
            "name": self.config.name,
            "algorithm": learner_name(self.config),
            "environment": self.config.environment.id,
            "seed": self.config.seed,
            "total_timesteps": int(self.model.num_timesteps),
            "wall_seconds": round(seconds, 3),
            "steps_per_second": round(self.model.num_timesteps / seconds, 1),
            **episode_metrics(self.model),
            "evaluation_ep_rew_mean": evaluation.last_mean_reward if evaluation else None,
            "evaluation_coverage": evaluation.last_coverage if evaluation else None,
            **({"sequence_returns": self.sequence.returns} if self.sequence is not None else {}),
            "coverage": self.exploration.coverage,
            "episode_coverage": self.exploration.episode_coverage,
            "worlds_differ": self.exploration.procedural,
            **({"environment_restarts": self.soundness.restarts} if self.restart else {}),
            "coverage_90_timesteps": self.tracker.goal_timesteps,
            "room_agreement": self.exploration.room_agreement,
            **curiosity_metrics(self.model),
            "versions": library_versions(),
            "machine": machine_facts(),
        }
