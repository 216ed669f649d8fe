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
from farl.kinds import Kinds
from farl.sb3.fast import Fast, updating
from farl.sb3.fast.flat_adam import FlatAdam
from farl.sb3.fast.heads import _CategoricalRows, _CompiledCategoricalRows
from farl.sb3.fast.networks import TwinMLP, tanh_
from farl.sb3.fast.repeats import Repeats
from farl.sb3.fast.sparse import SparseRows
from farl.sb3.intrinsic_critic import IntrinsicCritic
from tests.sb3.toy import FAR_SMALL

VECTOR = spaces.Box(-10, 10, (3,), np.float32)
GRID = spaces.Box(0, 1, (5, 5, 2), np.float32)
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(2),
    "continuous": spaces.Box(-0.5, 0.5, (2,), np.float32),
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


def test_equal_observations_are_looked_at_once():
    looked_at = []

    def outputs(observations):
        looked_at.append(len(observations))
        return observations.numpy() * 2, observations[:, 0].numpy()

    kinds = torch.rand(5, 7)
    order = torch.randint(5, (12, 4))
    repeats = Repeats(outputs, 48)
    for rows in order:
        twice, first = repeats(kinds[rows])
        np.testing.assert_array_equal(twice, kinds[rows] * 2)
        np.testing.assert_array_equal(first, kinds[rows, 0])
    assert sum(looked_at) == len(order.unique())
    found, where = repeats.within(torch.arange(20))
    torch.testing.assert_close(repeats.observations[torch.from_numpy(found)[where]], kinds[order.flatten()[:20]])
    assert len(found) == len(order.flatten()[:20].unique())
    again = Repeats(outputs, 48, repeats)
    assert again(kinds[order[0]])[0].shape == (4, 7)
    assert len(looked_at) == len(set(looked_at[:-1])) + 1 or looked_at[-1] == len(order.unique())


def test_observations_that_do_not_repeat_are_not_looked_for():
    repeats = Repeats(lambda observations: (observations.numpy(), observations[:, 0].numpy()), 80)
    for _ in range(20):
        repeats(torch.rand(4, 3))
    assert not repeats.pays


@pytest.mark.parametrize("clip_range_vf", [None, 0.2])
def test_the_losses_are_the_same_with_and_without_compilation(clip_range_vf):
    torch.manual_seed(0)
    log_prob, old, advantages, values, change, returns = torch.randn(6, 200)
    batch = updating.Minibatch(torch.zeros(200, 1), values, old * 0.3, advantages, returns)
    given = log_prob * 0.3, values + change * 0.3, batch, updating.Losses(0.2, clip_range_vf, 0.01, 0.5)
    for one, other in zip(updating.terms_of(*given), updating.terms_compiled(*given), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shared", [True, False])
def test_categorical_heads_are_the_same_with_and_without_compilation(shared):
    torch.manual_seed(0)
    outputs, actions = torch.randn(30, 5) * 3, torch.randint(5, (30, 1)).float()
    where = torch.randint(30, (30,)) if shared else None
    one, other = (kind(outputs, where, actions) for kind in (_CategoricalRows, _CompiledCategoricalRows))
    torch.testing.assert_close(one.log_prob, other.log_prob)
    torch.testing.assert_close(one.entropy, other.entropy)
    slope = torch.randn(30)
    torch.testing.assert_close(one.gradient(slope, -0.1), other.gradient(slope, -0.1))


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_adam_is_torchs_with_and_without_compilation(scale):
    torch.manual_seed(0)
    models = [nn.Linear(9, 3) for _ in range(3)]
    for model in models:
        model.load_state_dict(models[0].state_dict())
    optimizers = [torch.optim.Adam(model.parameters(), 0.1, (0.8, 0.95), 1e-5) for model in models]
    flat = [FlatAdam(optimizer, list(optimizer.param_groups[0]["params"])) for optimizer in optimizers[:2]]
    for each in flat:
        each.attach()
    for _ in range(5):
        gradients = [torch.randn_like(part) * scale for part in models[0].parameters()]
        for model in models:
            for part, gradient in zip(model.parameters(), gradients, strict=True):
                part.grad = gradient.clone() if part.grad is None else part.grad.copy_(gradient)
        flat[0].step(0.5)
        flat[1]._step += 1
        flat[1]._step_with_torch(0.5)
        nn.utils.clip_grad_norm_(models[2].parameters(), 0.5)
        optimizers[2].step()
    for one, two, three in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, three)
        torch.testing.assert_close(two, three)


@pytest.mark.parametrize("width", [64, 101])
def test_a_layer_over_sparse_rows_is_the_layer(width):
    torch.manual_seed(0)
    rows = torch.where(torch.rand(20, width) < 0.15, torch.randn(20, width), 0.0)
    which = np.array([3, 3, 19, 0, 7])
    sparse = SparseRows.of(rows).pick(which)
    weight, bias = torch.randn(6, width), torch.randn(6)
    torch.testing.assert_close(sparse.layer(weight, bias), nn.functional.linear(rows[which], weight, bias))
    gradient, found = torch.randn(5, 6), torch.empty(6, width)
    sparse.gradient(gradient, found)
    torch.testing.assert_close(found, gradient.t() @ rows[which])
    assert SparseRows.of(torch.rand(20, width)) is None


def test_kinds_are_told_apart_by_every_bit_and_stay_what_they_are():
    rng = np.random.default_rng(0)
    for dtype, width in ((np.float32, 3), (np.float64, 2), (np.uint8, 5)):
        kinds = Kinds()
        distinct = (rng.random((3000, width)) * 255).astype(dtype)
        distinct = np.unique(distinct, axis=0)[:2000]
        order = rng.integers(len(distinct), size=(40, 500))
        numbers = np.concatenate([kinds(distinct[rows]) for rows in order])
        np.testing.assert_array_equal(kinds.observations[numbers], distinct[order.ravel()])
        assert len(kinds) == len(np.unique(order))
    odd = np.array([[0.0], [-0.0], [np.nan], [np.nan]])
    assert len(set(Kinds()(odd).tolist())) == 3


def test_tanh_is_exact_to_rounding_and_keeps_what_is_no_number():
    values = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([np.nan, np.inf, -np.inf, 1e-30])])
    torch.testing.assert_close(tanh_(values.clone()), values.tanh(), atol=3e-7, rtol=1e-6, equal_nan=True)


def test_few_rows_are_looked_at_as_many_are():
    model = Fast(PPO)("MlpPolicy", make(), **(SETTINGS | {"policy_kwargs": {"net_arch": [8, 7]}}))
    model.learn(64)
    model._lane.begin()
    observations = torch.randn(30, 3)
    for one, other in zip(
        model._lane._network.look(observations), model._lane._network.outputs(observations), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("observation", ["vector", "grid"])
@pytest.mark.parametrize("hidden", [(8, 7), ()])
def test_the_intrinsic_critic_learns_the_same_by_hand(observation, hidden):
    space = spaces.Box(0, 1, (5, 5, 8), np.float32) if observation == "grid" else VECTOR
    model = PPO("MlpPolicy", DummyVecEnv([lambda: Drift(space, ACTIONS["discrete"])] * 4), n_steps=16, device="cpu")
    rng = np.random.default_rng(0)
    kinds = np.where(rng.random((9, *space.shape)) < 0.2, rng.random((9, *space.shape)), 0).astype(np.float32)
    seen, returns = kinds[rng.integers(9, size=(16, 4))], rng.random((16, 4)).astype(np.float32)
    critics = [IntrinsicCritic(model.policy, hidden, 1e-2, 0.99, 0.95, False, seed=3) for _ in range(2)]
    critics[1]._mlp = None
    assert (critics[0]._mlp is None) == (hidden == ())
    losses = [critic.train(seen, returns, 3, 20) for critic in critics]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for one, other in zip(*(critic.network.parameters() for critic in critics), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)
    with torch.no_grad():
        one, other = (critic._evaluate(seen.reshape(64, *space.shape)) for critic in critics)
    np.testing.assert_allclose(one, other, atol=2e-5)
