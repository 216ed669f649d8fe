"""Networks with batch normalisation and dropout: in training mode only while they are trained, FAR's critic too."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, TRPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from farl import FAR
from tests.sb3.toy import FAR_SMALL, make_toy

SHARED = {name: value for name, value in FAR_SMALL.items() if name != "critic_hidden"} | {"critic": "shared"}
ON_POLICY = {PPO: {"batch_size": 8, "n_epochs": 2}, A2C: {}, TRPO: {"batch_size": 8}, RecurrentPPO: {"batch_size": 8}}
OFF_POLICY = {DQN: "discrete", QRDQN: "discrete", SAC: "continuous", TD3: "continuous", DDPG: "continuous"}


class Normed(BaseFeaturesExtractor):
    """Batch normalisation and dropout: the one drifts, the other is noise, in training mode."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=16)
        width = observation_space.shape[0]
        self.layers = nn.Sequential(nn.Linear(width, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.ReLU())

    def forward(self, observations):
        return self.layers(observations)


def statistics(module):
    found = [buffer.clone() for name, buffer in module.named_buffers() if "running" in name]
    assert found
    return found


def same(ones, others):
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


class Phases(BaseCallback):
    """The statistics of networks when a rollout starts and when it ends: nothing is trained in between."""

    def __init__(self, networks):
        super().__init__()
        self.networks, self.before, self.rollouts = networks, None, 0

    def _all(self):
        return [each for network in self.networks(self.model) for each in statistics(network)]

    def _on_step(self):
        assert not any(network.training for network in self.networks(self.model))
        return True

    def _on_rollout_start(self):
        self.before = self._all()

    def _on_rollout_end(self):
        assert same(self.before, self._all())
        self.rollouts += 1


def build(algorithm, far, **settings):
    policy = "MlpLstmPolicy" if algorithm is RecurrentPPO else "MlpPolicy"
    kwargs = {"net_arch": [8], "features_extractor_class": Normed}
    if algorithm is RecurrentPPO:
        kwargs |= {"lstm_hidden_size": 8}
    action = OFF_POLICY.get(algorithm, "discrete")
    # One environment: batch normalisation in training mode refuses its single observation.
    env = make_toy(action=action, n_envs=1)
    return FAR(algorithm)(policy, env, far=far, policy_kwargs=kwargs, seed=0, device="cpu", **settings)


@pytest.mark.parametrize("far", [FAR_SMALL, SHARED], ids=["own", "shared"])
@pytest.mark.parametrize("algorithm", ON_POLICY)
def test_on_policy_the_critic_of_the_bonus_is_evaluated_as_it_is(algorithm, far):
    steps = 24
    model = build(algorithm, far, n_steps=steps, **ON_POLICY[algorithm])
    first = {
        "critic": statistics(model.intrinsic_critic.network) if model.intrinsic_critic else None,
        "policy": statistics(model.policy),
    }

    def networks(model):
        return [model.policy] + ([model.intrinsic_critic.network] if model.intrinsic_critic else [])

    phases = Phases(networks)
    model.learn(2 * steps, callback=phases)
    assert phases.rollouts == 2
    assert not same(first["policy"], statistics(model.policy)) or algorithm is TRPO
    if far is SHARED:
        assert model.intrinsic_critic is None
        return
    critic = model.intrinsic_critic
    trained = statistics(critic.network)
    assert not same(first["critic"], trained)
    seen, rewards = np.random.default_rng(0).normal(size=(2, steps, 1, 3)).astype(np.float32)
    rollout = SimpleNamespace(observations=seen, episode_starts=np.zeros((steps, 1), np.float32))
    once, again = (critic.advantages(rollout, rewards[..., 0], seen[-1], np.zeros(1)) for _ in range(2))
    np.testing.assert_array_equal(once, again)  # no dropout
    assert same(trained, statistics(critic.network))  # no drift
    # The value of an observation does not depend on what else is in its batch.
    observations = torch.as_tensor(seen[:, 0])
    with torch.no_grad():
        alone = torch.cat([critic.predict(row[None]) for row in observations])
        torch.testing.assert_close(alone, critic.predict(observations), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", OFF_POLICY)
def test_off_policy_nothing_drifts_before_training_and_predictions_are_no_noise_after_it(algorithm):
    model = build(algorithm, FAR_SMALL, learning_starts=24, buffer_size=200, batch_size=8, train_freq=4)
    before = statistics(model.policy)
    model.learn(24)
    assert model.curiosity.samples_since_update < 24
    assert same(before, statistics(model.policy))
    model.learn(24, reset_num_timesteps=False)
    trained = statistics(model.policy)
    assert not same(before, trained)
    observation = model.get_env().reset()
    first, _ = model.predict(observation, deterministic=True)
    for _ in range(5):
        np.testing.assert_array_equal(model.predict(observation, deterministic=True)[0], first)
    assert same(trained, statistics(model.policy))


def test_a_single_sample_that_is_left_over_joins_the_minibatch_before_it():
    model = build(PPO, FAR_SMALL, n_steps=24, batch_size=8)
    observations, returns = np.random.default_rng(0).normal(size=(2, 25, 1, 3)).astype(np.float32)
    loss = model.intrinsic_critic.train(observations, returns[..., 0], epochs=1, batch_size=8)
    assert np.isfinite(loss)
