"""An explorer that knows the world: how far from the limit everyone else is."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farl.agents.explorer import Explorers, MapExplorer
from farl.agents.planners import Course, Planners, follow, step_anywhere
from farl.envs.map_world.visibility import visible_rows
from farl.envs.map_world.worlds import MapWorlds
from farl.errors import ConfigError
from farl.maps.compiled import compiled
from farl.maps.geometry import (
    FREE,
    RIGHT_COLS,
    RIGHT_ROWS,
    STEP_COLS,
    STEP_ROWS,
    UNKNOWN,
    Int32Array,
    IntArray,
    WordArray,
)
from farl.maps.planner import Scratch, search, trace
from farl.maps.views import cone_cells, cone_widths, count_known, unknown_ahead

__all__ = ["OracleExplorer"]

_WALL = 1


class Truth(NamedTuple):
    """E worlds as they are, for the kernels, within a margin as wide as the view.

    :ivar free: int32[E, S, S], ``FREE`` where one can walk
    :ivar todo: int32[E, S, S], ``UNKNOWN`` where something is left to see
    :ivar pose: int64[E, 3], row, column and heading of each agent
    :ivar shapes: int64[E, 2], rows and columns of each world
    """

    free: Int32Array
    todo: Int32Array
    pose: IntArray
    shapes: IntArray


class Sight(NamedTuple):
    """What can be seen from a state (``Visibility``), and how states are weighed.

    :ivar widths: int32[V - 1], see ``cone_widths``
    :ivar reluctance: steps added to every way
    """

    cone: WordArray
    shadow: WordArray
    widths: Int32Array
    reluctance: float


class OraclePlanners(Planners):
    """Explorers that read the map and what was seen of it from the worlds themselves."""

    def __init__(self, worlds: MapWorlds, seed: int, reluctance: float) -> None:
        super().__init__(worlds.n_envs, worlds.visibility.size, seed)
        self._worlds, self._reluctance = worlds, float(reluctance)
        self._widths = cone_widths(worlds.visibility.size)
        self._truth: Int32Array = np.zeros((worlds.n_envs, 1, 1), np.int32)
        self._todo: Int32Array = np.zeros((worlds.n_envs, 1, 1), np.int32)
        self._last_seen: IntArray = np.full(worlds.n_envs, -1, np.int64)
        self._work: Any = None

    @property
    def active_memory(self) -> IntArray:
        """int64[E], all cells of each world."""
        return np.asarray(self._worlds.shapes.prod(axis=1))

    def act(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> IntArray:
        """Go where most is left to see for the way, int64[E]."""
        worlds = self._worlds
        margin = worlds.visibility.size
        if starts.any():
            self._read(np.flatnonzero(starts), margin)
        news = worlds.n_seen != self._last_seen
        self._last_seen = worlds.n_seen.copy()
        pose = worlds.pose + np.array([margin, margin, 0])
        truth = Truth(self._truth, self._todo, pose, worlds.shapes)
        sight = Sight(worlds.visibility.cone, worlds.visibility.shadow, self._widths, self._reluctance)
        unfinished = worlds.n_seen < worlds.n_countable
        return np.asarray(_act(truth, sight, codes, news, unfinished, self.course, *self._work))

    def _read(self, envs: IntArray, margin: int) -> None:
        side = int(self._worlds.shapes.max()) + 2 * margin
        if side > self._truth.shape[1]:
            self._truth = np.full((self.n_envs, side, side), _WALL, np.int32)
            self._todo = np.zeros((self.n_envs, side, side), np.int32)
            self._work = (
                (np.zeros((side + 1, side + 1), np.int32), np.zeros((side + 1, side + 1), np.int32)),
                Scratch.of(side),
            )
            envs = np.arange(self.n_envs)
        for env in envs:
            height, width = self._worlds.shapes[env]
            inner = np.s_[margin : margin + height, margin : margin + width]
            free = self._worlds.free(env)
            self._truth[env], self._todo[env] = _WALL, _WALL
            self._truth[env][inner] = np.where(free, FREE, _WALL)
            # What is left to see is "unknown", so that the counts of the explorers serve here too.
            left = self._worlds.countable(env) & ~self._worlds.seen(env)
            self._todo[env][inner] = np.where(left, UNKNOWN, _WALL)
            self.progress[env] = 0


class OracleExplorer(MapExplorer):
    """Greedy cover of a known map: the view with the most unseen cells, over the steps to it plus ``reluctance``.

    It is no bound - a better tour may exist - but shows what knowing the map is worth. Needs a ``MapWorldVecEnv``.

    :param reluctance: steps
    :raises ConfigError: if the environment does not show its worlds
    """

    def __init__(self, policy: Any = "MapPolicy", env: Any = None, reluctance: float = 5.0, **kwargs: Any) -> None:
        self.reluctance = reluctance
        super().__init__(policy, env, **kwargs)

    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        worlds = getattr(self.env.unwrapped if self.env is not None else None, "worlds", None)
        if not isinstance(worlds, MapWorlds) or worlds.n_envs != n_envs:
            raise ConfigError("the oracle reads the map from its environment: give it a MapWorldVecEnv")
        return OraclePlanners(worlds, seed, self.reluctance)


@compiled
def _act(
    worlds: Truth, sight: Sight, codes: Any, news: Any, unfinished: Any, course: Course, counts: Any, scratch: Any
) -> Any:
    truth, todo, pose, shapes = worlds.free, worlds.todo, worlds.pose, worlds.shapes
    plan, progress, random = course.plan, course.progress, course.random
    cone, shadow, widths, reluctance = sight.cone, sight.shadow, sight.widths, sight.reluctance
    actions = np.empty(len(pose), np.int64)
    size = len(cone)
    walls, seen = np.empty(size, np.uint64), np.empty(size, np.uint64)
    by_row, by_col = counts
    for e in range(len(pose)):
        _strike_out(todo[e], codes[e], pose[e])
        if news[e]:
            progress[e, 1] = 0
        action = follow(truth, pose, plan, progress, e) if unfinished[e] else step_anywhere(truth, pose, random, e)
        if action < 0:
            box = np.array([size, size + shapes[e, 0] - 1, size, size + shapes[e, 1] - 1])
            count_known(todo[e], box, by_row, by_col)
            n = search(truth[e], pose[e, 0], pose[e, 1], -1, -1, scratch)
            distance, queue = scratch.distance, scratch.queue
            best, best_row, best_col, best_heading = 0.0, -1, -1, -1
            most = cone_cells(widths)
            for i in range(n):
                row, col = queue[i]
                steps = distance[row, col] + 1 + reluctance
                if most / steps <= best:
                    break  # even a view of nothing but unseen cells would not make up for the way
                for heading in range(4):
                    r, c = row + STEP_ROWS[heading], col + STEP_COLS[heading]
                    if truth[e, r, c] != FREE:
                        continue
                    at_most = unknown_ahead(r, c, heading, box, by_row, by_col, widths) - _off_map(
                        r, c, heading, box, widths
                    )
                    if at_most / steps > best:
                        gain = _shown(truth[e], todo[e], r, c, heading, cone, shadow, walls, seen)
                        if gain / steps > best:
                            best, best_row, best_col, best_heading = gain / steps, row, col, heading
            progress[e, 0], progress[e, 1] = 0, 0
            if best_heading >= 0:
                length = trace(best_row, best_col, scratch, plan[e])
                if length < plan.shape[1]:
                    plan[e, length] = best_heading
                    length += 1
                progress[e, 1] = length
            action = follow(truth, pose, plan, progress, e)
            if action < 0:
                action = step_anywhere(truth, pose, random, e)
        actions[e] = action
    return actions


@compiled
def _strike_out(todo: Any, codes: Any, pose: Any) -> None:
    """Take what is in view off the list."""
    size = len(codes)
    heading = pose[2]
    for f in range(size):
        for j in range(size):
            if codes[size - 1 - f, j] != UNKNOWN:
                s = j - size // 2
                row = pose[0] + f * STEP_ROWS[heading] + s * RIGHT_ROWS[heading]
                col = pose[1] + f * STEP_COLS[heading] + s * RIGHT_COLS[heading]
                todo[row, col] = _WALL


@compiled
def _off_map(row: int, col: int, heading: int, box: Any, widths: Any) -> int:
    """Cells of the cone ahead that lie outside the world: ``unknown_ahead`` counts them as unknown."""
    n = 0
    for i in range(len(widths)):
        r, c = row + (i + 1) * STEP_ROWS[heading], col + (i + 1) * STEP_COLS[heading]
        if not (box[0] <= r <= box[1] and box[2] <= c <= box[3]):
            n += 2 * widths[i] + 1
        elif heading < 2:
            n += max(0, box[2] - (c - widths[i])) + max(0, c + widths[i] - box[3])
        else:
            n += max(0, box[0] - (r - widths[i])) + max(0, r + widths[i] - box[1])
    return n


@compiled
def _shown(
    truth: Any, todo: Any, row: int, col: int, heading: int, cone: Any, shadow: Any, walls: Any, seen: Any
) -> int:
    """How many cells that are left to see a state would show."""
    size = len(cone)
    half = size // 2
    one = np.uint64(1)
    for f in range(size):
        word = np.uint64(0)
        for j in range(size):
            r = row + f * STEP_ROWS[heading] + (j - half) * RIGHT_ROWS[heading]
            c = col + f * STEP_COLS[heading] + (j - half) * RIGHT_COLS[heading]
            if truth[r, c] != FREE:
                word |= one << np.uint64(j)
        walls[f] = word
    visible_rows(walls, cone, shadow, seen)
    gain = 0
    for f in range(size):
        word = seen[f]
        for j in range(size):
            if (word >> np.uint64(j)) & one:
                r = row + f * STEP_ROWS[heading] + (j - half) * RIGHT_ROWS[heading]
                c = col + f * STEP_COLS[heading] + (j - half) * RIGHT_COLS[heading]
                gain += todo[r, c] == UNKNOWN
    return gain
