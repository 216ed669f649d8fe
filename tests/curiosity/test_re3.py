import math

import pytest
import torch

from farl.curiosity import RE3


def test_bonus_is_the_log_of_the_distance_to_the_kth_neighbour_plus_one():
    module = RE3((2,), neighbours=2)
    starts = torch.zeros(3)

    def bonus(*features):
        return module.bonus({}, {"features": torch.tensor(features)}, starts).tolist()

    assert bonus([0.0, 0.0], [3.0, 4.0], [0.0, 1.0]) == [0.0, 0.0, 0.0]  # nothing to compare with yet
    # Nearest to (0, 0): 0, then (0, 1) at 1. Nearest to (6, 8): (3, 4) at 5, then (0, 1) at sqrt(85).
    assert bonus([0.0, 0.0], [6.0, 8.0]) == pytest.approx([math.log(2.0), math.log(math.sqrt(85.0) + 1)])


def test_only_the_latest_samples_count():
    module = RE3((1,), neighbours=1, capacity=3)
    for value in (0.0, 1.0, 2.0, 3.0):
        module.bonus({}, {"features": torch.tensor([[value]])}, torch.zeros(1))
    assert sorted(module.samples.held.flatten().tolist()) == [1.0, 2.0, 3.0]
    module.bonus({}, {"features": torch.arange(10, 15.0)[:, None]}, torch.zeros(5))
    assert sorted(module.samples.held.flatten().tolist()) == [12.0, 13.0, 14.0]
