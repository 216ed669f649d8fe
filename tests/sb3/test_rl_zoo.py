"""rl-baselines3-zoo trains FAR(X) from its YAML. Runs where ``rl_zoo3`` is installed."""

import subprocess
import sys

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 has pins of its own: .ci/neighbours runs this in an environment beside")

HYPERPARAMETERS = """
CartPole-v1:
  n_timesteps: !!float 256
  n_envs: 2
  policy: MlpPolicy
  n_steps: 32
  batch_size: 32
  n_epochs: 1
  normalize: true
  far: {intrinsic_coef: 0.5, warmup: 32, module: {features: 8, hidden: 8}, critic_hidden: [8]}
"""

TRAIN = """
import sys
import rl_zoo3
import rl_zoo3.train
from stable_baselines3 import PPO
from farl import FAR

rl_zoo3.ALGOS["far_ppo"] = FAR(PPO)
rl_zoo3.train.ALGOS["far_ppo"] = FAR(PPO)
sys.argv = ["train", *sys.argv[1:]]
rl_zoo3.train.train()
"""


def test_the_zoo_trains_from_its_yaml(tmp_path):
    (tmp_path / "far_ppo.yml").write_text(HYPERPARAMETERS, encoding="utf-8")
    options = ["--algo", "far_ppo", "--env", "CartPole-v1", "-conf", "far_ppo.yml", "-f", "logs", "--device", "cpu"]
    result = subprocess.run([sys.executable, "-c", TRAIN, *options], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (saved,) = (tmp_path / "logs").rglob("CartPole-v1.zip")

    from stable_baselines3 import PPO

    from farl import FAR

    model = FAR(PPO).load(saved, device="cpu")
    assert model.far["intrinsic_coef"] == 0.5
    assert model.curiosity.samples_seen == 256
