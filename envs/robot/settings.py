"""What a robot can do and see, with the checks of it."""

import math
import numbers
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from gymnasium import spaces

from farl.errors import ConfigError, did_you_mean

FURTHEST = 100_000.0
"""Bound of the odometry in metres."""


@dataclass(frozen=True)
class RobotSettings:
    """The body, the drive, the lidar and the odometry of a robot.

    :ivar radius: metres from its middle to its rim; it is round
    :ivar max_speed: metres a second, forwards and backwards
    :ivar max_turn: radians a second
    :ivar rate: steps a second
    :ivar lidar_range: metres; what is farther away gives no echo, and the scan then holds this range
    :ivar lidar_field: degrees, symmetric to the heading; 360 looks all around, 60 is about a depth camera
    :ivar beams: number of beams in one scan
    :ivar range_noise: metres, standard deviation of a reading
    :ivar dropouts: share of the readings that are lost: the scan holds 0
    :ivar drift: error of the odometry: the scale of distances and of turns is off by this share (one standard
        deviation, drawn once an episode); on top come random errors of this many metres for a metre driven, of half as
        many radians for a radian turned, and of a quarter as many radians for a metre driven. Their variance grows
        linearly with the way. Real robots have .01 to .05
    :ivar block: metres a side of the squares by which coverage is counted
    """

    radius: float = 0.18
    max_speed: float = 0.5
    max_turn: float = 1.5
    rate: float = 20.0
    lidar_range: float = 8.0
    lidar_field: float = 360.0
    beams: int = 180
    range_noise: float = 0.01
    dropouts: float = 0.01
    drift: float = 0.02
    block: float = 0.25

    def __post_init__(self) -> None:
        """Check the values.

        :raises ConfigError: naming each value that is out of range
        """
        check_ranges({entry.name: getattr(self, entry.name) for entry in fields(self)}, _RANGES, ("beams",))


Range = tuple[float, float, bool]
"""Smallest and largest value, and whether it must be above the smallest."""


def check_ranges(values: Mapping[str, Any], ranges: Mapping[str, Range], whole: Collection[str] = ()) -> None:
    """Check that values are finite numbers in their ranges.

    :param whole: names of those that must be whole numbers
    :raises ConfigError: naming each that is not
    """
    problems = []
    for name, value in values.items():
        low, high, above = ranges[name]
        number = not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)
        if not number or value > high or value < low or (above and value == low):
            bounds = f"{'above' if above else 'at least'} {low:g} and at most {high:g}"
            problems.append(f"{name} must be {bounds}; got {value!r}")
        elif name in whole and value != int(value):
            problems.append(f"{name} must be a whole number; got {value!r}")
    if problems:
        raise ConfigError(*problems)


_RANGES: dict[str, Range] = {
    "radius": (0.0, 5.0, True),
    "max_speed": (0.0, 10.0, True),
    "max_turn": (0.0, 20.0, True),
    "rate": (0.0, 1_000.0, True),
    "lidar_range": (0.0, 200.0, True),
    "lidar_field": (0.0, 360.0, True),
    "beams": (1, 10_000, False),
    "range_noise": (0.0, 10.0, False),
    "dropouts": (0.0, 1.0, False),
    "drift": (0.0, 1.0, False),
    "block": (0.0, 10.0, True),
}


def make_settings(given: dict[str, Any]) -> RobotSettings:
    """Make the settings from keyword arguments.

    :raises ConfigError: if one is unknown or out of range
    """
    known = [entry.name for entry in fields(RobotSettings)]
    for name in given:
        if name not in known:
            raise ConfigError(f"a robot has no setting {name!r}{did_you_mean(name, known)}")
    return RobotSettings(**given)


def check_episode(until_covered: float | None, max_steps: int) -> None:
    """Refuse what no episode can be.

    :raises ConfigError: if a value is out of range
    """
    check_ranges({"max_steps": max_steps}, {"max_steps": (1, 2**62, False)}, ("max_steps",))
    if until_covered is not None:
        check_ranges({"until_covered": until_covered}, {"until_covered": (0.0, 1.0, True)})


def observation_space(settings: RobotSettings) -> spaces.Dict:
    """The observation space of a robot."""
    high = np.array([FURTHEST, FURTHEST, np.pi + 1e-3], np.float32)
    return spaces.Dict(
        {
            "scan": spaces.Box(0.0, settings.lidar_range, (int(settings.beams),), np.float32),
            "odometry": spaces.Box(-high, high, dtype=np.float32),
        }
    )


def action_space() -> "spaces.Box[np.float32]":
    """The action space of a robot."""
    return spaces.Box(-1.0, 1.0, (2,), np.float32)


def known_spaces(given: Mapping[str, Any]) -> "tuple[spaces.Dict, spaces.Box[np.float32]] | None":
    """Return the spaces of the environment of a robot, if its keyword arguments fit any office.

    :return: None where it takes an office to know
    :raises ConfigError: if an argument is out of range
    """
    fit = {entry.name for entry in fields(RobotSettings)} - {"radius", "lidar_range"}
    episode = {"until_covered": 0.99, "max_steps": 20_000}
    if not given.keys() <= fit | episode.keys():
        return None
    settings = make_settings({name: value for name, value in given.items() if name in fit})
    check_episode(**{name: given.get(name, usual) for name, usual in episode.items()})
    return observation_space(settings), action_space()
