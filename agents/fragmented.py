"""What FARMap and FARMapPlus share: maps that move between the canvas and the long-term memory."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import torch

from farl.agents.planners import PATIENCE, Planners
from farl.fragmentation import Criterion, Events, FragmentationAndRecall, Recall, Sight
from farl.maps.geometry import Int32Array, IntArray
from farl.maps.local_map import LocalMap
from farl.memory import LongTermMemory


class Step(NamedTuple):
    """What one observation did.

    :ivar surprisal: float64[E]
    :ivar events: the router's
    """

    surprisal: npt.NDArray[np.float64]
    events: Events


class FragmentedPlanners(Planners):
    """Explorers whose current map is one fragment of many.

    The router decides when a map is closed and which one is taken up; here maps move between the canvas and the
    long-term memory, and goals are chosen. Each explorer has fragments of its own: worlds differ, and the odometry
    starts anew with each episode.

    :param criterion: ends a fragment; None never does
    :param make_recall: makes the strategy of recall, given the memory
    :param capacity: fragments held for each explorer, None for no limit
    """

    def __init__(
        self,
        n_envs: int,
        view_size: int,
        seed: int,
        criterion: Criterion | None,
        make_recall: Callable[[LongTermMemory[LocalMap]], Recall],
        gamma: float = 0.9,
        surprisal: str = "before",
        capacity: int | None = None,
        patience: int | None = PATIENCE,
    ) -> None:
        super().__init__(n_envs, view_size, seed, gamma, surprisal, patience)
        limit = None if capacity is None else max(capacity * n_envs, n_envs + 1)
        self.memory: LongTermMemory[LocalMap] = LongTermMemory(limit)
        self.router: FragmentationAndRecall[LocalMap] = FragmentationAndRecall(
            criterion, self.memory, make_recall(self.memory), n_envs, share=False
        )
        for fragment_id in self.router.active:
            self.memory[int(fragment_id)] = _empty_map()
        self.surprisal: npt.NDArray[np.float64] = np.zeros(n_envs)
        """float64[E], of the last observation."""
        self.last: Step | None = None
        """What the last observation did."""

    @property
    def fragments(self) -> int:  # type: ignore[override]
        """Fractures so far, in all environments."""
        return self.router.fractures

    @property
    def recalls(self) -> int:  # type: ignore[override]
        """Recalls so far, in all environments."""
        return self.router.recalls

    @property
    def memory_bytes(self) -> int:
        """Bytes of the stored maps, all explorers together."""
        return sum(
            value.nbytes
            for fragment_id in self.memory.ids
            for value in self.memory[fragment_id].values()
            if isinstance(value, torch.Tensor)
        )

    @property
    def graph(self) -> "nx.MultiGraph":
        """How the stored maps are joined, all explorers together."""
        return self.memory.graph

    def known_maps(self, env: int) -> dict[int, LocalMap]:
        """Return the maps that an explorer has, the current one included, by fragment."""
        stored = {key: self.memory[key] for key in self.memory.ids}
        mine = {key: one for key, one in stored.items() if one.get("env") == env}
        return mine | {int(self.router.active[env]): self.maps.copy_out(env)}

    def remember(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> Events:
        """Take in what is seen: fragment where it surprises, recall where the strategy says so."""
        if starts.any():
            self._begin(np.flatnonzero(starts))
        self.note_blocked(odometry, starts)
        events = self.router.commit(self.router.propose(self._see(codes, odometry, starts)))
        changed = np.flatnonzero(events.fragmented | events.recalled)
        # Fractures and recalls are rare, and each moves arrays of its own size: a loop over them, not over
        # environments.
        for env in changed:
            self._leave(int(env), int(events.previous[env]), int(events.active[env]))
            if events.recalled[env]:
                self.maps.copy_in(int(env), self.memory[int(events.active[env])])
            else:
                self.memory[int(events.active[env])] = _empty_map()
                self.maps.forget(int(env))
        self.last = Step(self.surprisal, events)
        if len(changed):
            self._arrive(codes, odometry, events)
            self._entered(changed)
        return events

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next, the long-term memory included."""
        return super().state_dict() | {"router": self.router.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self.router.load_state_dict(state["router"])

    def _see(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> Sight:
        """Take in what is seen, and return what the router goes by."""
        self.surprisal = self.maps.observe(codes, odometry)
        return Sight(self.surprisal, position=odometry, starts=starts)

    def _leave(self, env: int, fragment_id: int, to: int) -> None:
        """Store the current map as the fragment's; ``to`` is the one that becomes current."""
        if fragment_id in self.memory:
            self.memory[fragment_id] = self.maps.copy_out(env) | {"env": env} | self._summary(env)

    def _summary(self, env: int) -> dict[str, Any]:
        """What is stored beside a map."""
        return {}

    def _arrive(self, codes: Int32Array, odometry: Int32Array, events: Events) -> None:
        """Take in what is seen once more, now into the maps that were taken up."""
        self.maps.observe(codes, odometry, np.flatnonzero(events.fragmented | events.recalled))

    def _entered(self, envs: IntArray) -> None:
        """Look up what there is to know of the fragments that were just taken up."""

    def _begin(self, envs: IntArray) -> None:
        """Forget everything about the worlds of these environments: an episode begins."""
        mine = set(envs.tolist())
        for fragment_id in self.memory.ids:
            if self.memory[fragment_id].get("env") in mine and fragment_id not in self.router.active:
                self.memory.evict(fragment_id)
        for env in envs:
            old = int(self.router.active[env])
            self.memory.evict(old)
            self.router.active[env] = self.memory.add(_empty_map())
        self.maps.clear(envs)
        self.progress[envs] = 0
        self._entered(envs)


def _empty_map() -> LocalMap:
    return {
        "label": torch.zeros((0, 0), dtype=torch.int32),
        "value": torch.zeros((0, 0)),
        "corner": [0, 0],
        "n_free": 0,
    }
