"""FAR(X) for every algorithm of Stable-Baselines3 and sb3-contrib that learns from a vector environment.

Not the full product: each algorithm meets two combinations, and each kind of observation, action, vector environment
and normalisation meets several algorithms.
"""

import importlib

import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecTransposeImage, sync_envs_normalization

from farl import FAR
from tests.sb3.toy import FAR_SMALL, make_toy

ON_POLICY = {"n_steps": 16, "batch_size": 16}
OFF_POLICY = {"learning_starts": 20, "buffer_size": 500, "batch_size": 8, "train_freq": 4}
TINY = {"net_arch": [8]}
SETTINGS = {
    "PPO": ("stable_baselines3", ON_POLICY | {"n_epochs": 1}),
    "A2C": ("stable_baselines3", {"n_steps": 16}),
    "DQN": ("stable_baselines3", OFF_POLICY),
    "SAC": ("stable_baselines3", OFF_POLICY),
    "TD3": ("stable_baselines3", OFF_POLICY),
    "DDPG": ("stable_baselines3", OFF_POLICY),
    "RecurrentPPO": ("sb3_contrib", ON_POLICY | {"n_epochs": 1}),
    "TRPO": ("sb3_contrib", ON_POLICY),
    "QRDQN": ("sb3_contrib", OFF_POLICY),
    "MaskablePPO": ("sb3_contrib", ON_POLICY | {"n_epochs": 1}),
}
CASES = [
    ("PPO", "image", "discrete", "subproc", True),
    ("PPO", "dict", "continuous", "dummy", False),
    ("A2C", "image", "continuous", "dummy", True),
    ("A2C", "vector", "discrete", "subproc", False),
    ("DQN", "image", "discrete", "dummy", False),
    ("DQN", "dict", "discrete", "subproc", True),
    ("SAC", "vector", "continuous", "subproc", True),
    ("SAC", "dict", "continuous", "dummy", False),
    ("TD3", "dict", "continuous", "subproc", True),
    ("TD3", "image", "continuous", "dummy", False),
    ("DDPG", "vector", "continuous", "dummy", True),
    ("DDPG", "dict", "continuous", "dummy", False),
    ("RecurrentPPO", "dict", "discrete", "dummy", True),
    ("RecurrentPPO", "image", "continuous", "subproc", False),
    ("TRPO", "vector", "continuous", "dummy", True),
    ("TRPO", "image", "discrete", "dummy", False),
    ("QRDQN", "vector", "discrete", "dummy", True),
    ("QRDQN", "image", "discrete", "subproc", False),
    ("MaskablePPO", "dict", "discrete", "dummy", True),
    ("MaskablePPO", "vector", "discrete", "subproc", False),
]


def algorithm_of(name):
    module = SETTINGS[name][0]
    library = pytest.importorskip(module, reason=f"{name} needs sb3-contrib: pip install 'farl[contrib]'")
    return getattr(library, name)


def policy_for(name, observation):
    kind = {"vector": "Mlp", "image": "Cnn", "dict": "MultiInput"}[observation]
    return f"{kind}LstmPolicy" if name == "RecurrentPPO" else f"{kind}Policy"


@pytest.mark.parametrize(("name", "observation", "action", "vec", "normalise"), CASES)
def test_it_runs_saves_loads_continues_and_is_evaluated(name, observation, action, vec, normalise, tmp_path):
    algorithm = algorithm_of(name)
    env = make_toy(observation, action, vec, normalise)
    settings = SETTINGS[name][1]
    policy = {"policy_kwargs": TINY | ({"lstm_hidden_size": 8} if name == "RecurrentPPO" else {})}
    if observation == "image":
        policy["policy_kwargs"] |= {"features_extractor_kwargs": {"features_dim": 8}}
    if observation == "dict":
        policy["policy_kwargs"] |= {"features_extractor_kwargs": {"cnn_output_dim": 8}}
    model = FAR(algorithm)(
        policy_for(name, observation), env, far=FAR_SMALL, seed=0, device="cpu", **settings, **policy
    )
    before = {key: tensor.clone() for key, tensor in model.policy.state_dict().items()}
    model.learn(64)
    assert any((before[key] != tensor).any() for key, tensor in model.policy.state_dict().items())
    curiosity = model.curiosity
    assert curiosity.samples_seen == 64
    assert (curiosity.last.intrinsic_reward > 0).any()
    # Episode returns are extrinsic: 12 steps, each worth at most 9.
    assert all(0 <= episode["r"] <= 12 * 9 for episode in model.ep_info_buffer)

    model.save(tmp_path / "model")
    loaded = FAR(algorithm).load(tmp_path / "model", env=env, device="cpu")
    assert loaded.curiosity.fragments == curiosity.fragments
    for ours, theirs in zip(_modules(loaded), _modules(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.num_timesteps == loaded.curiosity.samples_seen == 96

    evaluation = make_toy(observation, action, "dummy", normalise, n_envs=1, training=False, norm_reward=False)
    evaluation = VecTransposeImage(evaluation) if observation == "image" else evaluation
    sync_envs_normalization(loaded.get_env(), evaluation)
    mean, _ = evaluate_policy(loaded, evaluation, n_eval_episodes=2)
    assert 0 <= mean <= 12 * 9
    assert loaded.curiosity.samples_seen == 96
    env.close()


def _modules(model):
    """All weights of all fragments."""
    curiosity = model.curiosity
    states = [curiosity.modules.state(fragment_id) for fragment_id in curiosity.memory.ids]
    return [tensor.numpy() for state in states for tensor in state["parameters"].values()]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_algorithm_meets_each_way_of_stacking_environments(name):
    """The table above covers what it says, so that nobody thins it out unnoticed."""
    own = [case for case in CASES if case[0] == name]
    assert {case[4] for case in own} == {True, False}
    for column, values in (
        (1, {"vector", "image", "dict"}),
        (2, {"discrete", "continuous"}),
        (3, {"dummy", "subproc"}),
    ):
        assert {case[column] for case in CASES} == values


def test_optional_algorithms_are_looked_for_in_an_optional_package():
    """sb3-contrib is never imported by farl itself."""
    for name in ("algorithm", "on_policy", "off_policy"):
        assert "sb3_contrib" not in vars(importlib.import_module(f"farl.sb3.{name}"))
