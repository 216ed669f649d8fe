"""Evaluates the latest checkpoint of a run over fresh episodes."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize

from farl.experiment.checkpoint import latest_checkpoint, restore_normalisation
from farl.experiment.environments import make_vec_env
from farl.experiment.learner import load_learner
from farl.experiment.run_directory import RunDirectory

_RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


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
        mean=estimate(sample, np.mean, seed),
        iqm=estimate(sample, interquartile_mean, seed),
        returns=[float(value) for value in returns],
        lengths=[int(value) for value in lengths],
    )


def interquartile_mean(sample: npt.NDArray[np.float64], axis: int = -1) -> npt.NDArray[np.float64]:
    """Mean of the middle half, which a few lucky episodes do not move (Agarwal et al. 2021, section 4.3)."""
    return np.asarray(stats.trim_mean(sample, 0.25, axis=axis), dtype=np.float64)


def estimate(sample: npt.NDArray[np.float64], statistic: Any, seed: int) -> Estimate:
    """A statistic of a sample [N] and its percentile bootstrap interval; the interval of a single value is a point."""
    value = float(statistic(sample))
    if len(sample) < 2 or np.ptp(sample) == 0:
        return Estimate(value, value, value)
    interval = stats.bootstrap(
        (sample,), statistic, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))
