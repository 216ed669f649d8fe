"""Trains: a checked configuration becomes metrics and, given a directory, everything worth keeping of the run."""

import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from farl.envs.state import CannotRestoreError, get_state, set_state
from farl.errors import ConfigError
from farl.experiment.callbacks import AtTheStart, CheckpointClock, Observer, RunTracker
from farl.experiment.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    latest_path,
    read_checkpoint,
    restore_normalisation,
    restore_replay,
    save_checkpoint,
)
from farl.experiment.config import ExperimentConfig, learner_name
from farl.experiment.environments import make_vec_env
from farl.experiment.failure import Soundness, TrainingFailed, close_quietly, failed, plain_reason
from farl.experiment.hyperparameters import LogHyperparameters
from farl.experiment.interruption import TrainingInterrupted, stop_on_signals
from farl.experiment.learner import build_learner, limit_threads, load_learner
from farl.experiment.lock import hold
from farl.experiment.logs import cut_events, event_sizes, make_logger
from farl.experiment.metrics import curiosity_metrics, episode_metrics, library_versions, machine_facts
from farl.experiment.model_state import model_state, prepare_model, take_up_model
from farl.experiment.periodic_evaluation import PeriodicEvaluation
from farl.experiment.recording import RENDER_MODE, frame_rate
from farl.experiment.report import write_report
from farl.experiment.run_directory import RunDirectory
from farl.experiment.sequence import TaskSequence
from farl.experiment.tables import GrowingTable
from farl.experiment.tasks import task_environments
from farl.memory.storage import save_state
from farl.sb3.exploration import ExplorationCallback

_EVALUATION_SEED_OFFSET = 10_000
_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError)
"""What reading the state of a checkpoint raises where it is not as it was written."""

_log = logging.getLogger(__name__)


def train(config: ExperimentConfig, run_dir: Path | None = None, observer: Observer | None = None) -> dict[str, Any]:
    """Train from scratch and return the metrics.

    A plain function of its configuration: it can be sent to another process, and without ``run_dir`` it writes nothing.

    :param config: a checked configuration, from ``load_config``
    :param run_dir: an existing, empty directory for logs, checkpoints, pictures, ``metrics.json`` and ``report.html``
    :param observer: told about the progress
    :raises ConfigError: the environment or the algorithm refuses the configuration
    :raises TrainingInterrupted: a signal came; a checkpoint was saved first
    :raises TrainingFailed: the environment, the algorithm or a callback raised; a checkpoint was saved first
    """
    run = RunDirectory(run_dir) if run_dir is not None else None
    return _Training(config, run, observer).run(None)


def resume(
    run_dir: Path, total_timesteps: int | None = None, observer: Observer | None = None, trust: bool = False
) -> dict[str, Any]:
    """Go on from the latest checkpoint of a run, in the same directory, to the end of its budget.

    On the same machine and versions, on CPU, it goes on as if it had never stopped, where the environments tell their
    state (``farl.envs.state``); others begin new episodes. A run that has no checkpoint yet begins anew; one that did
    all its steps, and was killed before its metrics and report were written, writes them.

    :param run_dir: the directory of the run
    :param total_timesteps: a new budget for the whole run. Schedules are stretched to it.
    :param observer: told about the progress
    :param trust: whether to read pickled objects in the model's file, which can run code
    :raises ConfigError: there is nothing to resume, the budget is none, or the checkpoint is damaged or foreign
    :raises TrainingInterrupted: a signal came; a checkpoint was saved first
    :raises TrainingFailed: the environment, the algorithm or a callback raised; a checkpoint was saved first
    """
    run = RunDirectory(run_dir, trust)
    config = run.read_config(total_timesteps)
    if latest_path(run.checkpoints) is None:
        _log.warning("%s: has no checkpoint yet; it begins anew", run.path)
        return _Training(config, run, observer).run(None)
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint.timesteps >= config.total_timesteps and (
        total_timesteps is not None or run.is_complete(checkpoint.timesteps)
    ):
        larger = f"give a larger total, for instance: farl resume {run_dir} --timesteps {2 * checkpoint.timesteps}"
        if config.sequence is not None:
            larger = "its tasks fix the budget; for a larger one, train anew with a larger `sequence.steps`"
        raise ConfigError(
            f"{run_dir}: {checkpoint.timesteps:,} of {config.total_timesteps:,} timesteps are done already; {larger}"
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
        self.evaluation: PeriodicEvaluation | None = None
        self.clock = CheckpointClock(config.checkpoints.freq, config.checkpoints.minutes)
        self.saved: dict[str, Any] | None = None  # what is still to be taken up of a checkpoint
        self.episodes_cut = 0
        """Episodes that could not be restored."""
        self.looked_at_environments = False
        self.untouched = False
        """Whether a checkpoint is still to be taken up: until then there is nothing new to save."""
        self.seconds_before = 0.0
        self.began = time.monotonic()

    def run(self, checkpoint: Checkpoint | None) -> dict[str, Any]:
        config = self.config
        limit_threads(config)
        if checkpoint is not None:
            self.saved, self.untouched = read_checkpoint(checkpoint), True
            if self.sequence is not None:
                self.sequence.load_state_dict(self.saved["run"]["sequence"])
        run = self.run_directory
        with stop_on_signals() as self.stop, hold(run.path) if run is not None else nullcontext():
            # Environments that cannot be restored meet new episodes, not the first ones again.
            seed = (config.seed + (checkpoint.timesteps if checkpoint else 0)) % 2**32
            task = 0 if self.sequence is None else self.sequence.task
            venv = make_vec_env(task_environments(config)[task], seed, restart=self.restart)
            try:
                self.tracker = RunTracker(config.total_timesteps, self.exploration, self.observer)
                self.model: Any = build_learner(config, venv) if checkpoint is None else self._loaded(venv, checkpoint)
                return self._learn(fresh=checkpoint is None)
            finally:
                if self.observer is not None:
                    self.observer.finished()
                # A sequence of tasks has put others in their place.
                live = self.model.get_env() if hasattr(self, "model") else None
                close_quietly(live if live is not None else venv, "an environment")

    def _loaded(self, venv: VecEnv, checkpoint: Checkpoint) -> Any:
        try:
            return self._load(venv, checkpoint)
        except ConfigError:
            raise
        except _DAMAGE as error:
            reason = plain_reason(error)
            raise ConfigError(f"{checkpoint.path}: its state is damaged or of other settings: {reason}") from error

    def _load(self, venv: VecEnv, checkpoint: Checkpoint) -> Any:
        """Load the model of a checkpoint, and prepare everything before it begins to learn."""
        assert self.saved is not None
        saved = self.saved["run"]
        trust = self.run_directory is not None and self.run_directory.trusted
        model: Any = load_learner(self.config, checkpoint, venv, trust)
        restore_replay(checkpoint, model)
        self.episodes_cut = int(saved["episodes_cut"])
        wrapped: Any = model.get_env()  # with what Stable-Baselines3 puts around them
        anew = not self._restore_environments(wrapped)
        if anew:
            restore_normalisation(checkpoint, model.get_vec_normalize_env())
            self.episodes_cut += venv.num_envs
        prepare_model(model, self.saved["model"], anew)
        self.tracker.goal_timesteps = saved["goal_timesteps"]
        self.soundness.restarts = int(saved["restarts"])
        self.seconds_before = saved["seconds"]
        return model

    def _restore_environments(self, venv: VecEnv) -> bool:
        assert self.saved is not None
        why = "their state is not in the checkpoint"
        if self.saved["environments"] is not None:
            try:
                venv.reset()
                set_state(venv, self.saved["environments"])
                return True
            except CannotRestoreError as error:
                why = str(error)
        _log.warning("the environments cannot be restored (%s); new episodes begin", why)
        return False

    def _between_steps(self) -> None:
        """Nothing is under way: take up what was saved, save, or stop."""
        if self.saved is not None:
            self._take_up(self.saved)
        self.untouched = False
        if not self.looked_at_environments:
            self.looked_at_environments = True
            try:
                get_state(self.model.get_env())
            except CannotRestoreError as error:
                _log.warning("the environments cannot be restored after a stop (%s): new episodes will begin", error)
        saved = None
        if self.run_directory is not None and (self.stop.requested or self.clock.is_due(self.model.num_timesteps)):
            saved = self._save()
        if self.stop.requested:
            run = self.run_directory.path if self.run_directory is not None else None
            raise TrainingInterrupted(self.model.num_timesteps, run, saved, self.stop.number)

    def _take_up(self, saved: dict[str, Any] | None) -> None:
        assert saved is not None
        self.saved = None
        anew = bool((self.model.reopened or {}).get("anew"))
        self.exploration.take_up(saved["exploration"], begin_anew=anew)
        if self.evaluation is not None and saved["run"]["evaluation"] is not None:
            self.evaluation.load_state_dict(saved["run"]["evaluation"])
        take_up_model(self.model, saved["model"], self.seconds_before)

    def _learn(self, fresh: bool) -> dict[str, Any]:
        config, model = self.config, self.model
        if self.run_directory is not None:
            self.run_directory.write_config(config)
            self.run_directory.error_file.unlink(missing_ok=True)
            cut_events(self.run_directory, {} if self.saved is None else self.saved["events"])
        model.set_logger(make_logger(self.run_directory, config, 0 if fresh else model.num_timesteps))
        self.evaluation = evaluation = self._evaluation()
        callbacks: list[BaseCallback] = [self.soundness, self.exploration, self.tracker]
        if evaluation is not None:
            callbacks.append(evaluation)
        if self.sequence is not None:
            callbacks.append(self.sequence)
        if fresh:
            callbacks.insert(0, LogHyperparameters(config))
        remaining = config.total_timesteps - model.num_timesteps
        if self.saved is not None and remaining <= 0:
            if self.saved["run"]["finished"]:
                callbacks.append(AtTheStart(lambda: self._take_up(self.saved)))  # there is no step to come
            else:
                remaining = 1  # the rollout that is open goes beyond the budget, as the last one may
        self.clock.saved(model.num_timesteps)
        model.between_steps = self._between_steps
        try:
            # learn() adds what is asked for to what is done: asking for the rest keeps the schedules where they were.
            model.learn(
                remaining,
                callback=callbacks,
                log_interval=config.logging.interval,
                reset_num_timesteps=fresh,
            )
            if self.run_directory is not None and not self.untouched:
                self._save(finished=True)
        except TrainingInterrupted:
            if self.run_directory is not None:
                try:
                    self.exploration.write(self.run_directory.exploration)
                except Exception as error:  # all that counts is saved
                    _log.warning("the pictures could not be written: %s", plain_reason(error))
            raise
        except Exception as error:  # whatever fails, what was learnt until then is kept
            if self.untouched:
                raise ConfigError(f"the run cannot go on from its checkpoint: {plain_reason(error)}") from error
            raise self._failed(error) from error
        finally:
            if evaluation is not None:
                close_quietly(evaluation, "an environment of the evaluation")
            close_quietly(model.logger, "the log")
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
        self.model.settle()

        def save() -> Path:
            if not run.config_file.is_file():  # somebody deleted it
                run.path.mkdir(parents=True, exist_ok=True)
                run.write_config(self.config)
            return self._save(failed=True)

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
            seed,
        )

    def _save_best(self) -> None:
        if self.run_directory is not None:
            save_checkpoint(self.run_directory.best, self.model, self.config.algorithm.name, {}, keep=1, replay=False)

    def _save(self, failed: bool = False, finished: bool = False) -> Path:
        """Save a checkpoint, and change nothing by it.

        :param failed: whether the environments may be the reason, so that new ones are better
        :param finished: whether the last rollout has been learnt from
        """
        run, model = self.run_directory, self.model
        assert run is not None
        try:
            environments = None if failed else get_state(model.get_env())
        except CannotRestoreError:
            environments = None
        state = {
            "run": {
                "goal_timesteps": self.tracker.goal_timesteps,
                "seconds": self._seconds(),
                "sequence": None if self.sequence is None else self.sequence.state_dict(),
                "evaluation": None if self.evaluation is None else self.evaluation.state_dict(),
                "restarts": self.soundness.restarts,
                "episodes_cut": self.episodes_cut,
                "finished": finished,
            },
            "environments": environments,
            "model": model_state(model),
            "exploration": self.exploration.open_state(),
            "events": event_sizes(run, model.logger),
        }
        name, keep = self.config.algorithm.name, self.config.checkpoints.keep
        saved = save_checkpoint(run.checkpoints, model, name, state, keep, copies=[run.config_file])
        self.clock.saved(model.num_timesteps)
        return saved

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
            "seen": self.exploration.seen,
            "worlds_differ": self.exploration.procedural,
            **({"environment_restarts": self.soundness.restarts} if self.restart else {}),
            **({"episodes_cut": self.episodes_cut} if self.episodes_cut else {}),
            "coverage_90_timesteps": self.tracker.goal_timesteps,
            "room_agreement": self.exploration.room_agreement,
            **curiosity_metrics(self.model),
            "versions": library_versions(),
            "machine": machine_facts(),
        }
