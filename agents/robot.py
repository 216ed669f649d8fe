"""FARMapRobot: FARMap on a robot with a lidar and an odometry that drifts."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from matplotlib.figure import Figure
from stable_baselines3.common.vec_env import VecEnv

from farl.agents.explorer import Explorers, MapExplorer
from farl.agents.robot_driving import Body
from farl.agents.robot_explorers import RobotExplorers
from farl.agents.robot_film import Film
from farl.agents.robot_map import Lidar, RobotMap, Rules
from farl.agents.robot_pictures import belief_of, robot_map_figure
from farl.agents.robot_travel import Taste
from farl.envs.map_world.occupancy import OPEN, UNMAPPED, WALL, OccupancyGrid
from farl.envs.robot.settings import Range, RobotSettings, check_ranges
from farl.envs.robot.worlds import beam_angles
from farl.errors import ConfigError, did_you_mean
from farl.fragmentation import Criterion, ZScore
from farl.maps.crossings import SizeLimit
from farl.slam.merging import merged
from farl.slam.occupancy import IS_FREE, IS_OCCUPIED

__all__ = ["FARMapRobot"]

RobotCriterion = Literal["size", "zscore", "none"]

_RANGES: dict[str, Range] = {
    "rho": (0.0, 1_000.0, False),
    "largest": (0.0, 1e9, True),
    "smallest": (0.0, 1e9, True),
    "min_samples": (0, 1e9, False),
    "resolution": (0.0, 10.0, True),
    "confirm": (1, 1_000, False),
    "reluctance": (0.0, 1_000.0, True),
    "least_gain": (0.0, 1e6, True),
    "scan_every": (1, 10_000, False),
    "radius": (0.0, 5.0, True),
    "lidar_range": (0.0, 200.0, True),
    "lidar_field": (0.0, 360.0, True),
    "max_turn": (0.0, 20.0, True),
    "capacity": (2, 1e9, False),
    "particles": (2, 100_000, False),
}
_WHOLE = ("min_samples", "confirm", "scan_every", "capacity", "particles")
_USUAL = {"radius": 0.18, "lidar_field": 360.0, "max_turn": 1.5}
"""What a robot has where its environment does not tell."""
_MOST_CELLS = 3_000  # that a lidar sees far: maps beyond do not fit into memory


class FARMapRobot(MapExplorer):
    """Explores a building with a robot that drifts, and maps it in fragments that are right in themselves.

    A fragment is an occupancy map in a frame of its own. Scans are matched with it, so that it stays consistent; where
    it surprises it ends, and the fracture point joins it to the next by a relative pose and its covariance. A stored
    fragment is taken up again where a scan fits it. Where that joins fragments that were not joined, a loop is closed:
    least squares put the relative poses right, and closures that contradict them are undone.

    The environment is ``farl/Robot-v0`` or another with its observations, ``scan`` and ``odometry``, and actions.

    :param criterion: ends a fragment: ``size`` where it surprises once it is large, and at once when it is too large;
        ``zscore`` of the surprisal alone (the paper); ``none``: one map of everything
    :param surprisal: ``fit``: 1 - mean confidence of the local map in what the scan shows (the paper); ``new-cells``:
        the share of what it shows that the map does not know
    :param rho: sample standard deviations of the surprisal since the last fracture
    :param largest: square metres of the bounding box above which a fragment ends (``size``)
    :param smallest: square metres above which a surprising scan ends it (``size``)
    :param min_samples: scans before the first judgement
    :param resolution: metres a cell of the maps
    :param matching: match scans with the map; without it, the odometry is believed
    :param particles: number of particles that localise it in its fragment (Monte Carlo localisation) instead of scan
        matching, which then only recognises other fragments; None: none
    :param closure: look for loops to close
    :param confirm: scans on end that must say the same before a loop is closed
    :param planning: ``fragment`` plans on the local map and the graph; ``global`` on one map of all fragments, laid
        side by side anew for every choice, which is what a SLAM system with submaps offers its planner
    :param goal: ``view``: most square metres to be seen over metres to drive (next best view); ``nearest``: the
        nearest place that shows something new
    :param reluctance: metres added to every way when views are compared
    :param least_gain: square metres below which nothing is worth going to
    :param scan_every: steps from one scan that is taken in to the next
    :param radius: metres; the robot's, of which it keeps clear of obstacles; None: as the environment tells, or 0.18
    :param lidar_range: metres; None takes the bound of the observation space
    :param lidar_field: degrees of the lidar; None: as the environment tells, or 360
    :param max_turn: radians a second of the drive; None: as the environment tells, or 1.5
    :param capacity: most fragments held for each robot, None for no limit
    :raises ConfigError: if a parameter is out of range, or the environment is no robot
    """

    supported_action_spaces = (spaces.Box,)

    def __init__(
        self,
        policy: Any = "MapPolicy",
        env: Any = None,
        criterion: RobotCriterion = "size",
        surprisal: Literal["fit", "new-cells"] = "fit",
        rho: float = 2.0,
        largest: float = 250.0,
        smallest: float = 50.0,
        min_samples: int = 10,
        resolution: float = 0.1,
        matching: bool = True,
        particles: int | None = None,
        closure: bool = True,
        confirm: int = 3,
        planning: Literal["fragment", "global"] = "fragment",
        goal: Literal["view", "nearest"] = "view",
        reluctance: float = 3.0,
        least_gain: float = 0.4,
        scan_every: int = 4,
        radius: float | None = None,
        lidar_range: float | None = None,
        lidar_field: float | None = None,
        max_turn: float | None = None,
        capacity: int | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: Any = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        for name, value, known in (
            ("criterion", criterion, get_args(RobotCriterion)),
            ("surprisal", surprisal, ("fit", "new-cells")),
            ("planning", planning, ("fragment", "global")),
            ("goal", goal, ("view", "nearest")),
        ):
            if value not in known:
                raise ConfigError(
                    f"{name} must be one of {', '.join(known)}; got {value!r}{did_you_mean(value, known)}"
                )
        given = {
            "rho": rho, "largest": largest, "smallest": smallest, "min_samples": min_samples, "resolution": resolution,
            "confirm": confirm, "reluctance": reluctance, "least_gain": least_gain, "scan_every": scan_every,
            "radius": radius, "lidar_range": lidar_range, "lidar_field": lidar_field, "max_turn": max_turn,
            "capacity": capacity, "particles": particles,
        }  # fmt: skip
        check_ranges({name: value for name, value in given.items() if value is not None}, _RANGES, _WHOLE)
        if smallest > largest:
            raise ConfigError(f"fragments' sizes must be smallest <= largest; got {smallest} and {largest}")
        if particles is not None and not matching:
            raise ConfigError("particles need matching, by which other fragments are recognised: leave out matching")
        for name, flag in (("matching", matching), ("closure", closure)):
            if not isinstance(flag, bool | np.bool_):
                raise ConfigError(f"{name} must be true or false; got {flag!r}")
        self.criterion, self.surprisal, self.rho = criterion, surprisal, rho
        self.largest, self.smallest, self.min_samples = largest, smallest, min_samples
        self.cell, self.matching, self.closure, self.confirm = resolution, matching, closure, confirm
        self.goal, self.reluctance, self.least_gain, self.scan_every = goal, reluctance, least_gain, scan_every
        self.radius, self.lidar_range, self.lidar_field, self.max_turn = radius, lidar_range, lidar_field, max_turn
        self.capacity, self.planning, self.particles = capacity, planning, particles
        self._shown_in: VecEnv | None = None
        super().__init__(policy, env, stats_window_size, tensorboard_log, verbose, seed, device, _init_setup_model)
        self.resolution = resolution

    @property
    def robots(self) -> list[RobotMap]:
        """What each robot knows."""
        assert isinstance(self.explorers, RobotExplorers)
        return self.explorers.robots

    def whole_map(self, env: int = 0, resolution: float | None = None) -> OccupancyGrid:
        """Lay all fragments of a robot over each other, as the graph has them; its start is the origin.

        :param env: number of the robot
        :param resolution: must be None: maps have the resolution that they were built with
        :raises ConfigError: if there is no such robot, it knows nothing yet, or another resolution is asked for
        """
        if not 0 <= env < self.explorers.n_envs:
            raise ConfigError(f"no world {env}: this agent explores {self.explorers.n_envs}, counted from 0")
        if resolution is not None and resolution != self.cell:
            raise ConfigError(f"this map was built with {self.cell:g} m a cell: leave the resolution out")
        odds, corner = merged(self.robots[env].fragments(env).items(), self.robots[env].graph, self.cell)
        if not (odds < 0).any():
            raise ConfigError(f"nothing of world {env} is known yet: explore first")
        cells = np.full(odds.shape, UNMAPPED, np.int8)
        cells[odds < IS_FREE], cells[odds > IS_OCCUPIED] = OPEN, WALL
        x, y = corner[1] * self.cell, corner[0] * self.cell
        return OccupancyGrid(cells[::-1].copy(), self.cell, (float(x), float(y), 0.0))

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[Any, ...] | None]:
        """Choose the next velocities; see ``MapExplorer.predict``."""
        chosen, memory = super().predict(observation, state, episode_start, deterministic)
        if self._shown_in is not None and memory is not None:
            start = self._shown_in.get_attr("true_start", 0)[0]
            self._shown_in.env_method("believe", belief_of(memory[0].robots[0], start, self.cell), indices=0)
        return chosen, memory

    def show_in(self, env: VecEnv) -> None:
        """Show pose and fragments as the first robot believes in the pictures of its environment."""
        self._shown_in = env if env.has_attr("believe") else None

    def draw_map(self) -> Figure | None:
        """Draw the first robot's building: fragments in colour, the way as it believes, crossings, and where it is."""
        robot = self.robots[0]
        return robot_map_figure(robot, self.cell) if robot.canvas.area or robot.others else None

    def begin_film(self) -> None:
        """Film the first robot's map from now on, unless it is filmed already; ``write_film`` writes it."""
        assert isinstance(self.explorers, RobotExplorers)
        self.explorers.film = self.explorers.film or Film()

    def write_film(self, path: str | Path) -> Path | None:
        """Write the film as a gif: the map as it grew, its fragments in colour, what is not in active memory pale.

        :return: the path; None where nothing was filmed
        """
        assert isinstance(self.explorers, RobotExplorers)
        return None if self.explorers.film is None else self.explorers.film.write(Path(path))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_shown_in"]

    def _setup_model(self) -> None:
        told = self._told_settings()
        for name, usual in _USUAL.items():
            if getattr(self, name) is None:
                setattr(self, name, usual if told is None else getattr(told, name))
        super()._setup_model()

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Go on in another environment.

        :raises ConfigError: if the lidar of its robot has another field of view
        """
        super().set_env(env, force_reset)
        assert isinstance(self.explorers, RobotExplorers)
        self.explorers.longest = self._longest_step(self.explorers.lidar.reach)

    def _told_settings(self) -> RobotSettings | None:
        """The robot's settings where the environment tells them.

        :raises ConfigError: if its lidar looks otherwise than the agent takes it to: all maps would be wrong
        """
        if self.env is None or not self.env.has_attr("settings"):
            return None
        told = self.env.get_attr("settings", 0)[0]
        if not isinstance(told, RobotSettings):
            return None
        if self.lidar_field is not None and told.lidar_field != self.lidar_field:
            raise ConfigError(
                f"lidar_field is {self.lidar_field:g} degrees, but the environment's lidar has {told.lidar_field:g}: "
                "leave it out, and it is the environment's"
            )
        return told

    def _read(self, observation: Any) -> tuple[Any, Any]:
        return np.asarray(observation["scan"], np.float32), np.asarray(observation["odometry"], np.float64)

    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        space = self.observation_space
        if not (isinstance(space, spaces.Dict) and {"scan", "odometry"} <= set(space.spaces)):
            raise ConfigError(
                f"FARMapRobot drives robots, whose observations have `scan` and `odometry`; this environment gives "
                f"{space}. Use farl/Robot-v0"
            )
        scan = space["scan"]
        assert isinstance(scan, spaces.Box)
        # As scans have it: a range that is rounded down is no echo either.
        reach = float(np.float32(scan.high.max() if self.lidar_range is None else self.lidar_range))
        if not 1.0 <= reach / self.cell <= _MOST_CELLS:
            raise ConfigError(
                f"the lidar sees {reach:g} m far, {reach / self.cell:g} cells of the maps: resolution must make that "
                f"at least 1 and at most {_MOST_CELLS:,}; got {self.cell:g} m a cell"
            )
        assert self.lidar_field is not None
        assert self.radius is not None
        assert self.max_turn is not None
        fragments = self.criterion != "none"
        return RobotExplorers(
            n_envs,
            seed,
            self._make_criterion(),
            Lidar(beam_angles(self.lidar_field, scan.shape[0]), reach),
            Body(self.radius, self.max_turn),
            Rules(self.cell, self.matching, self.closure and fragments, self.confirm, self.particles),
            Taste(self.reluctance, self.least_gain, min(reach, 5.0), self.radius + 0.05, self.goal == "nearest"),
            self.surprisal == "new-cells",
            self.scan_every,
            self.capacity,
            self.planning == "global",
            self._longest_step(reach),
        )

    def _longest_step(self, reach: float) -> float:
        """Metres that no robot moves in a step: ten times what it can, where that is told; else what its lidar sees."""
        told = self._told_settings()
        return reach if told is None else max(10.0 * told.max_speed / told.rate, 0.5)

    def _make_criterion(self) -> Criterion | None:
        if self.criterion == "size":
            largest, smallest = (max(round(metres / self.cell**2), 1) for metres in (self.largest, self.smallest))
            return SizeLimit(largest, smallest, self.rho, self.min_samples)
        return ZScore(self.rho, self.min_samples, alpha=None) if self.criterion == "zscore" else None
