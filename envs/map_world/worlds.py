"""The worlds themselves: E of them, stepped, seen and counted by compiled kernels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from farl.envs.actions import check_actions
from farl.envs.map_world.loaders import check_cells
from farl.envs.map_world.occupancy import OPEN, WALL, Cells, OccupancyGrid
from farl.envs.map_world.visibility import visibility, visible_rows
from farl.envs.pose_world import check_at_least, check_choice
from farl.maps.compiled import compiled
from farl.maps.geometry import (
    FREE,
    RIGHT_COLS,
    RIGHT_ROWS,
    STEP_COLS,
    STEP_ROWS,
    UNKNOWN,
    BoolArray,
    ByteArray,
    Int32Array,
    IntArray,
    WordArray,
    next_random,
)

MapSource = Callable[[np.random.Generator], BoolArray | Cells | OccupancyGrid]
"""Draws the next map, not enlarged: a plan, or its cells: bool[H, W], True for wall, or int8[H, W] as in a plan."""

Start = Literal["fixed", "anywhere"]

# Colours of walls are 1 + (a k + b) mod P for wall number k: P is the largest prime below 2^24, so that every wall of
# a world has its own colour, and neither UNKNOWN (0) nor FREE (2^24 - 1) is one of them.
_PRIME = 16_777_213
OBSTACLE = 0xFFFFFE
"""Code of a moving obstacle."""

_OUTSIDE, _OPEN, _OBSTACLE = -1, 0, 1 << 30  # kinds of cells; a positive number is a wall's
_UNCOUNTED, _UNSEEN, _SEEN = 0, 1, 2


_STATE = (
    "shapes", "pose", "start", "views", "n_countable", "n_seen",
    "_cells", "_status", "_colours", "_obstacles", "_random",
)  # fmt: skip


class MapWorlds:
    """E occupancy grids, each with an agent in it.

    Cells, poses and views are arrays over all worlds; one compiled call steps and observes them all.

    :param sources: one per world; draws its map anew at each reset
    :param scale: the factor by which maps are enlarged
    :param view_size: cells a side of the view, odd
    :param cone_ratio: see ``visibility``
    :param recolour: give every wall a new colour at every step
    :param n_obstacles: obstacles in each world; each moves to a random free neighbour at every step
    :param layout_seed: seed of colours and fixed starts, which are then the same in every episode; None draws them anew
    :param start: fixed, which needs a layout_seed, or anywhere
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        sources: Sequence[MapSource],
        scale: int = 3,
        view_size: int = 15,
        cone_ratio: float = 0.25,
        recolour: bool = False,
        n_obstacles: int = 0,
        layout_seed: int | None = None,
        start: Start = "anywhere",
    ) -> None:
        if not sources:
            raise ValueError("at least one world is needed")
        check_choice("start", start, get_args(Start))
        if layout_seed is not None:
            check_at_least({"layout_seed": (layout_seed, 0)})
        elif start == "fixed":
            raise ValueError("start='fixed' needs a layout_seed: without one every episode has a world of its own")
        self._layout_seed, self._start = layout_seed, start
        if scale < 1 or n_obstacles < 0:
            raise ValueError(f"scale must be at least 1 and obstacles at least 0; got {scale} and {n_obstacles}")
        self.visibility = visibility(view_size, cone_ratio)
        self.sources, self.scale, self.recolour = list(sources), scale, recolour
        n_envs = len(sources)
        self.shapes: IntArray = np.zeros((n_envs, 2), np.int64)
        """int64[E, 2], rows and columns of each world."""
        self.pose: IntArray = np.zeros((n_envs, 3), np.int64)
        """int64[E, 3], row, column and heading of each agent."""
        self.start: IntArray = np.zeros((n_envs, 2), np.int64)
        """int64[E, 2], where each agent began."""
        self.views: Int32Array = np.zeros((n_envs, view_size, view_size), np.int32)
        """int32[E, V, V], the colour codes that each agent sees, its own cell in the middle of the bottom row."""
        self.n_countable: IntArray = np.ones(n_envs, np.int64)
        """int64[E], cells that can be covered: the free ones, and walls that touch one by an edge."""
        self.n_seen: IntArray = np.zeros(n_envs, np.int64)
        """int64[E], how many of them were seen."""
        self._cells: Int32Array = np.full((n_envs, 1, 1), _OUTSIDE, np.int32)
        self._status: ByteArray = np.zeros((n_envs, 1, 1), np.uint8)
        self._colours: IntArray = np.ones((n_envs, 2), np.int64)
        self._obstacles: IntArray = np.zeros((n_envs, n_obstacles, 2), np.int64)
        self._random: WordArray = np.zeros(n_envs, np.uint64)
        self._plans: list[OccupancyGrid] = [OccupancyGrid(np.zeros((0, 0), np.int8))] * n_envs

    @property
    def n_envs(self) -> int:
        """Number of worlds E."""
        return len(self.sources)

    @property
    def coverage(self) -> Any:
        """float64[E], the share of countable cells that was seen."""
        return self.n_seen / self.n_countable

    @property
    def odometry(self) -> Int32Array:
        """int32[E, 3]: rows and columns moved since the start, and the heading."""
        odometry = self.pose.astype(np.int32)
        odometry[:, :2] -= self.start.astype(np.int32)
        return odometry

    def reset(self, env: int, rng: np.random.Generator) -> None:
        """Draw a new map, new colours, and a new start for one world, unless a layout holds them, and look around."""
        drawn = self.sources[env](rng)
        plan = drawn if isinstance(drawn, OccupancyGrid) else OccupancyGrid(drawn.astype(np.int8))
        kinds = check_cells(plan.cells, scale=self.scale)
        self._plans[env] = plan._replace(cells=kinds)
        margin = self.visibility.size
        solid = kinds != OPEN  # what nobody knows looks like a wall and stops an agent, but does not count
        numbers = np.where(solid, np.cumsum(solid.ravel(), dtype=np.int32).reshape(solid.shape), _OPEN)
        cells = self._enlarge(numbers)
        self._make_room(cells.shape[0] + 2 * margin, cells.shape[1] + 2 * margin)
        inner = np.s_[margin : margin + cells.shape[0], margin : margin + cells.shape[1]]
        self.shapes[env] = cells.shape
        self._cells[env], self._status[env] = _OUTSIDE, _UNCOUNTED
        self._cells[env][inner] = cells
        countable = _countable(cells == _OPEN, self._enlarge(kinds == WALL))
        self._status[env][inner] = countable
        self.n_countable[env], self.n_seen[env] = countable.sum(), 0
        free = np.argwhere(cells == _OPEN)
        layout = rng if self._layout_seed is None else np.random.default_rng([self._layout_seed, 1])
        placing = layout if self._start == "fixed" else rng
        self.start[env] = free[placing.integers(len(free))]
        self.pose[env] = (*self.start[env], placing.integers(4))
        self._colours[env] = layout.integers(1, _PRIME, size=2)
        self._random[env] = rng.integers(np.iinfo(np.int64).max)
        others = free[(free != self.start[env]).any(axis=1)]
        n_obstacles = min(self._obstacles.shape[1], len(others))
        self._obstacles[env] = -1
        if n_obstacles:
            self._obstacles[env, :n_obstacles] = rng.choice(others, n_obstacles, replace=False)
            rows, cols = (self._obstacles[env, :n_obstacles] + margin).T
            self._cells[env, rows, cols] = _OBSTACLE
        self._look(np.array([env]))

    def step(self, actions: IntArray) -> IntArray:
        """Move every agent, int64[E] in 0..3; return how many cells each sees for the first time, int64[E].

        A step into something that is not free changes nothing, not even the heading: nobody turns on the spot. A wall
        that was bumped into counts as seen: of some, in dead ends, nobody can catch sight.

        :raises ValueError: if they are no such actions
        """
        before = self.n_seen.copy()
        steps = check_actions(actions, 4, self.n_envs)
        _move(self._cells, self._status, self.pose, steps, self.visibility.size, self.n_seen)
        if self._obstacles.shape[1]:
            _move_obstacles(self._cells, self.pose, self._obstacles, self._random, self.visibility.size)
        if self.recolour:
            _recolour(self._colours, self._random)
        self._look(np.arange(self.n_envs))
        return self.n_seen - before

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next, and what is drawn."""
        return {
            "arrays": {name: getattr(self, name).copy() for name in _STATE},
            "plans": [tuple(plan) for plan in self._plans],
            "next": [getattr(source, "next", None) for source in self.sources],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        for name in _STATE:
            setattr(self, name, state["arrays"][name].copy())
        self._plans = [OccupancyGrid(*plan) for plan in state["plans"]]
        for source, following in zip(self.sources, state["next"], strict=True):
            if following is not None:
                vars(source)["next"] = following

    def free(self, env: int) -> BoolArray:
        """bool[H, W], the cells of one world that are no wall."""
        cells = self._inner(self._cells, env)
        return np.asarray((cells == _OPEN) | (cells == _OBSTACLE))

    def plan(self, env: int) -> OccupancyGrid:
        """One world as it was read or drawn, enlarged, with the size of its cells where the map tells it."""
        plan = self._plans[env]
        return plan._replace(
            cells=self._enlarge(plan.cells),
            resolution=None if plan.resolution is None else plan.resolution / self.scale,
            rooms=None if plan.rooms is None else self._enlarge(plan.rooms),
        )

    def room_of_cell(self, env: int) -> IntArray:
        """int64[H, W], the room of each cell of one world, -1 outside of rooms.

        :raises AttributeError: if its map does not tell
        """
        rooms = self._plans[env].rooms
        if rooms is None:
            raise AttributeError("this map does not tell its rooms")
        return np.asarray(self._enlarge(rooms))

    def countable(self, env: int) -> BoolArray:
        """bool[H, W], the cells of one world that can be covered."""
        return np.asarray(self._inner(self._status, env) != _UNCOUNTED)

    def seen(self, env: int) -> BoolArray:
        """bool[H, W], the countable cells of one world that were seen."""
        return np.asarray(self._inner(self._status, env) == _SEEN)

    def picture(self, env: int) -> ByteArray:
        """uint8[H, W, 3], the colours of one world as they are now."""
        cells = self._inner(self._cells, env).astype(np.int64)
        a, b = self._colours[env]
        codes = np.where(cells > 0, 1 + (a * cells + b) % _PRIME, FREE)
        codes[cells == _OBSTACLE] = OBSTACLE
        rgb: ByteArray = np.stack([codes >> 16, codes >> 8, codes], axis=-1).astype(np.uint8)
        return rgb

    def in_view(self, env: int) -> BoolArray:
        """bool[H, W], the cells of one world that its agent sees now."""
        size = self.visibility.size
        ahead, column = np.nonzero(self.views[env][::-1] != UNKNOWN)
        row, col, heading = self.pose[env]
        aside = column - size // 2
        mask = np.zeros(self.shapes[env], bool)
        rows = row + ahead * STEP_ROWS[heading] + aside * RIGHT_ROWS[heading]
        cols = col + ahead * STEP_COLS[heading] + aside * RIGHT_COLS[heading]
        mask[rows, cols] = True
        return mask

    def _enlarge(self, cells: Any) -> Any:
        return cells.repeat(self.scale, axis=0).repeat(self.scale, axis=1)

    def _inner(self, canvas: Any, env: int) -> Any:
        margin = self.visibility.size
        height, width = self.shapes[env]
        return canvas[env, margin : margin + height, margin : margin + width]

    def _make_room(self, height: int, width: int) -> None:
        """Enlarge the arrays that all worlds share to the largest world."""
        _, old_height, old_width = self._cells.shape
        grow = ((0, 0), (0, max(0, height - old_height)), (0, max(0, width - old_width)))
        if grow[1][1] or grow[2][1]:
            self._cells = np.pad(self._cells, grow, constant_values=_OUTSIDE)
            self._status = np.pad(self._status, grow, constant_values=_UNCOUNTED)

    def _look(self, envs: IntArray) -> None:
        tables = self.visibility
        _observe(
            envs,
            self._cells,
            self._status,
            self.pose,
            self._colours,
            tables.cone,
            tables.shadow,
            self.views,
            self.n_seen,
        )


def _countable(free: BoolArray, walls: BoolArray) -> ByteArray:
    """uint8[H, W], 1 for free cells and for walls that touch one by an edge."""
    near = np.pad(free, 1)
    touched = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:]
    return np.asarray(free | (walls & touched), np.uint8)


@compiled
def _move(cells: Any, status: Any, pose: Any, actions: Any, margin: int, n_seen: Any) -> None:
    for e in range(len(actions)):
        action = actions[e]
        row, col = pose[e, 0] + STEP_ROWS[action], pose[e, 1] + STEP_COLS[action]
        at = cells[e, row + margin, col + margin]
        if at == _OPEN:
            pose[e, 0], pose[e, 1], pose[e, 2] = row, col, action
        elif at != _OBSTACLE and status[e, row + margin, col + margin] == _UNSEEN:
            status[e, row + margin, col + margin] = _SEEN
            n_seen[e] += 1


@compiled
def _move_obstacles(cells: Any, pose: Any, obstacles: Any, random: Any, margin: int) -> None:
    for e in range(len(pose)):
        for k in range(obstacles.shape[1]):
            row, col = obstacles[e, k]
            if row < 0:
                continue
            heading = int(4 * next_random(random, e))
            to_row, to_col = row + STEP_ROWS[heading], col + STEP_COLS[heading]
            if cells[e, to_row + margin, to_col + margin] != _OPEN or (to_row == pose[e, 0] and to_col == pose[e, 1]):
                continue
            cells[e, row + margin, col + margin] = _OPEN
            cells[e, to_row + margin, to_col + margin] = _OBSTACLE
            obstacles[e, k, 0], obstacles[e, k, 1] = to_row, to_col


@compiled
def _recolour(colours: Any, random: Any) -> None:
    for e in range(len(colours)):
        for i in range(2):
            colours[e, i] = 1 + int((_PRIME - 1) * next_random(random, e))


@compiled
def _observe(
    envs: Any, cells: Any, status: Any, pose: Any, colours: Any, cone: Any, shadow: Any, views: Any, n_seen: Any
) -> None:
    size = len(cone)
    walls = np.empty(size, np.uint64)
    seen = np.empty(size, np.uint64)
    half = size // 2
    for e in envs:
        heading = pose[e, 2]
        row0, col0 = pose[e, 0] + size, pose[e, 1] + size
        for f in range(size):
            word = np.uint64(0)
            row = row0 + f * STEP_ROWS[heading] - half * RIGHT_ROWS[heading]
            col = col0 + f * STEP_COLS[heading] - half * RIGHT_COLS[heading]
            for s in range(size):
                if cells[e, row, col] != _OPEN:
                    word |= np.uint64(1) << np.uint64(s)
                row += RIGHT_ROWS[heading]
                col += RIGHT_COLS[heading]
            walls[f] = word
        visible_rows(walls, cone, shadow, seen)
        for f in range(size):
            row = row0 + f * STEP_ROWS[heading] - half * RIGHT_ROWS[heading]
            col = col0 + f * STEP_COLS[heading] - half * RIGHT_COLS[heading]
            word = seen[f]
            for s in range(size):
                code = UNKNOWN
                if (word >> np.uint64(s)) & np.uint64(1):
                    cell = cells[e, row, col]
                    if cell == _OPEN:
                        code = FREE
                    elif cell == _OBSTACLE:
                        code = OBSTACLE
                    elif cell > 0:
                        code = 1 + (colours[e, 0] * cell + colours[e, 1]) % _PRIME
                    if status[e, row, col] == _UNSEEN and cell != _OBSTACLE:
                        status[e, row, col] = _SEEN
                        n_seen[e] += 1
                views[e, size - 1 - f, s] = code
                row += RIGHT_ROWS[heading]
                col += RIGHT_COLS[heading]
