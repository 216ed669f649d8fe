from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from farl.envs.map_world import MapWorldEnv, OccupancyGrid, load_grids, load_occupancy_map, save_occupancy_map
from farl.errors import ConfigError

ORIGIN = "origin: [-1.5, 2.0, 0.25]\n"


def write(folder, levels, text="", mode=None, name="plan.pgm"):
    picture = Image.fromarray(np.asarray(levels, np.uint8))
    (picture.convert(mode) if mode else picture).save(folder / name)
    path = folder / "plan.yaml"
    path.write_text(f"image: {name}\nresolution: 0.05\n{text or ORIGIN}")
    return path


def one_pixel(folder, level, text, alpha=None):
    if alpha is None:
        return int(load_occupancy_map(write(folder, [[level]], text)).cells[0, 0])
    Image.fromarray(np.array([[[level, alpha]]], np.uint8), "LA").save(folder / "plan.png")
    (folder / "plan.yaml").write_text(f"image: plan.png\nresolution: 0.05\n{text}")
    return int(load_occupancy_map(folder / "plan.yaml").cells[0, 0])


@pytest.mark.parametrize(
    ("level", "text", "cell"),
    [
        (0, "", 1),
        (254, "", 0),
        (205, "", -1),
        (205, "free_thresh: 0.25", -1),  # the grey of map_saver, whatever the threshold
        (204, "free_thresh: 0.25", 0),
        (150, "", -1),
        (150, "occupied_thresh: 0.4", 1),
        (100, "occupied_thresh: 0.6", 1),
        (100, "occupied_thresh: 0.61", -1),
        (0, "negate: 1", 0),
        (255, "negate: 1", 1),
        (255, "negate: true", 1),
        (128, "mode: scale", -1),
        (255, "mode: scale", 0),
        (0, "mode: scale", 1),
        (0, "mode: raw", 0),
        (100, "mode: raw", 1),
        (40, "mode: raw", -1),
        (101, "mode: raw", -1),
        (255, "mode: raw", -1),
        (0, "mode: raw\nnegate: 1", 0),
    ],
)
def test_pixels_become_what_nav2_makes_of_them(tmp_path, level, text, cell):
    assert one_pixel(tmp_path, level, text) == cell


@pytest.mark.parametrize(
    ("level", "alpha", "mode", "cell"),
    [(255, 255, "trinary", 0), (255, 0, "trinary", -1), (0, 255, "trinary", 1), (255, 254, "scale", -1)],
)
def test_transparent_pixels_are_not_free(tmp_path, level, alpha, mode, cell):
    # Trinary averages opacity in: an opaque black pixel has the brightness 1/4, an occupancy of 0.75.
    assert one_pixel(tmp_path, level, f"mode: {mode}", alpha) == cell


def test_resolution_and_origin_are_read(tmp_path):
    grid = load_occupancy_map(write(tmp_path, [[0, 254]]))
    assert grid.resolution == 0.05
    assert grid.origin == (-1.5, 2.0, 0.25)


def test_a_ros_map_is_a_world_and_unknown_cells_are_neither_free_nor_counted(tmp_path):
    levels = np.full((8, 8), 205)
    levels[1:7, 1:7] = 0
    levels[2:6, 2:6] = 254
    levels[3, 3] = 205
    env = MapWorldEnv(maps=write(tmp_path, levels), scale=1)
    env.reset(seed=0)
    assert env.reachable.sum() == 15
    assert env.worlds.n_countable[0] == 15 + 16
    assert env.plan.resolution == 0.05


@pytest.mark.parametrize("name", ["map.yaml", "map.pgm", "map.png", "map"])
def test_what_is_saved_opens_again_as_it_was(tmp_path, name):
    cells = np.random.default_rng(0).integers(-1, 2, (7, 5)).astype(np.int8)
    path = save_occupancy_map(tmp_path / "new" / name, OccupancyGrid(cells, 0.1, (-3.0, 1.5, 0.5)))
    again = load_occupancy_map(path)
    np.testing.assert_array_equal(again.cells, cells)
    assert (again.resolution, again.origin) == (0.1, (-3.0, 1.5, 0.5))
    assert np.unique(np.asarray(Image.open(path.parent / again_image(path)))).tolist() == [0, 205, 254]


def again_image(path):
    return next(line.split(":")[1].strip() for line in path.read_text().splitlines() if line.startswith("image:"))


def test_larger_cells_are_an_option(tmp_path):
    grid = load_grids(write(tmp_path, np.pad(np.full((8, 8), 254), 2)), resolution=0.1)["plan"]
    assert grid.cells.shape == (6, 6)
    assert grid.resolution == 0.1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image: none.pgm\nresolution: 0.05\n", "no picture"),
        ("resolution: 0.05\n", "image: this key is required"),
        ("image: plan.pgm\n", "resolution: this key is required"),
        ("image: plan.pgm\nresolution: 0\n", "resolution: must be greater than 0"),
        ("image: plan.pgm\nresolution: .nan\n", "resolution"),
        ("image: plan.pgm\nresolution: 0.05\nmode: colour\n", "mode"),
        ("image: plan.pgm\nresolution: 0.05\norigin: [0, 0]\n", "origin: must be x, y"),
        ("image: plan.pgm\nresolution: 0.05\nocupied_thresh: 0.3\n", "did you mean occupied_thresh"),
        ("", "the file is empty; it should name a picture"),
        ("image: plan.pgm\nresolution: 0.05\nfree_thresh: 0.9\n", "free_thresh 0.9 is above"),
        ("image: plan.pgm\nresolution: 0.05\noccupied_thresh: 2\n", "occupied_thresh"),
        ("- a\n", "expected a mapping"),
        ("image: [\n", "not valid YAML"),
        ("image: plan.yaml\nresolution: 0.05\n", "cannot be read as a picture"),
    ],
)
def test_a_malformed_yaml_is_one_line_that_names_the_fault(tmp_path, text, says):
    Image.fromarray(np.full((3, 3), 254, np.uint8)).save(tmp_path / "plan.pgm")
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says) as error:
        load_grids(tmp_path / "plan.yaml")
    assert all("\n" not in problem for problem in error.value.problems)


@pytest.mark.parametrize("header", [b"P5\n9 9\n255\n", b"P5\n9 9\n65535\n", b"P4\n30 9\n", b"P5\n9 9\n100\n"])
def test_a_picture_that_lies_about_its_size_is_refused(tmp_path, header):
    told = {b"P4": 36}.get(header[:2], 162 if b"65535" in header else 81)
    path = tmp_path / "plan.pgm"
    for held in (told - 1, 5 * told):
        path.write_bytes(header + bytes([200]) * held)
        with pytest.raises(ConfigError, match=rf"{told} bytes, and {held} follow"):
            load_grids(path)
    for tail in (b"", b"\n", header + bytes(told)):  # a line's end, and another picture
        path.write_bytes(header + bytes(told) + tail)
        with pytest.raises(ConfigError, match="no free cell") if header[:2] != b"P4" else nullcontext():
            load_grids(path)


def test_keys_of_other_tools_are_left_alone(tmp_path):
    assert one_pixel(tmp_path, 254, "date: today\nlayers: []\ncolour: red\n") == 0


def test_thresholds_of_pictures_are_refused_where_the_yaml_has_them(tmp_path):
    with pytest.raises(ConfigError, match="leave out threshold"):
        load_grids(write(tmp_path, [[254]]), threshold=0.3)


@pytest.mark.parametrize(
    ("name", "grid", "says"),
    [
        ("map.txt", OccupancyGrid(np.zeros((2, 2), np.int8), 0.1), "maps are saved as"),
        ("map.yaml", OccupancyGrid(np.zeros((2, 2), np.int8)), "needs its resolution"),
        ("map.yaml", OccupancyGrid(np.zeros((0, 0), np.int8), 0.1), "empty"),
    ],
)
def test_a_map_that_cannot_be_saved_is_refused_before_anything_is_written(tmp_path, name, grid, says):
    with pytest.raises(ConfigError, match=says):
        save_occupancy_map(tmp_path / name, grid)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (OccupancyGrid(np.zeros((2, 3), np.int8), 0.1, (float("nan"), 0.0, 0.0)), "origin"),
        (OccupancyGrid(np.zeros((2, 3), np.int8), 5_000.0), "at most 1000"),
    ],
)
def test_a_map_that_no_one_could_open_is_not_saved(grid, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        save_occupancy_map(tmp_path / "map.yaml", grid)
    assert not list(tmp_path.iterdir())
