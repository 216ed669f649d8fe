import imageio.v3 as iio
import numpy as np
import pytest

from farl.envs.map_world import MapWorldEnv, check_map, largest_part, load_map, load_maps
from farl.errors import ConfigError

PLAN = "#####\n#...#\n#.#.#\n#####\n"


@pytest.fixture
def walls():
    return np.array([[c == "#" for c in line] for line in PLAN.split()])


def write(path, walls):
    if path.suffix == ".npz":
        np.savez(path, floor=walls)
    elif path.suffix == ".npy":
        np.save(path, walls.astype(np.uint8))
    elif path.suffix == ".png":
        iio.imwrite(path, np.where(walls, 0, 255).astype(np.uint8))
    else:
        path.write_text(PLAN)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".png", ".txt"])
def test_a_floor_plan_of_every_format_becomes_the_same_world(tmp_path, walls, suffix):
    path = tmp_path / f"plan{suffix}"
    write(path, walls)
    np.testing.assert_array_equal(load_map(path), walls)
    env = MapWorldEnv(maps=path)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.reachable[::3, ::3], ~walls)


def test_a_map_without_a_border_gets_one():
    assert check_map(np.zeros((2, 3), bool)).shape == (4, 5)


def test_a_colour_picture_is_read_by_brightness_and_transparency(tmp_path):
    picture = np.full((5, 5, 4), 255, np.uint8)
    picture[0, :, :3] = 0
    picture[4, :, 3] = 0
    iio.imwrite(tmp_path / "plan.png", picture)
    walls = load_map(tmp_path / "plan.png")
    assert (~walls).sum() == 15


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((4, 4), bool), "no free cell"),
        (np.zeros((0, 4), bool), "no free cell"),
        (np.array([[0, 1, 0]]), "not connected"),
        (np.zeros((4, 4)), "float64"),
        (np.full((4, 4), 7), "spans 7 to 7"),
        (np.zeros(4, bool), "two axes"),
        (np.zeros((3000, 3000), bool), "Lower the scale"),
    ],
    ids=["all wall", "empty", "parts", "float", "numbers", "one axis", "huge"],
)
def test_a_malformed_map_is_named_with_its_fault(array, says):
    with pytest.raises(ConfigError, match=f"cellar.*{says}"):
        check_map(array, "cellar")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("plan.txt", b"##?\n", "found '\\?'"),
        ("plan.npz", b"not an archive", "cannot be read"),
        ("plan.npy", b"", "cannot be read"),
        ("plan.png", b"\x00\x01", "cannot be read"),
        ("plan.doc", b"", "this is .doc"),
        ("plan.txt", b"", "no free cell"),
    ],
)
def test_a_file_that_is_no_map_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load_maps(tmp_path / name)


def test_a_missing_file_and_a_missing_name_are_named(tmp_path, walls):
    with pytest.raises(ConfigError, match="no map file"):
        load_maps(tmp_path / "none.npz")
    np.savez(tmp_path / "maps.npz", first=walls, second=walls)
    with pytest.raises(ConfigError, match="holds 2 maps"):
        load_map(tmp_path / "maps.npz")
    with pytest.raises(ConfigError, match="did you mean first"):
        load_map(tmp_path / "maps.npz", "frist")


def test_an_archive_that_would_run_code_is_refused(tmp_path):
    np.savez(tmp_path / "maps.npz", first=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_maps(tmp_path / "maps.npz")


def test_every_fault_of_a_file_is_reported_at_once(tmp_path):
    np.savez(tmp_path / "maps.npz", first=np.ones((3, 3), bool), second=np.zeros((3, 3)))
    with pytest.raises(ConfigError) as error:
        load_maps(tmp_path / "maps.npz")
    assert len(error.value.problems) == 2


def test_the_largest_part_of_a_map_is_connected():
    walls = np.array([[0, 0, 1, 0]], bool)
    np.testing.assert_array_equal(largest_part(walls), [[False, False, True, True]])
