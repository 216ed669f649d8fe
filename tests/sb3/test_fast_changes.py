"""Fast(X) notices what has changed between two rollouts, and keeps what is looked at later."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from farl.sb3.fast import Fast
from tests.sb3.test_fast import Drift, assert_same, learnt


def freeze(policy: Any) -> None:
    policy.mlp_extractor.requires_grad_(False)


def decay(policy: Any) -> None:
    policy.optimizer.param_groups[0]["weight_decay"] = 0.1


def replace(policy: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    policy.action_net = nn.Linear(policy.action_net.in_features, policy.action_net.out_features)
    with torch.no_grad():
        policy.action_net.weight.normal_(0, 0.3, generator=generator)
        policy.action_net.bias.zero_()


def hook(policy: Any) -> None:
    policy.action_net.register_forward_hook(lambda module, inputs, outputs: 2 * outputs)


@pytest.mark.parametrize("change", [freeze, decay, replace, hook])
@pytest.mark.parametrize("algorithm", [PPO, RecurrentPPO])
def test_what_is_changed_between_rollouts_counts(algorithm: Any, change: Any) -> None:
    settings: dict[str, Any] = {}
    if algorithm is RecurrentPPO:
        settings = {"policy": "MlpLstmPolicy", "policy_kwargs": {"net_arch": [8], "lstm_hidden_size": 4}}
    models = [learnt(kind, steps=64, **settings) for kind in (Fast(algorithm), algorithm)]
    for model in models:
        change(model.policy)
        set_random_seed(1)
        model.env.seed(1)
        model.learn(128)
    assert_same(*models)


class OnePlaceInMemory(DummyVecEnv):
    """Last observations lie in the same memory in every step."""

    def __init__(self, makers: Any) -> None:
        super().__init__(makers)
        self._last = np.zeros((self.num_envs, *self.observation_space.shape), self.observation_space.dtype)  # type: ignore[misc]

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = super().step_wait()
        self._last[:] = 0
        for env in np.flatnonzero(dones):
            self._last[env] = infos[env]["terminal_observation"]
            infos[env]["terminal_observation"] = self._last[env]
        return observations, rewards, dones, infos


def test_last_observations_are_those_of_their_step() -> None:
    def make() -> Any:
        vector = spaces.Box(-10, 10, (3,), np.float32)
        return OnePlaceInMemory([lambda: Drift(vector, spaces.Discrete(3))] * 4)

    assert_same(learnt(Fast(PPO), env=make()), learnt(PPO, env=make()))
