import numpy as np
import pytest

from farl.envs.map_world.visibility import visibility, visible_rows
from farl.envs.map_world.worlds import MapWorlds
from farl.maps.geometry import FREE, UNKNOWN


def view_of(walls, row, col, heading, **options):
    worlds = MapWorlds([lambda rng: walls], scale=1, **options)
    worlds.reset(0, np.random.default_rng(0))
    worlds.pose[0] = row, col, heading
    worlds._look(np.array([0]))
    return worlds.views[0]


def empty_room(side=41):
    walls = np.ones((side, side), bool)
    walls[1:-1, 1:-1] = False
    return walls


def test_nothing_is_seen_behind_a_wall_across_the_view():
    walls = empty_room()
    walls[15, 1:-1] = True
    walls[15, 1] = False  # a far way round keeps the map connected
    view = view_of(walls, 20, 20, 0)
    assert (view[: 15 - 5 - 1] == UNKNOWN).all()
    assert (view[9, 1:] != UNKNOWN).any()
    assert view[9, 7] not in (UNKNOWN, FREE)


def test_a_pillar_casts_a_shadow_that_widens():
    walls = empty_room()
    walls[18, 20] = True
    view = view_of(walls, 20, 20, 0)
    hidden = [(view[14 - f] == UNKNOWN).sum() for f in range(3, 15)]
    assert view[12, 7] not in (UNKNOWN, FREE)
    assert (view[:12, 7] == UNKNOWN).all()
    assert hidden[-1] > hidden[0]


def test_the_whole_wall_of_a_straight_corridor_is_seen():
    walls = np.ones((30, 5), bool)
    walls[1:-1, 2] = False
    view = view_of(walls, 25, 2, 0)
    assert (view[:13, 6] != UNKNOWN).all()
    assert (view[:13, 8] != UNKNOWN).all()
    assert (view[:13, 7] == FREE).all()


def test_no_view_passes_between_walls_that_touch_by_a_corner():
    walls = empty_room()
    walls[17, 1:20] = True
    walls[16, 20:-1] = True
    walls[17, 1] = False
    view = view_of(walls, 20, 19, 0)
    assert (view[:10] == UNKNOWN).all()


def test_the_cone_is_about_130_degrees_and_hides_what_is_beside_and_behind():
    view = view_of(empty_room(), 20, 20, 0)
    assert view[14, 7] == FREE
    assert (view[14] == FREE).sum() == 1
    assert (view[13] == FREE).sum() == 9
    assert (view[11] == FREE).all()


def test_the_view_is_egocentric():
    rng = np.random.default_rng(1)
    walls = empty_room(41)
    walls[1:-1, 1:-1] = rng.random((39, 39)) < 0.1
    walls[20, 20] = False
    seen = (view_of_any(walls, 0), view_of_any(np.rot90(walls, -1), 3), view_of_any(np.rot90(walls, 2), 1))
    for other in seen[1:]:
        np.testing.assert_array_equal(seen[0], other)


def view_of_any(walls, heading):
    """Which view cells are unknown, free or wall; the map may fall into parts, which a world would not accept."""
    tables = visibility()
    size = tables.size
    step, right = ((-1, 0), (1, 0), (0, -1), (0, 1))[heading], ((0, 1), (0, -1), (-1, 0), (1, 0))[heading]
    padded = np.pad(walls, size, constant_values=True)
    f, s = np.meshgrid(np.arange(size), np.arange(size) - size // 2, indexing="ij")
    opaque = padded[20 + size + f * step[0] + s * right[0], 20 + size + f * step[1] + s * right[1]]
    weights = np.left_shift(np.uint64(1), np.arange(size, dtype=np.uint64))
    seen = np.zeros(size, np.uint64)
    visible_rows((opaque * weights).sum(axis=1, dtype=np.uint64), tables.cone, tables.shadow, seen)
    visible = (seen[:, None] & weights) > 0
    return np.where(visible, 1 + opaque, 0)


@pytest.mark.parametrize("size", [3, 7, 31, 63])
def test_other_view_sizes_see_the_open_cone(size):
    view = view_of(empty_room(151), 75, 75, 2, view_size=size)
    assert view.shape == (size, size)
    assert (view[0] == FREE).all()


@pytest.mark.parametrize(("size", "ratio"), [(14, 0.25), (1, 0.25), (65, 0.25), (15, -0.1), (15, 1.5)])
def test_a_view_that_cannot_be_is_refused(size, ratio):
    with pytest.raises(ValueError, match=r"view_size|cone_ratio"):
        visibility(size, ratio)
