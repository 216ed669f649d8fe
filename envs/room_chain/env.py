"""The Gymnasium environment of one agent in a chain of rooms."""

from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from farl.envs.room_chain.layout import VIEW_WIDTH, Look, RoomChain
from farl.envs.room_chain.render import draw_rooms

Start = Literal["fixed", "random"]


class RoomChainEnv(gym.Env[npt.NDArray[np.float32], np.int64]):
    """Rooms of 7 x 7 cells in a row or a grid, which look alike or not.

    ## Description
    A corridor world for the study of forgetting: neighbouring rooms are joined by a doorway in the middle of their
    wall. By `look` rooms are `"alike"` (grey walls, bare floors), have a pair of colours each (`"color"`), or a random
    pattern of floor tiles as well (`"texture"`). The layout is drawn from `layout_seed` alone: it is the same in every
    episode and in every parallel environment, whatever the seed given to `reset`.

    ## Action Space
    `Discrete(3)`: 0 turn left, 1 turn right, 2 move forward.

    ## Observation Space
    `Box(0, 1, (539,), float32)`: of each of the 7 x 7 cells ahead its kind (unseen, wall, floor, goal) and its colour
    (bare or one of six), one-hot. Walls hide what is behind them.

    ## Rewards
    0, save for the goal, if there is one: `1 - 0.9 * (step / max_steps)` when the agent reaches it. It lies in the
    middle of the last room.

    ## Starting State
    `start="fixed"`: in the middle of the first room, facing right. `start="random"`: on a random cell of the first
    room in a random direction, drawn from the seed given to `reset`.

    ## Episode End
    *Termination*: the agent reaches the goal. *Truncation*: after `max_steps` steps.

    ## Info
    `position` (x, y). `env.unwrapped.reachable` is bool[height, width], the cells the agent can stand on.

    ## Registered Configurations
    - `farl/RoomChain-v0`: six textured rooms in a row
    - `farl/RoomChain-12-v0`: twelve textured rooms in a row
    - `farl/RoomChain-3x3-v0`: nine textured rooms in a grid
    - `farl/RoomChain-Goal-v0`, `farl/RoomChain-12-Goal-v0`: with a goal in the last room

    Any other number of rooms and any other look is a keyword away:

        >>> import gymnasium as gym
        >>> import farl.envs
        >>> env = gym.make("farl/RoomChain-v0", cols=24, look="color", layout_seed=3)
        >>> observation, info = env.reset(seed=0)
        >>> observation.shape, info["position"]
        ((539,), (4, 4))
        >>> env.unwrapped.reachable.shape, int(env.unwrapped.reachable.sum())  # 24 rooms of 49 cells, 23 doorways
        ((9, 193), 1199)

    :param rows: rows of rooms
    :param cols: columns of rooms
    :param look: alike, color or texture
    :param layout_seed: of colours and patterns
    :param goal: whether there is a goal in the last room
    :param start: fixed, or random in the first room
    :param max_steps: steps of an episode
    :raises ValueError: if a parameter is out of range
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        rows: int = 1,
        cols: int = 6,
        look: Look = "texture",
        layout_seed: int = 0,
        goal: bool = False,
        start: Start = "fixed",
        max_steps: int = 500,
        render_mode: str | None = None,
    ) -> None:
        self.world = RoomChain(rows, cols, look, layout_seed, goal)
        self.starts = start_poses(self.world, start)
        self.max_steps = checked_max_steps(max_steps)
        self.observation_space = spaces.Box(0.0, 1.0, (VIEW_WIDTH,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.render_mode = render_mode
        self._pose, self._elapsed = self.world.start, 0

    @property
    def reachable(self) -> npt.NDArray[np.bool_]:
        """bool[height, width], the cells that the agent can stand on."""
        return self.world.reachable

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start an episode in the first room."""
        super().reset(seed=seed)
        self._pose, self._elapsed = int(self.np_random.choice(self.starts)), 0
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Turn left (0), turn right (1) or move forward (2)."""
        self._pose = int(self.world.following[self._pose, action])
        self._elapsed += 1
        reached = bool(self.world.is_goal[self._pose])
        reward = float(goal_reward(self._elapsed, self.max_steps)) if reached else 0.0
        return self._observation(), reward, reached, self._elapsed >= self.max_steps, self._info()

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return the world as a picture, uint8[8 H, 8 W, 3]."""
        return draw_rooms(self.world, self._pose) if self.render_mode == "rgb_array" else None

    def _observation(self) -> npt.NDArray[np.float32]:
        view: npt.NDArray[np.float32] = self.world.views(np.array([self._pose]))[0]
        return view

    def _info(self) -> dict[str, Any]:
        x, y = self.world.positions[self._pose].tolist()
        return {"position": (x, y)}


def start_poses(world: RoomChain, start: Start) -> npt.NDArray[np.int64]:
    """Return the poses that episodes begin in.

    :raises ValueError: if ``start`` is neither fixed nor random
    """
    if start not in ("fixed", "random"):
        raise ValueError(f"start must be 'fixed' or 'random', got {start!r}")
    return np.array([world.start]) if start == "fixed" else np.flatnonzero(world.rooms == 0)


def checked_max_steps(max_steps: int) -> int:
    """Return the length of an episode.

    :raises ValueError: if it is below 1
    """
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    return max_steps


def goal_reward(elapsed: npt.ArrayLike, max_steps: int) -> npt.NDArray[np.float64]:
    """Return the reward for reaching the goal after so many steps."""
    return 1.0 - 0.9 * np.asarray(elapsed) / max_steps
