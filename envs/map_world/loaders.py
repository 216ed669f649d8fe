"""Maps from files: .npz, .npy, ROS maps, pictures and text, checked before a world is made of them."""

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from PIL import Image

from farl.envs.map_world.map_server import load_occupancy_map
from farl.envs.map_world.occupancy import (
    OPEN,
    UNMAPPED,
    WALL,
    Cells,
    Dark,
    OccupancyGrid,
    bordered,
    coarser,
    largest_room,
    picture_cells,
    read_picture,
    short_line,
)
from farl.errors import ConfigError, did_you_mean
from farl.maps.geometry import BoolArray

LARGEST_MAP = 4_000_000
"""Most cells of a map, enlarged."""
LARGEST_FILE = 40_000_000
"""Most cells of all maps of a file together, not enlarged."""
_npy: Any = npy  # untyped
_MOST_MAPS = 10_000
_LONGEST_HEADER = 16_384  # bytes; of an array in NumPy's format
_WIDEST_NUMBER = 8  # bytes
_LONGEST_TEXT = 10_000_000  # bytes

_NO_CELL = 2
_TEXT = {"#": WALL, "X": WALL, "1": WALL, ".": OPEN, " ": OPEN, "0": OPEN}
_ROS = (".yaml", ".yml")
_PLAIN = (".npz", ".npy", ".txt", ".map")


def load_grids(
    path: str | Path, scale: int = 1, threshold: float = 0.5, dark: Dark = "wall", resolution: float | None = None
) -> dict[str, OccupancyGrid]:
    """Read every map of a file by its name, each with a rim of wall and one connected free space.

    - ``.yaml``: a ROS map, with the picture that it names (``load_occupancy_map``).
    - Pictures of any format that Pillow opens (PNG, PGM, GIF, TIFF, ...): one map (``picture_cells``).
    - ``.npz``: each array is a map; ``.npy``: one map. Arrays are boolean, or hold 0 (free), 1 (wall) and -1 (unknown).
    - ``.txt``: one map, ``#``, ``X`` or ``1`` for wall, ``.``, a blank or ``0`` for free; short lines are filled with
      wall.

    Where rooms are not connected, the largest part is kept, and the log says so.

    :param scale: the factor by which the maps will be enlarged, for the limit on their size
    :param threshold: in pictures, the brightness in (0, 1) that divides wall from free
    :param dark: what in pictures is darker than that
    :param resolution: metres a cell of the maps that are returned; as in the file by default
    :raises ConfigError: for every map that is malformed, naming it
    """
    path = Path(path)
    check_reading(threshold, dark)
    if resolution is not None and not (math.isfinite(resolution) and resolution > 0.0):
        raise ConfigError(f"resolution is in metres a cell, above 0; got {resolution}")
    if not path.is_file():
        raise ConfigError(f"no map file {path}; give the path of a ROS map's .yaml, a picture, .npz, .npy or .txt")
    suffix = path.suffix.lower()
    if suffix in _ROS and (threshold, dark) != (0.5, "wall"):
        raise ConfigError(
            f"{path}: its YAML says how the picture is read (negate, thresholds): leave out threshold and dark"
        )
    if suffix not in (*_ROS, *_PLAIN) and suffix not in Image.registered_extensions():
        raise ConfigError(
            f"{path}: maps are ROS maps (.yaml), pictures (.png, .pgm, ...), .npz, .npy or .txt; "
            f"this is {suffix or 'none'}"
        )
    read = _read(path, suffix, threshold, dark)
    if not read:
        raise ConfigError(f"{path} holds no map: store at least one array in it")
    problems: list[str] = []
    grids: dict[str, OccupancyGrid] = {}
    n_cells = 0
    for name, make in read.items():
        called = path.name if name == path.stem else f"{path.name}:{name}"
        try:
            grid = make()
            if resolution is not None:
                grid = coarser(grid, resolution)
            _check_size(grid.cells.shape, called, scale)
            grids[name] = bordered(grid._replace(cells=largest_room(_with_free_cells(grid.cells, called), called)))
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        n_cells += grid.cells.size
        if n_cells > LARGEST_FILE:
            problems.append(f"{path}: its maps have more than {LARGEST_FILE:,} cells together: split the file")
            break
    if problems:
        raise ConfigError(*problems)
    return grids


def check_reading(threshold: Any, dark: Any) -> None:
    """Refuse ways to read pictures that are none.

    :raises ConfigError: naming what is wrong
    """
    if not isinstance(threshold, int | float) or not 0.0 < threshold < 1.0:
        raise ConfigError(f"threshold is a brightness between 0 and 1; got {threshold}")
    if dark not in ("wall", "free"):
        raise ConfigError(f"dark is what dark pixels are: wall or free; got {dark!r}")


def load_maps(
    path: str | Path, scale: int = 1, threshold: float = 0.5, dark: Dark = "wall", resolution: float | None = None
) -> dict[str, BoolArray]:
    """Read every map of a file: name -> bool[H, W], True for what cannot be walked on; see ``load_grids``."""
    return {
        name: np.asarray(grid.cells != OPEN)
        for name, grid in load_grids(path, scale, threshold, dark, resolution).items()
    }


def load_map(path: str | Path, name: str | None = None, scale: int = 1) -> BoolArray:
    """Read one map of a file; ``name`` chooses among those of a ``.npz``.

    :raises ConfigError: if the map is malformed, or the file holds several and no name is given
    """
    maps = load_maps(path, scale)
    if name is None:
        if len(maps) > 1:
            raise ConfigError(f"{path} holds {len(maps)} maps: name one of them, such as {next(iter(maps))!r}")
        return next(iter(maps.values()))
    if name not in maps:
        raise ConfigError(f"{path} holds no map {name!r}{did_you_mean(name, maps)}")
    return maps[name]


def map_files(folder: str | Path) -> list[Path]:
    """The maps of a folder, by name: ROS maps by their YAML files, and the other files that ``load_grids`` reads.

    :raises ConfigError: if it is no folder, or holds none
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder}; give one that holds maps, such as ROS maps (.yaml with .pgm)")
    files = sorted(file for file in folder.iterdir() if file.is_file())
    described = {file.stem for file in files if file.suffix.lower() in _ROS}
    readable = {*_ROS, *_PLAIN, *Image.registered_extensions()}
    found = [
        file
        for file in files
        if file.suffix.lower() in readable and (file.suffix.lower() in _ROS or file.stem not in described)
    ]
    if not found:
        raise ConfigError(f"{folder} holds no map: ROS maps (.yaml with their picture), pictures, .npz, .npy or .txt")
    return found


def check_map(array: npt.ArrayLike, name: str = "map", scale: int = 1) -> BoolArray:
    """Return a map as bool[H, W] with a border of wall, or say what is wrong with it.

    :param array: [H, W], boolean or whole numbers 0 and 1; True or 1 is wall, -1 unknown
    :param name: what errors call it
    :param scale: the factor by which it will be enlarged
    :raises ConfigError: if it is not such an array, too large, without a free cell or not connected
    """
    return np.asarray(check_cells(array, name, scale) != OPEN)


def check_cells(array: npt.ArrayLike, name: str = "map", scale: int = 1) -> Cells:
    """Return a map as int8[H, W], 0 free, 1 wall, -1 unknown; as ``check_map`` otherwise."""
    from scipy import ndimage  # here, for it takes long to import

    cells = as_cells(array, name, scale)
    labels, n_parts = ndimage.label(cells == OPEN)
    if n_parts > 1:
        sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
        raise ConfigError(
            f"{name}: the free space falls into {n_parts} parts that are not connected (of {sizes[0]}, {sizes[1]}, "
            f"... cells). Join them, or keep the largest with farl.envs.map_world.largest_part"
        )
    return bordered(OccupancyGrid(cells)).cells


def array_grid(array: npt.ArrayLike, name: str, scale: int) -> OccupancyGrid:
    """Return an array as a plan with a rim of wall and one connected free space; the log says if more was left out.

    :raises ConfigError: if it is no map, too large, or without a free cell
    """
    return bordered(OccupancyGrid(largest_room(as_cells(array, name, scale), name)))


def as_cells(array: npt.ArrayLike, name: str, scale: int) -> Cells:
    """Return an array as int8[H, W], 0 free, 1 wall, -1 unknown, connected or not.

    :raises ConfigError: if it is no map, too large, or without a free cell
    """
    try:
        values = np.asarray(array)
    except ValueError:
        raise ConfigError(f"{name}: its rows are not equally long") from None
    if values.ndim != 2:
        raise ConfigError(f"{name}: a map has two axes (rows, columns); this array has the shape {list(values.shape)}")
    if values.dtype != bool:
        if not np.issubdtype(values.dtype, np.integer):
            raise ConfigError(
                f"{name}: a map is boolean or holds 0 and 1; this one is {values.dtype}. Convert it with `array > 0.5`"
            )
        if values.size and not (values.min() >= UNMAPPED and values.max() <= WALL):
            raise ConfigError(
                f"{name}: a map of whole numbers holds 0 (free), 1 (wall) and -1 (unknown); this one spans "
                f"{values.min()} to {values.max()}"
            )
    _check_size(values.shape, name, scale)
    return _with_free_cells(values.astype(np.int8), name)


def largest_part(walls: npt.ArrayLike) -> BoolArray:
    """Return a map, bool[H, W], with only the largest connected part of its free space."""
    from scipy import ndimage  # here, for it takes long to import

    walls = np.asarray(walls, bool)
    labels, n_parts = ndimage.label(~walls)
    if n_parts == 0:
        return walls
    return np.asarray(labels != 1 + np.bincount(labels.ravel())[1:].argmax())


def _check_size(shape: tuple[int, ...], name: str, scale: int) -> None:
    if math.prod(shape) * scale**2 > LARGEST_MAP:
        raise ConfigError(
            f"{name}: {' x '.join(map(str, shape))} cells, enlarged by {scale}, are more than {LARGEST_MAP:,}. "
            "Lower the scale, crop the map, or make its cells larger (`resolution`)"
        )


def _with_free_cells(cells: Cells, name: str) -> Cells:
    if not (cells == OPEN).any():
        raise ConfigError(
            f"{name}: the map has no free cell (True, 1, # and dark pixels are wall; transparent ones and the grey 205 "
            "are unknown; `threshold` and `dark` say otherwise of pictures, `negate` and its thresholds of a ROS map)"
        )
    return cells


def _read(path: Path, suffix: str, threshold: float, dark: Dark) -> Mapping[str, Callable[[], OccupancyGrid]]:
    """The names of a file's maps, and what reads each."""
    if suffix == ".npz":
        return _read_archive(path)
    if suffix == ".npy":
        return {path.stem: lambda: _read_array(path.name, lambda: path.open("rb"))}
    if suffix in (".txt", ".map"):
        return {path.stem: lambda: _read_text(path)}
    if suffix in _ROS:
        return {path.stem: lambda: load_occupancy_map(path)}
    return {path.stem: lambda: OccupancyGrid(picture_cells(read_picture(path), threshold, dark))}


def _read_archive(path: Path) -> Mapping[str, Callable[[], OccupancyGrid]]:
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises whatever a malformed archive leads to
        raise ConfigError(f"{path} cannot be read as a .npz file: {error}") from None
    members = archive.infolist()
    if len(members) > _MOST_MAPS:
        raise ConfigError(f"{path}: {len(members):,} maps are more than {_MOST_MAPS:,}: split the file")

    def reader(member: zipfile.ZipInfo, name: str) -> Callable[[], OccupancyGrid]:
        return lambda: _read_array(f"{path.name}:{name}", lambda: archive.open(member))

    names = {member.filename.removesuffix(".npy"): member for member in members}
    return {name: reader(member, name) for name, member in names.items()}


def _read_array(name: str, open_file: Callable[[], IO[bytes]]) -> OccupancyGrid:
    """Read an array in NumPy's format once its header has shown that it can be a map."""
    try:
        with open_file() as stream:
            header = io.BytesIO(stream.read(_LONGEST_HEADER))
        version = _npy.read_magic(header)
        read_header = _npy.read_array_header_1_0 if version == (1, 0) else _npy.read_array_header_2_0
        shape, _, dtype = read_header(header)
        _check_size(shape, name, 1)
        if dtype.itemsize > _WIDEST_NUMBER:
            raise ValueError(f"{dtype} is no type of a map")
        with open_file() as stream:
            values = _npy.read_array(stream, allow_pickle=False)
    except ConfigError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise whatever a malformed file leads to
        raise ConfigError(f"{name} cannot be read as an array: {short_line(error)}") from None
    return OccupancyGrid(as_cells(values, name, 1))


def _read_text(path: Path) -> OccupancyGrid:
    with path.open("rb") as stream:
        raw = stream.read(_LONGEST_TEXT + 1)
    if len(raw) > _LONGEST_TEXT:
        raise ConfigError(f"{path}: larger than {_LONGEST_TEXT:,} bytes: crop the map")
    raw = raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip(b"\n")
    characters = np.frombuffer(raw, np.uint8)
    kinds = np.full(256, _NO_CELL, np.int8)
    for character, kind in _TEXT.items():
        kinds[ord(character)] = kind
    drawn = kinds[characters]
    ends = np.append(np.flatnonzero(characters == ord("\n")), len(raw))
    foreign = np.flatnonzero((drawn == _NO_CELL) & (characters != ord("\n")))
    if len(foreign):
        found = raw[foreign[0] : foreign[0] + 4].decode("utf-8", "replace")[0]
        raise ConfigError(f"{path}: a map is drawn with {' '.join(_TEXT)!r}; found {found!r}")
    lengths = np.diff(ends, prepend=-1) - 1
    shape = (len(lengths), int(lengths.max())) if raw else (0, 0)
    _check_size(shape, path.name, 1)
    cells = np.full(shape, WALL, np.int8)
    row = np.repeat(np.arange(shape[0]), lengths)
    column = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    cells[row, column] = drawn[drawn != _NO_CELL]
    return OccupancyGrid(cells)
