"""Who has been where: each agent in its episode or its life, and all together."""

from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt
import torch

_compiled = numba.njit(cache=True)
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Scope = Literal["episode", "life", "all"]


class Visits:
    """Counts visits to places.

    :param n_envs: number of agents E
    :param scope: an agent's first visit is its first in the ``"episode"``, in its ``"life"``, or the first of ``"all"``
    """

    def __init__(self, n_envs: int, scope: Scope) -> None:
        self.scope = scope
        self.counts = np.zeros(0, np.int64)
        """int64[n], visits of all agents to each place."""
        self.start(n_envs)

    def start(self, n_envs: int) -> None:
        """Begin with E agents, none of which has been anywhere; what all have visited together stays."""
        rows = n_envs if self.scope != "all" else 0
        self._been = np.zeros((rows, len(self.counts)), bool)  # [E, n]

    def visit(self, places: IntArray, starts: BoolArray, n_places: int) -> BoolArray:
        """Take note of one visit of each agent and return which are first ones, bool[E].

        :param places: int64[E]
        :param starts: bool[E], where an episode starts anew
        :param n_places: number of places there are by now
        """
        self._make_room(n_places)
        if self.scope == "all":
            _, first_row = np.unique(places, return_index=True)
            first = np.zeros(len(places), bool)
            first[first_row] = self.counts[places[first_row]] == 0
        else:
            if self.scope == "episode" and starts.any():
                self._been[starts] = False
            first = _first_of_each(self._been, places)
        _count(self.counts, places)
        return first

    def merge(self, become: IntArray, n_places: int) -> None:
        """Let places be what they have become, int64[n]."""
        counts, been = np.zeros(n_places, np.int64), np.zeros((len(self._been), n_places), bool)
        held = min(len(become), len(self.counts))  # either may be ahead: of places just found, or of spare room
        np.add.at(counts, become[:held], self.counts[:held])
        agents, places = np.nonzero(self._been[:, :held])
        been[agents, become[places]] = True
        self.counts, self._been = counts, been

    def state_dict(self) -> dict[str, Any]:
        """Return counts, and where each agent has been."""
        return {"counts": torch.from_numpy(self.counts.copy()), "been": torch.from_numpy(self._been.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; with another number of agents, none has been anywhere."""
        self.counts = state["counts"].cpu().numpy().copy()
        been = state["been"].cpu().numpy().copy()
        self._been = been if len(been) == len(self._been) else np.zeros((len(self._been), len(self.counts)), bool)

    def _make_room(self, n_places: int) -> None:
        more = n_places - len(self.counts)
        if more > 0:
            more = max(more, len(self.counts))
            self.counts = np.concatenate([self.counts, np.zeros(more, np.int64)])
            self._been = np.concatenate([self._been, np.zeros((len(self._been), more), bool)], axis=1)


@_compiled
def _first_of_each(been: BoolArray, places: IntArray) -> BoolArray:
    """Note that each of E agents is at its place; return which have not been there before."""
    first = np.zeros(len(places), np.bool_)
    for env in range(len(places)):
        first[env] = not been[env, places[env]]
        been[env, places[env]] = True
    return first


@_compiled
def _count(counts: IntArray, places: IntArray) -> None:
    for place in places:
        counts[place] += 1
