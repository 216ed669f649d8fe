import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from farl.exploration.agreement import RoomAgreement, adjusted_rand_index

PARTS = st.integers(2, 40).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2))


@given(PARTS)
def test_index_is_that_of_scikit_learn(parts):
    first, second = map(np.array, parts)
    assert adjusted_rand_index(first, second) == pytest.approx(adjusted_rand_score(first, second), abs=1e-12)


def test_only_rooms_count_and_each_rollout_by_itself():
    agreement = RoomAgreement(np.array([[0, 0, -1, 1, 1]]))
    x = np.array([[0, 1, 2, 3, 4]])
    positions = np.stack([x, np.zeros_like(x)], axis=-1)
    agreement.add(positions, np.array([[7, 7, 9, 8, 8]]))
    assert agreement.take() == 1.0
    agreement.add(positions, np.array([[7, 8, 9, 7, 8]]))
    found = agreement.take()
    assert found is not None
    assert found < 0.1
    assert agreement.take() is None
