"""Wrappers that make any MiniGrid environment ready for Stable-Baselines3 and for exploration maps."""

import math
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv

from farl.envs.minigrid_views import ONES_PER_CELL, one_hot, partial_view

__all__ = ["FastPartialView", "OneHotObs", "PositionInfo"]


class FastPartialView(gym.Wrapper[Any, Any, Any, Any]):
    """Let the environment compute its partial view several times as fast; what it shows stays the same.

    An environment that has a way of its own to make observations keeps it.

    Example:
        >>> import gymnasium as gym
        >>> import minigrid
        >>> from farl.envs.minigrid import FastPartialView
        >>> env = FastPartialView(gym.make("MiniGrid-MultiRoom-N6-v0"))
        >>> obs, _ = env.reset(seed=0)
        >>> obs["image"].shape
        (7, 7, 3)
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap ``env``, a MiniGrid environment."""
        super().__init__(env)
        world: Any = env.unwrapped
        kind = type(world)
        if kind.gen_obs is MiniGridEnv.gen_obs and kind.gen_obs_grid is MiniGridEnv.gen_obs_grid:
            world.gen_obs = partial(_gen_obs, world)


def _gen_obs(world: Any) -> dict[str, Any]:
    return {"image": partial_view(world), "direction": world.agent_dir, "mission": world.mission}


class OneHotObs(gym.ObservationWrapper[npt.NDArray[np.float32], Any, Any]):
    """Observe the partial view as one flat one-hot vector.

    Each cell of the view gives 20 numbers: 11 for its object, 6 for its colour, 3 for its state. The vector is
    float32 and one-dimensional, so that Stable-Baselines3 neither takes it for an image nor rescales it; use it with
    ``MlpPolicy``.

    Example:
        >>> import gymnasium as gym
        >>> import farl.envs
        >>> from farl.envs.minigrid import OneHotObs
        >>> env = OneHotObs(gym.make("farl/HeteroRooms-2x3-v0"))
        >>> env.observation_space
        Box(0.0, 1.0, (980,), float32)
        >>> obs, _ = env.reset(seed=0)
        >>> obs.shape, int(obs.sum())  # an object, a colour and a state for each of 49 cells
        ((980,), 147)
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap ``env``.

        :raises ValueError: if the observations of ``env`` are not MiniGrid's dictionaries with a symbolic ``image``
        """
        super().__init__(env)
        image = env.observation_space["image"] if isinstance(env.observation_space, spaces.Dict) else None
        if not isinstance(image, spaces.Box) or len(image.shape) != 3 or image.shape[2] != 3:
            raise ValueError(
                "OneHotObs needs MiniGrid's dictionary observations with a symbolic image, "
                f"got {env.observation_space}. Apply it straight to the environment, before other observation wrappers."
            )
        self.observation_space = spaces.Box(0.0, 1.0, (math.prod(image.shape[:2]) * ONES_PER_CELL,), np.float32)

    def observation(self, observation: dict[str, Any]) -> npt.NDArray[np.float32]:
        """Return the one-hot vector of ``observation["image"]``."""
        vector: npt.NDArray[np.float32] = one_hot(observation["image"][None])[0]
        return vector


class PositionInfo(gym.Wrapper[Any, Any, Any, Any]):
    """Say where the agent is: ``info["position"]`` on every step and reset, and the cells it can reach.

    After each reset ``env.unwrapped.reachable`` is a bool array [height, width] (row y, column x) of the cells that the
    agent can stand on, found by a flood fill from its start. Doors count as passable, locked ones too, and so do
    things that can be picked up.

    Example:
        >>> import gymnasium as gym
        >>> import minigrid
        >>> from farl.envs.minigrid import PositionInfo
        >>> env = PositionInfo(gym.make("MiniGrid-Empty-5x5-v0"))
        >>> _, info = env.reset(seed=0)
        >>> info["position"]
        (1, 1)
        >>> env.unwrapped.reachable.astype(int)
        array([[0, 0, 0, 0, 0],
               [0, 1, 1, 1, 0],
               [0, 1, 1, 1, 0],
               [0, 1, 1, 1, 0],
               [0, 0, 0, 0, 0]])
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and find the cells that can be reached in its new layout."""
        from scipy import ndimage  # here, for what only reads the spaces does without it

        observation, info = self.env.reset(seed=seed, options=options)
        world: Any = self.unwrapped
        cells = [_passable(cell) for cell in world.grid.grid]
        passable = np.array(cells, dtype=bool).reshape(world.height, world.width)
        x, y = world.agent_pos
        regions, _ = ndimage.label(passable)
        world.reachable = regions == regions[y, x]
        return observation, {**info, "position": self._position()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment and add the position to its info."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "position": self._position()}

    def _position(self) -> tuple[int, int]:
        world: Any = self.unwrapped
        return int(world.agent_pos[0]), int(world.agent_pos[1])


def _passable(cell: WorldObj | None) -> bool:
    return cell is None or bool(cell.can_overlap()) or cell.type == "door" or bool(cell.can_pickup())
