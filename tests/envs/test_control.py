import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

from farl.envs.control import ControlVecEnv
from farl.envs.control_tasks import TASKS, Acrobot, CartPole, level_offset
from farl.errors import ConfigError


@pytest.mark.parametrize(("ours", "theirs"), [(CartPole, "CartPole-v1"), (Acrobot, "Acrobot-v1")])
def test_dynamics_rewards_and_ends_are_gymnasiums(ours, theirs):
    single = gym.make(theirs).unwrapped
    many = ours(3)
    rng = np.random.default_rng(0)
    ended = 0
    for episode in range(10):
        observation, _ = single.reset(seed=episode)
        many.state[:] = single.state
        assert np.allclose(many.observe(), observation, atol=1e-6)
        for _ in range(500):
            # With the swing, so that episodes end, and at random, so that all states are met.
            action = int(rng.integers(ours.n_actions))
            if rng.random() < 0.7:
                action = int((observation[-1] > 0) * (ours.n_actions - 1))
            observation, reward, terminated, _, _ = single.step(action)
            rewards, fallen = many.step(np.full(3, action))
            assert np.allclose(many.observe(), observation, atol=1e-5)
            assert rewards.tolist() == [reward] * 3
            assert fallen.tolist() == [terminated] * 3
            many.state[:] = single.state  # differences of rounding would grow
            if terminated:
                ended += 1
                break
    assert ended > 0


def test_offsets_belong_to_level_and_sequence_and_the_first_level_has_none():
    first, second = (ControlVecEnv("CartPole", 2, level=level, seed=0) for level in (0, 1))
    difference = second.reset() - first.reset()
    np.testing.assert_allclose(difference, np.tile(level_offset(4, 1, seed=0), (2, 1)), atol=1e-6)
    assert (level_offset(4, 0, seed=3) == 0).all()
    assert (level_offset(4, 1, seed=3) != level_offset(4, 2, seed=3)).all()
    draws = np.stack([level_offset(4, level, seed=0) for level in range(1, 500)])
    assert draws.std() == pytest.approx(2.0, rel=0.1)


def test_episodes_end_with_a_monitors_record_and_begin_anew():
    env = ControlVecEnv("CartPole", 4, max_steps=12, seed=0)
    env.reset()
    for step in range(40):
        observations, _, dones, infos = env.step(np.full(4, step // 2 % 2))
        for index in np.flatnonzero(dones):
            info = infos[index]
            assert info["episode"]["r"] == info["episode"]["l"] <= 12
            assert info["TimeLimit.truncated"] == (info["episode"]["l"] == 12)
            assert (info["terminal_observation"] != observations[index]).any()
            assert np.abs(observations[index]).max() <= 0.05


def test_the_same_seed_gives_the_same_episodes():
    runs = []
    for _ in range(2):
        env = ControlVecEnv("Acrobot", 3)
        env.seed(4)
        runs.append([env.reset(), *(env.step(np.full(3, step % 3))[0] for step in range(20))])
    np.testing.assert_array_equal(np.stack(runs[0]), np.stack(runs[1]))


def test_ppo_learns_to_balance():
    env = ControlVecEnv("CartPole", 8, seed=0)
    model = PPO("MlpPolicy", env, n_steps=128, batch_size=256, n_epochs=10, learning_rate=1e-3, seed=0, device="cpu")
    model.learn(16_384)
    assert np.mean([episode["r"] for episode in model.ep_info_buffer]) > 60


def test_lunar_lander_steps_and_ends():
    pytest.importorskip("Box2D")
    env = ControlVecEnv("LunarLander", 2, level=1, seed=0)
    assert env.reset().shape == (2, 8)
    ends = sum(int(env.step(np.zeros(2, np.int64))[2].sum()) for _ in range(150))
    assert ends >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"task": "CartPol"}, "did you mean CartPole"), ({"level": -1}, "at least 0"), ({"num_envs": 0}, "at least 1")],
)
def test_bad_input_is_one_line_that_names_it(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ControlVecEnv(**{"task": "CartPole", "num_envs": 2} | arguments)


def test_a_missing_box2d_names_its_extra(monkeypatch):
    def missing(*_, **__):
        raise gym.error.DependencyNotInstalled

    monkeypatch.setattr(gym, "make", missing)
    with pytest.raises(ConfigError, match=r"pip install 'farl\[control\]'"):
        TASKS["LunarLander"](1)
