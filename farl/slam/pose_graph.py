"""A graph of poses, put right by least squares; closures that contradict the rest are undone.

Source: Lu and Milios, "Globally consistent range scan alignment for environment mapping", Autonomous Robots 1997.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.sparse import csr_matrix

from farl.slam.poses import between

FloatArray = npt.NDArray[np.float64]

CONTRADICTION = 16.27
"""Squared Mahalanobis length above which an edge contradicts the others: the .999 quantile, 3 degrees of freedom."""


class Edge(NamedTuple):
    """What is known of two frames.

    :ivar a: the one
    :ivar b: the other
    :ivar relative: float64[3], pose of ``b`` in the frame of ``a``
    :ivar covariance: float64[3, 3], of that pose
    :ivar closure: it may be wrong: it was recognised, not driven
    """

    a: int
    b: int
    relative: FloatArray
    covariance: FloatArray
    closure: bool


class PoseGraph:
    """Frames and what is known of pairs of them. The first frame stays where it is."""

    def __init__(self) -> None:
        self.poses: dict[int, FloatArray] = {}
        """float64[3] of each frame, in that of the first."""
        self.edges: list[Edge] = []
        self._covariance: FloatArray | None = None
        self._rows: dict[int, int] = {}

    def add(self, frame: int, pose: npt.ArrayLike) -> None:
        """Add a frame at a pose."""
        self.poses[frame] = np.asarray(pose, np.float64)
        self._covariance = None

    def join(self, edge: Edge) -> None:
        """Add an edge."""
        self.edges.append(edge)
        self._covariance = None

    def remove(self, frame: int) -> None:
        """Take a frame out, with its edges; its neighbours are joined by what it told of them.

        What rests on a closure may be wrong, and stays a closure.
        """
        beside: list[Edge] = []
        # What was driven comes first: it holds the graph together when closures are undone.
        for edge in sorted((edge for edge in self.edges if frame in (edge.a, edge.b)), key=lambda edge: edge.closure):
            seen = _seen_from(edge, frame)
            if all(seen.b != other.b for other in beside):
                beside.append(seen)
        self.edges = [edge for edge in self.edges if frame not in (edge.a, edge.b)]
        for one, other in itertools.pairwise(beside):
            relative = between(one.relative, other.relative)
            by_one, by_other = (each[0] for each in _derivatives(one.relative[None], other.relative[None]))
            spread = by_one @ one.covariance @ by_one.T + by_other @ other.covariance @ by_other.T
            self.edges.append(Edge(one.b, other.b, relative, spread, one.closure or other.closure))
        del self.poses[frame]
        self._covariance = None

    def close(self, edge: Edge) -> bool:
        """Add a closure and put all poses right, without those closures that contradict the rest.

        :return: whether the new one is among those kept
        """
        self.join(edge)
        while True:
            self.optimise()
            chi = self.contradictions()
            if not len(chi) or chi.max() <= CONTRADICTION:
                return any(one is edge for one in self.edges)
            # Whatever edge shows it: a closure is to blame, the one without which all else agrees best.
            suspects = [i for i, one in enumerate(self.edges) if one.closure]
            if not suspects:
                return False
            del self.edges[min(reversed(suspects), key=self._cost_without)]

    def _cost_without(self, left_out: int) -> float:
        """By how much all edges but one contradict each other."""
        rest = PoseGraph()
        rest.poses = dict(self.poses)
        rest.edges = [edge for i, edge in enumerate(self.edges) if i != left_out]
        rest.optimise()
        return float(rest.contradictions().sum())

    def contradictions(self) -> FloatArray:
        """float64[n], of each edge its squared Mahalanobis distance from the poses as they are."""
        if not self.edges:
            return np.zeros(0)
        arrays = _Arrays(self)
        rest = arrays.residuals(arrays.start).reshape(-1, 3)
        return np.asarray((rest**2).sum(axis=1))

    def optimise(self) -> None:
        """Put all poses right by least squares."""
        self._covariance = None
        if len(self.poses) < 2 or not self.edges:
            return
        arrays = _Arrays(self)
        found = least_squares(arrays.residuals, arrays.start, arrays.jacobian, method="trf", x_scale=1.0, max_nfev=30)
        for frame, row in arrays.rows.items():
            if row >= 0:
                self.poses[frame] = found.x[3 * row : 3 * row + 3]
                self.poses[frame][2] = (self.poses[frame][2] + np.pi) % (2 * np.pi) - np.pi

    def relative(self, a: int, b: int) -> tuple[FloatArray, FloatArray]:
        """Pose of frame ``b`` in that of ``a``, float64[3], and its covariance, float64[3, 3], by all edges."""
        pose = between(self.poses[a], self.poses[b])
        if a == b or not self.edges:
            return pose, np.zeros((3, 3))
        if self._covariance is None:
            arrays = _Arrays(self)
            jacobian = arrays.jacobian(arrays.start).toarray()
            information = jacobian.T @ jacobian + 1e-9 * np.eye(jacobian.shape[1])
            self._covariance, self._rows = np.linalg.inv(information), arrays.rows
        blocks, rows = _derivatives(self.poses[a][None], self.poses[b][None]), (self._rows[a], self._rows[b])
        covariance = np.zeros((3, 3))
        for left, i in zip(blocks, rows, strict=True):
            for right, j in zip(blocks, rows, strict=True):
                if i >= 0 and j >= 0:
                    part = self._covariance[3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
                    covariance += left[0] @ part @ right[0].T
        return pose, covariance

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as numbers and lists."""
        return {
            "poses": {frame: pose.tolist() for frame, pose in self.poses.items()},
            "edges": [
                [edge.a, edge.b, edge.relative.tolist(), edge.covariance.tolist(), edge.closure] for edge in self.edges
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.poses = {int(frame): np.array(pose) for frame, pose in state["poses"].items()}
        self.edges = [Edge(int(a), int(b), np.array(r), np.array(c), bool(k)) for a, b, r, c, k in state["edges"]]
        self._covariance = None


def _seen_from(edge: Edge, frame: int) -> Edge:
    """The same edge, from one of its ends."""
    if edge.a == frame:
        return edge
    turned = _derivatives(edge.relative[None], np.zeros((1, 3)))[0][0]
    relative = between(edge.relative, np.zeros(3))
    return Edge(frame, edge.a, relative, turned @ edge.covariance @ turned.T, edge.closure)


class _Arrays:
    """A graph as arrays; variables are the poses of all frames but the first."""

    def __init__(self, graph: PoseGraph) -> None:
        frames = list(graph.poses)
        self.rows = {frame: row - 1 for row, frame in enumerate(frames)}
        self.first = graph.poses[frames[0]]
        self.start = np.concatenate([graph.poses[frame] for frame in frames[1:]]) if len(frames) > 1 else np.zeros(0)
        self.a = np.array([self.rows[edge.a] for edge in graph.edges])
        self.b = np.array([self.rows[edge.b] for edge in graph.edges])
        self.relative = np.array([edge.relative for edge in graph.edges])
        self.whiten = np.linalg.inv(np.linalg.cholesky(np.array([edge.covariance for edge in graph.edges])))

    def residuals(self, x: FloatArray) -> FloatArray:
        poses = np.vstack([x.reshape(-1, 3), self.first])  # row -1 is the first frame
        rest = between(poses[self.a], poses[self.b]) - self.relative
        rest[:, 2] = (rest[:, 2] + np.pi) % (2 * np.pi) - np.pi
        return np.asarray(np.einsum("nij,nj->ni", self.whiten, rest).ravel())

    def jacobian(self, x: FloatArray) -> Any:
        poses = np.vstack([x.reshape(-1, 3), self.first])
        rows, cols, values = [], [], []
        for block, ends in zip(_derivatives(poses[self.a], poses[self.b]), (self.a, self.b), strict=True):
            weighted = self.whiten @ block
            moves = ends >= 0
            at = np.flatnonzero(moves)
            rows.append(np.repeat(3 * at[:, None] + np.arange(3), 3, axis=1).ravel())
            cols.append(np.tile(3 * ends[moves][:, None] + np.arange(3), (1, 3)).ravel())
            values.append(weighted[moves].ravel())
        shape = (3 * len(self.a), len(x))
        return csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=shape)


def _derivatives(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of ``between(a, b)`` by ``a`` and by ``b``, float64[n, 3, 3] each."""
    cos, sin = np.cos(a[:, 2]), np.sin(a[:, 2])
    by_b = np.zeros((len(a), 3, 3))
    by_b[:, 0, 0], by_b[:, 0, 1], by_b[:, 1, 0], by_b[:, 1, 1], by_b[:, 2, 2] = cos, sin, -sin, cos, 1.0
    by_a = -by_b
    inside = between(a, b)
    by_a[:, 0, 2], by_a[:, 1, 2] = inside[:, 1], -inside[:, 0]
    return by_a, by_b
