"""Evaluates the latest checkpoint of a run over fresh episodes."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.utils import set_random_seed

from farl.experiment.checkpoint import hold_normalisation, latest_checkpoint
from farl.experiment.environments import make_vec_env
from farl.experiment.learner import limit_threads, load_learner
from farl.experiment.playing import MAX_STEPS, Observe, play, seen_reward
from farl.experiment.run_directory import RunDirectory
from farl.experiment.statistics import Estimate, estimate, interquartile_mean, mean


@dataclass(frozen=True)
class Evaluation:
    """Extrinsic returns, lengths and coverage of the episodes, and what they say together."""

    timesteps: int
    episodes: int
    deterministic: bool
    seed: int
    mean: Estimate
    iqm: Estimate
    coverage: Estimate | None
    returns: list[float]
    lengths: list[int]
    coverages: list[float] | None
    cut: int = 0
    """Episodes that were cut off by the limit on their steps."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def evaluate(
    run: RunDirectory,
    episodes: int,
    deterministic: bool | None,
    seed: int,
    max_steps: int = MAX_STEPS,
    observe: Observe | None = None,
) -> Evaluation:
    """Play ``episodes`` episodes with the policy of the latest checkpoint; nothing is learned or written.

    :param deterministic: whether to take the most likely actions; None: only where reward from outside moved the agent.
        What is most likely for a policy that only curiosity moves is often to stand still
    :param max_steps: most steps of an episode; one that has more is cut off
    :param observe: as in ``play``
    :raises ConfigError: the run has no checkpoint that can be loaded
    """
    config = run.read_config()
    limit_threads(config)
    checkpoint = latest_checkpoint(run.checkpoints)
    set_random_seed(seed)
    venv = make_vec_env(config.environment, seed, n_envs=min(config.environment.n_envs, episodes))
    try:
        hold_normalisation(checkpoint, venv)
        # Without the environment: a model is tied to its number of training environments, a policy is not.
        model = load_learner(config, checkpoint, None, run.trusted)
        set_random_seed(seed)
        deterministic = seen_reward(model) if deterministic is None else deterministic
        played = play(model, venv, episodes, deterministic, observe, max_steps)
    finally:
        venv.close()
    sample = np.array([episode.extrinsic_return for episode in played])
    coverages = [episode.coverage for episode in played if episode.coverage is not None]
    return Evaluation(
        timesteps=checkpoint.timesteps,
        episodes=len(played),
        deterministic=deterministic,
        seed=seed,
        mean=estimate([sample], mean, seed),
        iqm=estimate([sample], interquartile_mean, seed),
        coverage=estimate([np.array(coverages)], mean, seed) if coverages else None,
        returns=sample.tolist(),
        lengths=[episode.length for episode in played],
        coverages=coverages or None,
        cut=sum(episode.cut for episode in played),
    )
