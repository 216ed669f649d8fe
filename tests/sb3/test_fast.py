"""Fast(X) is X: the same parameters after some rollouts, the same logs, the same files, in less time."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from farl import FAR
from farl.agents.particle_ppo import ParticlePPO
from farl.sb3.fast import Fast
from farl.sb3.fast.networks import TwinMLP
from tests.sb3.toy import FAR_SMALL

VECTOR = spaces.Box(-10, 10, (3,), np.float32)
GRID = spaces.Box(0, 1, (5, 5, 2), np.float32)
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(2),
    "continuous": spaces.Box(-0.5, 0.5, (2,), np.float32),
    "float64": spaces.Box(-0.5, 0.5, (2,), np.float64),
    "number": spaces.Box(-0.5, 0.5, (), np.float32),
}
OBSERVATIONS = {
    "vector": VECTOR,
    "grid": GRID,
    "number": spaces.Discrete(6),
    "numbers": spaces.MultiDiscrete([3, 4]),
    "image": spaces.Box(0, 255, (1, 36, 36), np.uint8),
    "dict": spaces.Dict(side=spaces.Discrete(2), place=VECTOR),
}
SETTINGS = {
    "n_steps": 16,
    "batch_size": 20,
    "n_epochs": 3,
    "seed": 3,
    "device": "cpu",
    "policy_kwargs": {"net_arch": [8]},
}


class Drift(gym.Env):
    """Six places, reward by place and action; episodes end by themselves or at a time limit."""

    def __init__(self, observation: spaces.Space, action: spaces.Space) -> None:
        self.observation_space, self.action_space = observation, action

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.steps = 0
        return self._see(self.observation_space), {}

    def step(self, action):
        self.place = int(self.place + np.sum(np.asarray(action, float)) * 2 + self.np_random.integers(2)) % 6
        self.steps += 1
        return self._see(self.observation_space), self.place - 2.0, self.place == 5, self.steps == 7, {}

    def _see(self, space):
        if isinstance(space, spaces.Dict):
            return {name: self._see(part) for name, part in space.spaces.items()}
        if isinstance(space, spaces.Discrete):
            return self.place % space.n
        if isinstance(space, spaces.MultiDiscrete):
            return self.place % space.nvec
        seen = np.random.default_rng(self.place).random(space.shape)
        if space.dtype == np.uint8:
            return (255 * seen).astype(np.uint8)
        # A grid is of zeros and ones and repeats itself, a vector never does.
        return (seen > 0.5).astype(np.float32) if space is GRID else (seen + self.np_random.random()).astype(np.float32)


def make(observation="vector", action="discrete", n_envs=4):
    makers = [lambda: Monitor(Drift(OBSERVATIONS[observation], ACTIONS[action]))] * n_envs
    return DummyVecEnv(makers)


def policy_of(observation):
    return {"dict": "MultiInputPolicy", "image": "CnnPolicy"}.get(observation, "MlpPolicy")


def learnt(
    algorithm, observation="vector", action="discrete", steps=192, policy=None, env=None, callback=None, **settings
):
    env = make(observation, action) if env is None else env
    model = algorithm(policy or policy_of(observation), env, **(SETTINGS | settings))
    return model.learn(steps, callback=callback)


def assert_same(model, other, tolerance=2e-5):
    for (name, one), two in zip(model.policy.named_parameters(), other.policy.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=tolerance, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    logged, expected = dict(model.logger.name_to_value), dict(other.logger.name_to_value)
    assert logged.keys() == expected.keys()
    for name, value in expected.items():
        if not name.startswith("time/"):
            assert logged[name] == pytest.approx(value, rel=1e-2, abs=1e-4), name


CASES = {
    "discrete": {},
    "multi-discrete": {"action": "multi-discrete"},
    "multi-binary": {"action": "multi-binary"},
    "continuous": {"action": "continuous"},
    "float64": {"action": "float64", "ent_coef": 0.01},
    "one number": {"action": "number"},
    "gSDE": {"action": "continuous", "use_sde": True, "sde_sample_freq": 4},
    "squashed gSDE": {
        "action": "continuous",
        "use_sde": True,
        "ent_coef": 0.1,
        "policy_kwargs": {"net_arch": [8], "squash_output": True},
    },
    "grid": {"observation": "grid", "ent_coef": 0.02},
    "grid, continuous": {"observation": "grid", "action": "continuous", "ent_coef": 0.02},
    "number": {"observation": "number"},
    "numbers": {"observation": "numbers"},
    "image": {"observation": "image", "ent_coef": 0.01},
    "dict": {"observation": "dict", "action": "multi-discrete", "ent_coef": 0.01},
    # Not down to 0: what is clipped at 0 is decided by rounding.
    "value clipping": {"clip_range_vf": 0.2, "clip_range": lambda progress: 0.1 + 0.3 * progress},
    "divergence limit": {"target_kl": 0.001, "learning_rate": 0.01},
    "plain advantages": {"normalize_advantage": False, "ent_coef": 0.05, "vf_coef": 0.7, "max_grad_norm": 0.05},
    "schedule": {"learning_rate": lambda progress: 1e-3 * progress},
    "whole rollout": {"batch_size": 64},
    "ReLU, deep": {"policy_kwargs": {"net_arch": [8, 9, 7], "activation_fn": nn.ReLU}},
    "unequal": {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [9, 4]}}},
    "two extractors": {"observation": "dict", "policy_kwargs": {"net_arch": [8], "share_features_extractor": False}},
    "no hidden layer": {"policy_kwargs": {"net_arch": []}},
    "SGD": {"policy_kwargs": {"net_arch": [8], "optimizer_class": torch.optim.SGD}},
    "weight decay": {"policy_kwargs": {"net_arch": [8], "optimizer_kwargs": {"weight_decay": 0.1, "eps": 1e-5}}},
    "dropout": {"observation": "grid", "policy_kwargs": {"net_arch": [8], "activation_fn": nn.Dropout}},
}


@pytest.mark.parametrize("case", CASES)
def test_ppo_learns_the_same(case):
    assert_same(learnt(Fast(PPO), **CASES[case]), learnt(PPO, **CASES[case]))


@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, torch.optim.Adam])
def test_a2c_learns_the_same(optimizer):
    settings = {
        "seed": 1,
        "n_steps": 8,
        "policy_kwargs": {"net_arch": [8], "optimizer_class": optimizer},
        "device": "cpu",
    }
    models = [cls("MlpPolicy", make("grid"), **settings).learn(320) for cls in (Fast(A2C), A2C)]
    assert_same(*models)


RECURRENT = {
    "own LSTMs": {},
    "continuous": {"action": "continuous", "clip_range_vf": 0.2},
    "shared LSTM": {"policy_kwargs": {"shared_lstm": True, "enable_critic_lstm": False}},
    "no LSTM for values": {"policy_kwargs": {"enable_critic_lstm": False, "n_lstm_layers": 2}, "ent_coef": 0.1},
    "dict": {"observation": "dict", "action": "multi-discrete"},
    "image": {"observation": "image", "normalize_advantage": False},
    "gSDE": {"action": "continuous", "use_sde": True},
    "divergence limit": {"target_kl": 0.0005, "learning_rate": 0.01},
}


@pytest.mark.parametrize("case", RECURRENT)
def test_recurrent_ppo_learns_the_same(case):
    settings = dict(RECURRENT[case])
    observation = settings.get("observation", "vector")
    policy = {"dict": "MultiInputLstmPolicy", "image": "CnnLstmPolicy"}.get(observation, "MlpLstmPolicy")
    settings["policy_kwargs"] = {"net_arch": [8], "lstm_hidden_size": 6, **settings.get("policy_kwargs", {})}
    assert_same(*(learnt(cls, policy=policy, **settings) for cls in (Fast(RecurrentPPO), RecurrentPPO)))


def test_far_of_fast_recurrent_ppo_is_far_and_loads(tmp_path):
    settings = {"policy": "MlpLstmPolicy", "policy_kwargs": {"net_arch": [8], "lstm_hidden_size": 6}, "far": FAR_SMALL}
    models = [learnt(FAR(cls), "grid", **settings) for cls in (Fast(RecurrentPPO), RecurrentPPO)]
    assert_same(*models, tolerance=1e-4)
    models[0].save(tmp_path / "model.zip")
    FAR(RecurrentPPO).load(tmp_path / "model.zip", env=make("grid"), device="cpu").learn(64)


def test_with_normalised_observations_and_rewards():
    models = [learnt(cls, "grid", env=VecNormalize(make("grid"))) for cls in (Fast(PPO), PPO)]
    assert_same(*models)
    np.testing.assert_allclose(models[0].env.ret_rms.var, models[1].env.ret_rms.var)


def test_far_of_fast_is_far():
    models = [learnt(FAR(cls), "grid", far=FAR_SMALL) for cls in (Fast(PPO), PPO)]
    assert_same(*models, tolerance=1e-4)
    assert models[0].curiosity.fragments == models[1].curiosity.fragments


LED = {"module": {"name": "recognition", "graph": {}, "calibration": 48, "features": 8, "hidden": 8}, "warmup": 16}


@pytest.mark.parametrize(
    ("observation", "action", "settings"),
    [
        ("grid", "discrete", {"n_steps": 128, "steps": 1536, "batch_size": 64}),
        ("grid", "discrete", {"ent_coef": 0.1, "policy_kwargs": {"net_arch": {"pi": [8], "vf": [9]}}}),
        ("grid", "continuous", {}),
        ("vector", "discrete", {"clip_range_vf": 0.2}),
        ("image", "discrete", {}),
        ("dict", "discrete", {}),
        ("number", "discrete", {"policy_kwargs": {"net_arch": []}}),
    ],
)
def test_an_advised_policy_learns_the_same(observation, action, settings):
    models = [learnt(FAR(cls), observation, action, far=LED, **settings) for cls in (Fast(PPO), PPO)]
    assert_same(*models, tolerance=1e-4)
    assert models[0].rollout_buffer.observations["advice"].any()
    assert models[0].policy.prior != models[0].policy.initial_prior
    if "n_steps" in settings:
        assert isinstance(models[0]._lane._network, TwinMLP)
        assert models[0]._lane.repeats.pays


def test_far_of_fast_hands_out_a_plain_model(tmp_path):
    model = learnt(FAR(Fast(PPO)), "grid", far=FAR_SMALL)
    assert type(model.plain()) is PPO
    model.plain().save(tmp_path / "plain.zip")
    PPO.load(tmp_path / "plain.zip", device="cpu")


@pytest.mark.parametrize(("first", "then"), [(PPO, Fast(PPO)), (Fast(PPO), PPO), (Fast(PPO), Fast(PPO))])
def test_either_goes_on_from_what_the_other_saved(tmp_path, first, then):
    learnt(first, "grid").save(tmp_path / "model.zip")
    env = make("grid")
    env.seed(9)
    goes_on = then.load(tmp_path / "model.zip", env=env, device="cpu")
    env = make("grid")
    env.seed(9)
    expected = PPO.load(tmp_path / "model.zip", env=env, device="cpu")
    for model in (goes_on, expected):
        model.set_random_seed(5)
        model.learn(128, reset_num_timesteps=False)
    assert_same(goes_on, expected)


def test_a_fast_zip_needs_no_farl(tmp_path):
    learnt(Fast(PPO), "grid").save(tmp_path / "model.zip")
    import zipfile

    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert b"farl" not in archive.read("data")


def test_callbacks_see_the_same_variables():
    class Names(BaseCallback):
        def _on_step(self):
            self.seen = set(self.locals)
            self.rewards = [*getattr(self, "rewards", []), self.locals["rewards"].copy()]
            return True

    callbacks = [Names(), Names()]
    for cls, callback in zip((Fast(PPO), PPO), callbacks, strict=True):
        learnt(cls, callback=callback)
    assert callbacks[1].seen - {"self", "idx", "done", "terminal_obs", "terminal_value", "i"} <= callbacks[0].seen
    np.testing.assert_array_equal(callbacks[0].rewards, callbacks[1].rewards)


def test_a_callback_ends_a_rollout():
    model = Fast(PPO)("MlpPolicy", make(), **SETTINGS)
    model.learn(1000, callback=lambda names, _: names["self"].num_timesteps < 40)
    assert model.num_timesteps == 40
    model.learn(64)


def test_own_policies_and_buffers_are_called():
    class Shifted(ActorCriticPolicy):
        def predict_values(self, obs):
            return super().predict_values(obs) + 1.0

        def evaluate_actions(self, obs, actions):
            values, log_prob, entropy = super().evaluate_actions(obs, actions)
            return values + 1.0, log_prob, entropy

    class Halved(RolloutBuffer):
        def compute_returns_and_advantage(self, last_values, dones):
            super().compute_returns_and_advantage(last_values, dones)
            self.advantages *= np.arange(self.n_envs)

    for settings in ({"policy": Shifted}, {"rollout_buffer_class": Halved}):
        assert_same(learnt(Fast(PPO), **settings), learnt(PPO, **settings))


def test_a_new_policy_optimiser_or_parameters_are_taken_up():
    models = [learnt(cls) for cls in (Fast(PPO), PPO)]
    for model in models:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        model.policy.load_state_dict({name: part * 0.9 for name, part in model.policy.state_dict().items()})
        model.policy.optimizer = torch.optim.Adam(model.policy.parameters(), 1e-3, eps=1e-5)
        model.learn(128, reset_num_timesteps=False)
    assert_same(*models)


def test_diverged_policies_are_told_of():
    model = learnt(Fast(PPO), "vector")
    with torch.no_grad():
        model.policy.action_net.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="diverged"):
        model.learn(64)


@pytest.mark.parametrize(
    "wrong", [DQN, ParticlePPO, FAR(PPO), "PPO", type("Mine", (PPO,), {"train": lambda self: None})]
)
def test_what_fast_cannot_do_is_refused(wrong):
    with pytest.raises(TypeError, match="Fast"):
        Fast(wrong)


def test_the_class_is_made_once_and_of_itself():
    assert Fast(PPO) is Fast(PPO) is Fast(Fast(PPO))
    assert issubclass(Fast(PPO), PPO)
