"""``normalize_rewards: true`` from YAML with off-policy algorithms: what is learnt has the bonus as it was paid."""

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from farl.experiment.environments import make_vec_env
from farl.experiment.learner import build_learner
from farl.experiment.loading import load_config
from tests.sb3.conveyor import clock_of, reward_of

COEF = 0.5
YAML = """
name: normalised
total_timesteps: 160
device: cpu
environment:
  id: tests.sb3.conveyor:Conveyor
  n_envs: 1
  normalize_observations: OBSERVATIONS
  normalize_rewards: true
  kwargs: {rewards: REWARDS, action: ACTION}
algorithm:
  name: ALGORITHM
  hyperparameters: {learning_starts: 30, buffer_size: 300, batch_size: 8, train_freq: 4, policy_kwargs: {net_arch: [8]}}
far: {intrinsic_coef: 0.5, warmup: 16, batch_size: 16, module: {features: 8, hidden: 8}}
"""


class Watch(BaseCallback):
    """Keeps what was paid in each step, and compares it with each sample that is learnt from."""

    def __init__(self, rewards):
        super().__init__()
        self.rewards, self.paid, self.learnt = rewards, {}, []

    def _on_training_start(self):
        buffer = self.model.replay_buffer
        sample = type(buffer).sample

        def sampled(*args, env=None, **kwargs):
            samples = sample(buffer, *args, env=env, **kwargs)
            observations = env.unnormalize_obs(samples.observations.numpy())
            for clock, reward in zip(clock_of("vector", observations) + 1, samples.rewards[:, 0].tolist(), strict=True):
                extrinsic = env.normalize_reward(np.array([reward_of(self.rewards, int(clock))]))[0]
                self.learnt.append((reward, extrinsic + COEF * self.paid[int(clock)], COEF * self.paid[int(clock)]))
            return samples

        buffer.sample = sampled

    def _on_step(self):
        self.paid[self.locals["infos"][0]["clock"]] = self.model.curiosity.last.intrinsic_reward[0]
        return True


@pytest.mark.parametrize("rewards", ["none", "large"])
@pytest.mark.parametrize(("algorithm", "action"), [("DQN", "discrete"), ("SAC", "continuous"), ("TD3", "continuous")])
@pytest.mark.parametrize("observations", ["true", "false"])
def test_the_learnt_reward_is_the_normalised_one_and_the_bonus_that_was_paid(
    algorithm, action, rewards, observations, tmp_path
):
    settings = {"ALGORITHM": algorithm, "ACTION": action, "REWARDS": rewards, "OBSERVATIONS": observations}
    text = YAML
    for name, value in settings.items():
        text = text.replace(name, value)
    (tmp_path / "normalised.yaml").write_text(text, encoding="utf-8")
    config = load_config(tmp_path / "normalised.yaml")
    venv = make_vec_env(config.environment, config.seed)
    watch = Watch(rewards)
    build_learner(config, venv).learn(config.total_timesteps, callback=watch)
    learnt, expected, bonus = np.array(watch.learnt).T
    assert len(learnt) > 100
    np.testing.assert_allclose(learnt, expected, rtol=1e-4, atol=1e-5)
    assert (bonus > 0).mean() > 0.5
    if rewards == "none":  # where nothing is paid, what is learnt is the bonus, on its own scale
        np.testing.assert_allclose(learnt, bonus, rtol=1e-4, atol=1e-5)
