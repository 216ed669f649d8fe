"""A MiniGrid world of heterogeneous rooms, and the wrappers that go with MiniGrid environments."""

import copy
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from minigrid.core.mission import MissionSpace
from minigrid.minigrid_env import MiniGridEnv
from minigrid.wrappers import ImgObsWrapper

from farl.envs.actions import check_actions
from farl.envs.hetero_rooms import Doorways, HeteroRooms, Texture
from farl.envs.minigrid_wrappers import FastPartialView, OneHotObs, PositionInfo
from farl.envs.pose_world import LEFT_RIGHT_AHEAD, check_at_least, check_choice

__all__ = ["FastPartialView", "HeteroRoomsEnv", "ImgObsWrapper", "OneHotObs", "PositionInfo"]

Start = Literal["fixed", "random"]


class HeteroRoomsEnv(MiniGridEnv):
    """Rooms in a grid, each with a look of its own.

    ## Description
    The world is a grid of ``rows`` x ``cols`` square rooms. Neighbouring rooms are joined by a doorway, so that from
    two rows and two columns on there are loops: a room can be entered again from another side. ``texture`` says how
    rooms differ:

    - ``"none"``: all rooms are alike, grey walls and bare floor;
    - ``"color"``: each room has walls of one colour and a floor of another;
    - ``"texture"``: as ``"color"``, and the floor is a random pattern of bare cells and tiles in two colours, which
      makes each place recognisable.

    The layout (doorways, colours, patterns) is drawn from ``layout_seed`` alone: it is the same in every episode and in
    every parallel environment, whatever the seed given to ``reset``. Where rooms differ, a predictor trained in one
    room fails in the next, and comes to forget the first: what fragmentation and recall is for.

    ## Action Space
    ``Discrete(3)``: 0 turn left, 1 turn right, 2 move forward. With ``all_actions=True`` MiniGrid's ``Discrete(7)``, of
    which 3 to 6 (pick up, drop, toggle, done) change nothing here.

    ## Observation Space
    MiniGrid's dictionary: ``image``, uint8 [7, 7, 3], the partial view (object, colour, state of each cell, walls hide
    what is behind them), ``direction`` (0 right, 1 down, 2 left, 3 up), and ``mission``, a string. For
    Stable-Baselines3 wrap it in ``OneHotObs`` or ``ImgObsWrapper``.

    ``info["position"]`` is the agent's cell (x, y), on every step and reset. ``env.unwrapped.reachable``, bool
    [height, width] (row y, column x), tells which cells it can stand on; ``env.unwrapped.room_of_cell``, int64
    [height, width], the room of each, -1 for walls and doorways.

    ## Rewards
    0, save for the goal, if there is one: ``1 - 0.9 * (step_count / max_steps)`` when the agent reaches it. The goal
    lies in the middle of the room farthest from the start.

    ## Starting State
    ``start="fixed"``: in the middle of the first room (top left), facing right. ``start="random"``: on a random cell of
    the first room in a random direction, drawn from the reset seed.

    ## Episode End
    *Termination*: the agent reaches the goal. *Truncation*: after ``max_steps`` steps.

    ## Registered Configurations
    - ``farl/HeteroRooms-2x3-v0``
    - ``farl/HeteroRooms-3x3-v0``
    - ``farl/HeteroRooms-1x6-v0`` (doorways in the middle of the walls)
    - ``farl/HeteroRooms-2x3-Goal-v0``
    - ``farl/HeteroRooms-3x3-Goal-v0``

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

        :param rows: rows of rooms
        :param cols: columns of rooms
        :param room_size: side of a room in cells, walls not counted
        :param texture: how rooms differ: ``"none"``, ``"color"`` or ``"texture"``
        :param doorways: where doorways are: in the ``"middle"`` of the walls or at ``"random"`` places
        :param goal: whether there is a goal in the farthest room
        :param start: ``"fixed"`` or ``"random"`` in the first room
        :param max_steps: length of an episode in steps
        :param layout_seed: seed of the layout
        :param agent_view_size: side of the partial view in cells, odd
        :param all_actions: whether to offer MiniGrid's seven actions instead of the three that move the agent
        :param kwargs: rendering options of ``MiniGridEnv``, such as ``render_mode`` and ``tile_size``
        :raises ValueError: if an argument is out of its range
        """
        check_at_least({"max_steps": (max_steps, 1)})
        check_choice("start", start, get_args(Start))
        self.world = HeteroRooms(rows, cols, room_size, texture, doorways, goal, layout_seed, agent_view_size)
        """The layout, which never changes."""
        super().__init__(
            mission_space=MissionSpace(mission_func=_goal_mission if goal else _explore_mission),
            width=self.world.grid.width,
            height=self.world.grid.height,
            max_steps=int(max_steps),
            agent_view_size=int(agent_view_size),
            **kwargs,
        )
        self.start = start
        self._n_actions = len(self.actions) if all_actions else LEFT_RIGHT_AHEAD
        self.action_space = spaces.Discrete(self._n_actions)
        self.reachable: npt.NDArray[np.bool_] = self.world.reachable
        self.room_of_cell: npt.NDArray[np.int64] = self.world.room_of_cell

    def reset(  # type: ignore[override]  # MiniGrid's annotation names an unbound type variable
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Put the agent back in the first room."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, "position": self.agent_pos}

    def step(  # type: ignore[override]
        self, action: Any
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Turn or move the agent, as ``MiniGridEnv.step`` does, without its Python work over the grid."""
        action = int(check_actions([action], self._n_actions, 1)[0])
        self.step_count += 1
        if action < LEFT_RIGHT_AHEAD:
            pose = self.world.following[self._pose, action]
            x, y = self.world.positions[pose].tolist()
            self.agent_pos, self.agent_dir = (x, y), int(self.world.directions[pose])
        terminated = self.agent_pos == self.world.goal
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
        """Go on from what ``get_state`` returned, after a reset."""
        self.agent_pos, self.agent_dir = state["position"], state["direction"]
        self.step_count, self.mission = state["steps"], state["mission"]
        self.np_random = copy.deepcopy(state["rng"])

    @property
    def _pose(self) -> int:
        x, y = self.agent_pos
        return self.world.pose(x, y, self.agent_dir)

    def gen_obs(self) -> dict[str, Any]:
        """Return the agent's partial view, from the table."""
        image = self.world.views_of[self._pose].copy()
        return {"image": image, "direction": self.agent_dir, "mission": self.mission}

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = self.world.grid
        x, y, self.agent_dir = self.world.draw_start(self.start == "random", self.np_random)
        self.agent_pos = (x, y)


def _explore_mission() -> str:
    return "explore the rooms"


def _goal_mission() -> str:
    return "get to the green goal square"
