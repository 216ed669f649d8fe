"""Floor plans made ready for robots: where one can be, what can be seen, and how far rays may leap."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from farl.envs.map_world.env import Maps, given_grids
from farl.envs.map_world.generator import SIZES, generate_world
from farl.envs.map_world.occupancy import OPEN, OccupancyGrid, bordered
from farl.envs.one_world import InTurn
from farl.envs.robot.lidar import cast, leaps
from farl.envs.robot.offices import generate_office
from farl.envs.robot.settings import RobotSettings, check_ranges
from farl.errors import ConfigError, did_you_mean
from farl.maps.compiled import compiled
from farl.maps.geometry import BoolArray, ByteArray, Int32Array

RESOLUTION = 0.05
"""Metres a cell of plans that do not tell."""
CELL = 0.6
"""Metres a cell of the worlds of FARMap's generator, whose corridors may be one cell wide."""
WORLDS = ("office", *SIZES)
"""The worlds that can be drawn: offices, and FARMap's sizes."""


class Building(NamedTuple):
    """A floor plan, ready to be driven in. Row 0 of every array is at y = 0, the bottom of the plan.

    :ivar leap: uint8[H, W], see ``farl.envs.robot.lidar.leaps``
    :ivar blocked: uint8[H, W], 1 where the robot's middle cannot be
    :ivar starts: int32[N, 2], rows and columns of the largest connected part of where it can be
    :ivar areas: uint8[h, w], 1 for the squares that can be seen from there, see ``RobotSettings.block``
    :ivar cells_per_area: cells a side of such a square
    :ivar resolution: metres a cell
    :ivar grid: the plan
    """

    leap: ByteArray
    blocked: ByteArray
    starts: Int32Array
    areas: ByteArray
    cells_per_area: int
    resolution: float
    grid: OccupancyGrid


Source = Callable[[np.random.Generator], Building]


def make_building(grid: OccupancyGrid, settings: RobotSettings, name: str = "the plan") -> Building:
    """Make a plan ready.

    :raises ConfigError: if the robot fits nowhere, or its lidar does not reach one cell far
    """
    resolution = grid.resolution or RESOLUTION
    grid = bordered(grid._replace(resolution=resolution))
    if settings.lidar_range < resolution:
        raise ConfigError(
            f"lidar_range {settings.lidar_range:g} m is below one cell of {name} ({resolution:g} m): make it larger"
        )
    obstacles: BoolArray = np.ascontiguousarray(grid.cells[::-1] != OPEN)
    clearance = ndimage.distance_transform_edt(~obstacles) * resolution
    roomy = clearance - resolution / 2 > settings.radius
    parts, n_parts = ndimage.label(roomy)
    if n_parts == 0:
        raise ConfigError(
            f"{name}: a robot with a radius of {settings.radius:g} m fits nowhere; the widest place has "
            f"{clearance.max():.2g} m to the nearest wall. Lower `radius`, or give the plan's `resolution`"
        )
    where = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    per_area = max(round(settings.block / resolution), 1)
    leap = leaps(obstacles)
    starts = np.argwhere(where).astype(np.int32)
    areas = _seen_from(
        leap, _spread(starts, max(round(1.0 / resolution), 1)), per_area, settings.lidar_range / resolution
    )
    return Building(leap, (~roomy).astype(np.uint8), starts, areas, per_area, resolution, grid)


def sources(
    maps: Maps | None, world: str, resolution: float | None, settings: RobotSettings, n_envs: int, **reading: Any
) -> "Sequence[_Drawn | InTurn[Building]]":
    """What gives each of E worlds its next building: drawn ones, or the given ones in turn.

    :param reading: how files are read, see ``farl.envs.map_world.load_grids``
    :raises ConfigError: if a plan is malformed or too narrow, or there is no such world
    """
    if resolution is not None:
        check_ranges({"resolution": resolution}, {"resolution": (0.0, 10.0, True)})
    if maps is None:
        if world not in WORLDS:
            raise ConfigError(f"no world {world!r}{did_you_mean(world, WORLDS)}; known are {', '.join(WORLDS)}")
        return [_Drawn(world, settings)] * n_envs
    told = {}
    if isinstance(maps, str | Path) and Path(maps).suffix.lower() in (".yaml", ".yml"):
        reading["resolution"] = resolution  # these tell their own
    for name, grid in given_grids(maps, 1, reading).items():
        sized = grid if grid.resolution is not None else grid._replace(resolution=resolution or RESOLUTION)
        told[name] = make_building(sized, settings, name)
    return [InTurn(list(told.values()), first, n_envs) for first in range(n_envs)]


class _Drawn:
    def __init__(self, world: str, settings: RobotSettings) -> None:
        self.world, self.settings = world, settings

    def __call__(self, rng: np.random.Generator) -> Building:
        return make_building(draw_plan(self.world, rng), self.settings, self.world)

    def __len__(self) -> int:
        return 0  # there is no end to them


def draw_plan(world: str, rng: np.random.Generator) -> OccupancyGrid:
    """Draw an office, or a world of FARMap's generator with cells of ``CELL`` metres, at ``RESOLUTION``.

    :param world: one of ``WORLDS``
    """
    if world == "office":
        return generate_office(rng)
    times = round(CELL / RESOLUTION)
    cells = generate_world(rng, world).astype(np.int8).repeat(times, axis=0).repeat(times, axis=1)
    return OccupancyGrid(cells, RESOLUTION)


def _spread(cells: Int32Array, spacing: int) -> Int32Array:
    """One cell of each square of ``spacing`` cells a side."""
    squares = cells // spacing
    _, first = np.unique(squares[:, 0].astype(np.int64) << 32 | squares[:, 1], return_index=True)
    return cells[first]


@compiled
def _seen_from(leap: Any, viewpoints: Any, per_area: int, furthest: float) -> Any:
    """uint8[h, w], 1 for squares that a beam from one of the viewpoints, int32[N, 2], passes."""
    height, width = leap.shape
    areas = np.zeros((height // per_area + 1, width // per_area + 1), np.uint8)
    for n in range(len(viewpoints)):
        y, x = viewpoints[n, 0] + 0.5, viewpoints[n, 1] + 0.5
        for beam in range(360):
            across, along = np.cos(beam * (np.pi / 180.0)), np.sin(beam * (np.pi / 180.0))
            length = cast(leap, x, y, across, along, furthest)
            mark(areas, x, y, across, along, length, per_area, np.uint8(1), np.uint8(0))
    return areas


@compiled
def mark(
    areas: Any, x: float, y: float, across: float, along: float, length: float, per_area: int, value: Any, where: Any
) -> int:
    """Set the squares that hold ``where`` to ``value`` along a beam; return how many changed.

    :param areas: uint8[h, w]
    :param across: cosine of the beam's angle
    :param along: sine of it
    :param length: length of the beam, in cells
    """
    across, along = across / per_area, along / per_area
    start_x, start_y = x / per_area, y / per_area
    changed, gone = 0, 0.0
    while gone < length:
        row, col = int(start_y + gone * along), int(start_x + gone * across)
        if areas[row, col] == where:
            areas[row, col] = value
            changed += 1
        gone += per_area
    return changed
