import numpy as np
import pytest

from farl.exploration import Block, ExplorationRecord


@pytest.mark.parametrize("surprisal", [0.0, 1.0])
def test_surprisal_is_drawn_where_something_is_predicted(surprisal):
    record, nothing = ExplorationRecord(), np.zeros((3, 2), bool)
    record.add(
        Block(
            timesteps=np.arange(3),
            dones=nothing,
            begun=[[], [], []],
            active=np.zeros((3, 2), np.int64),
            fragmented=nothing,
            recalled=nothing,
            surprisal=np.full((3, 2), surprisal),
        )
    )
    assert ("surprisal" in record.draw()) == (surprisal > 0.0)
    assert (record.overview() is not None) == (surprisal > 0.0)
