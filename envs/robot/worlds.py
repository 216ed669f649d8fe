"""Many robots at once: driving, bumping, scanning and drifting in compiled loops."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farl.envs.map_world.occupancy import OccupancyGrid
from farl.envs.robot.buildings import Building, Source, make_building, mark
from farl.envs.robot.lidar import cast
from farl.envs.robot.settings import RobotSettings
from farl.errors import ConfigError
from farl.maps.compiled import compiled
from farl.maps.geometry import BoolArray, ByteArray, Float32Array, IntArray, WordArray, next_random
from farl.slam.poses import wrapped

FloatArray = npt.NDArray[np.float64]
_UNSEEN, _SEEN = np.uint8(1), np.uint8(2)


class _Constants(NamedTuple):
    """Settings as the kernels take them; lengths in metres."""

    max_speed: float
    max_turn: float
    seconds: float
    lidar_range: float
    field: float
    range_noise: float
    dropouts: float
    drift: float


class RobotWorlds:
    """E robots, each in a building of its own, stepped at once.

    Coordinates are metres from the lower left corner of the plan, x to the right, y up, and radians from the x axis,
    anticlockwise.

    :param sources: give each world its building at a reset
    :param settings: settings of all robots
    """

    def __init__(self, sources: Sequence[Source], settings: RobotSettings) -> None:
        n_envs = len(sources)
        self.settings = settings
        self._sources = list(sources)
        self._buildings: list[Building | None] = [None] * n_envs
        self._leap: ByteArray = np.zeros((n_envs, 1, 1), np.uint8)
        self._blocked: ByteArray = np.zeros((n_envs, 1, 1), np.uint8)
        self._areas: ByteArray = np.zeros((n_envs, 1, 1), np.uint8)
        self._scale: FloatArray = np.ones((n_envs, 2))  # metres a cell, cells an area
        self._bias: FloatArray = np.zeros((n_envs, 2))  # of distances and turns
        self._random: WordArray = np.zeros(n_envs, np.uint64)
        self.pose: FloatArray = np.zeros((n_envs, 3))
        """float64[E, 3], true x, y and heading."""
        self.start: FloatArray = np.zeros((n_envs, 3))
        """float64[E, 3], the true poses at the start of the episodes."""
        self.odometry: FloatArray = np.zeros((n_envs, 3))
        """float64[E, 3], pose since the start of the episode as the wheels have it: x, y and heading in the frame of
        the start."""
        self.scan: Float32Array = np.zeros((n_envs, int(settings.beams)), np.float32)
        """float32[E, B], metres, beam by beam anticlockwise, symmetric to the heading; 0 where a reading was lost."""
        self.driven: FloatArray = np.zeros(n_envs)
        """float64[E], metres driven in this episode."""
        self.bumped: BoolArray = np.zeros(n_envs, bool)
        """bool[E], the last step ended at an obstacle."""
        self.n_seen: IntArray = np.zeros(n_envs, np.int64)
        """int64[E], squares that were seen in this episode."""
        self.n_countable: IntArray = np.ones(n_envs, np.int64)
        """int64[E], squares that can be seen."""

    @property
    def n_envs(self) -> int:
        """Number of robots E."""
        return len(self.pose)

    @property
    def coverage(self) -> FloatArray:
        """float64[E], share of what can be seen that was seen."""
        return self.n_seen / self.n_countable

    def building(self, env: int) -> Building:
        """The building of one robot."""
        building = self._buildings[env]
        assert building is not None
        return building

    def seen(self, env: int) -> BoolArray:
        """bool[h, w], the squares of one world that were seen, row 0 at the bottom."""
        height, width = self.building(env).areas.shape
        return np.asarray(self._areas[env, :height, :width] == _SEEN)

    def reset(self, env: int, rng: np.random.Generator, start: Sequence[float] | None = None) -> None:
        """Start an episode of one robot in its next building.

        :param start: true x, y (metres from the lower left corner) and heading (radians); None draws it
        :raises ConfigError: if the robot cannot be there
        """
        building = self._sources[env](rng)
        resolution = building.resolution
        row, col = building.starts[rng.integers(len(building.starts))]
        pose = ((col + 0.5) * resolution, (row + 0.5) * resolution, rng.uniform(-math.pi, math.pi))
        if start is not None:
            pose = _checked_start(start, building)
        self._place(env, building)
        self._random[env] = rng.integers(np.iinfo(np.int64).max)
        self._bias[env] = rng.normal(0.0, self.settings.drift, 2)
        self.pose[env] = self.start[env] = pose
        self.odometry[env], self.driven[env], self.bumped[env] = 0.0, 0.0, False
        self.n_seen[env], self.n_countable[env] = 0, int(building.areas.sum())
        self._scan(np.array([env]))

    def step(self, actions: npt.NDArray[Any]) -> IntArray:
        """Drive all robots for one step; return how many squares each sees for the first time, int64[E].

        :param actions: float[E, 2], forward and turning (anticlockwise) velocity, as shares in [-1, 1] of the largest
        """
        before = self.n_seen.copy()
        _drive(
            self._constants, self._blocked, self._scale, self._bias, self._random, actions, self.pose, self.odometry,
            self.driven, self.bumped,
        )  # fmt: skip
        self._scan(np.arange(self.n_envs))
        return self.n_seen - before

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next, and what is drawn."""
        return {
            "arrays": {name: getattr(self, name).copy() for name in _STATE},
            "plans": [None if one is None else tuple(one.grid) for one in self._buildings],
            "next": [getattr(source, "next", None) for source in self._sources],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        made: dict[bytes, Building] = {}
        for env, plan in enumerate(state["plans"]):
            if plan is not None:
                grid = OccupancyGrid(*plan)
                key = grid.cells.tobytes()
                made[key] = made.get(key) or make_building(grid, self.settings)
                self._place(env, made[key])
        for name in _STATE:
            setattr(self, name, state["arrays"][name].copy())
        for source, following in zip(self._sources, state["next"], strict=True):
            if following is not None:
                vars(source)["next"] = following

    def _place(self, env: int, building: Building) -> None:
        self._buildings[env] = building
        self._leap = _placed(env, building.leap, self._leap, 0)
        self._blocked = _placed(env, building.blocked, self._blocked, 1)
        self._areas = _placed(env, building.areas, self._areas, 0)
        self._scale[env] = building.resolution, building.cells_per_area

    @property
    def _constants(self) -> _Constants:
        one = self.settings
        return _Constants(
            one.max_speed, one.max_turn, 1.0 / one.rate, one.lidar_range, math.radians(one.lidar_field),
            one.range_noise, one.dropouts, one.drift,
        )  # fmt: skip

    def _scan(self, envs: IntArray) -> None:
        _scan(
            envs, self._constants, self._leap, self._areas, self._scale, self._random, self.pose, self.scan, self.n_seen
        )


_STATE = (
    "_areas", "_scale", "_bias", "_random", "pose", "start", "odometry", "scan", "driven", "bumped", "n_seen",
    "n_countable",
)  # fmt: skip


def beam_angles(field: float, beams: int) -> FloatArray:
    """float64[B], radians from the heading, anticlockwise; a full circle does not look the same way twice.

    :param field: degrees
    """
    if beams == 1:
        return np.zeros(1)
    spread = math.radians(field)
    last = spread * (beams - 1) / beams if field >= 360.0 else spread
    return np.asarray(np.linspace(0.0, last, beams) - spread / 2)


def _checked_start(start: Sequence[float], building: Building) -> tuple[float, float, float]:
    try:
        values = np.asarray(start, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ConfigError(f"start is x, y (metres) and heading (radians), three finite numbers; got {start!r}")
    x, y, heading = (float(value) for value in values)
    col, row = math.floor(x / building.resolution), math.floor(y / building.resolution)
    height, width = building.blocked.shape
    if not (0 <= row < height and 0 <= col < width) or building.blocked[row, col]:
        near = building.starts[((building.starts - (row, col)) ** 2).sum(axis=1).argmin()]
        free_y, free_x = (near + 0.5) * building.resolution
        raise ConfigError(
            f"the robot cannot start at x = {x:g} m, y = {y:g} m: it stands in a wall, nearer to one than its radius, "
            f"or outside the plan; the nearest free place is x = {free_x:.2f} m, y = {free_y:.2f} m"
        )
    return x, y, heading


def _placed(env: int, part: ByteArray, canvas: ByteArray, fill: int) -> ByteArray:
    """Put an array into its row of a canvas, which grows as needed."""
    height, width = (max(a, b) for a, b in zip(part.shape, canvas.shape[1:], strict=True))
    if (height, width) != canvas.shape[1:]:
        grown = np.full((len(canvas), height, width), fill, np.uint8)
        grown[:, : canvas.shape[1], : canvas.shape[2]] = canvas
        canvas = grown
    canvas[env] = fill
    canvas[env, : part.shape[0], : part.shape[1]] = part
    return canvas


@compiled
def _normal(random: Any, e: int) -> float:
    """A standard normal number (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - next_random(random, e)))
    return radius * math.cos(2.0 * math.pi * next_random(random, e))


@compiled
def _about_normal(random: Any, e: int) -> float:
    """A number that is nearly standard normal, and never beyond 3.5: the sum of the four quarters of one word."""
    word = int(next_random(random, e) * 4503599627370496.0)  # 52 bits
    total = (word & 8191) + ((word >> 13) & 8191) + ((word >> 26) & 8191) + ((word >> 39) & 8191)
    return (total - 16382.0) / 4729.6  # the standard deviation of the sum


@compiled
def _drive(
    constants: _Constants, blocked: Any, scale: Any, bias: Any, random: Any, actions: Any, pose: Any, odometry: Any,
    driven: Any, bumped: Any,
) -> None:  # fmt: skip
    for e in range(len(pose)):
        resolution = scale[e, 0]
        way = min(max(float(actions[e, 0]), -1.0), 1.0) * constants.max_speed * constants.seconds
        turn = min(max(float(actions[e, 1]), -1.0), 1.0) * constants.max_turn * constants.seconds
        # Pieces of half a cell: no wall is jumped over.
        n_pieces = 1 + int(2.0 * abs(way) / resolution)
        gone, x, y, heading = 0.0, pose[e, 0], pose[e, 1], pose[e, 2]
        bumped[e] = False
        for piece in range(n_pieces):
            heading = pose[e, 2] + turn * (piece + 0.5) / n_pieces
            to_x, to_y = x + way / n_pieces * math.cos(heading), y + way / n_pieces * math.sin(heading)
            if blocked[e, int(to_y / resolution), int(to_x / resolution)]:
                bumped[e] = True
                break
            x, y, gone = to_x, to_y, gone + way / n_pieces
        pose[e, 0], pose[e, 1] = x, y
        pose[e, 2] = wrapped(pose[e, 2] + turn)
        driven[e] += abs(gone)
        told_way, told_turn = gone, turn
        if constants.drift > 0.0:
            told_way = gone * (1.0 + bias[e, 0]) + constants.drift * math.sqrt(abs(gone)) * _normal(random, e)
            spread = constants.drift * math.sqrt(0.25 * abs(turn) + 0.0625 * abs(gone))
            told_turn = turn * (1.0 + bias[e, 1]) + spread * _normal(random, e)
        middle = odometry[e, 2] + told_turn / 2.0
        odometry[e, 0] += told_way * math.cos(middle)
        odometry[e, 1] += told_way * math.sin(middle)
        odometry[e, 2] = wrapped(odometry[e, 2] + told_turn)


@compiled
def _scan(
    envs: Any, constants: _Constants, leap: Any, areas: Any, scale: Any, random: Any, pose: Any, scan: Any, n_seen: Any
) -> None:
    beams = scan.shape[1]
    full = constants.field >= 2.0 * math.pi - 1e-9
    apart = constants.field / (beams if full else max(beams - 1, 1))
    cos, sin = math.cos(apart), math.sin(apart)
    for e in envs:
        resolution, per_area = scale[e, 0], int(scale[e, 1])
        furthest = constants.lidar_range / resolution
        x, y = pose[e, 0] / resolution, pose[e, 1] / resolution
        first = pose[e, 2] - (constants.field / 2.0 if beams > 1 else 0.0)
        across, along = math.cos(first), math.sin(first)
        for beam in range(beams):
            length = cast(leap[e], x, y, across, along, furthest)
            n_seen[e] += mark(areas[e], x, y, across, along, length, per_area, _SEEN, _UNSEEN)
            across, along = cos * across - sin * along, sin * across + cos * along  # the next beam's
            if constants.dropouts > 0.0 and next_random(random, e) < constants.dropouts:
                scan[e, beam] = 0.0
                continue
            metres = length * resolution
            if constants.range_noise > 0.0 and length < furthest:
                metres += constants.range_noise * _about_normal(random, e)
            scan[e, beam] = min(max(metres, 0.0), constants.lidar_range)
