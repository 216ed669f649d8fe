import numpy as np
import pytest

from farl.envs.robot.offices import generate_office


@pytest.fixture(scope="module")
def office():
    return generate_office(np.random.default_rng(4), floors=1, width=16.0).cells
