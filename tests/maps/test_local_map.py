import numpy as np
import pytest

from farl.maps.geometry import FREE, UNKNOWN
from farl.maps.local_map import LocalMaps

SIZE = 5


class DenseMap:
    """The paper's map, literally: one channel per colour, all of them decayed at every observation."""

    def __init__(self, gamma):
        self.gamma, self.channels = gamma, {}

    def observe(self, codes, row, col, heading, after):
        seen = list(cells(codes, row, col, heading))

        def predicted():
            return np.mean([self.channels.get((*cell, code), 0.0) for cell, code in seen])

        before = predicted()
        self.channels = {key: value * self.gamma for key, value in self.channels.items()}
        for cell, code in seen:
            self.channels[(*cell, code)] = min(self.channels.get((*cell, code), 0.0) + 1 - self.gamma, 1.0)
        return 1.0 - (predicted() if after else before)


def cells(codes, row, col, heading):
    step, right = ((-1, 0), (1, 0), (0, -1), (0, 1))[heading], ((0, 1), (0, -1), (-1, 0), (1, 0))[heading]
    for i, j in np.argwhere(codes != UNKNOWN):
        f, s = SIZE - 1 - i, j - SIZE // 2
        yield (row + f * step[0] + s * right[0], col + f * step[1] + s * right[1]), codes[i, j]


def walk(rng, world, steps):
    """Views and odometry of a walk through a world of colours, all of it transparent."""
    row, col = 0, 0
    for _ in range(steps):
        heading = int(rng.integers(4))
        row += (-1, 1, 0, 0)[heading]
        col += (0, 0, -1, 1)[heading]
        codes = np.zeros((1, SIZE, SIZE), np.int32)
        codes[0, rng.random((SIZE, SIZE)) < 0.6] = FREE
        codes[0, SIZE - 1, SIZE // 2] = FREE
        for cell, _ in list(cells(codes[0], row, col, heading)):
            f = (cell[0] - row) * (-1, 1, 0, 0)[heading] + (cell[1] - col) * (0, 0, -1, 1)[heading]
            s = (cell[0] - row) * (0, 0, -1, 1)[heading] + (cell[1] - col) * (1, -1, 0, 0)[heading]
            codes[0, SIZE - 1 - f, s + SIZE // 2] = world[cell[0] % 7, cell[1] % 7]
        yield codes, np.array([[row, col, heading]], np.int32)


@pytest.mark.parametrize("when", ["before", "after"])
def test_lazy_decay_gives_the_surprisal_of_the_dense_map(when):
    rng = np.random.default_rng(0)
    world = np.where(rng.random((7, 7)) < 0.5, FREE, rng.integers(1, 99, (7, 7)))
    maps, dense = LocalMaps(1, SIZE, gamma=0.8, surprisal=when), DenseMap(0.8)
    for codes, odometry in walk(rng, world, 300):
        expected = dense.observe(codes[0], *odometry[0], when == "after")
        assert maps.observe(codes, odometry)[0] == pytest.approx(expected, abs=1e-4)


def test_new_cells_are_counted_as_a_share_of_what_is_seen():
    maps = LocalMaps(1, SIZE, surprisal="new-cells")
    codes = np.zeros((1, SIZE, SIZE), np.int32)
    codes[0, 2:, 2] = FREE  # the agent's cell and two ahead
    ahead = np.array([[0, 0, 0]], np.int32)
    assert maps.observe(codes, ahead)[0] == 1.0
    assert maps.observe(codes, ahead)[0] == 0.0
    assert maps.observe(codes, np.array([[-1, 0, 0]], np.int32))[0] == pytest.approx(1 / 3)


def test_an_unknown_surprisal_is_refused():
    with pytest.raises(ValueError, match="before, after, new-cells; got 'later'"):
        LocalMaps(1, SIZE, surprisal="later")


def test_a_world_far_larger_than_the_canvas_is_remembered_as_it_was_seen():
    rng = np.random.default_rng(1)
    maps, known = LocalMaps(1, SIZE), {}
    for i in range(400):
        codes = np.zeros((1, SIZE, SIZE), np.int32)
        codes[0, rng.random((SIZE, SIZE)) < 0.5] = FREE
        codes[0, 4, 2] = FREE
        odometry = np.array([[i // 2, -i, 2]], np.int32)
        for cell, code in cells(codes[0], *odometry[0]):
            known[cell] = code
        maps.observe(codes, odometry)
    stored = maps.copy_out(0)
    label, corner = stored["label"].numpy(), stored["corner"]
    assert {(int(r) + corner[0], int(c) + corner[1]) for r, c in np.argwhere(label)} == set(known)
    rows, cols = zip(*known, strict=True)
    assert maps.area[0] == (max(rows) - min(rows) + 1) * (max(cols) - min(cols) + 1)
    assert maps.n_free[0] == len(known)


def test_a_stored_map_comes_back_as_it_was():
    rng = np.random.default_rng(2)
    world = np.full((7, 7), FREE)
    maps = LocalMaps(1, SIZE)
    steps = list(walk(rng, world, 40))
    for codes, odometry in steps:
        maps.observe(codes, odometry)
    stored = maps.copy_out(0)
    maps.forget(0)
    assert maps.n_free[0] == 0
    assert not maps.label.any()
    maps.copy_in(0, stored)
    again = maps.copy_out(0)
    assert again["corner"] == stored["corner"]
    np.testing.assert_array_equal(again["label"], stored["label"])
    np.testing.assert_allclose(again["value"], stored["value"])


def test_a_map_can_be_stored_early_in_an_episode_that_follows_a_long_one():
    rng = np.random.default_rng(3)
    maps = LocalMaps(1, SIZE)
    for _ in range(2):
        for codes, odometry in walk(rng, np.full((7, 7), FREE), 700):
            maps.observe(codes, odometry)
        maps.clear([0])
    for codes, odometry in walk(rng, np.full((7, 7), FREE), 30):
        maps.observe(codes, odometry)
    stored = maps.copy_out(0)
    assert (stored["value"].numpy() <= 1.0).all()
    assert (stored["value"].numpy()[stored["label"].numpy() == UNKNOWN] == 0.0).all()


def test_each_agent_has_a_map_of_its_own():
    maps = LocalMaps(2, SIZE)
    codes = np.zeros((2, SIZE, SIZE), np.int32)
    codes[:, 4, 2] = FREE
    codes[1, 3, 2] = 77
    maps.observe(codes, np.zeros((2, 3), np.int32))
    assert maps.area.tolist() == [1, 2]
    maps.clear([1])
    assert maps.n_free.tolist() == [1, 0]


@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"gamma": 1.0}, {"surprisal": "during"}])
def test_parameters_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"gamma|surprisal"):
        LocalMaps(1, SIZE, **options)


def test_canvases_are_small_again_when_the_large_map_is_gone_and_the_other_maps_stay_as_they_are():
    rng = np.random.default_rng(4)
    maps = LocalMaps(2, SIZE)
    near = list(walk(rng, np.full((7, 7), FREE), 300))
    for step, (codes, odometry) in enumerate(near):
        maps.observe(np.repeat(codes, 2, axis=0), np.concatenate([[[0, step, 3]], odometry]).astype(np.int32))
    assert maps.side > 300
    kept = maps.copy_out(1)
    here = maps.pose[1, :2] - maps.origin[1]
    maps.clear([0])
    assert maps.side < 200
    after = maps.copy_out(1)
    assert after["corner"] == kept["corner"]
    assert after["n_free"] == kept["n_free"]
    np.testing.assert_array_equal(after["label"], kept["label"])
    np.testing.assert_array_equal(after["value"], kept["value"])
    np.testing.assert_array_equal(maps.pose[1, :2] - maps.origin[1], here)
    codes, odometry = near[-1]
    maps.observe(np.repeat(codes, 2, axis=0), np.concatenate([[[0, 0, 3]], odometry]).astype(np.int32))
    assert maps.copy_out(0)["n_free"] == (codes == FREE).sum()
