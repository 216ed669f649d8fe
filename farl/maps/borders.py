"""Recall by crossing a border: FARMap's way of taking up a stored map again (FARMap, section 3.2).

A border is the line of known free cells through a fracture point, across the heading there. Whoever crosses it with
that heading leaves the old fragment for the new one; whoever crosses it the other way comes back.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from farl.fragmentation import Recall, Recognition, Sight
from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, OPPOSITE, RIGHT_COLS, RIGHT_ROWS, IntArray
from farl.maps.local_map import LocalMap, LocalMaps
from farl.memory import LongTermMemory


class Border(NamedTuple):
    """One border of a fragment, as seen from its inside; rows and columns are those of the odometry.

    :ivar target: the fragment on the other side
    :ivar row: the fracture point's row
    :ivar col: the fracture point's column
    :ivar heading: that crosses to the other side
    :ivar left: border cells to the left of that heading
    :ivar right: border cells to the right of it
    """

    target: int
    row: int
    col: int
    heading: int
    left: int
    right: int


class BorderRecall(Recall):
    """Recalls the fragment on the other side of a border when an agent crosses it.

    :param memory: its graph holds the borders, as data of its edges
    :param maps: the local maps, which hold what is seen before a fracture is judged
    """

    def __init__(self, memory: LongTermMemory[LocalMap], maps: LocalMaps) -> None:
        self.memory = memory
        self.maps = maps
        self.trip: IntArray = np.full(maps.n_envs, -1, np.int64)
        """int64[E], a fragment that is recalled at its fracture point whatever the heading; -1 for none."""
        self.table: IntArray = np.zeros((maps.n_envs, 8, 6), np.int64)
        """int64[E, B, 6], the borders of each active fragment, as ``Border``."""
        self.count: IntArray = np.zeros(maps.n_envs, np.int64)
        """int64[E], how many borders each active fragment has."""
        self._stale = False
        memory.on_evict.append(self._evicted)

    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        """Return the fragment across the border on which the agent stands with the border's heading, else -1."""
        if self._stale:
            self.enter(np.arange(len(active)), active)
        return Recognition(np.asarray(_crossed(envs, sight.position, self.table, self.count, self.trip)))

    def edge(self, sight: Sight, env: int, old: int) -> dict[str, Any]:
        """Describe the border: the fracture point, its extent to either side, and the fragment that is left."""
        sides = (_extent(self.maps.label[env], self.maps.pose[env], side) for side in (-1, 1))
        left, right = (int(side) for side in sides)
        return super().edge(sight, env, old) | {"left": left, "right": right, "source": old}

    def enter(self, envs: IntArray, active: IntArray) -> None:
        """Look up the borders of the active fragments, int64[E], of ``envs`` that changed theirs."""
        self._stale = self._stale and len(envs) < len(active)
        for env in envs:
            borders = self.borders(int(active[env]))
            if len(borders) > self.table.shape[1]:
                self.table = np.pad(self.table, ((0, 0), (0, 2 * len(borders) - self.table.shape[1]), (0, 0)))
            self.count[env] = len(borders)
            if borders:
                self.table[env, : len(borders)] = borders
            self.trip[env] = -1

    def borders(self, fragment_id: int) -> list[Border]:
        """The borders of a fragment."""
        found = []
        for a, b, edge in self.memory.graph.edges(fragment_id, data=True):
            target = int(b if a == fragment_id else a)
            row, col, heading = edge["position"]
            if edge["source"] == fragment_id:
                found.append(Border(target, row, col, heading, edge["left"], edge["right"]))
            else:
                found.append(Border(target, row, col, int(OPPOSITE[heading]), edge["right"], edge["left"]))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the trips under way; the borders lie in the memory's graph."""
        return {"trip": torch.from_numpy(self.trip.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; ``enter`` must follow."""
        self.trip = state["trip"].cpu().numpy().copy()

    def _evicted(self, fragment_id: int) -> None:
        self._stale = True


@compiled
def _crossed(envs: Any, odometry: Any, table: Any, count: Any, trip: Any) -> npt.NDArray[np.int64]:
    found = np.full(len(envs), -1, np.int64)
    for i in range(len(envs)):
        e = envs[i]
        row, col, heading = odometry[e]
        for k in range(count[e]):
            target, border_row, border_col, border_heading, left, right = table[e, k]
            if target == trip[e] and row == border_row and col == border_col:
                found[i] = target
                break
            if heading != border_heading:
                continue
            down, across = row - border_row, col - border_col
            along = down * RIGHT_ROWS[heading] + across * RIGHT_COLS[heading]
            off = down * RIGHT_COLS[heading] - across * RIGHT_ROWS[heading]
            if off == 0 and -left <= along <= right:
                found[i] = target
                break
    return found


@compiled
def _extent(label: Any, pose: Any, side: int) -> int:
    """How many known free cells lie in an unbroken line beside an agent, to its right (1) or left (-1)."""
    heading = pose[2]
    row, col = pose[0], pose[1]
    n = -1
    while label[row, col] == FREE:
        row += side * RIGHT_ROWS[heading]
        col += side * RIGHT_COLS[heading]
        n += 1
    return n
