"""The table of FARL's environments. Importing ``farl.envs`` registers every row of it with Gymnasium.

Entry points are strings, so nothing but this table is imported until an environment is made. A new family of
environments is a tuple of ``EnvSpec`` rows in ``FAMILIES``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

__all__ = ["BATCHED_KINDS", "FAMILIES", "BatchedKind", "EnvSpec", "known_spaces", "list_envs", "register"]


@dataclass(frozen=True)
class EnvSpec:
    """One row of the table: what ``gymnasium.make`` and ``make_vec`` need, and a line that says what it is."""

    id: str
    entry_point: str
    vector_entry_point: str
    description: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)


_ROOMS = ("farl.envs.minigrid:HeteroRoomsEnv", "farl.envs.minigrid_vec_env:HeteroRoomsVectorEnv")

MINIGRID = (
    EnvSpec("farl/HeteroRooms-2x3-v0", *_ROOMS, "six rooms with looks of their own, no reward", {"rows": 2, "cols": 3}),
    EnvSpec(
        "farl/HeteroRooms-3x3-v0", *_ROOMS, "nine rooms with looks of their own, no reward", {"rows": 3, "cols": 3}
    ),
    EnvSpec(
        "farl/HeteroRooms-1x6-v0",
        *_ROOMS,
        "six rooms in a row, doorways in the middle, no reward",
        {"rows": 1, "cols": 6, "doorways": "middle"},
    ),
    EnvSpec(
        "farl/HeteroRooms-2x3-Goal-v0",
        *_ROOMS,
        "six rooms, a goal in the farthest one",
        {"rows": 2, "cols": 3, "goal": True},
    ),
    EnvSpec(
        "farl/HeteroRooms-3x3-Goal-v0",
        *_ROOMS,
        "nine rooms, a goal in the farthest one",
        {"rows": 3, "cols": 3, "goal": True},
    ),
)

_MAP_WORLD = ("farl.envs.map_world:MapWorldEnv", "farl.envs.map_world.vec_env:MapWorldVectorEnv")

MAP_WORLDS = (
    EnvSpec("farl/MapWorld-Small-v0", *_MAP_WORLD, "an unknown map of up to 3 000 cells", {"size": "small"}),
    EnvSpec("farl/MapWorld-Medium-v0", *_MAP_WORLD, "an unknown map of up to 7 000 cells", {"size": "medium"}),
    EnvSpec("farl/MapWorld-Large-v0", *_MAP_WORLD, "an unknown map of more than 7 000 cells", {"size": "large"}),
    EnvSpec("farl/MapWorld-Huge-v0", *_MAP_WORLD, "an unknown map of 600 x 600 cells", {"size": "huge"}),
    EnvSpec(
        "farl/MapWorld-Rooms-v0",
        *_MAP_WORLD,
        "nine rooms behind doorways, seen through a cone, the same in every episode",
        {"size": "rooms", "scale": 1, "layout_seed": 0, "observation": "vector", "max_steps": 500},
    ),
)

_ROBOT = ("farl.envs.robot.env:RobotEnv", "farl.envs.robot.vec_env:RobotVectorEnv")

ROBOTS = (EnvSpec("farl/Robot-v0", *_ROBOT, "a robot with a lidar and drifting odometry, in offices"),)

_ROOM_CHAIN = ("farl.envs.room_chain:RoomChainEnv", "farl.envs.room_chain.vec_env:RoomChainVectorEnv")

ROOM_CHAINS = (
    EnvSpec("farl/RoomChain-v0", *_ROOM_CHAIN, "six textured rooms in a row, no reward"),
    EnvSpec("farl/RoomChain-12-v0", *_ROOM_CHAIN, "twelve textured rooms in a row, no reward", {"cols": 12}),
    EnvSpec("farl/RoomChain-3x3-v0", *_ROOM_CHAIN, "nine textured rooms in a grid, no reward", {"rows": 3, "cols": 3}),
    EnvSpec("farl/RoomHub-v0", *_ROOM_CHAIN, "32 textured rooms: two hub rooms with six branches", {"plan": "hub-2-5"}),
    EnvSpec("farl/RoomHub-3-8-v0", *_ROOM_CHAIN, "67 textured rooms: three hubs, eight branches", {"plan": "hub-3-8"}),
    EnvSpec("farl/RoomTree-v0", *_ROOM_CHAIN, "25 textured rooms joined by a random tree", {"plan": "tree-5-5"}),
    EnvSpec("farl/RoomRing-v0", *_ROOM_CHAIN, "16 textured rooms in one loop", {"plan": "ring-5-5"}),
    EnvSpec("farl/RoomChain-Goal-v0", *_ROOM_CHAIN, "six textured rooms, a goal in the last one", {"goal": True}),
    EnvSpec(
        "farl/RoomChain-12-Goal-v0",
        *_ROOM_CHAIN,
        "twelve textured rooms, a goal in the last one",
        {"cols": 12, "goal": True},
    ),
)

FAMILIES: tuple[tuple[EnvSpec, ...], ...] = (MINIGRID, ROOM_CHAINS, MAP_WORLDS, ROBOTS)


@dataclass(frozen=True)
class BatchedKind:
    """Environments that only come many at once.

    :ivar entry_point: the VecEnv that steps all copies in one call
    :ivar spaces: the function that checks the arguments of one, and tells its spaces without making it
    :ivar ids: what there is
    """

    entry_point: str
    spaces: str
    ids: tuple[str, ...]


_GAMES = (
    *("bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot"),
    *("heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot"),
)

BATCHED_KINDS = {
    "procgen": BatchedKind("farl.envs.procgen:ProcgenVecEnv", "farl.envs.procgen_games:game_spaces", _GAMES),
    "control": BatchedKind(
        "farl.envs.control:ControlVecEnv",
        "farl.envs.control_tasks:control_spaces",
        ("CartPole", "Acrobot", "LunarLander"),
    ),
}
"""Kind of environment -> what it is."""

_MINIGRID_VIEWS: dict[str | None, spaces.Space[Any]] = {
    None: spaces.Box(0.0, 1.0, (980,), np.float32),
    "one_hot": spaces.Box(0.0, 1.0, (980,), np.float32),
    "symbolic": spaces.Box(0, 255, (7, 7, 3), np.uint8),
    "rgb": spaces.Box(0, 255, (56, 56, 3), np.uint8),
}


_FURTHEST = np.array([1_000_000, 1_000_000, 3], np.int32)
_MAP_VIEW = spaces.Dict(
    {
        "view": spaces.Box(0, 255, (15, 15, 3), np.uint8),
        "odometry": spaces.Box(_FURTHEST * np.array([-1, -1, 0], np.int32), _FURTHEST, dtype=np.int32),
    }
)


def known_spaces(
    env_id: str, kind: str, observation: str | None, kwargs: Mapping[str, Any]
) -> tuple[spaces.Space[Any], spaces.Space[Any]] | None:
    """Return the spaces of observations and actions of one of FARL's worlds, without making it.

    :param env_id: the environment's name
    :param kind: the environment's kind, as a configuration has it
    :param observation: what is seen, for the kind ``"minigrid"``
    :param kwargs: arguments of the environment, in place of those that it is registered with
    :return: None for all other environments, and where one must be made to know
    :raises ConfigError: if a robot does not take its arguments
    """
    if kind == "gymnasium" and any(env_id == spec.id for spec in ROBOTS):
        from farl.envs.robot import settings

        return settings.known_spaces(kwargs)
    if kwargs.keys() - {"max_steps"} or not _is_length(kwargs.get("max_steps", 1)):
        return None
    if kind == "minigrid" and any(env_id == spec.id for spec in MINIGRID):
        return _MINIGRID_VIEWS[observation], spaces.Discrete(3)
    if kind == "gymnasium" and any(env_id == spec.id for spec in ROOM_CHAINS):
        return spaces.Box(0.0, 1.0, (539,), np.float32), spaces.Discrete(3)
    for spec in MAP_WORLDS if kind == "gymnasium" else ():
        if env_id == spec.id:
            vector = spec.kwargs.get("observation") == "vector"
            return spaces.Box(0.0, 1.0, (675,), np.float32) if vector else _MAP_VIEW, spaces.Discrete(4)
    return None


def _is_length(steps: object) -> bool:
    return type(steps) is int and steps >= 1


def register(specs: Iterable[EnvSpec]) -> None:
    """Register ``specs`` with Gymnasium. An id that is registered already is left as it is."""
    for spec in specs:
        if spec.id not in gym.registry:
            gym.register(
                id=spec.id,
                entry_point=spec.entry_point,
                vector_entry_point=spec.vector_entry_point,
                kwargs=dict(spec.kwargs),
            )


def list_envs() -> dict[str, str]:
    """Return the id and the one-line description of every FARL environment, family by family."""
    return {spec.id: spec.description for family in FAMILIES for spec in family}
