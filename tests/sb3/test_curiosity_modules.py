"""Every curiosity module inside an SB3 algorithm: it trains, and its whole state goes through SB3's zip."""

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

from farl import FAR
from farl.curiosity import MODULES

SMALL = {
    PPO: {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    DQN: {"learning_starts": 16, "train_freq": 4, "buffer_size": 500},
}


def leaves(tree, path=""):
    """Every tensor and number of a state dict by its path."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {name: leaf for key, part in items for name, leaf in leaves(part, f"{path}/{key}").items()}
    return {path: tree}


@pytest.mark.parametrize("algorithm", [PPO, DQN])
@pytest.mark.parametrize("name", MODULES)
def test_it_trains_and_all_of_it_is_saved_and_loaded(algorithm, name, tmp_path):
    far = {"module": {"name": name}, "warmup": 16, "batch_size": 16, "critic_hidden": [8]}
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    model = FAR(algorithm)("MlpPolicy", env, far=far, seed=0, device="cpu", **SMALL[algorithm]).learn(96)
    assert np.isfinite(model.curiosity.last.intrinsic_reward).all()
    model.save(tmp_path / "model")
    loaded = FAR(algorithm).load(tmp_path / "model", env=env, device="cpu")
    before, after = leaves(model.curiosity.state_dict()), leaves(loaded.curiosity.state_dict())
    assert before.keys() == after.keys()
    for path, value in before.items():
        assert torch.equal(value, after[path]) if isinstance(value, torch.Tensor) else value == after[path], path
    loaded.learn(32, reset_num_timesteps=False)
