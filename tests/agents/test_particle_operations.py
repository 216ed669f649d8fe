"""Ten particles issue hardly more operations than one: on a GPU each is a kernel to be launched."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.profiler import ProfilerActivity, profile

from farl.agents.particle_ppo import ParticlePPO
from farl.envs.control import ControlVecEnv
from farl.sb3.networks import ImpalaCNN


class Pictures(gym.Env[Any, Any]):
    """Noise of 40 x 40 pixels."""

    observation_space = gym.spaces.Box(0, 255, (40, 40, 3), np.uint8)
    action_space = gym.spaces.Discrete(15)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.rng = np.random.default_rng(0)
        return self.rng.integers(0, 255, (40, 40, 3), np.uint8), {}

    def step(self, action: Any) -> Any:
        return self.rng.integers(0, 255, (40, 40, 3), np.uint8), 1.0, False, False, {}


NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("MlpPolicy", {}),
    "nature": ("CnnPolicy", {}),
    "impala": ("CnnPolicy", {"features_extractor_class": ImpalaCNN}),
}


def operations(network: str, n_particles: int) -> tuple[int, int]:
    """Count the operations of collecting a rollout and of learning it."""
    name, policy_kwargs = NETWORKS[network]
    env = ControlVecEnv("CartPole", 2, seed=0) if network == "mlp" else DummyVecEnv([Pictures] * 2)
    options: dict[str, Any] = {"n_steps": 4, "batch_size": 4, "n_epochs": 1, "seed": 0, "device": "cpu"}
    model = ParticlePPO(name, env, n_particles=n_particles, backend="vmap", policy_kwargs=policy_kwargs, **options)
    model.learn(8)
    callback = model._init_callback(None)
    counts = []
    for act in (lambda: model.collect_rollouts(model.env, callback, model.rollout_buffer, 4), model.train):  # type: ignore[arg-type]
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            act()
        counts.append(sum(event.name.startswith("aten::") for event in seen.events() or []))
    return counts[0], counts[1]


@pytest.mark.parametrize("network", NETWORKS)
def test_ten_particles_issue_at_most_half_as_many_operations_again_as_one(network: str) -> None:
    one, ten = operations(network, 1), operations(network, 10)
    assert ten[0] <= 1.5 * one[0]
    assert ten[1] <= 1.5 * one[1]
