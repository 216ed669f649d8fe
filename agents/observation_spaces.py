"""The spaces of the wrappers in ``farl.agents.observation``, known without an environment and without torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from farl.errors import ConfigError

__all__ = ["egocentric_spaces", "farmap_spaces", "view_size_of"]

Spaces = tuple[spaces.Dict, spaces.Discrete]


def egocentric_spaces(observed: spaces.Space[Any], coverage_reward: float | None = None) -> Spaces:
    """Return the spaces of observations and actions of ``EgocentricObservation``, whose parameters these are.

    :param observed: what the environment inside shows
    :raises ConfigError: if that is no map world
    """
    return _egocentric(observed, "EgocentricObservation"), spaces.Discrete(4)


def farmap_spaces(
    observed: spaces.Space[Any],
    coverage_reward: float | None = None,
    map_size: int = 21,
    settings: Mapping[str, Any] | None = None,
) -> Spaces:
    """Return the spaces of ``FARMapObservation``, whose parameters these are; only FARMap can tell what settings are.

    :param observed: what the environment inside shows
    :raises ConfigError: if that is no map world
    :raises ValueError: if the map has no cell in the middle
    """
    if map_size < 1 or map_size % 2 == 0:
        raise ValueError(f"map_size must be odd and at least 1; got {map_size}")
    known = {
        "map": spaces.Box(0.0, 1.0, (4, map_size, map_size), np.float32),
        "subgoal": spaces.Box(-1.0, 1.0, (5,), np.float32),
    }
    return spaces.Dict({**_egocentric(observed, "FARMapObservation").spaces, **known}), spaces.Discrete(4)


def _egocentric(observed: spaces.Space[Any], who: str) -> spaces.Dict:
    size = view_size_of(observed, who)
    return spaces.Dict({"view": spaces.Box(0.0, 1.0, (2, size, size), np.float32)})


def view_size_of(space: spaces.Space[Any], who: str) -> int:
    """V, cells a side of the views in the observation space of a map world.

    :param who: wants to explore it
    :raises ConfigError: if it is not that of a map world
    """
    if not (isinstance(space, spaces.Dict) and {"view", "odometry"} <= set(space.spaces)):
        raise ConfigError(
            f"{who} explores map worlds, whose observations have `view` and `odometry`; this environment gives "
            f"{space}. Use farl/MapWorld-Small-v0 or another farl/MapWorld"
        )
    shape = space["view"].shape
    assert shape is not None
    return sorted(shape)[-1]
