import numpy as np
import pytest
import torch

from farl.curiosity.replay import Reservoir


def numbered(first, count):
    """Samples that carry their number."""
    return {"number": torch.arange(first, first + count, dtype=torch.float32)}


def kept(reservoir):
    return reservoir.state_dict()["kept"]["number"].numpy()


def test_until_it_is_full_a_reservoir_keeps_everything():
    reservoir = Reservoir(10)
    reservoir.add(numbered(0, 4), np.zeros(4, np.int64))
    reservoir.add(numbered(4, 6), np.zeros(6, np.int64))
    assert sorted(kept(reservoir)) == list(range(10))


def test_a_full_reservoir_is_a_uniform_sample_of_all_that_was_seen():
    counts = np.zeros(100)
    for seed in range(400):
        reservoir = Reservoir(20, seed)
        for first in range(0, 100, 25):
            reservoir.add(numbered(first, 25), np.zeros(25, np.int64))
        sample = kept(reservoir).astype(int)
        assert len(np.unique(sample)) == 20
        counts[sample] += 1
    by_batch = counts.reshape(4, 25).mean(axis=1) / 400
    np.testing.assert_allclose(by_batch, 0.2, atol=0.015)


def test_draws_come_from_the_fragments_named():
    reservoir = Reservoir(50)
    reservoir.add(numbered(0, 50), np.arange(50) % 2)
    samples, fragments = reservoir.draw(np.full(30, 1))
    assert (fragments == 1).all()
    assert (samples["number"] % 2 == 1).all()
    assert reservoir.draw(np.full(30, 7)) is None


def test_state_dict_continues_with_the_same_choices():
    reservoir, copy = Reservoir(8), Reservoir(8)
    reservoir.add(numbered(0, 30), np.arange(30) % 3)
    copy.load_state_dict(reservoir.state_dict())
    for each in (reservoir, copy):
        each.add(numbered(30, 30), np.arange(30) % 3)
    np.testing.assert_array_equal(kept(reservoir), kept(copy))
    assert reservoir.draw(np.zeros(5, np.int64))[1].tolist() == copy.draw(np.zeros(5, np.int64))[1].tolist()
    with pytest.raises(ValueError, match="another capacity"):
        Reservoir(4).load_state_dict(reservoir.state_dict())
    with pytest.raises(ValueError, match="at least 1"):
        Reservoir(0)
