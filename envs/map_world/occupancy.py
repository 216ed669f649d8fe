"""Occupancy grids, and the one way from a picture to them."""

import logging
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.PpmImagePlugin import PpmImageFile

from farl.errors import ConfigError

logger = logging.getLogger(__name__)

Cells = npt.NDArray[np.int8]
Dark = Literal["wall", "free"]

UNMAPPED, OPEN, WALL = -1, 0, 1
"""What a cell of an occupancy grid is: nobody knows, free, or occupied."""

UNKNOWN_GREY = 205
"""The level (of 255) that ROS's map_saver writes for cells that nobody has seen."""

LARGEST_PICTURE = 32_000_000
"""Most pixels of a picture: 280 m x 280 m at 5 cm."""

# These run other programs or need plugins; none of them holds a floor plan.
_BITS = {"1": 1, "L": 8, "I": 16}  # a pixel, of the modes that PBM and PGM have
_NOT_READ = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}


class OccupancyGrid(NamedTuple):
    """A floor plan.

    :ivar cells: int8[H, W]: 0 free, 1 wall, -1 unknown; the first row is the top of the plan
    :ivar resolution: metres a cell; None where the file does not tell
    :ivar origin: x and y (metres) and yaw (radians) of the lower left corner of the lower left cell
    :ivar rooms: int64[H, W], the room of each cell, -1 outside of rooms; None where nobody knows
    """

    cells: Cells
    resolution: float | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rooms: npt.NDArray[np.int64] | None = None


class Picture(NamedTuple):
    """A picture in grey.

    :ivar brightness: float32[H, W] in [0, 1], the mean of the colour channels; NaN where there is no value
    :ivar opacity: float32[H, W] in [0, 1]; None for pictures without transparency
    """

    brightness: npt.NDArray[np.float32]
    opacity: npt.NDArray[np.float32] | None


def read_picture(path: Path) -> Picture:
    """Read any picture that Pillow opens, its first frame where it has several.

    Numbers without a fixed range (32 bits, floating point) are taken by the smallest of the usual ranges that holds
    them: 0 to 1, to 255, or to 65 535.

    :raises ConfigError: if it cannot be read or has more than ``LARGEST_PICTURE`` pixels
    """
    Image.init()
    try:
        with Image.open(path, formats=[name for name in Image.ID if name not in _NOT_READ]) as opened:
            if math.prod(opened.size) > LARGEST_PICTURE:
                width, height = opened.size
                raise ConfigError(
                    f"{path}: {width} x {height} pixels are more than {LARGEST_PICTURE:,}; crop or shrink the picture"
                )
            if isinstance(opened, PpmImageFile):
                _check_length(path, opened)
            return _grey(ImageOps.exif_transpose(opened))
    except ConfigError:
        raise
    except Image.DecompressionBombError:
        raise ConfigError(f"{path}: more than {LARGEST_PICTURE:,} pixels; crop or shrink the picture") from None
    except FileNotFoundError:
        raise ConfigError(f"no picture {path}") from None
    except Exception as error:  # the readers raise whatever their format's parser raises
        raise ConfigError(f"{path} cannot be read as a picture: {short_line(error)}") from None


def _check_length(path: Path, opened: PpmImageFile) -> None:
    """Refuse a PGM or PBM whose header tells another size than it has: the plan would be sheared.

    :raises ConfigError: with both sizes
    """
    decoder, _, offset, _ = opened.tile[0]
    if opened.mode not in _BITS or decoder == "ppm_plain":
        return
    width, height = opened.size
    told, held = height * -(-width * _BITS[opened.mode] // 8), path.stat().st_size - offset
    with path.open("rb") as file:
        file.seek(offset + told)
        rest = file.read(16).strip()
    if held < told or (rest and not rest.startswith(b"P")):  # several pictures can follow each other
        raise ConfigError(
            f"{path}: its header tells {width} x {height} pixels, {told:,} bytes, and {held:,} follow: save it anew"
        )


def picture_cells(picture: Picture, threshold: float = 0.5, dark: Dark = "wall") -> Cells:
    """Tell free cells from walls, int8[H, W], by one threshold.

    Transparent pixels are unknown, and so are those of the grey 205, by which ROS marks what nobody has seen.

    :param threshold: brightness in (0, 1) that divides the two
    :param dark: what is darker than that
    """
    shade, opacity = picture
    light = shade >= threshold
    cells = np.where(light == (dark == "wall"), OPEN, WALL).astype(np.int8)
    if dark == "wall":
        cells[is_unknown_grey(shade)] = UNMAPPED
    cells[np.isnan(shade)] = UNMAPPED
    if opacity is not None:
        cells[opacity < 0.5] = UNMAPPED
    return cells


def is_unknown_grey(brightness: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """bool[H, W], where a picture has the grey that map_saver writes for unknown."""
    return np.asarray(np.abs(brightness * np.float32(255.0) - UNKNOWN_GREY) < 0.5)


def coarser(grid: OccupancyGrid, resolution: float) -> OccupancyGrid:
    """Return a plan with cells of another size; a cell that holds any wall is a wall, else free if any of it is.

    :param resolution: metres a cell
    :raises ConfigError: if the plan does not tell its own resolution, or would have more than ``LARGEST_PICTURE`` cells
    """
    if grid.resolution is None:
        raise ConfigError(
            "resolution (metres a cell) needs a map that tells its own: a ROS map's YAML file, not a picture alone"
        )
    factor = resolution / grid.resolution
    if math.isclose(factor, 1.0, rel_tol=1e-6):
        return grid
    cells, (height, width) = grid.cells, grid.cells.shape
    if math.prod(max(1.0, side / factor) for side in (height, width)) > LARGEST_PICTURE:
        raise ConfigError(
            f"a resolution of {resolution} m makes more than {LARGEST_PICTURE:,} cells; choose a larger one"
        )
    # Blocks are counted from the lower left corner, where the origin is.
    walls = _any_of_blocks(_any_of_blocks((cells == WALL)[::-1], factor, 0), factor, 1)[::-1]
    free = _any_of_blocks(_any_of_blocks((cells == OPEN)[::-1], factor, 0), factor, 1)[::-1]
    made = np.where(walls, WALL, np.where(free, OPEN, UNMAPPED)).astype(np.int8)
    return OccupancyGrid(made, resolution, grid.origin)


def bordered(grid: OccupancyGrid) -> OccupancyGrid:
    """Return a plan with a rim of wall around it if any cell at its rim is free."""
    cells = grid.cells
    if not ((cells[[0, -1]] == OPEN).any() or (cells[:, [0, -1]] == OPEN).any()):
        return grid
    x, y, yaw = grid.origin
    step = grid.resolution or 0.0
    corner = (x - step * (math.cos(yaw) - math.sin(yaw)), y - step * (math.sin(yaw) + math.cos(yaw)), yaw)
    return grid._replace(cells=np.pad(cells, 1, constant_values=WALL), origin=corner)


def largest_room(cells: Cells, name: str) -> Cells:
    """Return a plan in which only the largest connected part is free; the others are unknown, and the log says so.

    :param cells: int8[H, W]
    :param name: what the log calls it
    """
    from scipy import ndimage  # here, for it takes long to import

    labels, n_parts = ndimage.label(cells == OPEN)
    if n_parts <= 1:
        return cells
    sizes = np.bincount(labels.ravel())[1:]
    largest = int(sizes.argmax())
    _say_once(
        f"{name}: the free space falls into {n_parts} parts that are not connected; the largest is kept, "
        f"{sizes[largest]} of {sizes.sum()} free cells"
    )
    return np.where((labels > 0) & (labels != largest + 1), UNMAPPED, cells).astype(np.int8)


@lru_cache
def _say_once(line: str) -> None:
    """A plan is read more than once where one environment is made to be asked, and others to be explored."""
    logger.warning("%s", line)


def short_line(error: Exception) -> str:
    """The first line of an error's message, cut where it is very long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _grey(picture: Image.Image) -> Picture:
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        values = np.asarray(picture, np.float32)
        fixed = mode.startswith("I;16") or (mode == "I" and picture.format in ("PNG", "PPM"))
        return Picture(values / np.float32(65_535 if fixed else _white(values)), None)
    if "transparency" in picture.info or mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        values = np.asarray(picture.convert("RGBA"))
        return Picture(_mean(values[..., :3]), values[..., 3] / np.float32(255.0))
    if mode in ("1", "L"):
        return Picture((np.asarray(picture.convert("L")) / np.float32(255.0)).astype(np.float32), None)
    return Picture(_mean(np.asarray(picture.convert("RGB"))), None)


def _mean(colours: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(colours.sum(axis=-1, dtype=np.uint16) / np.float32(3 * 255.0), np.float32)


def _white(values: npt.NDArray[np.float32]) -> float:
    finite = values[np.isfinite(values)]
    most = float(finite.max(initial=0.0))
    return next((level for level in (1.0, 255.0, 65_535.0) if most <= level), most)


def _any_of_blocks(mask: Any, factor: float, axis: int) -> Any:
    """Whether any of each block of ``factor`` rows or columns is True; blocks finer than a cell repeat it."""
    size = mask.shape[axis]
    edges = np.arange(math.ceil(size / factor - 1e-6)) * factor
    starts = np.minimum(np.floor(edges + 1e-6).astype(np.int64), size - 1)
    if factor < 1.0:
        return mask.take(starts, axis=axis)
    return np.logical_or.reduceat(mask, starts, axis=axis)
