"""E3B and the episodic nearest neighbours of Never Give Up, on cases computed by hand."""

import math

import pytest
import torch

from farl.curiosity import E3B, ActionSpec, EpisodicKNN
from farl.curiosity.e3b import Ellipse

ACTIONS = ActionSpec(2, discrete=True)


def knn_bonus(module, before, after, starts):
    outputs = {"before": torch.tensor(before), "after": torch.tensor(after)}
    return module.bonus(outputs, {}, torch.tensor(starts)).tolist()


def test_e3b_is_the_embedding_in_the_inverse_covariance_of_the_episode():
    """With a ridge of 0.5 and orthogonal embeddings, an axis seen n times at length 1 gives 1 / (0.5 + n)."""
    ellipse = Ellipse(ridge=0.5)
    x, y = [1.0, 0.0], [0.0, 1.0]
    first, later = torch.tensor([True, True]), torch.tensor([False, False])
    assert ellipse(torch.tensor([x, y]), first).tolist() == pytest.approx([2.0, 2.0])
    assert ellipse(torch.tensor([x, x]), later).tolist() == pytest.approx([1 / 1.5, 2.0])
    assert ellipse(torch.tensor([x, x]), later).tolist() == pytest.approx([1 / 2.5, 1 / 1.5])
    assert ellipse(torch.tensor([x, x]), torch.tensor([True, False])).tolist() == pytest.approx([2.0, 1 / 2.5])


def test_e3b_rank_one_updates_equal_the_inverse_of_the_whole_covariance():
    ellipse, seen = Ellipse(ridge=0.1), torch.randn(30, 1, 6, generator=torch.Generator().manual_seed(0))
    for step, embedding in enumerate(seen):
        bonus = ellipse(embedding, torch.tensor([step == 0]))
        covariance = 0.1 * torch.eye(6) + sum((past.T @ past for past in seen[:step]), torch.zeros(6, 6))
        torch.testing.assert_close(bonus, (embedding @ covariance.inverse() @ embedding.T)[0], rtol=1e-3, atol=1e-4)


def test_e3b_rewards_the_embedding_of_what_is_seen_now():
    module = E3B((3,), ACTIONS, ridge=0.1, features=4)
    outputs = {"before": torch.zeros(1, 4), "after": torch.tensor([[0.0, 2.0, 0.0, 0.0]])}
    assert module.bonus(outputs, {}, torch.tensor([True])).item() == pytest.approx(4.0 / 0.1)


def test_episodic_knn_follows_algorithm_1_of_never_give_up():
    module = EpisodicKNN((3,), ACTIONS, neighbours=2, features=2)
    # The first observation, at squared distance 25, is the only neighbour; the running mean is 25.
    expected = 1 / (math.sqrt(1e-4 / (1 - 0.008 + 1e-4)) + 1e-3)
    assert knn_bonus(module, [[0.0, 0.0]], [[3.0, 4.0]], [True]) == pytest.approx([expected], rel=1e-4)
    # Neighbours at 0 and 25; the running mean is that of 25 and 12.5. Where nothing is left of a distance, K is 1.
    expected = 1 / (math.sqrt(1 + 1e-4 / (25 / 18.75 - 0.008 + 1e-4)) + 1e-3)
    assert knn_bonus(module, [[3.0, 4.0]], [[3.0, 4.0]], [False]) == pytest.approx([expected], rel=1e-4)


def test_episodic_knn_uses_the_nearest_neighbours_of_this_episode_only():
    module = EpisodicKNN((3,), ACTIONS, neighbours=1, features=2)
    far, near = [9.0, 0.0], [0.0, 0.0]
    knn_bonus(module, [far, far], [near, far], [True, True])
    known = knn_bonus(module, [near, far], [near, near], [False, False])
    assert known[0] < 2 < known[1]  # the other environment's memory does not help
    assert knn_bonus(module, [far, far], [near, near], [True, False])[0] > 2  # forgotten with the episode


def test_episodic_knn_gives_nothing_where_all_neighbours_are_the_same():
    module = EpisodicKNN((3,), ACTIONS, neighbours=70, features=2)
    knn_bonus(module, [[9.0, 9.0]], [[0.0, 0.0]], [True])
    rewards = [knn_bonus(module, [[0.0, 0.0]], [[0.0, 0.0]], [False])[0] for _ in range(70)]
    assert rewards[10] > 0  # a root of 10 similarities of 1 is below 8
    assert rewards[69] == 0
