"""FAR(Algorithm): what users of SB3 expect to go on working, and the traps of SB3 that concern the factory."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize, VecTransposeImage

from farl import FAR, FARConfig

SMALL = {
    PPO: {"n_steps": 32, "batch_size": 32, "n_epochs": 2},
    A2C: {"n_steps": 16},
    DQN: {"learning_starts": 40, "train_freq": 4, "buffer_size": 2000},
    SAC: {"learning_starts": 40, "buffer_size": 2000},
}
ALGORITHMS = [PPO, A2C, DQN]
FAR_SMALL = {
    "module": {"features": 16, "hidden": 16},
    "criterion": {"name": "zscore", "threshold": 2.0, "min_samples": 10},
    "warmup": 50,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "critic_hidden": [16],
}


class Rooms(gym.Env):
    """A corridor of two rooms seen as a noisy vector: small, and with something to fragment."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length=20):
        self.length = length

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.steps = 0
        return self._see(), {"position": (self.x, 0)}

    def step(self, action):
        self.x = int(np.clip(self.x + (1 if action else -1), 0, self.length - 1))
        self.steps += 1
        return self._see(), float(self.x), False, self.steps >= 30, {"position": (self.x, 0)}

    def _see(self):
        side = 3.0 if self.x >= self.length // 2 else -3.0
        return np.array([side, -side, self.x / 10, 0], np.float32) + 0.1 * self.np_random.normal(size=4).astype(
            np.float32
        )


def make_env(n_envs=2, seed=0):
    return make_vec_env(Rooms, n_envs=n_envs, seed=seed)


def make(algorithm, env=None, far=FAR_SMALL, seed=0, **kwargs):
    env = env or make_env()
    return FAR(algorithm)("MlpPolicy", env, far=far, seed=seed, device="cpu", **(SMALL[algorithm] | kwargs))


def parameters_of(model):
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}


class Record(BaseCallback):
    """Keeps what every step gave."""

    def __init__(self):
        super().__init__()
        self.rewards, self.active = [], []

    def _on_step(self):
        step = self.model.curiosity.last
        self.rewards.append(step.intrinsic_reward)
        self.active.append(step.events.active)
        return True


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("far", ["left out", None])
def test_switched_off_it_is_bit_identical_to_the_plain_algorithm(algorithm, far):
    plain = algorithm("MlpPolicy", make_env(), seed=3, device="cpu", **SMALL[algorithm]).learn(400)
    keyword = {} if far == "left out" else {"far": None}
    off = FAR(algorithm)("MlpPolicy", make_env(), seed=3, device="cpu", **keyword, **SMALL[algorithm]).learn(400)
    assert off.curiosity is None
    for name, tensor in parameters_of(plain).items():
        assert torch.equal(tensor, parameters_of(off)[name]), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_watching_without_rewarding_changes_nothing_either(algorithm):
    plain = algorithm("MlpPolicy", make_env(), seed=3, device="cpu", **SMALL[algorithm]).learn(400)
    watching = make(algorithm, far=FAR_SMALL | {"intrinsic_coef": 0.0}, seed=3).learn(400)
    assert watching.curiosity.samples_seen >= 400
    for name, tensor in parameters_of(plain).items():
        assert torch.equal(tensor, parameters_of(watching)[name]), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_with_intrinsic_rewards_the_policy_learns_something_else(algorithm):
    plain = algorithm("MlpPolicy", make_env(), seed=3, device="cpu", **SMALL[algorithm]).learn(800)
    curious = make(algorithm, far=FAR_SMALL, seed=3).learn(800)
    assert curious.curiosity.fragments > 1
    assert any(not torch.equal(tensor, parameters_of(curious)[name]) for name, tensor in parameters_of(plain).items())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_loaded_model_gives_the_same_next_200_intrinsic_rewards(algorithm, tmp_path):
    model = make(algorithm).learn(600)
    model.save(tmp_path / "model")
    loaded = FAR(algorithm).load(tmp_path / "model", env=make_env(), device="cpu")
    if algorithm is DQN:  # SB3 keeps the replay buffer in a file of its own
        model.save_replay_buffer(tmp_path / "buffer")
        loaded.load_replay_buffer(tmp_path / "buffer")
    traces = []
    for each in (model, loaded):
        each.set_env(make_env(seed=7))
        each.set_random_seed(11)
        each.exploration_rate = 0.5
        record = Record()
        each.learn(400, reset_num_timesteps=False, callback=record)
        traces.append((np.array(record.rewards)[:200], np.array(record.active)[:200]))
    assert len(traces[0][0]) == 200
    assert (traces[0][0] > 0).any()
    np.testing.assert_array_equal(traces[0][0], traces[1][0])
    np.testing.assert_array_equal(traces[0][1], traces[1][1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_gives_the_same_run(algorithm):
    traces = []
    for _ in range(2):
        record = Record()
        make(algorithm, seed=5).learn(500, callback=record)
        traces.append(np.array(record.rewards))
    np.testing.assert_array_equal(*traces)


def test_the_class_is_a_subclass_made_once_and_wrapping_twice_changes_nothing():
    assert FAR(PPO) is FAR(PPO)
    assert FAR(FAR(PPO)) is FAR(PPO)
    assert issubclass(FAR(PPO), PPO)
    assert FAR(PPO).__name__ == "FARPPO"


@pytest.mark.parametrize("wrong", ["PPO", PPO("MlpPolicy", "CartPole-v1", device="cpu"), int])
def test_anything_but_an_algorithm_class_is_refused(wrong):
    with pytest.raises(TypeError, match=r"FAR\(PPO\)"):
        FAR(wrong)


@pytest.mark.parametrize(
    ("far", "match"),
    [
        ({"criterium": {}}, "criterium"),
        ({"criterion": {"name": "zscroe"}}, "zscroe"),
        ({"intrinsic_coef": -1}, "intrinsic_coef"),
        ({"memory": {"capacity": 2}}, "capacity"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_wrong_settings_are_named(far, match):
    with pytest.raises(ValueError, match=match):
        make(PPO, far=far)


def test_far_that_is_no_mapping_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="is the defaults"):
        make(PPO, far=True)


def test_settings_may_be_a_config_object():
    assert make(PPO, far=FARConfig(intrinsic_coef=0.5)).far["intrinsic_coef"] == 0.5


# The traps of SB3 ----------------------------------------------------------------------------------------------------


class BigBonus(BaseCallback):
    """Replaces what the curiosity gave by a bonus of 100."""

    def _on_step(self):
        last = self.model.curiosity.last
        self.model.curiosity.last = last._replace(intrinsic_reward=np.full_like(last.intrinsic_reward, 100.0))
        return True


@pytest.mark.parametrize("algorithm", [DQN, SAC])
@pytest.mark.parametrize("normalise", [False, True])
def test_t1_off_policy_bonus_reaches_the_replay_buffer_also_under_vec_normalize(algorithm, normalise):
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
def test_t2_eval_callback_works_with_vec_normalize(algorithm, tmp_path):
    evaluation = EvalCallback(
        VecNormalize(make_env(1), training=False), eval_freq=100, n_eval_episodes=1, log_path=str(tmp_path), verbose=0
    )
    make(algorithm, VecNormalize(make_env())).learn(400, callback=evaluation)
    assert evaluation.last_mean_reward > -np.inf


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("stack", [lambda env: env, VecMonitor, VecNormalize])
def test_t3_logged_episode_reward_is_the_extrinsic_return(algorithm, stack):
    model = make(algorithm, stack(make_env()), far=FAR_SMALL | {"intrinsic_coef": 1000.0})
    model.learn(400)
    returns = [info["r"] for info in model.ep_info_buffer]
    assert returns
    assert 0 <= min(returns) <= max(returns) <= 30 * 19


def test_t4_recurrent_ppo_runs_saves_and_loads(tmp_path):
    contrib = pytest.importorskip("sb3_contrib")
    algorithm = FAR(contrib.RecurrentPPO)
    model = algorithm("MlpLstmPolicy", make_env(), n_steps=32, batch_size=32, far=FAR_SMALL, seed=0, device="cpu")
    model.learn(256)
    model.save(tmp_path / "m")
    assert algorithm.load(tmp_path / "m", device="cpu").curiosity.samples_seen == 256


@pytest.mark.parametrize("episodic", [False, True])
def test_t5_intrinsic_advantages_are_gae_and_end_with_episodes_only_if_asked_to(episodic):
    model = make(PPO, far=FAR_SMALL | {"episodic": episodic, "extrinsic_coef": 0.0, "intrinsic_coef": 2.0})
    seen = {}
    mix = type(model)._mix_advantages

    def spy(rewards):
        buffer, critic = model.rollout_buffer, model.intrinsic_critic
        with torch.no_grad():
            values = critic.predict(torch.as_tensor(buffer.observations.reshape(-1, 4))).numpy().reshape(rewards.shape)
            last = critic.predict(torch.as_tensor(model._last_obs)).numpy()
        extrinsic_returns = buffer.returns.copy()
        mix(model, rewards)
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


class Picture(gym.Env):
    """An image, channels last, whose first channel tells the step."""

    observation_space = spaces.Box(0, 255, (40, 44, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._see(), {}

    def step(self, action):
        self.steps += 1
        return self._see(), 0.0, False, self.steps == 5, {}

    def _see(self):
        image = np.zeros((40, 44, 3), np.uint8)
        image[..., 0] = self.steps
        return image


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
def test_t6_images_are_seen_channels_first_and_episodes_end_with_their_true_last_one(stack):
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


def test_who_asks_in_every_step_sees_that_step_and_changes_nothing_but_rounding():
    class Asks(BaseCallback):
        def _on_training_start(self):
            self.steps = []

        def _on_step(self):
            self.steps.append(self.model.curiosity.last)
            return self.model.curiosity.samples_seen == self.model.num_timesteps

    asks = Asks()
    asked, left_alone = make(PPO, n_steps=64).learn(128, callback=asks), make(PPO, n_steps=64).learn(128)
    assert len(asks.steps) == len(left_alone._rewards) > 1
    singly = [step.intrinsic_reward for step in asks.steps]
    assert np.any(singly)
    np.testing.assert_allclose(left_alone._rewards, singly, rtol=1e-3)
    assert asked.curiosity.fragments == left_alone.curiosity.fragments
    assert asked.curiosity.samples_seen == left_alone.curiosity.samples_seen == 128


def test_vec_normalize_is_undone_for_the_curiosity():
    env = VecNormalize(make_env())
    watched = Watched()
    make(PPO, env).learn(256, callback=watched)
    seen = torch.cat([t.next_observations for t, _ in watched.shown])
    sides = seen[:, 0].abs()
    assert ((sides > 2.4) & (sides < 3.6)).all()


def test_t7_settings_survive_loading_and_the_plain_export_loads_without_farl(tmp_path):
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
def test_t8_integer_rewards_keep_the_fractions_of_the_bonus(algorithm):
    model = make(algorithm, VecMonitor(IntegerVecEnv([Rooms])), learning_rate=1e-4)
    model.learn(200)
    if algorithm is DQN:
        stored = model.replay_buffer.rewards[60:200]
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


def test_t9_a_run_taken_up_with_the_remaining_budget_goes_on_without_a_jump_of_the_schedule(tmp_path):
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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checkpoints_progress_bar_lists_and_functions_as_callbacks_work(algorithm, tmp_path):
    calls = []
    callbacks = [CheckpointCallback(100, str(tmp_path)), Record()]
    model = make(algorithm)
    model.learn(300, callback=callbacks, progress_bar=True)
    model.learn(100, callback=lambda *_: calls.append(1) or True)
    assert len(calls) > 10
    checkpoint = sorted(tmp_path.glob("*.zip"))[0]
    assert FAR(algorithm).load(checkpoint, device="cpu").curiosity.samples_seen == 200
    mean, _ = evaluate_policy(model, make_env(1), n_eval_episodes=2)
    assert mean >= 0


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5),
        spaces.MultiBinary(4),
        spaces.MultiDiscrete([3, 2]),
        spaces.Dict(a=spaces.Discrete(3), b=spaces.Box(-1, 1, (2, 3))),
    ],
)
def test_every_space_that_is_no_image_is_seen_as_a_vector(space):
    class Sampled(gym.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return space.sample(), {}

        def step(self, action):
            self.steps += 1
            return space.sample(), 0.0, False, self.steps == 7, {}

    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    model = FAR(PPO)(policy, Sampled(), far=FAR_SMALL, device="cpu", **SMALL[PPO])
    model.learn(128)
    assert model.curiosity.samples_seen == 128


def test_an_image_inside_a_dict_is_refused_with_the_way_out():
    space = spaces.Dict(image=spaces.Box(0, 255, (40, 40, 3), np.uint8))

    class Sampled(Picture):
        observation_space = space

        def _see(self):
            return space.sample()

    with pytest.raises(ValueError, match="image inside a dict"):
        FAR(PPO)("MultiInputPolicy", Sampled(), far={}, device="cpu")


def test_curiosity_makes_ppo_reach_the_far_room_more_often():
    """Without any extrinsic reward to follow, curiosity alone has to carry the agent over."""

    class Silent(Rooms):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 0.0, *rest

    def share_of_far_room(far):
        visits = []

        class Visits(BaseCallback):
            def _on_step(self):
                visits.extend(info["position"][0] >= 10 for info in self.locals["infos"])
                return True

        env = make_vec_env(Silent, n_envs=8, seed=0)
        model = FAR(PPO)("MlpPolicy", env, n_steps=64, batch_size=128, far=far, seed=0, device="cpu")
        model.learn(15_000, callback=Visits())
        return np.mean(visits)

    assert share_of_far_room(FAR_SMALL) > 3 * share_of_far_room(None)
