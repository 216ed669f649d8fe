"""The traps of SB3 that concern the factory."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize, VecTransposeImage

from farl import FAR
from tests.sb3.rooms import ALGORITHMS, FAR_SMALL, Picture, Rooms, make, make_env


class BigBonus(BaseCallback):
    """Replaces what the curiosity gave by a bonus of 100."""

    def _on_step(self):
        last = self.model.curiosity.last
        self.model.curiosity.last = last._replace(intrinsic_reward=np.full_like(last.intrinsic_reward, 100.0))
        return True


@pytest.mark.parametrize("algorithm", [DQN, SAC])
@pytest.mark.parametrize("normalise", [False, True])
def test_off_policy_bonus_reaches_the_replay_buffer_also_under_vec_normalize(algorithm, normalise):
    env = make_vec_env("Pendulum-v1" if algorithm is SAC else Rooms, n_envs=2, seed=0)
    env = VecNormalize(env) if normalise else env
    model = make(algorithm, env, learning_starts=1000)
    model.learn(200, callback=BigBonus())
    stored = model.replay_buffer.rewards[: model.replay_buffer.pos]
    extrinsic = stored - 100.0
    assert len(stored) == 100
    assert extrinsic.max() <= 19.0
    assert extrinsic.min() >= -20.0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_eval_callback_works_with_vec_normalize(algorithm, tmp_path):
    evaluation = EvalCallback(
        VecNormalize(make_env(1), training=False), eval_freq=100, n_eval_episodes=1, log_path=str(tmp_path), verbose=0
    )
    make(algorithm, VecNormalize(make_env())).learn(400, callback=evaluation)
    assert evaluation.last_mean_reward > -np.inf


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("stack", [lambda env: env, VecMonitor, VecNormalize])
def test_logged_episode_reward_is_the_extrinsic_return(algorithm, stack):
    model = make(algorithm, stack(make_env()), far=FAR_SMALL | {"intrinsic_coef": 1000.0})
    model.learn(400)
    returns = [info["r"] for info in model.ep_info_buffer]
    assert returns
    assert 0 <= min(returns) <= max(returns) <= 30 * 19


def test_recurrent_ppo_runs_saves_and_loads(tmp_path):
    contrib = pytest.importorskip("sb3_contrib")
    algorithm = FAR(contrib.RecurrentPPO)
    model = algorithm("MlpLstmPolicy", make_env(), n_steps=32, batch_size=32, far=FAR_SMALL, seed=0, device="cpu")
    model.learn(256)
    model.save(tmp_path / "m")
    assert algorithm.load(tmp_path / "m", device="cpu").curiosity.samples_seen == 256


@pytest.mark.parametrize("episodic", [False, True])
def test_intrinsic_advantages_are_gae_and_end_with_episodes_only_if_asked_to(episodic):
    model = make(PPO, far=FAR_SMALL | {"episodic": episodic, "extrinsic_coef": 0.0, "intrinsic_coef": 2.0})
    seen = {}
    mix = type(model)._mix_advantages

    def spy(critic, rewards):
        buffer = model.rollout_buffer
        with torch.no_grad():
            values = critic.predict(torch.as_tensor(buffer.observations.reshape(-1, 4))).numpy().reshape(rewards.shape)
            last = critic.predict(torch.as_tensor(model._last_obs)).numpy()
        extrinsic_returns = buffer.returns.copy()
        mix(model, critic, rewards)
        seen.update(rewards=rewards, values=values, last=last, mixed=buffer.advantages.copy())
        seen.update(starts=buffer.episode_starts.copy(), dones=model._last_episode_starts)
        np.testing.assert_array_equal(buffer.returns, extrinsic_returns)

    model._mix_advantages = spy
    model.learn(256)
    steps, n_envs = seen["rewards"].shape
    assert seen["starts"][1:].any()
    for env in range(n_envs):
        following, value = 0.0, seen["last"][env]
        for step in reversed(range(steps)):
            ends = seen["starts"][step + 1, env] if step + 1 < steps else seen["dones"][env]
            goes_on = 0.0 if episodic and ends else 1.0
            delta = seen["rewards"][step, env] + 0.99 * value * goes_on - seen["values"][step, env]
            following = delta + 0.99 * 0.95 * goes_on * following
            value = seen["values"][step, env]
            assert seen["mixed"][step, env] == pytest.approx(2.0 * following, rel=1e-3, abs=1e-4)


class Watched(BaseCallback):
    """Keeps the observations that the curiosity is shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def _on_training_start(self):
        steps = self.model.curiosity.steps

        def spy(seen):
            self.shown += [(each.transitions, each.starts) for each in seen]
            return steps(seen)

        self.model.curiosity.steps = spy

    def _on_step(self):
        return True


@pytest.mark.parametrize("stack", [lambda env: env, lambda env: VecNormalize(env, norm_obs=False), VecTransposeImage])
def test_images_are_seen_channels_first_and_episodes_end_with_their_true_last_one(stack):
    model = FAR(PPO)(
        "CnnPolicy", stack(DummyVecEnv([Picture])), n_steps=16, batch_size=16, n_epochs=1, far=FAR_SMALL, device="cpu"
    )
    watched = Watched()
    model.learn(16, callback=watched)
    before = [int(t.observations[0, 0, 0, 0]) for t, _ in watched.shown]
    after = [int(t.next_observations[0, 0, 0, 0]) for t, _ in watched.shown]
    assert watched.shown[0][0].next_observations.shape == (1, 3, 40, 44)
    assert before == [0, 1, 2, 3, 4] * 3 + [0]
    assert after == [1, 2, 3, 4, 5] * 3 + [1]
    assert [bool(starts[0]) for _, starts in watched.shown] == [True, False, False, False, False] * 3 + [True]


def test_who_has_every_step_taken_in_sees_that_step_and_changes_nothing_but_rounding():
    class Asks(BaseCallback):
        def _on_training_start(self):
            self.steps = []

        def _on_step(self):
            self.model.take_in()
            self.steps.append(self.model.curiosity.last)
            return self.model.curiosity.samples_seen == self.model.num_timesteps

    asks = Asks()
    asked, left_alone = make(PPO, n_steps=64).learn(128, callback=asks), make(PPO, n_steps=64).learn(128)
    together = [step.intrinsic_reward for step in left_alone.curiosity_steps]
    assert len(asks.steps) == len(together) > 1
    singly = [step.intrinsic_reward for step in asks.steps]
    assert np.any(singly)
    np.testing.assert_allclose(together, singly, rtol=1e-3)
    assert asked.curiosity.fragments == left_alone.curiosity.fragments
    assert asked.curiosity.samples_seen == left_alone.curiosity.samples_seen == 128


def test_vec_normalize_is_undone_for_the_curiosity():
    env = VecNormalize(make_env())
    watched = Watched()
    make(PPO, env).learn(256, callback=watched)
    seen = torch.cat([t.next_observations for t, _ in watched.shown])
    sides = seen[:, 0].abs()
    assert ((sides > 2.4) & (sides < 3.6)).all()


def test_settings_survive_loading_and_the_plain_export_loads_without_farl(tmp_path):
    model = make(PPO).learn(128)
    model.save(tmp_path / "far")
    loaded = FAR(PPO).load(tmp_path / "far", device="cpu")
    assert loaded.far == model.far
    model.plain().save(tmp_path / "plain")
    plain = PPO.load(tmp_path / "plain", device="cpu")
    observation = make_env().reset()
    np.testing.assert_array_equal(
        plain.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    assert not hasattr(plain, "curiosity")


class IntegerRewards(gym.RewardWrapper):
    """Rewards of dtype int32, as from ale-py's vector environment."""

    def reward(self, reward):
        return np.int32(reward)


class IntegerVecEnv(DummyVecEnv):
    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards.astype(np.int32), dones, infos


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_integer_rewards_keep_the_fractions_of_the_bonus(algorithm):
    # PPO's own rewards stay the environment's; with a shared critic they are the sum.
    shared = {key: value for key, value in FAR_SMALL.items() if "critic" not in key} | {"critic": "shared"}
    far = shared if algorithm is PPO else FAR_SMALL
    model = make(algorithm, VecMonitor(IntegerVecEnv([Rooms])), learning_rate=1e-4, far=far)
    model.learn(200)
    stored = model.rollout_buffer.rewards if algorithm is PPO else model.replay_buffer.rewards[60:200]
    assert (stored % 1 != 0).any()


class Progress(BaseCallback):
    """Keeps the remaining progress that schedules see, and may stop the run."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at, self.remaining = stop_at, {}

    def _on_rollout_start(self):
        self.remaining[self.num_timesteps] = self.model._current_progress_remaining

    def _on_step(self):
        return self.num_timesteps != self.stop_at


def test_a_run_taken_up_with_the_remaining_budget_goes_on_without_a_jump_of_the_schedule(tmp_path):
    whole, first, second = Progress(), Progress(stop_at=256), Progress()
    make(PPO).learn(512, callback=whole)
    model = make(PPO)
    model.learn(512, callback=first)
    model.save(tmp_path / "m")
    loaded = FAR(PPO).load(tmp_path / "m", env=make_env(), device="cpu")
    loaded.learn(512 - loaded.num_timesteps, callback=second, reset_num_timesteps=False)
    # SB3 updates the progress after a rollout: the value at the very step of the stop was never set.
    del second.remaining[256], whole.remaining[256]
    assert first.remaining | second.remaining == whole.remaining
    assert loaded.num_timesteps == loaded.curiosity.samples_seen == 512
