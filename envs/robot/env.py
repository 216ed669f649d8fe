"""The Gymnasium environment of one robot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from farl.envs.map_world.env import Maps
from farl.envs.map_world.occupancy import Dark, OccupancyGrid
from farl.envs.one_world import OneWorldEnv
from farl.envs.robot.buildings import Building, sources
from farl.envs.robot.render import Belief, draw_robot
from farl.envs.robot.settings import action_space, check_episode, make_settings, observation_space
from farl.envs.robot.worlds import RobotWorlds
from farl.maps.geometry import BoolArray, ByteArray, IntArray


class RobotEnv(OneWorldEnv[npt.NDArray[np.float32]]):
    """Explore a building with a robot that has a lidar, and an odometry that drifts.

    ## Description
    A round robot with a differential drive in a floor plan. It knows its scans and what its wheels tell, not where it
    is.

    ## Action Space
    ``Box(-1, 1, (2,), float32)``: forward and turning velocity (anticlockwise), as shares of ``max_speed`` and
    ``max_turn``. Where the robot bumps into something it stops, and can still turn.

    ## Observation Space
    ``Dict`` of
    - ``scan``: float32[beams], metres, anticlockwise and symmetric to the heading; ``lidar_range`` where there is no
      echo, 0 where the reading was lost.
    - ``odometry``: float32[3], pose since the episode's start by the wheels: x, y (metres) and heading (radians) in the
      frame of the start.

    ## Rewards
    The share of the building that is seen for the first time: an episode's return is its coverage, less the first scan.
    What counts are squares of ``block`` metres that can be seen from where the robot can be.

    ## Termination
    The episode terminates when the share ``until_covered`` is seen (None never does) and is truncated after
    ``max_steps`` steps.

    ## Info
    ``pose``, the true x, y and heading in metres from the plan's lower left corner; ``position`` (column, row) of its
    square, counted from the top left; ``coverage`` in [0, 1], ``driven`` in metres, ``bumped``.
    ``env.unwrapped.reachable`` is bool[h, w], the squares where it can be; ``env.unwrapped.plan`` is the
    ``OccupancyGrid``.

    ## Registered Configurations
    - ``farl/Robot-v0``: a drawn office, a new one in every episode

    :param maps: a file of floor plans (a ROS map's YAML, a picture, ...; see ``farl.envs.map_world.load_grids``) or
        arrays, instead of ``world``; taken in turn
    :param world: what is drawn: ``office``, or a size of FARMap's generator (``small``, ``medium``, ``large``,
        ``huge``)
    :param resolution: metres a cell; as in the file by default, 0.05 for what does not tell
    :param threshold: how pictures are read, see ``farl.envs.map_world.MapWorldEnv``
    :param dark: likewise
    :param start: true x, y and heading of every start; None draws it. A reset's ``options["start"]`` goes before it
    :param until_covered: see above
    :param max_steps: steps of an episode
    :param settings: settings of the robot, by name; see ``RobotSettings``
    :raises ConfigError: if a plan is malformed or too narrow, or a value is out of range
    """

    title = "FARL robot"

    def __init__(
        self,
        maps: Maps | None = None,
        world: str = "office",
        resolution: float | None = None,
        threshold: float = 0.5,
        dark: Dark = "wall",
        start: Sequence[float] | None = None,
        until_covered: float | None = 0.99,
        max_steps: int = 20_000,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        self.settings = make_settings(settings)
        check_episode(until_covered, max_steps)
        (source,) = sources(maps, world, resolution, self.settings, 1, threshold=threshold, dark=dark)
        self.worlds = RobotWorlds([source], self.settings)
        self.worlds.reset(0, np.random.default_rng(0), start)
        self.start, self.until_covered = start, until_covered
        self.observation_space = observation_space(self.settings)
        self.action_space = action_space()
        self._belief: Belief | None = None
        super().__init__(self.worlds, until_covered, max_steps, render_mode, len(source) != 1)

    @property
    def reachable(self) -> BoolArray:
        """bool[h, w], the squares where the robot can be, the first row at the top."""
        return reachable(self.worlds.building(0))

    @property
    def true_start(self) -> npt.NDArray[np.float64]:
        """float64[3], its true pose at the start of the episode."""
        start: npt.NDArray[np.float64] = self.worlds.start[0]
        return start

    @property
    def plan(self) -> OccupancyGrid:
        """The building."""
        return self.worlds.building(0).grid

    def believe(self, belief: Belief | None) -> None:
        """Draw what the agent believes into the pictures from now on."""
        self._belief = belief

    def draw(self) -> ByteArray:
        """Draw the building, uint8[H, W, 3]; see ``draw_robot``."""
        return draw_robot(self.worlds, 0, self._belief)

    def _begin(self, options: Mapping[str, Any]) -> None:
        self.worlds.reset(0, self.np_random, options.get("start", self.start))
        self._belief = None

    def _advance(self, action: npt.NDArray[np.float32]) -> IntArray:
        return self.worlds.step(checked(np.asarray(action)[None], 1))

    def _observation(self) -> dict[str, npt.NDArray[Any]]:
        return {name: rows[0] for name, rows in observations(self.worlds).items()}

    def _info(self) -> dict[str, Any]:
        return infos(self.worlds)[0]


def observations(worlds: RobotWorlds) -> dict[str, npt.NDArray[Any]]:
    """What all robots observe: scan float32[E, B], odometry float32[E, 3]."""
    return {"scan": worlds.scan.copy(), "odometry": worlds.odometry.astype(np.float32)}


def infos(worlds: RobotWorlds) -> list[dict[str, Any]]:
    """The infos of all robots."""
    rows = zip(
        worlds.pose.tolist(), worlds.coverage.tolist(), worlds.driven.tolist(), worlds.bumped.tolist(), strict=True
    )
    made = []
    for env, (pose, coverage, driven, bumped) in enumerate(rows):
        building = worlds.building(env)
        side = building.resolution * building.cells_per_area
        position = (int(pose[0] / side), building.areas.shape[0] - 1 - int(pose[1] / side))
        made.append({"pose": pose, "position": position, "coverage": coverage, "driven": driven, "bumped": bumped})
    return made


def reachable(building: Building) -> BoolArray:
    """bool[h, w], the squares of a building where its robot can be, the first row at the top."""
    squares = np.zeros(building.areas.shape, bool)
    rows, cols = (building.starts // building.cells_per_area).T
    squares[rows, cols] = True
    return squares[::-1]


def checked(actions: npt.NDArray[Any], n_envs: int) -> npt.NDArray[np.float64]:
    """Return actions as float64[E, 2].

    :raises ValueError: if they are not two finite numbers for each robot
    """
    try:
        given = np.asarray(actions, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"an action is a forward and a turning velocity, two numbers; got {actions!r}") from None
    if given.shape != (n_envs, 2):
        raise ValueError(f"an action is a forward and a turning velocity, two numbers; got the shape {given.shape[1:]}")
    if not np.isfinite(given).all():
        raise ValueError(f"an action must be finite; got {given[~np.isfinite(given).all(axis=1)][0].tolist()}")
    return given
