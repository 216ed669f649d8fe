"""What it takes to draw the first of many worlds: its walls, and the way that its explorer went in this episode."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from farl.maps.geometry import BoolArray, Int32Array, IntArray

_LONGEST = 20_000  # steps that are kept: an episode may go on for ever


class EpisodeWay:
    """The first world of a vector of map worlds, followed step by step."""

    def __init__(self) -> None:
        self.walls: BoolArray | None = None
        """bool[H, W], what cannot be walked on; None until an episode has begun, or where the world does not tell."""
        self.start: tuple[int, int] = (0, 0)
        """Row and column where the odometry is 0."""
        self._way: deque[tuple[int, int]] = deque(maxlen=_LONGEST)

    @property
    def way(self) -> IntArray:
        """int64[T, 2], rows and columns of the last steps."""
        return np.array(self._way, np.int64).reshape(-1, 2)

    def begin(self, env: VecEnv) -> None:
        """An episode begins in the first world."""
        self._way.clear()
        self.walls = ~np.asarray(env.get_attr("reachable", 0)[0], bool) if env.has_attr("reachable") else None

    def step(self, info: dict[str, Any], odometry: Int32Array | Sequence[int], done: bool) -> None:
        """Take note of a step: what its info says, and the odometry after it, int[3]."""
        if "position" not in info:
            return
        col, row = info["position"]
        self._way.append((row, col))
        if not done:  # else the odometry is that of the next episode
            self.start = (row - int(odometry[0]), col - int(odometry[1]))
