"""Maps from files: .npz, .npy, pictures and text, checked before a world is made of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from farl.errors import ConfigError, did_you_mean
from farl.maps.geometry import BoolArray

LARGEST_MAP = 4_000_000
"""Most cells of a map, enlarged."""

_TEXT = {"#": True, "X": True, "1": True, ".": False, " ": False, "0": False}
_PICTURES = (".png", ".bmp", ".gif", ".jpg", ".jpeg", ".tif", ".tiff")


def load_maps(path: str | Path, scale: int = 1) -> dict[str, BoolArray]:
    """Read every map of a file: name -> bool[H, W], True for wall.

    - ``.npz``: each array is a map; ``.npy``: one map. Arrays are boolean, or whole numbers 0 (free) and 1 (wall).
    - ``.png`` and other pictures: one map, a pixel darker than half is wall; transparent pixels are wall.
    - ``.txt``: one map, ``#``, ``X`` or ``1`` for wall and ``.``, `` `` or ``0`` for free; short lines are filled
      with wall.

    :param scale: the factor by which the maps will be enlarged, for the limit on their size
    :raises ConfigError: for every map that is malformed, naming it
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no map file {path}; give the path of a .npz, .npy, .png or .txt file")
    arrays = _read(path)
    if not arrays:
        raise ConfigError(f"{path} holds no map: store at least one array in it")
    problems: list[str] = []
    maps: dict[str, BoolArray] = {}
    for name, array in arrays.items():
        try:
            maps[name] = check_map(array, f"{path.name}:{name}", scale)
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return maps


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


def check_map(array: npt.ArrayLike, name: str = "map", scale: int = 1) -> BoolArray:
    """Return a map as bool[H, W] with a border of wall, or say what is wrong with it.

    :param array: [H, W], boolean or whole numbers 0 and 1; True or 1 is wall
    :param name: what errors call it
    :param scale: the factor by which it will be enlarged
    :raises ConfigError: if it is not such an array, too large, without a free cell or not connected
    """
    values = np.asarray(array)
    if values.ndim != 2:
        raise ConfigError(f"{name}: a map has two axes (rows, columns); this array has the shape {list(values.shape)}")
    if values.dtype != bool:
        if not np.issubdtype(values.dtype, np.integer):
            raise ConfigError(
                f"{name}: a map is boolean or holds 0 and 1; this one is {values.dtype}. Convert it with `array > 0.5`"
            )
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise ConfigError(
                f"{name}: a map of whole numbers holds 0 (free) and 1 (wall); this one spans "
                f"{values.min()} to {values.max()}"
            )
    walls = values.astype(bool)
    if walls.size * scale**2 > LARGEST_MAP:
        raise ConfigError(
            f"{name}: {walls.shape[0]} x {walls.shape[1]} cells, enlarged by {scale}, are more than {LARGEST_MAP:,}. "
            "Lower the scale or crop the map"
        )
    if walls.all():
        raise ConfigError(f"{name}: the map has no free cell (True, 1, # and dark pixels are wall)")
    labels, n_parts = ndimage.label(~walls)
    if n_parts > 1:
        sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
        raise ConfigError(
            f"{name}: the free space falls into {n_parts} parts that are not connected (of {sizes[0]}, {sizes[1]}, "
            f"... cells). Join them, or keep the largest with farl.envs.map_world.largest_part"
        )
    if not (walls[[0, -1]].all() and walls[:, [0, -1]].all()):
        walls = np.pad(walls, 1, constant_values=True)
    return walls


def largest_part(walls: npt.ArrayLike) -> BoolArray:
    """Return a map, bool[H, W], with only the largest connected part of its free space."""
    walls = np.asarray(walls, bool)
    labels, n_parts = ndimage.label(~walls)
    if n_parts == 0:
        return walls
    return np.asarray(labels != 1 + np.bincount(labels.ravel())[1:].argmax())


def _read(path: Path) -> Mapping[str, npt.NDArray[Any]]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if suffix == ".npy":
            return {path.stem: np.load(path, allow_pickle=False)}
        if suffix in _PICTURES:
            return {path.stem: _dark(iio.imread(path))}
        if suffix in (".txt", ".map"):
            return {path.stem: _parse(path.read_text(encoding="utf-8"), path)}
    except ConfigError:
        raise
    except Exception as error:  # the readers raise whatever their format's parser raises
        raise ConfigError(f"{path} cannot be read as a {suffix} file: {error}") from error
    raise ConfigError(
        f"{path}: maps are .npz, .npy, .txt or pictures ({', '.join(_PICTURES)}); this is {suffix or 'none'}"
    )


def _dark(picture: npt.NDArray[Any]) -> BoolArray:
    """bool[H, W] from a grey, RGB or RGBA picture."""
    if picture.ndim == 2:
        return np.asarray(picture < 128)
    wall = picture[..., : min(3, picture.shape[-1])].mean(axis=-1) < 128
    return np.asarray(wall | (picture[..., 3] < 128) if picture.shape[-1] == 4 else wall)


def _parse(text: str, path: Path) -> BoolArray:
    lines = text.rstrip("\n").splitlines()
    unknown = sorted({character for line in lines for character in line} - set(_TEXT))
    if unknown:
        raise ConfigError(f"{path}: a map is drawn with {' '.join(_TEXT)!r}; found {unknown[0]!r}")
    width = max((len(line) for line in lines), default=0)
    return np.array([[_TEXT[character] for character in line.ljust(width, "#")] for line in lines], bool).reshape(
        len(lines), width
    )
