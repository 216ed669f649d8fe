import numpy as np
import pytest
import torch

from farl.curiosity import RND, Transitions
from farl.curiosity.normalisation import ObservationNorm, RewardNorm


def batch(observations):
    return Transitions(observations, torch.zeros(len(observations)), observations)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_atari_networks_have_the_published_number_of_parameters():
    rnd = RND((4, 84, 84), features=512, hidden=512, frame_stack=4)
    assert count(rnd.target) == 1_677_984  # 1.68 M
    assert count(rnd.predictor) == 2_203_296  # 2.20 M


@pytest.mark.parametrize("shape", [(4, 84, 84), (3, 56, 56), (3, 7, 7), (1, 20, 11), (9,), (3, 4)])
def test_every_kind_of_observation_gives_one_error_and_one_key_a_sample(shape):
    rnd = RND(shape, features=16, hidden=32)
    dtype = torch.uint8 if len(shape) == 3 else torch.float32
    observations = (torch.rand((5, *shape)) * 255).to(dtype)
    prepared = rnd.prepare(batch(observations))
    assert prepared["features"].shape == (5, 16)
    assert rnd.surprisal(rnd.predictor, prepared).shape == (5,)


def test_surprisal_is_the_raw_mean_squared_error_over_the_features():
    rnd = RND((3,), features=4, hidden=8)
    prepared = rnd.prepare(batch(torch.rand(6, 3)))
    by_hand = ((rnd.predictor(prepared["inputs"]) - rnd.target(prepared["inputs"])) ** 2).sum(1) / 4
    torch.testing.assert_close(rnd.surprisal(rnd.predictor, prepared), by_hand)


def test_only_the_newest_frame_of_a_stack_counts():
    rnd = RND((4, 20, 20), frame_stack=4)
    first, second = torch.randint(0, 255, (2, 1, 4, 20, 20), dtype=torch.uint8)
    second[:, 3] = first[:, 3]
    torch.testing.assert_close(rnd.prepare(batch(first))["features"], rnd.prepare(batch(second))["features"])


def test_weights_are_orthogonal_with_gain_root_two_and_biases_zero():
    rnd = RND((30,), features=8, hidden=16)
    weight = rnd.target[0][1].weight
    torch.testing.assert_close(weight @ weight.T, 2.0 * torch.eye(16), atol=1e-5, rtol=0)
    assert all((parameter == 0).all() for name, parameter in rnd.named_parameters() if name.endswith("bias"))


def test_a_seed_gives_the_same_networks_and_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = RND((5,), seed=1), RND((5,), seed=1), RND((5,), seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.target[1].weight, second.target[1].weight)
    assert not torch.equal(first.target[1].weight, other.target[1].weight)


def test_target_and_norm_stay_fixed_while_predictors_learn():
    rnd = RND((5,))
    assert not any(parameter.requires_grad for parameter in rnd.target.parameters())


@pytest.mark.parametrize(("shape", "match"), [((3, 5, 5), "too small"), ((3, 40, 40), "frame_stack")])
def test_observations_that_do_not_fit_are_refused(shape, match):
    with pytest.raises(ValueError, match=match):
        RND(shape, frame_stack=1 if match == "too small" else 2)


def test_observation_norm_equals_the_statistics_of_all_batches_and_clips():
    norm = ObservationNorm((4,), clip=2.0, epsilon=1e-8)
    data = torch.randn(300, 4) * torch.tensor([1.0, 5.0, 0.1, 3.0]) + 7.0
    for part in data.split(37):
        norm.update(part)
    torch.testing.assert_close(norm.mean, data.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.variance, data.var(0, correction=0), rtol=1e-3, atol=1e-4)
    whitened = norm(data)
    assert whitened.abs().max() == 2.0
    torch.testing.assert_close(
        whitened, ((data - data.mean(0)) / data.std(0, correction=0)).clamp(-2, 2), rtol=1e-2, atol=1e-2
    )


def test_reward_norm_divides_by_the_spread_of_the_discounted_return_over_time():
    norm = RewardNorm(n_envs=1, gamma=0.5)
    returns, value = [], 0.0
    for reward in (1.0, 4.0, 2.0, 8.0):
        value = 0.5 * value + reward
        returns.append(value)
        normalised = norm(np.array([reward]), np.array([0]))
    assert normalised[0] == pytest.approx(8.0 / np.std(returns, ddof=1))


def test_reward_norm_of_a_new_fragment_starts_from_its_parents():
    norm = RewardNorm(n_envs=1)
    rng = np.random.default_rng(0)
    for _ in range(1000):
        before = norm(rng.exponential(size=1) * 100, np.array([0]))
    norm.open(1, parent=0)
    rewards = [norm(rng.exponential(size=1) * 100, np.array([1]))[0] for _ in range(3)]
    assert max(rewards) < 10 * max(before[0], 0.1)
