"""The Gymnasium environment of one world."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from farl.envs.map_world.generator import SIZES, draw_layout
from farl.envs.map_world.loaders import array_grid, check_reading, load_grids
from farl.envs.map_world.occupancy import Dark, OccupancyGrid
from farl.envs.map_world.plans import PLANS
from farl.envs.map_world.render import draw_world
from farl.envs.map_world.worlds import MapWorlds, Start
from farl.envs.one_world import InTurn, OneWorldEnv
from farl.envs.pose_world import check_choice
from farl.errors import ConfigError, did_you_mean
from farl.maps.geometry import BoolArray, ByteArray, IntArray, decode

Maps = str | Path | npt.ArrayLike | Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike]
"""A file of maps, the name of a plan, one map, or several."""

Observed = Literal["parts", "vector"]

FURTHEST = 1_000_000
"""Bound of the odometry's rows and columns."""


class MapWorldEnv(OneWorldEnv[np.int64]):
    """Explore an unknown map that is seen through a cone.

    ## Description
    An occupancy grid, enlarged by ``scale``, in which every wall cell of the small grid has a colour of its own. The
    agent sees what lies ahead of it, as far as walls do not hide it. Worlds and views are those of FARMap (Hwang et
    al., TMLR 2024).

    ## Action Space
    ``Discrete(4)``: step one cell up, down, left or right; the step sets the heading. A step into a wall changes
    nothing.

    ## Observation Space
    ``Dict`` of
    - ``view``: uint8[V, V, 3], the cells ahead in RGB, the agent in the middle of the bottom row, looking up. White is
      free, black is unknown (hidden or outside the cone), anything else is a wall in its colour.
    - ``odometry``: int32[3], rows and columns moved since the episode's start, and the heading (0 up, 1 down,
      2 left, 3 right).

    Or, with ``observation="vector"``, ``Box(0, 1, (3 V V,), float32)``: the view alone, laid out, for policies of
    plain layers (``MlpPolicy``).

    ## Rewards
    The share of the world that is seen, or bumped into, for the first time: an episode's return is its coverage, less
    the first view.
    What counts are free cells and walls that touch one by an edge, not what a map does not know.

    ## Termination
    The episode terminates when all is seen (unless ``until_covered`` is False) and is truncated after ``max_steps``
    steps.

    ## Info
    ``position`` (x, y), ``heading``, ``coverage`` in [0, 1]. ``env.unwrapped.reachable`` is bool[H, W], the cells the
    agent can stand on; ``env.unwrapped.plan`` is the world as an ``OccupancyGrid``. Where the map is generated, or a
    plan by its name, ``env.unwrapped.room_of_cell`` is int64[H, W], the room of each cell, -1 outside of rooms. Rooms
    whose wall was taken out stay two.

    ## Registered Configurations
    - ``farl/MapWorld-Small-v0``: generated worlds of up to 3 000 cells
    - ``farl/MapWorld-Medium-v0``: up to 7 000 cells
    - ``farl/MapWorld-Large-v0``: above 7 000 cells, the paper's largest
    - ``farl/MapWorld-Huge-v0``: 600 x 600 cells
    - ``farl/MapWorld-Rooms-v0``: nine rooms of 7 x 7 cells behind doorways, the same in every episode

    :param size: which generated worlds: small, medium, large, huge or rooms; a new one at every reset
    :param maps: a file of maps (a ROS map's YAML, a picture, arrays, text; see ``load_grids``) or arrays to explore
        instead (True is wall), in turn, or the name of a drawn plan (hairpin, compartments), whatever ``size``
    :param map_name: explore only this map of the file
    :param threshold: in pictures, the brightness in (0, 1) that divides wall from free
    :param dark: what in pictures is darker than that, ``"wall"`` or ``"free"``
    :param resolution: metres a cell of ROS maps; by default as in the file
    :param scale: the factor by which maps are enlarged; 1 for maps that are drawn at their full size
    :param view_size: V, odd
    :param cone_ratio: share of the view's height at which the cone reaches its full width; 0 sees the whole square
    :param recolour: give every wall a new colour at every step
    :param obstacles: number of moving obstacles
    :param until_covered: end the episode when all is seen
    :param max_steps: steps of an episode
    :param layout_seed: one world for all episodes: its map (where generated) and its colours are drawn from this seed;
        None draws them anew
    :param start: fixed, drawn from the ``layout_seed``, or anywhere; None is fixed where there is such a seed
    :param observation: parts, view and odometry, or vector, the view alone as numbers
    :raises ConfigError: if a map is malformed
    :raises ValueError: if another parameter is out of range
    """

    title = "FARL map world"

    def __init__(
        self,
        size: str = "small",
        maps: Maps | None = None,
        map_name: str | None = None,
        threshold: float = 0.5,
        dark: Dark = "wall",
        resolution: float | None = None,
        scale: int = 3,
        view_size: int = 15,
        cone_ratio: float = 0.25,
        recolour: bool = False,
        obstacles: int = 0,
        until_covered: bool = True,
        max_steps: int = 5_000,
        layout_seed: int | None = None,
        start: Start | None = None,
        observation: Observed = "parts",
        render_mode: str | None = None,
    ) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1; got {max_steps}")
        reading = {"threshold": threshold, "dark": dark, "resolution": resolution}
        (source,) = map_sources(size, maps, map_name, scale, 1, layout_seed, **reading)
        held = layout_seed, default_start(start, layout_seed)
        self.worlds = MapWorlds([source], scale, view_size, cone_ratio, recolour, obstacles, *held)
        self.observed = observed(observation)
        self.observation_space = observation_space(view_size, self.observed)
        self.action_space = spaces.Discrete(4)
        self.until_covered = until_covered
        super().__init__(self.worlds, 1.0 if until_covered else None, max_steps, render_mode, len(source) != 1)

    @property
    def reachable(self) -> BoolArray:
        """bool[H, W], the cells that the agent can stand on."""
        return self.worlds.free(0)

    @property
    def plan(self) -> OccupancyGrid:
        """The world, enlarged."""
        return self.worlds.plan(0)

    @property
    def room_of_cell(self) -> IntArray:
        """int64[H, W], the room of each cell, -1 outside of rooms.

        :raises AttributeError: if the map does not tell
        """
        return self.worlds.room_of_cell(0)

    def draw(self) -> ByteArray:
        """Draw the world, uint8[4 H, 4 W, 3]; see ``draw_world``."""
        return draw_world(self.worlds, 0)

    def _begin(self, options: Mapping[str, Any]) -> None:
        self.worlds.reset(0, self.np_random)

    def _advance(self, action: np.int64) -> IntArray:
        return self.worlds.step(np.array([action]))

    def _observation(self) -> Any:
        seen = look(self.worlds, slice(None), self.observed)
        return {name: part[0] for name, part in seen.items()} if isinstance(seen, dict) else seen[0]

    def _info(self) -> dict[str, Any]:
        row, col, heading = (int(value) for value in self.worlds.pose[0])
        return {"position": (col, row), "heading": heading, "coverage": float(self.worlds.coverage[0])}


def observed(observation: str) -> Observed:
    """Check what is to be observed.

    :raises ValueError: if there is no such thing
    """
    check_choice("observation", observation, get_args(Observed))
    return cast(Observed, observation)


def look(worlds: MapWorlds, envs: "npt.NDArray[np.int64] | slice", observation: Observed) -> Any:
    """Return what agents see, as ``MapWorldEnv`` says it, a row for each."""
    views = worlds.views[envs]
    view = np.empty((*views.shape, 3), np.uint8)
    decode(views, view)
    if observation == "vector":
        return view.reshape(len(view), -1) / np.float32(255)
    return {"view": view, "odometry": worlds.odometry[envs]}


def observation_space(view_size: int, observation: Observed = "parts") -> spaces.Dict | spaces.Box:
    """The observation space of a world with views of ``view_size`` x ``view_size`` cells."""
    if observation == "vector":
        return spaces.Box(0.0, 1.0, (3 * view_size**2,), np.float32)
    low = np.array([-FURTHEST, -FURTHEST, 0], np.int32)
    return spaces.Dict(
        {
            "view": spaces.Box(0, 255, (view_size, view_size, 3), np.uint8),
            "odometry": spaces.Box(low, np.array([FURTHEST, FURTHEST, 3], np.int32), dtype=np.int32),
        }
    )


def default_start(start: Start | None, layout_seed: int | None) -> Start:
    """Return where episodes begin, if nothing is said: where the layout does."""
    return start or ("anywhere" if layout_seed is None else "fixed")


def map_sources(
    size: str, maps: Maps | None, map_name: str | None, scale: int, n_envs: int, layout_seed: int | None, **reading: Any
) -> Sequence["_Generated | InTurn[OccupancyGrid]"]:
    """One source of maps per world: generated ones, or the given ones in turn, world e beginning with map e.

    :param reading: how files are read, see ``load_grids``
    :raises ConfigError: if a map is malformed, or there is no such size or name
    """
    if maps is None:
        if size not in SIZES:
            raise ConfigError(f"no world size {size!r}{did_you_mean(size, SIZES)}")
        return [_Generated(size, layout_seed)] * n_envs
    named = given_grids(maps, scale, reading)
    if map_name is not None:
        if map_name not in named:
            raise ConfigError(f"no map {map_name!r}{did_you_mean(map_name, named)}")
        named = {map_name: named[map_name]}
    return [InTurn(list(named.values()), first, n_envs) for first in range(n_envs)]


class _Generated:
    """Worlds of a size: without end, or one alone, drawn from a seed."""

    def __init__(self, size: str, layout_seed: int | None) -> None:
        self.size, self.layout_seed = size, layout_seed
        self.drawn: OccupancyGrid | None = None

    def __call__(self, rng: np.random.Generator) -> OccupancyGrid:
        if self.layout_seed is None:
            return self._draw(rng)
        if self.drawn is None:
            self.drawn = self._draw(np.random.default_rng(self.layout_seed))
        return self.drawn

    def __len__(self) -> int:
        return 0 if self.layout_seed is None else 1  # there is no end to them

    def _draw(self, rng: np.random.Generator) -> OccupancyGrid:
        layout = draw_layout(rng, self.size)
        return OccupancyGrid(layout.walls.astype(np.int8), rooms=layout.rooms)


def given_grids(maps: Maps, scale: int, reading: Mapping[str, Any]) -> dict[str, OccupancyGrid]:
    """Read a file of maps, or take them as arrays or by the name of a plan, by their names.

    :param scale: the factor by which they will be enlarged, for the limit on their size
    :param reading: how files are read, see ``load_grids``
    :raises ConfigError: if a map is malformed
    """
    check_reading(reading.get("threshold", 0.5), reading.get("dark", "wall"))
    if isinstance(maps, str) and maps in PLANS:
        plan = PLANS[maps]()
        return {maps: OccupancyGrid(plan.walls.astype(np.int8), rooms=plan.rooms)}
    if isinstance(maps, str | Path):
        return load_grids(maps, scale, **reading)
    if isinstance(maps, Mapping):
        arrays: dict[str, Any] = {str(name): array for name, array in maps.items()}
    elif isinstance(maps, np.ndarray) and maps.ndim == 2:
        arrays = {"map": maps}
    else:
        listed = list(maps)  # type: ignore[arg-type]
        if listed and np.ndim(listed[0]) < 2:
            arrays = {"map": listed}
        else:
            arrays = {f"map {i}": array for i, array in enumerate(listed)}
    if not arrays:
        raise ConfigError("no map was given: `maps` is empty")
    return {name: array_grid(array, name, scale) for name, array in arrays.items()}
