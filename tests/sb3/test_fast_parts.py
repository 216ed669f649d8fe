"""The parts of ``Fast``, each beside what it stands for: repeats, compiled losses, heads, Adam, sparse rows."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from farl.kinds import Kinds
from farl.sb3.fast import Fast, updating
from farl.sb3.fast.flat_adam import FlatAdam
from farl.sb3.fast.heads import _CategoricalRows, _CompiledCategoricalRows
from farl.sb3.fast.networks import tanh_
from farl.sb3.fast.repeats import Repeats
from farl.sb3.fast.sparse import SparseRows
from farl.sb3.intrinsic_critic import IntrinsicCritic
from tests.sb3.test_fast import ACTIONS, SETTINGS, VECTOR, Drift, make


def test_equal_observations_are_looked_at_once():
    looked_at = []

    def outputs(observations):
        looked_at.append(len(observations))
        return observations.numpy() * 2, observations[:, 0].numpy()

    kinds = torch.rand(5, 7)
    begun = torch.tensor([[0, 1, 0, 1], [2, 2, 0, 1]])  # too many kinds at first, and they are not looked for any more
    order = torch.cat([begun, torch.randint(5, (10, 4))])
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
