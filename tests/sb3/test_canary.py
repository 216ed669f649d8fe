"""Fails when Stable-Baselines3 moves what the factory stands on: read its changelog, then mend farl/sb3/factory.py."""

import inspect

import pytest
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize


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


def test_off_policy_rewards_are_taken_from_vec_normalizes_old_reward():
    assert "get_original_reward()" in inspect.getsource(OffPolicyAlgorithm._store_transition)
    assert "self.old_reward" in inspect.getsource(VecNormalize.get_original_reward)


@pytest.mark.parametrize("algorithm", [A2C, DDPG, DQN, PPO, SAC, TD3])
def test_loading_builds_the_model_without_setting_it_up(algorithm):
    assert "_init_setup_model" in inspect.signature(algorithm.__init__).parameters
    assert "model._setup_model()" in inspect.getsource(BaseAlgorithm.load)
