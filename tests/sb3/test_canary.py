"""Fails when Stable-Baselines3 moves what the factory stands on: read its changelog, then mend algorithm.py,
on_policy.py and off_policy.py in farl/sb3."""

import inspect
import re

import pytest
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer


def test_methods_that_are_overridden_exist_with_their_parameters():
    expected = {
        (BaseAlgorithm, "_setup_learn"): ["self", "total_timesteps", "callback", "reset_num_timesteps"],
        (BaseAlgorithm, "_init_callback"): ["self", "callback", "progress_bar"],
        (BaseAlgorithm, "_excluded_save_params"): ["self"],
        (BaseAlgorithm, "_get_torch_save_params"): ["self"],
        (OnPolicyAlgorithm, "_setup_model"): ["self"],
        (OnPolicyAlgorithm, "collect_rollouts"): ["self", "env", "callback"],
        (
            OffPolicyAlgorithm,
            "_store_transition",
        ): ["self", "replay_buffer", "buffer_action", "new_obs", "reward", "dones", "infos"],
    }
    for (owner, name), parameters in expected.items():
        assert list(inspect.signature(getattr(owner, name)).parameters)[: len(parameters)] == parameters, name


@pytest.mark.parametrize("owner", [OnPolicyAlgorithm, OffPolicyAlgorithm])
def test_callbacks_are_given_the_locals_that_the_factory_reads(owner):
    source = inspect.getsource(owner.collect_rollouts)
    assert "callback.update_locals(locals())" in source
    step = source.index("callback.on_step()")
    assert "new_obs, rewards, dones, infos = env.step(" in source[:step]
    assert "actions" in source[:step]


@pytest.mark.parametrize("algorithm", [A2C, DDPG, DQN, PPO, SAC, TD3])
def test_loading_builds_the_model_without_setting_it_up(algorithm):
    assert "_init_setup_model" in inspect.signature(algorithm.__init__).parameters
    assert "model._setup_model()" in inspect.getsource(BaseAlgorithm.load)


CONTRIB = ("MaskablePPO", "QRDQN", "RecurrentPPO", "TRPO")


@pytest.mark.parametrize("name", CONTRIB)
def test_contribs_algorithms_keep_to_the_same_callbacks(name):
    algorithm = getattr(pytest.importorskip("sb3_contrib"), name)
    assert issubclass(algorithm, OnPolicyAlgorithm | OffPolicyAlgorithm)
    assert "_init_setup_model" in inspect.signature(algorithm.__init__).parameters
    source = inspect.getsource(algorithm.collect_rollouts)
    step = source.index("callback.on_step()")
    assert "new_obs, rewards, dones, infos = env.step(" in source[:step]
    assert "callback.update_locals(locals())" in source[:step]


@pytest.mark.parametrize(
    ("buffer", "method"),
    [
        (ReplayBuffer, "_get_samples"),
        (DictReplayBuffer, "_get_samples"),
        (NStepReplayBuffer, "_get_samples"),
        (HerReplayBuffer, "_get_real_samples"),
    ],
)
def test_replay_buffers_hand_the_rewards_that_they_pick_to_the_normaliser(buffer, method):
    source = inspect.getsource(getattr(buffer, method))
    assert re.search(r"self\._normalize_reward\(self\.rewards\[\w+, env_ind", source)


def test_hindsight_asks_the_environment_for_rewards_of_exchanged_goals_in_one_method():
    source = inspect.getsource(HerReplayBuffer._get_virtual_samples)
    assert "(rewards.reshape(-1, 1), env)" in source
    assert "astype(np.float32)" in source
    assert list(inspect.signature(HerReplayBuffer._get_virtual_samples).parameters)[1:3] == [
        "batch_indices",
        "env_indices",
    ]


def test_attributes_that_plain_exports_and_wrappers_read_are_there():
    for name in ("get_parameters", "set_parameters", "_excluded_save_params", "_get_torch_save_params"):
        assert callable(getattr(BaseAlgorithm, name)), name
    for name in ("step_wait", "step_async", "reset", "env_is_wrapped", "env_method"):
        assert callable(getattr(VecEnvWrapper, name)), name
