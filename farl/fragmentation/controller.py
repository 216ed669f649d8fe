"""The one mechanism of FARL: surprisal closes a fragment, recognition opens it again."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from farl.fragmentation.criteria import Criterion
from farl.fragmentation.recall import Recall, Where
from farl.fragmentation.statistics import BoolArray, IntArray
from farl.memory import LongTermMemory

Payload = TypeVar("Payload")


class Events(NamedTuple):
    """What one step did in each environment.

    :ivar active: int64[E], the active fragment after the step
    :ivar previous: int64[E], the active fragment before it
    :ivar fragmented: bool[E], the step closed ``previous`` and opened ``active`` as a new fragment
    :ivar recalled: bool[E], the step left ``previous`` for the stored fragment ``active``
    """

    active: IntArray
    previous: IntArray
    fragmented: BoolArray
    recalled: BoolArray


class FragmentationAndRecall(Generic[Payload]):
    """Routes each environment, step by step, to the fragment that its observation belongs to.

    Knows nothing of maps or networks. In one step, per environment:

    1. the recall strategy recognises a stored fragment, and ``confirm`` does not object: it becomes the active one;
    else
    2. the criterion finds the surprisal outside the active fragment's distribution: a new fragment is opened, joined
    to the old
       one by an edge (unless the environment was reset in between, which is no path); else
    3. the environment stays and its surprisal enters the fragment's statistics.

    Environments share the memory, and all are judged against what it held before the step; only those about to open a
    fragment look again, in the order of the batch, at those opened earlier in the same step, and without ``confirm``: a
    fragment that surprises is given up for any that is recognised. With ``join_within``, an environment about to open a
    fragment goes instead where another one went that opened one, from the same fragment, a short while ago: the two
    have most likely passed the same border, and one place would otherwise get a fragment per environment.

    :param criterion: ends a fragment; None never does
    :param memory: holds the fragments; the controller opens the first one if it is empty
    :param recall: recognises stored fragments
    :param n_envs: number of environments E
    :param new_payload: makes the payload of a new fragment, given the id of the fragment it follows (None for the
        first)
    :param confirm: given the environments about to be moved, int64[n], and the fragments recognised, int64[n],
        returns where the move makes sense, bool[n]; None confirms all
    :param join_within: steps for which others join a new fragment; 0 never
    :param share: all environments start in one fragment (True), or each in its own, as for worlds that differ
    :raises ValueError: if n_envs is below 1 or the memory's capacity cannot hold one fragment per environment and a
        new one
    """

    def __init__(
        self,
        criterion: Criterion | None,
        memory: LongTermMemory[Payload],
        recall: Recall,
        n_envs: int,
        new_payload: Callable[[int | None], Payload],
        confirm: Callable[[IntArray, IntArray], BoolArray] | None = None,
        share: bool = True,
        join_within: int = 0,
    ) -> None:
        if n_envs < 1:
            raise ValueError(f"n_envs must be at least 1; got {n_envs}")
        if memory.capacity is not None and memory.capacity <= n_envs:
            raise ValueError(
                f"a memory with a capacity of {memory.capacity} cannot serve {n_envs} environments: each may be in a "
                f"fragment of its own while one more is opened. Set the capacity to at least {n_envs + 1}"
            )
        self.criterion = criterion
        self.memory = memory
        self.recall = recall
        self.new_payload = new_payload
        self.confirm = confirm
        self.join_within = join_within
        self._step = 0
        self._offspring: dict[int, tuple[int, int]] = {}  # fragment -> the latest opened from it, and when
        self.fractures = 0
        """Number of fragmentations so far."""
        self.recalls = 0
        """Number of recalls so far."""
        memory.on_evict.append(self._forget)
        first = [memory.add(new_payload(None)) for _ in range(1 if share else n_envs)]
        self.active: IntArray = np.resize(np.array(first, np.int64), n_envs)
        """int64[E], the active fragment of each environment."""

    @property
    def n_envs(self) -> int:
        """Number of environments E."""
        return len(self.active)

    def step(
        self,
        surprisal: npt.NDArray[np.floating[Any]],
        keys: npt.NDArray[np.float32] | None = None,
        starts: BoolArray | None = None,
        where: Where | None = None,
    ) -> Events:
        """Route every environment by what it has just seen.

        :param surprisal: float[E], prediction error of the active fragment
        :param keys: float[E, d], key features of what is seen, for recall by key
        :param starts: bool[E], True where an episode began since the last step
        :param where: one JSON-able mapping per environment that describes the place; it becomes the data of graph edges
        :raises ValueError: if the arrays do not have one row per environment, or a surprisal is not finite
        """
        if len(surprisal) != self.n_envs or (keys is not None and len(keys) != self.n_envs):
            raise ValueError(f"expected one row for each of the {self.n_envs} environments; got {len(surprisal)}")
        same_episode = np.ones(self.n_envs, bool) if starts is None else ~starts
        previous = self.active.copy()
        target = self.recall.propose(np.arange(self.n_envs), previous, keys, where)
        recalled = target >= 0
        if self.confirm is not None and recalled.any():
            recalled[recalled] = self.confirm(np.flatnonzero(recalled), target[recalled])
        fragmented = np.zeros(self.n_envs, bool)
        if self.criterion is not None:
            stays = np.flatnonzero(~recalled)
            fragmented[stays] = self.criterion.update(surprisal[stays], previous[stays], stays)
        if recalled.any():
            self.active[recalled] = target[recalled]
            for env in np.flatnonzero(recalled & same_episode):
                self._connect_recalled(env, previous, where)

        # Fractures are rare, and each one makes an object: a loop over them, not over environments.
        for env in np.flatnonzero(fragmented):
            (known,) = self.recall.propose(np.array([env]), self.active, keys, where)
            known = known if known >= 0 else self._just_opened_from(int(self.active[env]))
            if known >= 0:
                fragmented[env], recalled[env], self.active[env] = False, True, known
                if same_episode[env]:
                    self._connect_recalled(env, previous, where)
                continue
            old = int(self.active[env])
            new = self.memory.add(self.new_payload(old), keep=self.active.tolist())
            self.active[env] = new
            self._offspring[old] = (new, self._step)
            if same_episode[env]:
                self.memory.connect(old, new, {"kind": "fracture"} | _place(where, env))
            self.recall.fractured(int(env), old, new, bool(same_episode[env]), keys, where)

        self._step += 1
        self.recall.advance(keys, where)
        self.memory.touch(set(self.active.tolist()))
        self.fractures += int(fragmented.sum())
        self.recalls += int(recalled.sum())
        return Events(self.active.copy(), previous, fragmented, recalled)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next, the memory included."""
        return {
            "active": torch.from_numpy(self.active.copy()),
            "fractures": self.fractures,
            "recalls": self.recalls,
            "step": self._step,
            "offspring": {old: list(latest) for old, latest in self._offspring.items()},
            "criterion": None if self.criterion is None else self.criterion.state_dict(),
            "recall": self.recall.state_dict(),
            "memory": self.memory.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        With another number of environments than saved, the saved active fragments are dealt out to them in turn.
        """
        self.memory.load_state_dict(state["memory"])
        if self.criterion is not None:
            self.criterion.load_state_dict(state["criterion"])
        self.active = np.resize(state["active"].cpu().numpy(), self.n_envs)
        self.recall.load_state_dict(state["recall"])
        self.fractures, self.recalls = int(state["fractures"]), int(state["recalls"])
        self._step = int(state["step"])
        self._offspring = {int(old): (int(new), int(step)) for old, (new, step) in state["offspring"].items()}

    def _forget(self, fragment_id: int) -> None:
        """Keep nothing of an evicted fragment."""
        self._offspring.pop(fragment_id, None)
        if self.criterion is not None:
            self.criterion.forget(np.array([fragment_id]))

    def _just_opened_from(self, fragment_id: int) -> int:
        """Return the fragment that an environment opened from this one within the last steps, or -1."""
        new, step = self._offspring.get(fragment_id, (-1, 0))
        return new if new in self.memory and self._step - step < self.join_within else -1

    def _connect_recalled(self, env: int, previous: IntArray, where: Where | None) -> None:
        """Add the way that a recall took, once: a border is crossed many times."""
        a, b = int(previous[env]), int(self.active[env])
        if not self.memory.graph.has_edge(a, b):
            self.memory.connect(a, b, {"kind": "recall"} | _place(where, env))


def _place(where: Where | None, env: int) -> dict[str, Any]:
    return {} if where is None else dict(where[env])
