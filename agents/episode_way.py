"""What it takes to draw the first of many worlds: its walls, the way its explorer went, and what it knew at the end."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from farl.maps.geometry import FREE, BoolArray, Int32Array, IntArray
from farl.plain import from_plain, to_plain

_LONGEST = 20_000  # steps that are kept: an episode may go on for ever


class ExploredWorld(NamedTuple):
    """A world as an explorer knew it.

    :ivar walls: bool[H, W]
    :ivar start: row and column in it where the odometry is 0
    :ivar way: int64[T, 2], rows and columns of the last steps
    :ivar fragments: the maps by id (``LocalMap``), those with free cells alone
    :ivar graph: joins fragments by edges with the ``position`` of the fracture points, by the odometry
    :ivar complete: whether the episode had ended
    """

    walls: BoolArray
    start: tuple[int, int]
    way: IntArray
    fragments: Mapping[int, Mapping[str, Any]]
    graph: "nx.MultiGraph"
    complete: bool


class EpisodeWay:
    """The first world of a vector of map worlds, followed step by step."""

    def __init__(self) -> None:
        self.last: ExploredWorld | None = None
        """The last episode that ended in it."""
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

    def state_dict(self) -> Any:
        """Return all of it as plain data."""
        last = None
        if self.last is not None:
            graph = self.last.graph
            joined = [list(graph.nodes(data=True)), list(graph.edges(keys=True, data=True))]
            last = self.last._replace(fragments=dict(self.last.fragments), graph=joined)
        return to_plain({"walls": self.walls, "start": self.start, "way": self._way, "last": last and tuple(last)})

    def load_state_dict(self, state: Any) -> None:
        """Restore what ``state_dict`` returned."""
        found = from_plain(state)
        self.walls, self.start, self._way, self.last = found["walls"], found["start"], found["way"], None
        if found["last"] is not None:
            graph = nx.MultiGraph()
            last = ExploredWorld(*found["last"])
            nodes, edges = last.graph
            graph.add_nodes_from(nodes)
            graph.add_edges_from(edges)
            self.last = last._replace(graph=graph)

    def world(
        self, known: Mapping[int, Mapping[str, Any]], graph: "nx.MultiGraph", complete: bool
    ) -> ExploredWorld | None:
        """Return the world of this episode; None where nothing is known of it, or it does not tell its walls.

        :param known: the explorer's maps by id
        :param graph: graph of all explorers
        """
        known = {key: stored for key, stored in known.items() if (stored["label"] == FREE).any()}
        if self.walls is None or not known:
            return None
        return ExploredWorld(self.walls, self.start, self.way, known, graph.subgraph(known).copy(), complete)
