import logging

import numpy as np
import pytest
from PIL import Image

from farl.envs.map_world import MapWorldEnv, OccupancyGrid, load_grids, load_map, load_maps, map_files
from farl.envs.map_world.occupancy import bordered, coarser
from farl.errors import ConfigError

WALLS = np.ones((9, 11), bool)
WALLS[1:8, 1:10] = False
WALLS[4, 1:8] = True
GREY = np.where(WALLS, 0, 255).astype(np.uint8)


def transparent_palette():
    picture = Image.fromarray(GREY).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    picture.info["transparency"] = 3  # a colour that no pixel has
    return picture


PICTURES = {
    "grey.png": lambda: Image.fromarray(GREY),
    "grey_alpha.png": lambda: Image.fromarray(GREY).convert("LA"),
    "colour.bmp": lambda: Image.fromarray(GREY).convert("RGB"),
    "colour_alpha.png": lambda: Image.fromarray(GREY).convert("RGBA"),
    "palette.png": lambda: Image.fromarray(GREY).convert("P"),
    "palette_alpha.png": transparent_palette,
    "sixteen_bits.png": lambda: Image.fromarray(GREY.astype(np.uint16) * 257),
    "sixteen_bits.tif": lambda: Image.fromarray(GREY.astype(np.uint16) * 257),
    "sixteen_bits.pgm": lambda: Image.fromarray(GREY.astype(np.uint16) * 257),
    "one_bit.png": lambda: Image.fromarray(~WALLS),
    "one_bit.pbm": lambda: Image.fromarray(~WALLS),
    "plan.gif": lambda: Image.fromarray(GREY),
    "plan.pgm": lambda: Image.fromarray(GREY),
    "plan.jpg": lambda: Image.fromarray(GREY),
    "plan.webp": lambda: Image.fromarray(GREY).convert("RGB"),
    "print.jpg": lambda: Image.fromarray(GREY).convert("CMYK"),
    "print.tiff": lambda: Image.fromarray(GREY).convert("CMYK"),
    "float.tiff": lambda: Image.fromarray(GREY / np.float32(255)),
    "float_255.tiff": lambda: Image.fromarray(GREY.astype(np.float32)),
    "int.tiff": lambda: Image.fromarray(GREY.astype(np.int32)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_walls_survive_in_every_kind_of_picture(tmp_path, name):
    PICTURES[name]().save(tmp_path / name)
    np.testing.assert_array_equal(load_map(tmp_path / name), WALLS)


def test_an_ascii_pgm_is_read_like_a_binary_one(tmp_path):
    rows = "\n".join(" ".join(str(value) for value in row) for row in GREY)
    (tmp_path / "plan.pgm").write_text(f"P2\n# drawn by hand\n{GREY.shape[1]} {GREY.shape[0]}\n255\n{rows}\n")
    np.testing.assert_array_equal(load_map(tmp_path / "plan.pgm"), WALLS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_grey_of_unknown_cells_is_not_free(tmp_path, dtype):
    levels = GREY.astype(dtype) * (257 if dtype == np.uint16 else 1)
    levels[0] = 205 * (257 if dtype == np.uint16 else 1)
    Image.fromarray(levels).save(tmp_path / "plan.png")
    grid = load_grids(tmp_path / "plan.png")["plan"]
    assert (grid.cells[0] == -1).all()
    np.testing.assert_array_equal(grid.cells[1:] == 1, WALLS[1:])


def test_transparent_pixels_are_unknown(tmp_path):
    picture = np.stack([GREY, np.full_like(GREY, 255)], axis=-1)
    picture[0, :, 1] = 0
    Image.fromarray(picture, "LA").save(tmp_path / "plan.png")
    assert (load_grids(tmp_path / "plan.png")["plan"].cells[0] == -1).all()


def test_threshold_and_the_sense_of_dark_can_be_chosen(tmp_path):
    Image.fromarray(np.where(WALLS, 150, 220).astype(np.uint8)).save(tmp_path / "pale.png")
    np.testing.assert_array_equal(load_maps(tmp_path / "pale.png", threshold=0.7)["pale"], WALLS)
    Image.fromarray(255 - GREY).save(tmp_path / "night.png")
    np.testing.assert_array_equal(load_maps(tmp_path / "night.png", dark="free")["night"], WALLS)
    env = MapWorldEnv(maps=tmp_path / "night.png", dark="free", scale=1)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.reachable, ~WALLS)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"threshold": 0.0}, "between 0 and 1"), ({"dark": "grey"}, "wall or free"), ({"resolution": 0.0}, "above 0")],
)
def test_options_of_reading_that_cannot_be_are_refused(tmp_path, options, says):
    Image.fromarray(GREY).save(tmp_path / "plan.png")
    with pytest.raises(ConfigError, match=says):
        load_grids(tmp_path / "plan.png", **options)


def test_of_rooms_that_are_not_connected_the_largest_is_kept_and_said(tmp_path, caplog):
    walls = WALLS.copy()
    walls[4] = True
    walls[3] = True  # two rows above, three below
    Image.fromarray(np.where(walls, 0, 255).astype(np.uint8)).save(tmp_path / "plan.png")
    with caplog.at_level(logging.WARNING):
        grid = load_grids(tmp_path / "plan.png")["plan"]
    assert "2 parts that are not connected; the largest is kept, 27 of 45 free cells" in caplog.text
    assert (grid.cells == 0).sum() == 27
    assert (grid.cells[1:3, 1:-1] == -1).all()
    caplog.clear()
    MapWorldEnv(maps=walls)
    assert "not connected" in caplog.text


def test_unknown_cells_stop_an_agent_but_do_not_count():
    cells = WALLS.astype(np.int8)
    cells[0] = cells[4, 1:8] = -1
    env = MapWorldEnv(maps=cells, scale=1)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.reachable, cells == 0)
    free, walls = (cells == 0).sum(), 6 + 7 + 9  # left, right and lower rim; the left one touches an unknown cell
    assert env.worlds.n_countable[0] == free + walls
    np.testing.assert_array_equal(env.plan.cells, cells)


def test_larger_cells_are_walls_where_any_wall_is_in_them():
    cells = np.zeros((4, 6), np.int8)
    cells[0, 5] = 1
    cells[2:, :2] = -1
    grid = coarser(OccupancyGrid(cells, 0.05, (1.0, 2.0, 0.0)), 0.1)
    np.testing.assert_array_equal(grid.cells, [[0, 0, 1], [-1, 0, 0]])
    assert grid.resolution == 0.1
    assert grid.origin == (1.0, 2.0, 0.0)
    finer = coarser(grid, 0.05)
    assert finer.cells.shape == (4, 6)


def test_a_rim_of_wall_moves_the_origin_with_it():
    grid = bordered(OccupancyGrid(np.zeros((2, 3), np.int8), 0.5, (1.0, 2.0, 0.0)))
    assert grid.cells.shape == (4, 5)
    assert grid.origin == (0.5, 1.5, 0.0)


def test_a_folder_of_maps_is_listed_without_the_pictures_of_ros_maps(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "office.pgm")
    (tmp_path / "office.yaml").write_text("image: office.pgm\nresolution: 0.05\n")
    Image.fromarray(GREY).save(tmp_path / "house.png")
    (tmp_path / "notes.md").write_text("hello")
    assert [file.name for file in map_files(tmp_path)] == ["house.png", "office.yaml"]
    with pytest.raises(ConfigError, match="no folder"):
        map_files(tmp_path / "none")
