"""Where each agent is to go next, and the way there."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from farl.recognition.graph import PlaceGraph, reversed_edges
from farl.recognition.guidance import choose, lead, say
from farl.recognition.preference import Preference

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

_NOWHERE = -1


class Advice(NamedTuple):
    """What a guide says to E agents.

    :ivar actions: int64[E], the first action on the way; at the target, one that was not tried there; -1 where nothing
        can be advised
    :ivar gained: float64[E], hops by which each agent has come nearer to its target; 0 where the target is a new one
    """

    actions: IntArray
    gained: npt.NDArray[np.float64]


class Guide:
    """Leads agents to places with an untried action, near and promising ones first, each to its own; there it advises
    that action.

    Frontiers of a graph of places, as Ecoffet et al. return to the cells of an archive before they explore ("First
    return, then explore", Nature 2021), without resets or a simulator's state. A target is given up when it was
    reached, when no way leads to it from where the agent is, or after twice its distance and twenty steps more. It has
    been picked in vain, and comes later the next time, unless the agent then stands at a new place.

    :param n_envs: number of agents E
    :param n_actions: number of actions
    :param gamma: factor by which a target loses with every hop
    """

    def __init__(self, n_envs: int, n_actions: int, gamma: float = 0.97) -> None:
        self.gamma = gamma
        self.preference = Preference(n_envs, n_actions)
        """Which untried action is tried first."""
        self.start(n_envs)

    def start(self, n_envs: int) -> None:
        """Begin with E agents, none of which has a target; what is known of the actions stays."""
        self.preference.start(n_envs)
        self.targets: IntArray = np.full(n_envs, _NOWHERE)
        """int64[E], the place that each agent is to reach, -1 while there is none."""
        self._patience: IntArray = np.zeros(n_envs, np.int64)
        self._distance: IntArray = np.full(n_envs, -1)  # of the last place of each agent from its target
        self._hops: Int32Array = np.full((n_envs, 0), -1, np.int32)
        self._ways: Int32Array = np.full((n_envs, 0), -1, np.int32)
        # Both as of so many changes of the graph: its edges backwards, and places from where nothing can be reached.
        self._reversed: tuple[int, Int32Array, Int32Array] | None = None
        self._exhausted: tuple[int, BoolArray] = (-1, np.zeros(0, np.bool_))
        self._searched: tuple[Int32Array, Int32Array] = (np.zeros(0, np.int32), np.zeros(0, np.int32))

    def advise(self, graph: PlaceGraph, places: IntArray, starts: BoolArray, found: BoolArray | None = None) -> Advice:
        """Return what each agent is to do at its place.

        :param graph: graph of the places; which targets were picked is noted in it
        :param places: int64[E], -1 of agents that are not asked for: their targets stay as they are
        :param starts: bool[E], where an agent has just been set to another place
        :param found: bool[E], who has just come to a place that nobody had been to; None is nobody
        """
        self._make_room(len(graph.picked))
        if self._exhausted[0] != graph.changes:
            self._exhausted = graph.changes, np.zeros(len(graph.picked), np.bool_)
        gained, actions = np.zeros(len(places)), np.full(len(places), -1)
        self._patience[places >= 0] -= 1
        now = self.targets, self._distance, self._patience
        ways = self._hops, self._ways
        anew = choose(
            graph.successor,
            graph.picked,
            places,
            starts,
            np.zeros(len(places), np.bool_) if found is None else found,
            self.preference.worth,
            self.gamma,
            *now,
            ways[0],
            self._exhausted[1],
            *self._searched,
            gained,
        )
        if anew.any():
            if self._reversed is None or self._reversed[0] != graph.changes:
                self._reversed = (graph.changes, *reversed_edges(graph.successor))
            lead(np.flatnonzero(anew), places, graph.n_actions, *self._reversed[1:], *now, *ways)
        say(graph.successor, places, self.preference.preferred, self._distance, ways[1], actions)
        return Advice(actions, gained)

    def forget(self) -> None:
        """Give up all targets, as where places have changed their numbers."""
        self.targets[:] = _NOWHERE
        self._hops, self._ways = self._hops[:, :0], self._ways[:, :0]
        self._leave_out()

    @property
    def held_bytes(self) -> int:
        """Size of the ways to the targets, in bytes."""
        return self._hops.nbytes + self._ways.nbytes

    def state_dict(self) -> dict[str, Any]:
        """Return targets and the ways to them."""
        names = ("targets", "_patience", "_distance", "_hops", "_ways")
        parts = {name.strip("_"): torch.from_numpy(getattr(self, name).copy()) for name in names}
        return parts | {"preference": self.preference.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; with another number of agents, all begin without a target."""
        self.preference.load_state_dict(state["preference"])
        if len(state["targets"]) == len(self.targets):
            for name in ("targets", "_patience", "_distance", "_hops", "_ways"):
                setattr(self, name, state[name.strip("_")].cpu().numpy().copy())
        self._leave_out()

    def _leave_out(self) -> None:
        """Drop what was worked out from the graph."""
        self._reversed, self._exhausted = None, (-1, np.zeros(0, np.bool_))

    def _make_room(self, n_places: int) -> None:
        if n_places > len(self._searched[0]):
            self._searched = np.full(n_places, -1, np.int32), np.empty(n_places, np.int32)
        more = n_places - self._hops.shape[1]
        if more > 0:
            spare = np.full((len(self.targets), more), -1, np.int32)
            self._hops, self._ways = np.hstack([self._hops, spare]), np.hstack([self._ways, spare])
            self._leave_out()
