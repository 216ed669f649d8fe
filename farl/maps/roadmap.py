"""The ways between fragments: landmarks, the steps between them, and the goals that stored fragments hold.

A landmark is a free cell by which fragments that both know it are joined: the fracture points, and the cells of a wide
grid over the world. What lies between the landmarks and the goals of one fragment is measured once, when the fragment
is left; the ways across fragments are put together from that (a probabilistic roadmap's idea, Kavraki et al. 1996, with
measured instead of sampled ways).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from farl.maps.compiled import compiled
from farl.maps.geometry import ByteArray, Int32Array, IntArray

FAR = 1 << 28
"""Distance of what cannot be reached."""
NOTHING, LANDMARK, GOAL = 0, 1, 2
"""Kinds of vertices."""
_TILT = 5


@compiled
def on_grid(row: int, col: int) -> bool:
    """Whether a cell by the odometry belongs to the grid of landmarks, one cell of 26.

    The grid is square, but turned against rows and columns: a narrow corridor cannot run between its lines.
    """
    return (_TILT * row + col) % (_TILT * _TILT + 1) == 0


class Roads(NamedTuple):
    """The graphs of E agents as kernels take them; the first four arrays are those of ``Roadmaps``.

    :ivar kind: uint8[E, P]
    :ivar place: int32[E, P, 5]
    :ivar degree: int32[E, P]
    :ivar edges: int32[E, P, D, 4]
    :ivar near: int32[E, P], the landmarks that the current map can hold
    :ivar nearby: int32[E, 4], how many those are (-1: to be listed anew), the highest gain of any goal, and row and
        column where they were listed
    :ivar seen: int32[P + 1], for each vertex the search that reached it last; the last entry counts the searches
    :ivar reach: int32[P, 4], its steps, and the landmark where the agent's fragment is left for it, the heading there,
        and the fragment that is taken up
    """

    kind: ByteArray
    place: Int32Array
    degree: Int32Array
    edges: Int32Array
    near: Int32Array
    nearby: Int32Array
    seen: Int32Array
    reach: Int32Array


class Roadmaps:
    """The graphs of E agents; vertices are landmarks and goals, edges the ways inside stored fragments.

    :param n_envs: number of agents E
    """

    def __init__(self, n_envs: int) -> None:
        self.kind: ByteArray = np.zeros((n_envs, 64), np.uint8)
        """uint8[E, P], what each vertex is."""
        self.place: Int32Array = np.zeros((n_envs, 64, 5), np.int32)
        """int32[E, P, 5], row and column by the odometry; of goals also heading, gain when last counted, and
        fragment."""
        self.degree: Int32Array = np.zeros((n_envs, 64), np.int32)
        """int32[E, P], how many edges each vertex has."""
        self.edges: Int32Array = np.zeros((n_envs, 64, 8, 4), np.int32)
        """int32[E, P, D, 4], the vertex that is reached, the steps, the heading of the first one, and the fragment in
        whose map they are."""
        self._make_work_space()

    @property
    def state(self) -> Roads:
        """The graphs, and the work space of the searches over them."""
        return Roads(self.kind, self.place, self.degree, self.edges, self._near, self._nearby, self._seen, self._reach)

    @property
    def nbytes(self) -> int:
        """Bytes, as allocated, of all of it."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def mark(self, env: int, row: int, col: int) -> None:
        """Make a cell a landmark: a fracture point."""
        at = np.array([[row, col]], np.int64)
        self.join(env, -1, at, self.find(env, at), np.zeros((0, 4), np.int64), np.zeros((1, 1, 2), np.int32))

    def find(self, env: int, cells: IntArray) -> IntArray:
        """The landmarks at cells, int64[K, 2]; -1 where there is none."""
        return np.asarray(_find(self.kind[env], self.place[env], cells))

    def landmarks(self, env: int) -> IntArray:
        """int64[K, 2], the cells of an agent's landmarks."""
        return self.place[env, self.kind[env] == LANDMARK, :2].astype(np.int64)

    def join(
        self,
        env: int,
        fragment_id: int,
        cells: IntArray,
        numbers: IntArray,
        goals: IntArray,
        ways: Int32Array,
    ) -> None:
        """Take in what was measured in a fragment, in place of the goals that it had.

        :param cells: int64[K, 2], its landmarks
        :param numbers: int64[K], their vertices, -1 for those that are new
        :param goals: int64[G, 4], row, column, heading and gain of its goals
        :param ways: int32[K, K + G, 2], steps from its landmarks to all landmarks and goals, and their first headings
        """
        self.forget_goals(env, fragment_id)
        room = int((self.kind[env] == NOTHING).sum())
        if room < len(cells) + len(goals):
            self._widen(1, self.kind.shape[1] + len(cells) + len(goals))
        vertices = _settle(self.kind[env], self.place[env], self.degree[env], fragment_id, cells, numbers, goals)
        while not _link(self.degree[env], self.edges[env], fragment_id, vertices, ways):
            self._widen(2, 0)

    def forget_goals(self, env: int, fragment_id: int) -> None:
        """Take a fragment's goals out."""
        self._nearby[env, 0] = -1
        _forget(self.kind[env], self.place[env], self.degree[env], self.edges[env], fragment_id, False)

    def forget(self, env: int, fragment_id: int) -> None:
        """Take out the goals of a fragment and all ways that are known from its map."""
        self._nearby[env, 0] = -1
        _forget(self.kind[env], self.place[env], self.degree[env], self.edges[env], fragment_id, True)

    def clear(self, envs: IntArray) -> None:
        """Forget all of these agents."""
        self.kind[envs], self.degree[envs], self._nearby[envs, 0] = NOTHING, 0, -1

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as tensors."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name in _ARRAYS:
            setattr(self, name, state[name].cpu().numpy().copy())
        self._make_work_space()

    def _widen(self, axis: int, least: int) -> None:
        """At least double the number of vertices (axis 1) or of edges at each (axis 2)."""
        for name in _ARRAYS if axis == 1 else ("edges",):
            array = getattr(self, name)
            grow = [(0, 0)] * array.ndim
            grow[axis] = (0, max(array.shape[axis], least - array.shape[axis]))
            setattr(self, name, np.pad(array, grow))
        self._make_work_space()

    def _make_work_space(self) -> None:
        n_envs, n_vertices = self.kind.shape
        self._near: Int32Array = np.zeros((n_envs, n_vertices), np.int32)
        self._nearby: Int32Array = np.full((n_envs, 4), -1, np.int32)
        self._seen: Int32Array = np.zeros(n_vertices + 1, np.int32)
        self._reach: Int32Array = np.zeros((n_vertices, 4), np.int32)


_ARRAYS = ("kind", "place", "degree", "edges")


@compiled
def _find(kind: Any, place: Any, cells: Any) -> Any:
    found = np.full(len(cells), -1, np.int64)
    for k in range(len(cells)):
        for vertex in range(len(kind)):
            if kind[vertex] == LANDMARK and place[vertex, 0] == cells[k, 0] and place[vertex, 1] == cells[k, 1]:
                found[k] = vertex
                break
    return found


@compiled
def _settle(kind: Any, place: Any, degree: Any, fragment_id: int, cells: Any, numbers: Any, goals: Any) -> Any:
    """Give new landmarks and goals their vertices; return those of all landmarks and goals, int64[K + G]."""
    vertices = np.empty(len(cells) + len(goals), np.int64)
    free = 0
    for k in range(len(vertices)):
        if k < len(numbers) and numbers[k] >= 0:
            vertices[k] = numbers[k]
            continue
        while kind[free] != NOTHING:
            free += 1
        vertices[k], degree[free] = free, 0
        if k < len(cells):
            kind[free], place[free, 0], place[free, 1] = LANDMARK, cells[k, 0], cells[k, 1]
        else:
            kind[free], place[free, 4] = GOAL, fragment_id
            for i in range(4):
                place[free, i] = goals[k - len(cells), i]
    return vertices


@compiled
def _link(degree: Any, edges: Any, fragment_id: int, vertices: Any, ways: Any) -> bool:
    """Draw the edges, but none where another landmark lies on the way; False if a vertex has no room for one more."""
    n = len(ways)
    for i in range(n):
        for j in range(len(vertices)):
            steps = ways[i, j, 0]
            if i == j or steps >= FAR:
                continue
            relayed = False
            for k in range(n):
                if k not in (i, j) and ways[i, k, 0] + ways[k, j, 0] <= steps:
                    relayed = True
                    break
            if relayed:
                continue
            vertex, at = vertices[i], 0
            while at < degree[vertex] and edges[vertex, at, 0] != vertices[j]:
                at += 1
            if at == degree[vertex]:
                if at == edges.shape[1]:
                    return False
                degree[vertex] += 1
            elif edges[vertex, at, 1] <= steps:
                continue
            edge = edges[vertex, at]
            edge[0], edge[1], edge[2], edge[3] = vertices[j], steps, ways[i, j, 1], fragment_id
    return True


@compiled
def _forget(kind: Any, place: Any, degree: Any, edges: Any, fragment_id: int, ways: bool) -> None:
    for vertex in range(len(kind)):
        if kind[vertex] != LANDMARK:
            continue
        at = 0
        while at < degree[vertex]:
            to = edges[vertex, at, 0]
            if (kind[to] == GOAL and place[to, 4] == fragment_id) or (ways and edges[vertex, at, 3] == fragment_id):
                degree[vertex] -= 1
                for i in range(4):
                    edges[vertex, at, i] = edges[vertex, degree[vertex], i]
            else:
                at += 1
        if ways and degree[vertex] == 0:
            kind[vertex] = NOTHING
    for vertex in range(len(kind)):
        if kind[vertex] == GOAL and place[vertex, 4] == fragment_id:
            kind[vertex] = NOTHING
