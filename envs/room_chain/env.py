"""The Gymnasium environment of one agent in a chain of rooms."""

import copy
from collections.abc import Mapping
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from farl.envs.actions import check_actions
from farl.envs.pose_world import LEFT_RIGHT_AHEAD, check_at_least, check_choice, goal_reward
from farl.envs.room_chain.layout import VIEW_WIDTH, Look, RoomChain
from farl.envs.room_chain.noise import NoiseState, ViewNoise
from farl.envs.room_chain.render import draw_rooms

Start = Literal["fixed", "random", "anywhere"]


class RoomChainEnv(gym.Env[npt.NDArray[np.float32], np.int64]):
    """Rooms of 7 x 7 cells in a row, a grid, a hub with branches, a tree or a ring, which look alike or not.

    ## Description
    A corridor world for the study of forgetting: neighbouring rooms are joined by a doorway in the middle of their
    wall. By ``look`` rooms are ``"alike"`` (grey walls, bare floors), have a pair of colours each (``"color"``), or a
    random pattern of floor tiles as well (``"texture"``). ``plan`` says where rooms are: ``chain-N``,
    ``grid-ROWS-COLS``, ``hub-HUBS-LENGTH`` (hub rooms in a row, a branch of so many rooms from each of their free
    sides), ``tree-ROWS-COLS`` (one way from each room to each other, at random), ``ring-ROWS-COLS``. ``noise`` spoils
    what is seen, anew in every step: ``color-.05`` (each cell's colour redrawn with that probability), ``pixel-.1``
    (normal noise on each number), ``distractor-3`` (so many cells in view that wander and change colour), ``light-.5``
    (all numbers dimmed by a factor that drifts). The layout is drawn from ``layout_seed`` alone: it is the same in
    every episode and in every parallel environment, whatever the seed given to ``reset``.

    ## Action Space
    ``Discrete(3)``: 0 turn left, 1 turn right, 2 move forward.

    ## Observation Space
    ``Box(0, 1, (539,), float32)``: of each of the 7 x 7 cells ahead its kind (unseen, wall, floor, goal) and its colour
    (bare or one of six), one-hot. Walls hide what is behind them.

    ## Rewards
    0, save for the goal, if there is one: ``1 - 0.9 * (step / max_steps)`` when the agent reaches it, 1 without
    ``max_steps``. It lies in the middle of the room that is the most doorways away from the first.

    ## Starting State
    ``start="fixed"``: in the middle of the first room, facing right. ``start="random"``: on a random cell of the first
    room in a random direction, drawn from the seed given to ``reset``. ``start="anywhere"``: the same in the whole
    world.

    ## Episode End
    *Termination*: the agent reaches the goal. *Truncation*: after ``max_steps`` steps, if there is such a limit; with
    ``max_steps=None`` the agent is never taken back to the start.

    ## Info
    ``position`` (x, y). ``env.unwrapped.room_of_cell`` is int64[height, width], the room of each cell, -1 outside of
    rooms. ``env.unwrapped.reachable`` is bool[height, width], the cells the agent can stand on.

    ## Registered Configurations
    - ``farl/RoomChain-v0``: six textured rooms in a row
    - ``farl/RoomChain-12-v0``: twelve textured rooms in a row
    - ``farl/RoomChain-3x3-v0``: nine textured rooms in a grid
    - ``farl/RoomHub-v0``: two hub rooms with six branches of five rooms, 32 rooms in all
    - ``farl/RoomHub-3-8-v0``: three hub rooms with eight branches of eight rooms, 67 rooms in all
    - ``farl/RoomTree-v0``: 25 rooms joined by a random tree
    - ``farl/RoomRing-v0``: 16 rooms in one loop
    - ``farl/RoomChain-Goal-v0``, ``farl/RoomChain-12-Goal-v0``: with a goal in the last room

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
    :param layout_seed: decides colours and patterns, and a random plan
    :param goal: whether there is a goal in the farthest room
    :param start: fixed, random in the first room, or anywhere
    :param max_steps: steps of an episode; None for no end
    :param plan: where rooms are, in place of rows and cols
    :param noise: kind and strength of what spoils the views; None is no noise
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
        max_steps: int | None = 500,
        plan: str | None = None,
        noise: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.world = RoomChain(rows, cols, look, layout_seed, goal, plan=plan)
        self.noise = ViewNoise(noise)
        self.starts = start_poses(self.world, start)
        if max_steps is not None:
            check_at_least({"max_steps": (max_steps, 1)})
        self.max_steps = max_steps
        self.observation_space = spaces.Box(0.0, 1.0, (VIEW_WIDTH,), np.float32)
        self.action_space = spaces.Discrete(LEFT_RIGHT_AHEAD)
        self.render_mode = render_mode
        self._pose, self._elapsed = self.world.start, 0
        self._noise_state = self.noise.start(1, np.random.default_rng(0))

    @property
    def reachable(self) -> npt.NDArray[np.bool_]:
        """bool[height, width], the cells that the agent can stand on."""
        return self.world.reachable

    @property
    def room_of_cell(self) -> npt.NDArray[np.int64]:
        """int64[height, width], the room of each cell, -1 outside of rooms."""
        return self.world.room_of_cell

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start an episode in the first room."""
        super().reset(seed=seed)
        self._pose, self._elapsed = int(self.np_random.choice(self.starts)), 0
        self._noise_state = self.noise.start(1, self.np_random)
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Turn left (0), turn right (1) or move forward (2).

        :raises ValueError: if the action is another one
        """
        self._pose = int(self.world.following[self._pose, check_actions([action], LEFT_RIGHT_AHEAD, 1)[0]])
        self._elapsed += 1
        self._noise_state = self.noise.step(self._noise_state, self.np_random)
        reached = bool(self.world.is_goal[self._pose])
        reward = float(goal_reward(self._elapsed, self.max_steps)) if reached else 0.0
        too_long = self.max_steps is not None and self._elapsed >= self.max_steps
        return self._observation(), reward, reached, too_long, self._info()

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        noise, rng = tuple(self._noise_state), copy.deepcopy(self.np_random)
        return {"pose": self._pose, "elapsed": self._elapsed, "noise": noise, "rng": rng}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        self._pose, self._elapsed = state["pose"], state["elapsed"]
        self._noise_state, self.np_random = NoiseState(*state["noise"]), copy.deepcopy(state["rng"])

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return the world as a picture, uint8[8 H, 8 W, 3]."""
        return draw_rooms(self.world, self._pose) if self.render_mode == "rgb_array" else None

    def _observation(self) -> npt.NDArray[np.float32]:
        codes = self.world.codes_seen(np.array([self._pose]))
        view: npt.NDArray[np.float32] = self.noise.views(codes, self._noise_state, self.np_random)[0]
        return view

    def _info(self) -> dict[str, Any]:
        x, y = self.world.positions[self._pose].tolist()
        return {"position": (x, y)}


def start_poses(world: RoomChain, start: Start) -> npt.NDArray[np.int64]:
    """Return the poses that episodes begin in.

    :raises ValueError: if ``start`` is not one of ``Start``
    """
    check_choice("start", start, get_args(Start))
    if start == "fixed":
        return np.array([world.start])
    return np.flatnonzero(world.rooms == 0) if start == "random" else np.flatnonzero(world.rooms >= 0)
