"""FARVecEnv: rewards, episode ends, order of wrappers, saving; and refreshed replay."""

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize, VecTransposeImage

from farl import FAR, FARVecEnv
from tests.sb3.toy import FAR_SMALL, Toy, make_toy


def steps(env, n, seed=0):
    """Random steps: observations, rewards, dones, infos of each."""
    env.action_space.seed(seed)
    return [env.step(np.array([env.action_space.sample() for _ in range(env.num_envs)])) for _ in range(n)]


def shown(env):
    """Keep what the curiosity is shown."""
    seen, steps = [], env.curiosity.steps

    def spy(block):
        seen.extend((each.transitions, each.starts) for each in block)
        return steps(block)

    env.curiosity.steps = spy
    return seen


def test_the_reward_is_the_weighted_sum_also_of_integer_rewards():
    class Integers(DummyVecEnv):
        def step_wait(self):
            observations, rewards, dones, infos = super().step_wait()
            return observations, rewards.astype(np.int32), dones, infos

    env = FARVecEnv(Integers([Toy] * 2), far=FAR_SMALL | {"extrinsic_coef": 2.0, "intrinsic_coef": 0.5}, seed=0)
    env.reset()
    plain = DummyVecEnv([Toy] * 2)
    plain.reset()
    for seed in range(30):
        (_, mixed, *_), (_, rewards, *_) = steps(env, 1, seed)[0], steps(plain, 1, seed)[0]
        intrinsic = env.curiosity.last.intrinsic_reward
        np.testing.assert_allclose(mixed, 2.0 * rewards + 0.5 * intrinsic, rtol=1e-5)
        assert (intrinsic > 0).all() == (seed >= 8)  # after the warm-up


def test_factory_and_wrapper_give_the_same_intrinsic_rewards_for_the_same_steps():
    """One mechanism: the same seed, the same steps, the same numbers."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Record(BaseCallback):
        def _on_training_start(self):
            self.rows = []

        def _on_step(self):
            self.rows.append((self.locals["actions"].copy(), self.model.curiosity.last.intrinsic_reward))
            return True

    record = Record()
    model = FAR(DQN)(
        "MlpPolicy", make_toy(), far=FAR_SMALL, seed=4, learning_starts=10_000, buffer_size=500, device="cpu"
    )
    model.learn(200, callback=record)
    env = FARVecEnv(make_toy(), far=FAR_SMALL, seed=4, device="cpu")
    env.reset()
    for actions, intrinsic in record.rows:
        env.step(actions)
        np.testing.assert_array_equal(env.curiosity.last.intrinsic_reward, intrinsic)
    assert env.curiosity.recalls + env.curiosity.fragments > 1


def test_a_shared_critic_learns_what_it_would_if_the_environment_paid_the_bonus():
    """GAE is linear: advantages of the sum, time limits included, without a second pass over the rollout."""
    settings = {"n_steps": 40, "batch_size": 80, "n_epochs": 1, "gamma": 0.9, "seed": 3, "device": "cpu"}
    far = {name: value for name, value in FAR_SMALL.items() if name != "critic_hidden"}
    far |= {"batch_size": 200, "intrinsic_coef": 0.5, "extrinsic_coef": 0.3}  # no update before the rollout is complete
    inside = FAR(PPO)("MlpPolicy", make_toy(), far=far | {"critic": "shared"}, **settings).learn(80)
    outside = PPO("MlpPolicy", FARVecEnv(make_toy(), far=far, seed=3, device="cpu"), **settings).learn(80)
    for name in ("actions", "rewards", "advantages", "returns"):
        expected = getattr(outside.rollout_buffer, name)
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(getattr(inside.rollout_buffer, name), expected, rtol=1e-4, atol=1e-5)
    assert inside.intrinsic_critic is None


def test_episodes_end_with_their_true_last_observation():
    env = FARVecEnv(make_toy(), far=FAR_SMALL)
    seen = shown(env)
    env.reset()
    steps(env, 30)
    clock = [int(transitions.next_observations[0, 2]) for transitions, _ in seen]
    assert clock == ([*range(1, 13)] * 3)[:30]
    assert [int(transitions.observations[0, 2]) for transitions, _ in seen] == ([*range(12)] * 3)[:30]
    assert [bool(starts[0]) for _, starts in seen] == ([True, *[False] * 11] * 3)[:30]


@pytest.mark.parametrize("stack", [lambda env: env, VecTransposeImage])
def test_images_are_seen_channels_first_whichever_comes_in(stack):
    env = FARVecEnv(stack(make_toy("image")), far=FAR_SMALL)
    seen = shown(env)
    env.reset()
    steps(env, 14)
    first, last = seen[0][0], seen[11][0]
    assert first.next_observations.shape == (2, 1, 36, 36)
    assert last.next_observations[0, 0].max() >= 12  # the row of the agent's cell tells the time
    assert (last.next_observations == 12).any()


@pytest.mark.parametrize("monitored", [True, False])
def test_the_monitor_is_innermost(monitored):
    env = make_toy() if monitored else DummyVecEnv([Toy] * 2)
    env = FARVecEnv(env, far=FAR_SMALL | {"intrinsic_coef": 1000.0})
    assert isinstance(env.venv, VecMonitor) != monitored
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, device="cpu").learn(128)
    returns = [episode["r"] for episode in model.ep_info_buffer]
    assert returns
    assert max(returns) <= 12 * 9


def test_vec_normalize_inside_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"VecNormalize\(FARVecEnv"):
        FARVecEnv(VecNormalize(make_toy()), far={})


def test_with_vec_normalize_outside_the_bonus_reaches_the_replay_buffer():
    env = VecNormalize(FARVecEnv(make_toy(action="continuous"), far=FAR_SMALL | {"extrinsic_coef": 0.0}))
    model = SAC("MlpPolicy", env, learning_starts=1000, buffer_size=500, device="cpu").learn(100)
    stored = model.replay_buffer.rewards[:50]
    assert (stored[:8] == 0).all()  # the warm-up
    assert (stored[8:] > 0).all()


def test_eval_callback_works_with_vec_normalize():
    evaluation = EvalCallback(
        VecNormalize(FARVecEnv(make_toy(n_envs=1)), training=False), eval_freq=20, n_eval_episodes=1, verbose=0
    )
    env = VecNormalize(FARVecEnv(make_toy(), far=FAR_SMALL))
    PPO("MlpPolicy", env, n_steps=16, batch_size=16, device="cpu").learn(64, callback=evaluation)
    assert 0 <= evaluation.last_mean_reward <= 12 * 9


def test_without_far_everything_passes_through_and_there_is_nothing_to_save(tmp_path):
    env, plain = FARVecEnv(make_toy()), make_toy()
    env.reset(), plain.reset()
    for ours, theirs in zip(steps(env, 20), steps(plain, 20), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    assert env.curiosity is None
    with pytest.raises(ValueError, match="nothing to save"):
        env.save(tmp_path / "far")


def test_a_saved_wrapper_goes_on_as_if_never_saved(tmp_path):
    env = FARVecEnv(make_toy(), far=FAR_SMALL, seed=0, device="cpu")
    env.reset()
    steps(env, 60)
    env.save(tmp_path / "far.safetensors")
    loaded = FARVecEnv.load(tmp_path / "far.safetensors", make_toy(), device="cpu")
    env.reset(), loaded.reset()
    for _ in range(40):
        steps(env, 1), steps(loaded, 1)
        np.testing.assert_array_equal(env.curiosity.last.intrinsic_reward, loaded.curiosity.last.intrinsic_reward)
    assert loaded.curiosity.fragments == env.curiosity.fragments
    with pytest.raises(ValueError, match="other observations"):
        FARVecEnv.load(tmp_path / "far.safetensors", make_toy("dict"))


# Refreshed replay ----------------------------------------------------------------------------------------------------

OFF_POLICY = {"learning_starts": 10_000, "buffer_size": 500, "device": "cpu", "seed": 0}


@pytest.mark.parametrize(
    ("algorithm", "observation", "action", "normalise"),
    [(DQN, "vector", "discrete", False), (SAC, "dict", "continuous", True), (DQN, "image", "discrete", False)],
)
def test_replayed_bonuses_are_those_of_the_modules_as_they_are_now(algorithm, observation, action, normalise, tmp_path):
    policy = {"vector": "MlpPolicy", "dict": "MultiInputPolicy", "image": "CnnPolicy"}[observation]
    env = make_toy(observation, action, normalise=normalise)
    far = FAR_SMALL | {"refresh": True, "warmup": 2, "extrinsic_coef": 3.0}
    model = FAR(algorithm)(policy, env, far=far, **OFF_POLICY)
    model.learn(120)
    buffer, curiosity = model.replay_buffer, model.curiosity
    rows, envs = np.repeat(np.arange(60), 2), np.tile(np.arange(2), 60)
    refreshed, stored = buffer.bonus(rows, envs), buffer.intrinsic[rows, envs]
    assert not np.allclose(refreshed[2:], stored[2:])
    # By hand: the surprisal under the fragment's module as it is now, over the fragment's norm as it is now.
    transitions, fragments = buffer._transitions(rows, envs), buffer.fragments[rows, envs]
    surprisal = curiosity.modules.bank.surprisal(fragments, curiosity.module.prepare(transitions)).numpy()
    std = curiosity.reward_norm.statistics.moments(fragments).std
    np.testing.assert_allclose(refreshed, surprisal / std, rtol=1e-5)
    assert buffer.extrinsic.max() <= 9.0  # never the bonus
    # And it is what training gets, for the very samples that are drawn.
    normalise = model.get_vec_normalize_env()
    np.random.seed(5)  # noqa: NPY002
    samples = buffer.sample(32, env=normalise)
    np.random.seed(5)  # noqa: NPY002
    drawn = np.random.randint(0, buffer.pos, size=32)  # noqa: NPY002
    environments = np.random.randint(0, high=2, size=32)  # noqa: NPY002
    extrinsic = buffer.extrinsic[drawn, environments]
    extrinsic = extrinsic if normalise is None else normalise.normalize_reward(extrinsic)
    expected = 3.0 * extrinsic + buffer.bonus(drawn, environments)
    np.testing.assert_allclose(samples.rewards[:, 0], expected, rtol=1e-5)
    model.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer")
    np.testing.assert_allclose(model.replay_buffer.bonus(rows, envs), refreshed, rtol=1e-5)


def test_a_bonus_whose_fragment_is_gone_stays_as_it_was_stored():
    model = FAR(DQN)("MlpPolicy", make_toy(), far=FAR_SMALL | {"refresh": True, "warmup": 2}, **OFF_POLICY)
    model.learn(100)
    buffer = model.replay_buffer
    buffer.fragments[3] = 10_000
    assert buffer.bonus(np.array([3]), np.array([0])) == buffer.intrinsic[3, 0]


def test_what_cannot_be_refreshed_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="surprisal alone"):
        FAR(DQN)("MlpPolicy", make_toy(), far={"refresh": True, "module": {"name": "noveld"}}, **OFF_POLICY)


def test_with_refresh_an_agent_trains_and_its_plain_export_knows_nothing_of_it(tmp_path):
    settings = OFF_POLICY | {"learning_starts": 20, "train_freq": 4}
    model = FAR(DQN)("MlpPolicy", make_toy(), far=FAR_SMALL | {"refresh": True}, **settings).learn(100)
    model.save(tmp_path / "far")
    loaded = FAR(DQN).load(tmp_path / "far", env=make_toy(), device="cpu")
    loaded.learn(60, reset_num_timesteps=False)
    assert torch.isfinite(loaded.replay_buffer.sample(16).rewards).all()
    assert type(model.plain().replay_buffer) is ReplayBuffer
