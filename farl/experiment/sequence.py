"""Tasks in sequence: one model, whose environments change under it, judged on every task so far."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Image
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from farl.experiment.config import ExperimentConfig
from farl.experiment.environments import make_vec_env
from farl.experiment.tasks import task_at, task_environments

_EVALUATION_SEED_OFFSET = 20_000


class TaskSequence(BaseCallback):
    """Changes the environments when a task's steps are done, between two rollouts, and evaluates on all tasks so far.

    :param config: with a ``sequence`` section
    :ivar task: number of the present task, from 0
    :ivar returns: after each finished task, the mean return on it and on each before it
    """

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__()
        assert config.sequence is not None
        self.config, self.sequence = config, config.sequence
        self.tasks = task_environments(config)
        self.returns: list[list[float]] = []
        self.task = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the present task, and all returns."""
        return {"task": self.task, "returns": self.returns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned; call it before ``learn``."""
        self.task = int(state["task"])
        self.returns = [list(row) for row in state["returns"]]

    def _on_training_start(self) -> None:
        # An interruption may have come between the last step of a task and its evaluation.
        while len(self.returns) < self.task:
            self._judge(len(self.returns) + 1)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        following = task_at(self.config, self.model.num_timesteps)
        while self.task < following:
            self.task += 1
            self._judge(self.task)
            self._switch()

    def _on_training_end(self) -> None:
        if self.model.num_timesteps >= self.sequence.steps * len(self.tasks) and len(self.returns) < len(self.tasks):
            self._judge(len(self.tasks))
            self.logger.dump(self.model.num_timesteps)  # nobody else will, after the last rollout

    def _judge(self, count: int) -> None:
        """Evaluate on the first ``count`` tasks."""
        if not self.sequence.episodes:
            self.returns.append([])
            return
        found = []
        for number, environment in enumerate(self.tasks[:count]):
            venv = make_vec_env(
                environment,
                self.config.seed + _EVALUATION_SEED_OFFSET,
                min(environment.n_envs, self.sequence.episodes),
            )
            try:
                if isinstance(venv, VecNormalize):
                    venv.training = venv.norm_reward = False
                    held = self.model.get_vec_normalize_env()
                    if held is not None and venv.norm_obs:
                        venv.obs_rms = held.obs_rms
                value, _ = evaluate_policy(self.model, venv, self.sequence.episodes, deterministic=False, warn=False)
            finally:
                venv.close()
            found.append(float(np.mean(value)))
            self.logger.record(f"sequence/return_on_task_{number}", found[-1])
        self.logger.record("sequence/mean_return_so_far", float(np.mean(found)))
        self.returns.append(found)
        if len(self.returns) > 1:
            self._log_matrix()

    def _log_matrix(self) -> None:
        """Put the returns on all tasks after each into TensorBoard as a picture."""
        from farl.figures import figure_array, task_matrix

        picture = Image(figure_array(task_matrix(self.returns)), "HWC")
        self.logger.record("sequence/task_matrix", picture, exclude=("stdout", "log", "json", "csv"))

    def _switch(self) -> None:
        """Put the environments of the present task under the model."""
        model: Any = self.model
        before, old = model.get_vec_normalize_env(), model.get_env()
        seed = (self.config.seed + self.model.num_timesteps) % 2**32
        venv = make_vec_env(self.tasks[self.task], seed, restart=self.config.on_error == "restart_env")
        if isinstance(venv, VecNormalize) and before is not None and "normalization" not in self.sequence.reset:
            venv.ret_rms = before.ret_rms
            if venv.norm_obs:
                venv.obs_rms = before.obs_rms
        self._begin_anew(venv)
        model.set_env(venv, force_reset=True)
        model._last_obs = model.env.reset()
        model._last_episode_starts = np.ones(model.n_envs, dtype=bool)
        if model._vec_normalize_env is not None:
            model._last_original_obs = model._vec_normalize_env.get_original_obs()
        if hasattr(model, "continue_elsewhere"):
            model.continue_elsewhere()
        old.close()

    def _begin_anew(self, venv: VecEnv) -> None:
        """Set optimiser, or policy and optimiser, back to how a new model has them, drawn anew; the memory stays."""
        wanted = set(self.sequence.reset) & {"optimizer", "policy"}
        if not wanted:
            return
        from farl.experiment.learner import build_learner

        seed = (self.config.seed + self.task) % 2**32
        fresh = build_learner(self.config.model_copy(update={"seed": seed}), venv).get_parameters()
        held = self.model.get_parameters()
        chosen: Any = {
            name: fresh[name] if "policy" in wanted or name.endswith("optimizer") else held[name]
            for name in held
            if name != "curiosity"
        }
        self.model.set_parameters(chosen)
