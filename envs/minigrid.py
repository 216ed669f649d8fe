"""A MiniGrid world of heterogeneous rooms, and the wrappers that go with MiniGrid environments."""

import copy
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from minigrid.core.constants import COLOR_NAMES
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Floor, Goal, Wall
from minigrid.minigrid_env import MiniGridEnv
from minigrid.wrappers import ImgObsWrapper

from farl.envs.actions import check_actions
from farl.envs.minigrid_views import all_partial_views
from farl.envs.minigrid_wrappers import FastPartialView, OneHotObs, PositionInfo

__all__ = ["FastPartialView", "HeteroRoomsEnv", "ImgObsWrapper", "OneHotObs", "PositionInfo"]

Texture = Literal["none", "color", "texture"]
Doorways = Literal["middle", "random"]
Start = Literal["fixed", "random"]

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


class HeteroRoomsEnv(MiniGridEnv):
    """Rooms in a grid, each with a look of its own.

    ## Description
    The world is a grid of `rows` x `cols` square rooms. Neighbouring rooms are joined by a doorway, so that from two
    rows and two columns on there are loops: a room can be entered again from another side. `texture` says how rooms
    differ:

    - `"none"`: all rooms are alike, grey walls and bare floor;
    - `"color"`: each room has walls of one colour and a floor of another;
    - `"texture"`: as `"color"`, and the floor is a random pattern of bare cells and tiles in two colours, which makes
      each place recognisable.

    The layout (doorways, colours, patterns) is drawn from `layout_seed` alone: it is the same in every episode and in
    every parallel environment, whatever the seed given to `reset`. Where rooms differ, a predictor trained in one
    room fails in the next, and comes to forget the first: what fragmentation and recall is for.

    ## Action Space
    `Discrete(3)`: 0 turn left, 1 turn right, 2 move forward. With `all_actions=True` MiniGrid's `Discrete(7)`, of which
    3 to 6 (pick up, drop, toggle, done) change nothing here.

    ## Observation Space
    MiniGrid's dictionary: `image`, uint8 [7, 7, 3], the partial view (object, colour, state of each cell, walls hide
    what is behind them), `direction` (0 right, 1 down, 2 left, 3 up), and `mission`, a string. For Stable-Baselines3
    wrap it in `OneHotObs` or `ImgObsWrapper`.

    `info["position"]` is the agent's cell (x, y), on every step and reset. `env.unwrapped.reachable`, bool
    [height, width] (row y, column x), tells which cells it can stand on.

    ## Rewards
    0, save for the goal, if there is one: `1 - 0.9 * (step_count / max_steps)` when the agent reaches it. The goal lies
    in the middle of the room farthest from the start.

    ## Starting State
    `start="fixed"`: in the middle of the first room (top left), facing right. `start="random"`: on a random cell of the
    first room in a random direction, drawn from the reset seed.

    ## Episode End
    *Termination*: the agent reaches the goal. *Truncation*: after `max_steps` steps.

    ## Registered Configurations
    - `farl/HeteroRooms-2x3-v0`
    - `farl/HeteroRooms-3x3-v0`
    - `farl/HeteroRooms-1x6-v0` (doorways in the middle of the walls)
    - `farl/HeteroRooms-2x3-Goal-v0`
    - `farl/HeteroRooms-3x3-Goal-v0`

    Example:
        >>> import gymnasium as gym
        >>> import farl.envs
        >>> env = gym.make("farl/HeteroRooms-2x3-v0", layout_seed=1)
        >>> obs, info = env.reset(seed=0)
        >>> obs["image"].shape, info["position"]
        ((7, 7, 3), (4, 4))
        >>> obs, reward, terminated, truncated, info = env.step(2)  # forward
        >>> info["position"], reward, terminated
        ((5, 4), 0.0, False)
        >>> env.unwrapped.reachable.shape, int(env.unwrapped.reachable.sum())  # 6 rooms of 49 cells, 7 doorways of 2
        ((18, 27), 308)
    """

    def __init__(
        self,
        rows: int = 2,
        cols: int = 3,
        room_size: int = 7,
        texture: Texture = "texture",
        doorways: Doorways = "random",
        goal: bool = False,
        start: Start = "fixed",
        max_steps: int = 500,
        layout_seed: int = 0,
        agent_view_size: int = 7,
        all_actions: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build the layout and the table of all views.

        Args:
            rows: Rows of rooms.
            cols: Columns of rooms.
            room_size: Side of a room in cells, walls not counted.
            texture: How rooms differ: `"none"`, `"color"` or `"texture"`.
            doorways: Where doorways are: in the `"middle"` of the walls or at `"random"` places.
            goal: Whether there is a goal in the farthest room.
            start: `"fixed"` or `"random"` in the first room.
            max_steps: Length of an episode in steps.
            layout_seed: Seed of the layout.
            agent_view_size: Side of the partial view in cells, odd.
            all_actions: Whether to offer MiniGrid's seven actions instead of the three that move the agent.
            kwargs: Rendering options of `MiniGridEnv`, such as `render_mode` and `tile_size`.

        Raises:
            ValueError: If an argument is out of its range.
        """
        _check_at_least("rows", rows, 1)
        _check_at_least("cols", cols, 1)
        _check_at_least("room_size", room_size, 3)
        _check_at_least("max_steps", max_steps, 1)
        _check_at_least("layout_seed", layout_seed, 0)
        _check_at_least("agent_view_size", agent_view_size, 3)
        _check_choice("texture", texture, get_args(Texture))
        _check_choice("doorways", doorways, get_args(Doorways))
        _check_choice("start", start, get_args(Start))
        if agent_view_size % 2 == 0:
            raise ValueError(f"agent_view_size must be odd, got {agent_view_size}")
        if goal and rows * cols == 1:
            raise ValueError("goal=True needs at least two rooms: raise rows or cols")

        super().__init__(
            mission_space=MissionSpace(mission_func=_goal_mission if goal else _explore_mission),
            width=cols * (room_size + 2),
            height=rows * (room_size + 2),
            max_steps=int(max_steps),
            agent_view_size=int(agent_view_size),
            **kwargs,
        )
        self.rows, self.cols, self.room_size = int(rows), int(cols), int(room_size)
        self.texture, self.doorways, self.goal, self.start = texture, doorways, goal, start
        self._n_actions = len(self.actions) if all_actions else 3
        self.action_space = spaces.Discrete(self._n_actions)
        # The grid never changes: it is built once and shared by all episodes.
        self._layout = self._build_layout(np.random.default_rng(layout_seed))
        self._views = all_partial_views(self._layout, self.agent_view_size)
        walkable = [cell is None or cell.can_overlap() for cell in self._layout.grid]
        self.reachable: npt.NDArray[np.bool_] = np.array(walkable, dtype=bool).reshape(self.height, self.width)
        self._walkable: list[list[bool]] = self.reachable.tolist()  # nested lists: faster to read one cell at a time
        self._goal_cell = self._room_center(self.rows - 1, self.cols - 1) if goal else None

    def reset(  # type: ignore[override]  # MiniGrid's annotation names an unbound type variable
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Put the agent back in the first room."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, "position": self.agent_pos}

    def step(  # type: ignore[override]
        self, action: Any
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Turn or move the agent, as `MiniGridEnv.step` does, without its Python work over the grid."""
        action = int(check_actions([action], self._n_actions, 1)[0])
        self.step_count += 1
        if action == 0:
            self.agent_dir = (self.agent_dir - 1) % 4
        elif action == 1:
            self.agent_dir = (self.agent_dir + 1) % 4
        elif action == 2:
            dx, dy = _STEPS[self.agent_dir]
            x, y = self.agent_pos[0] + dx, self.agent_pos[1] + dy
            if self._walkable[y][x]:
                self.agent_pos = (x, y)
        terminated = self.agent_pos == self._goal_cell
        truncated = self.step_count >= self.max_steps
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        reward = float(self._reward()) if terminated else 0.0
        return self.gen_obs(), reward, terminated, truncated, {"position": self.agent_pos}

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next: the grid itself never changes."""
        place = {"position": tuple(self.agent_pos), "direction": int(self.agent_dir), "steps": int(self.step_count)}
        return place | {"mission": self.mission, "rng": copy.deepcopy(self.np_random)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned, after a reset."""
        self.agent_pos, self.agent_dir = state["position"], state["direction"]
        self.step_count, self.mission = state["steps"], state["mission"]
        self.np_random = copy.deepcopy(state["rng"])

    def gen_obs(self) -> dict[str, Any]:
        """Return the agent's partial view, from the table."""
        x, y = self.agent_pos
        image = self._views[x, y, self.agent_dir].copy()
        return {"image": image, "direction": self.agent_dir, "mission": self.mission}

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = self._layout
        self.agent_pos, self.agent_dir = self._room_center(0, 0), 0
        if self.start == "random":
            x, y, self.agent_dir = (int(n) for n in self.np_random.integers([self.room_size, self.room_size, 4]))
            self.agent_pos = (1 + x, 1 + y)

    def _room_center(self, row: int, col: int) -> tuple[int, int]:
        pitch = self.room_size + 2
        return col * pitch + 1 + self.room_size // 2, row * pitch + 1 + self.room_size // 2

    def _build_layout(self, rng: np.random.Generator) -> Grid:
        """Draw walls, floors, doorways and goal. Each room has a ring of walls, so a doorway is two cells deep."""
        grid = Grid(self.width, self.height)
        pitch = self.room_size + 2
        colors = [str(color) for color in rng.permutation(COLOR_NAMES)]
        for room in range(self.rows * self.cols):
            left, top = room % self.cols * pitch, room // self.cols * pitch
            # A wall colour of its own for the first six rooms, a pair (wall, floor) of its own for the first 36.
            wall, *floors = (colors[(room + shift) % 6] for shift in (0, 1 + room // 6, 3 + room // 6))
            pattern = rng.integers(3, size=(self.room_size, self.room_size))
            for x, y in np.ndindex(pitch, pitch):
                if x in (0, pitch - 1) or y in (0, pitch - 1):
                    grid.set(left + x, top + y, Wall("grey" if self.texture == "none" else wall))
                elif self.texture == "color":
                    grid.set(left + x, top + y, Floor(floors[0]))
                elif self.texture == "texture" and pattern[x - 1, y - 1]:
                    grid.set(left + x, top + y, Floor(floors[pattern[x - 1, y - 1] - 1]))

        places = rng.integers(self.room_size, size=(self.rows, self.cols, 2))
        if self.doorways == "middle":
            places[:] = self.room_size // 2
        for row, col in np.ndindex(self.rows, self.cols):
            right, bottom = (col + 1) * pitch, (row + 1) * pitch
            aside, below = (int(place) for place in places[row, col])
            if col + 1 < self.cols:
                grid.set(right - 1, row * pitch + 1 + aside, None)
                grid.set(right, row * pitch + 1 + aside, None)
            if row + 1 < self.rows:
                grid.set(col * pitch + 1 + below, bottom - 1, None)
                grid.set(col * pitch + 1 + below, bottom, None)
        if self.goal:
            grid.set(*self._room_center(self.rows - 1, self.cols - 1), Goal())
        return grid


def _explore_mission() -> str:
    return "explore the rooms"


def _goal_mission() -> str:
    return "get to the green goal square"


def _check_at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
