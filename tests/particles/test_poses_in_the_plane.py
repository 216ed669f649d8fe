"""Poses in the plane as a space of states."""

import math

import torch

from farl.particles import SE2

SPACE = SE2()


def poses(n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n, 3, generator=generator, dtype=torch.float64) * torch.tensor([5.0, 5.0, 3.0])
    return SPACE.retract(drawn, torch.zeros(n, 3, dtype=torch.float64))


def test_a_step_leads_where_it_says_and_back():
    a, b = poses(), poses(seed=1)
    torch.testing.assert_close(SPACE.retract(a, SPACE.local(a, b)), b)
    ahead = SPACE.retract(torch.tensor([1.0, 2.0, math.pi / 2]), torch.tensor([3.0, 1.0, 0.5]))
    torch.testing.assert_close(ahead, torch.tensor([0.0, 5.0, math.pi / 2 + 0.5]))


def test_the_mean_of_headings_on_both_sides_of_the_seam_is_at_the_seam():
    around = torch.tensor([[0.0, 0.0, math.pi - 0.1], [0.0, 2.0, -math.pi + 0.1]], dtype=torch.float64)
    mean = SPACE.mean(around, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert abs(math.cos(mean[2]) + 1.0) < 1e-9
    torch.testing.assert_close(mean[:2], torch.tensor([0.0, 1.0], dtype=torch.float64), atol=0.06, rtol=0.0)
