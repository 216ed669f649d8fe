"""Maps as robots save them: the YAML and picture files of ROS's map_server and map_saver.

The rules are those of nav2_map_server: a pixel's occupancy is how dark it is (how bright, with ``negate``), and two
thresholds divide it into free, unknown and occupied.
"""

import difflib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from farl.envs.map_world.occupancy import (
    OPEN,
    UNKNOWN_GREY,
    UNMAPPED,
    WALL,
    Cells,
    OccupancyGrid,
    Picture,
    is_unknown_grey,
    read_picture,
)
from farl.errors import ConfigError
from farl.experiment.files import write_atomically
from farl.experiment.yaml_source import read_yaml, write_yaml
from farl.validation import validation_problems

_COARSEST = 1_000.0  # metres a pixel
_WRITTEN = {".pgm": "PPM", ".png": "PNG", ".bmp": "BMP"}


def _three(origin: Any) -> Any:
    if isinstance(origin, list | tuple) and len(origin) != 3:
        raise ValueError("must be x, y (metres) and yaw (radians), three numbers")
    return origin


class MapFile(BaseModel):
    """What a map's YAML file says; keys of other tools are left alone."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)

    image: Annotated[str, Field(min_length=1)]
    """The picture, by its path from the YAML file."""
    resolution: Annotated[float, Field(gt=0.0, le=_COARSEST)]
    """Metres a pixel."""
    origin: Annotated[tuple[float, float, float], BeforeValidator(_three)] = (0.0, 0.0, 0.0)
    """x, y (metres) and yaw (radians) of the lower left pixel's corner."""
    negate: bool = False
    """Bright is occupied."""
    occupied_thresh: Annotated[float, Field(ge=0.0, le=1.0)] = 0.65
    """Occupancy above which a pixel is occupied."""
    free_thresh: Annotated[float, Field(ge=0.0, le=1.0)] = 0.196
    """Occupancy below which a pixel is free."""
    mode: Annotated[
        Literal["trinary", "scale", "raw"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = "trinary"
    """trinary: free, occupied or unknown. scale: what is between the thresholds is a degree, and transparent pixels are
    unknown. raw: the pixel's value is the occupancy in percent, unknown above 100."""


def load_occupancy_map(path: str | Path) -> OccupancyGrid:
    """Read a map by its YAML file; degrees between the two thresholds are unknown.

    Where map_saver has written its grey for unknown (205), it is unknown, even under a ``free_thresh`` that would make
    it free.

    :raises ConfigError: if a file is missing, too large or malformed
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no map file {path}; give the YAML file of a ROS map")
    data = read_yaml(path, "it should name a picture and its resolution", "image: office.pgm").data
    _refuse_typos(path, data)
    try:
        said = MapFile.model_validate(data)
    except ValidationError as error:
        problems = validation_problems(error, data, MapFile)
        raise ConfigError(*(f"{path}: {'.'.join(where)}: {what}" for where, what in problems)) from None
    if said.free_thresh > said.occupied_thresh:
        raise ConfigError(
            f"{path}: free_thresh {said.free_thresh} is above occupied_thresh {said.occupied_thresh}; swap them"
        )
    picture = read_picture(path.parent / said.image)
    return OccupancyGrid(_cells(picture, said), said.resolution, said.origin)


def save_occupancy_map(path: str | Path, grid: OccupancyGrid) -> Path:
    """Write a map that ROS's map_server opens: a YAML file and a picture beside it. Return the YAML file's path.

    :param path: path of the YAML file; or of its picture, .pgm (also without a suffix), .png or .bmp
    :raises ConfigError: if the map has no resolution or is empty, or the files cannot be written
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in ("", ".yaml", ".yml", *_WRITTEN):
        raise ConfigError(f"{path}: maps are saved as .yaml with a picture: .pgm, .png or .bmp; this is {suffix}")
    described = path if suffix in (".yaml", ".yml") else path.with_suffix(".yaml")
    drawn = path if suffix in _WRITTEN else described.with_suffix(".pgm")
    if grid.resolution is None or not 0.0 < grid.resolution <= _COARSEST:
        raise ConfigError(
            f"{path}: a saved map needs its resolution in metres a cell, above 0 and at most {_COARSEST:g}; "
            f"got {grid.resolution}"
        )
    if len(grid.origin) != 3 or not all(math.isfinite(part) for part in grid.origin):
        raise ConfigError(f"{path}: a map's origin is x, y (metres) and yaw (radians), finite; got {grid.origin}")
    if grid.cells.size == 0:
        raise ConfigError(f"{path}: the map is empty: explore first")
    levels = np.full(grid.cells.shape, UNKNOWN_GREY, np.uint8)
    levels[grid.cells == OPEN], levels[grid.cells == WALL] = 254, 0
    picture = io.BytesIO()
    Image.fromarray(levels).save(picture, _WRITTEN[drawn.suffix.lower()])
    x, y, yaw = (round(part, 9) for part in grid.origin)  # 0.30000000000000004 is hard to read
    said = MapFile(image=drawn.name, resolution=grid.resolution, origin=(x, y, yaw))
    text = write_yaml(said.model_dump(mode="json") | {"negate": 0}, "")
    try:
        described.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(drawn, picture.getvalue())
        write_atomically(described, text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}") from None
    return described


def _refuse_typos(path: Path, data: Mapping[str, Any]) -> None:
    """Refuse keys that look like one that is missing: its default would be taken without a word."""
    missing = MapFile.model_fields.keys() - data.keys()
    for key in data.keys() - MapFile.model_fields.keys():
        if near := difflib.get_close_matches(key.lower(), missing, 1, 0.8):
            raise ConfigError(f"{path}: {key}: a map has no such key; did you mean {near[0]}?")


def _cells(picture: Picture, said: MapFile) -> Cells:
    shade, opacity = picture
    nowhere = np.isnan(shade)
    if said.mode == "trinary" and opacity is not None:
        shade = ((3 * shade + opacity) / 4).astype(np.float32)  # transparency counts as a fourth colour
    if said.mode == "raw":
        percent = np.rint(shade * 255.0)
        occupancy = percent / np.float32(100.0)
        nowhere = nowhere | (percent > 100.0)
    else:
        occupancy = shade if said.negate else 1.0 - shade
        if not said.negate and said.mode == "trinary":
            nowhere = nowhere | is_unknown_grey(shade)
    if said.mode == "scale" and opacity is not None:
        nowhere = nowhere | (opacity < 1.0)
    cells = np.full(shade.shape, UNMAPPED, np.int8)
    cells[occupancy < said.free_thresh] = OPEN
    cells[occupancy > said.occupied_thresh] = WALL
    cells[nowhere] = UNMAPPED
    return cells
