"""Fails when Stable-Baselines3 moves what the factory stands on: read its changelog, then mend farl/sb3/factory.py."""

import inspect

import pytest
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize


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


@pytest.mark.parametrize("buffer", [ReplayBuffer, DictReplayBuffer])
def test_replay_buffers_draw_the_environments_first_as_the_refreshing_ones_do(buffer):
    source = inspect.getsource(buffer._get_samples)
    first_draw = source.index("np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))")
    assert "np.random" not in source[:first_draw]
    assert "_normalize_reward(self.rewards[batch_inds, env_indices].reshape(-1, 1), env)" in source


def test_the_replay_buffer_can_be_chosen_before_the_model_is_set_up():
    source = inspect.getsource(OffPolicyAlgorithm._setup_model)
    assert "if self.replay_buffer_class is None:" in source
    assert "self.n_steps > 1" in source


def test_attributes_that_plain_exports_and_wrappers_read_are_there():
    for name in ("get_parameters", "set_parameters", "_excluded_save_params", "_get_torch_save_params"):
        assert callable(getattr(BaseAlgorithm, name)), name
    for name in ("step_wait", "step_async", "reset", "env_is_wrapped", "env_method"):
        assert callable(getattr(VecEnvWrapper, name)), name
