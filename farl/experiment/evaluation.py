"""Evaluates the latest checkpoint of a run over fresh episodes."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize

from farl.experiment.checkpoint import latest_checkpoint, restore_normalisation
from farl.experiment.environments import make_vec_env
from farl.experiment.learner import load_learner
from farl.experiment.run_directory import RunDirectory
from farl.experiment.statistics import Estimate, estimate, interquartile_mean, mean


@dataclass(frozen=True)
class Evaluation:
    """Extrinsic returns and lengths of the episodes, and what they say together."""

    timesteps: int
    episodes: int
    deterministic: bool
    seed: int
    mean: Estimate
    iqm: Estimate
    returns: list[float]
    lengths: list[int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def evaluate(run: RunDirectory, episodes: int, deterministic: bool, seed: int) -> Evaluation:
    """Play ``episodes`` episodes with the policy of the latest checkpoint; nothing is learned or written.

    Raises:
        ConfigError: the run has no checkpoint that can be loaded.
    """
    config = run.read_config()
    checkpoint = latest_checkpoint(run.checkpoints)
    set_random_seed(seed)
    venv = make_vec_env(config.environment, seed, n_envs=min(config.environment.n_envs, episodes))
    try:
        if isinstance(venv, VecNormalize):
            venv.training = venv.norm_reward = False
            restore_normalisation(checkpoint, venv)
        # Without the environment: a model is tied to its number of training environments, a policy is not.
        model = load_learner(config, checkpoint, None)
        set_random_seed(seed)
        returns, lengths = evaluate_policy(
            model, venv, n_eval_episodes=episodes, deterministic=deterministic, return_episode_rewards=True
        )
    finally:
        venv.close()
    assert isinstance(returns, list)
    assert isinstance(lengths, list)
    sample = np.asarray(returns, dtype=np.float64)
    return Evaluation(
        timesteps=checkpoint.timesteps,
        episodes=episodes,
        deterministic=deterministic,
        seed=seed,
        mean=estimate([sample], mean, seed),
        iqm=estimate([sample], interquartile_mean, seed),
        returns=[float(value) for value in returns],
        lengths=[int(value) for value in lengths],
    )
