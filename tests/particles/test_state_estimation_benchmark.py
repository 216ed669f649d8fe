"""The yardsticks of the localisation benchmark, against cases known exactly."""

import pytest
import torch

from benchmarks.harness import Job
from benchmarks.localisation import BENCHMARK, MIRROR_NOISE, divergence, energy_distance, mirror_posterior, run

DOUBLE = torch.float64


def test_divergence_of_gaussians_in_one_dimension_by_hand():
    # KL(N(1, 4) || N(0, 1)) = (4 + 1 - 1 - ln 4) / 2
    found = (torch.tensor([[1.0]], dtype=DOUBLE), torch.tensor([[[4.0]]], dtype=DOUBLE))
    value = divergence(found, torch.zeros(1, 1, dtype=DOUBLE), torch.ones(1, 1, 1, dtype=DOUBLE))
    torch.testing.assert_close(value, (torch.tensor([4.0], dtype=DOUBLE) - torch.log(torch.tensor(4.0))) / 2)


def test_energy_distance_of_two_points_is_twice_their_distance_and_zero_for_equal_clouds():
    point = torch.zeros(1, 1, 3, dtype=DOUBLE)
    other = point + torch.tensor([3.0, 4.0, 0.0])
    weight = torch.ones(1, 1, dtype=DOUBLE)
    assert energy_distance(point, weight, other).item() == pytest.approx(10)
    cloud = torch.randn(1, 50, 3, dtype=DOUBLE)
    assert energy_distance(cloud, torch.full((1, 50), 0.02, dtype=DOUBLE), cloud).item() == pytest.approx(0, abs=1e-6)


def test_draws_of_the_mirror_posterior_lie_on_both_sides_of_what_was_seen():
    values = torch.tensor([4.0, 1.0, -1.0], dtype=DOUBLE).expand(20, 1, 3)
    draws = mirror_posterior(values, 4000, torch.Generator().manual_seed(0))[0]
    assert (draws[:, 0] > 0).double().mean().item() == pytest.approx(0.5, abs=0.05)
    # The square is known to MIRROR_NOISE / sqrt(20), so the coordinate to that over 2 x 2.
    assert draws[:, 0].abs().mean().item() == pytest.approx(2, abs=0.05)
    assert draws[:, 0].abs().std().item() == pytest.approx(MIRROR_NOISE / 20**0.5 / 4, rel=0.2)
    assert draws[:, 1:].mean(0).tolist() == pytest.approx([20 / 21, -20 / 21], abs=0.02)


def test_the_mixture_transform_beats_the_resampling_filters_and_comes_near_the_kalman_filter():
    def kl(method, condition):
        return run(Job("localisation", method, condition, 0, {"trials": 5}))["kl"]

    for condition in ("m3-n20", "m10-n100"):
        ours = kl("mixture-transform", condition)
        assert ours < 0.5 * min(kl(method, condition) for method in ("mcl", "rfpf-derived", "rfpf-published"))
        assert ours < 2 * kl("enkf", condition)


def test_every_method_runs_on_the_mirror_task():
    for method in BENCHMARK.methods:
        row = run(Job("localisation", method, "mirror-n50", 0, {"trials": 2}))
        assert "diverged" in row or 0 <= row["lesser_mode"] <= 0.5
