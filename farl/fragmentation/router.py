"""The one mechanism of FARL: surprisal closes a fragment, recognition opens it again."""

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from farl.fragmentation.criteria import Criterion
from farl.fragmentation.recall import Recall, Recognition
from farl.fragmentation.sight import Sight
from farl.fragmentation.statistics import BoolArray, FloatArray, IntArray
from farl.memory import LongTermMemory

Payload = TypeVar("Payload")

_CLEARLY = 0.999  # so much smaller is an error that is smaller by more than rounding


class Proposal(NamedTuple):
    """Who would leave for a stored fragment. Nothing has changed yet.

    :ivar sight: what the proposal is about
    :ivar recognition: what the recall strategy recognised, of all environments
    :ivar envs: int64[n], the environments that recognise another fragment than their active one
    :ivar fragment_ids: int64[n], the fragments that they recognise
    """

    sight: Sight
    recognition: Recognition
    envs: IntArray
    fragment_ids: IntArray


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

    Knows nothing of maps or networks. A step is two calls; between them, who owns the payloads may judge the proposal:

    1. ``propose`` asks the recall strategy who recognises a stored fragment, and changes nothing;
    2. ``commit`` carries it out. An environment goes to the fragment that it recognises, unless the errors given say
       that its own predicts no worse. Of those that stay, the criterion says whose surprisal lies outside the active
       fragment's distribution: these *fracture*. They look once more for a fragment to go to, now among those opened
       earlier in the same step too, and whatever the errors; with none, each opens one, joined to the old one by an
       edge (unless the environment was reset in between, which is no path).

    All environments are judged against what the memory held before the step. With ``join_within``, one that fractures
    goes where another went that opened a fragment from the same one a short while ago: the two have most likely passed
    the same border, and one place would otherwise get a fragment per environment.

    A new fragment's payload is with its owner, as if lent: the owner stores it in the memory when it sees fit.

    :param criterion: ends a fragment; None never does
    :param memory: holds the fragments
    :param recall: recognises stored fragments
    :param n_envs: number of environments E
    :param share: all environments start in one fragment (True), or each in its own, as for worlds that differ
    :param join_within: steps for which others join a new fragment; 0 never
    :raises ValueError: if n_envs is below 1 or the memory cannot hold one fragment per environment and a new one
    """

    def __init__(
        self,
        criterion: Criterion | None,
        memory: LongTermMemory[Payload],
        recall: Recall,
        n_envs: int,
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
        self.join_within = join_within
        self.fractures = 0
        """Number of fragmentations so far."""
        self.recalls = 0
        """Number of recalls so far."""
        first = [memory.open() for _ in range(1 if share else n_envs)]
        self.active: IntArray = np.resize(np.array(first, np.int64), n_envs)
        """int64[E], the active fragment of each environment."""
        self._step = 0
        self._offspring: dict[int, tuple[int, int]] = {}  # fragment -> the latest opened from it, and when

    @property
    def n_envs(self) -> int:
        """Number of environments E."""
        return len(self.active)

    def propose(self, sight: Sight) -> Proposal:
        """Say who would leave, and whereto.

        :raises ValueError: if the sight does not have one row per environment
        """
        sight = sight.checked(self.n_envs)
        recognition = self.recall.recognise(sight, self.active, np.arange(self.n_envs))
        (envs,) = (recognition.fragment_ids >= 0).nonzero()
        return Proposal(sight, recognition, envs, recognition.fragment_ids[envs])

    def commit(self, proposal: Proposal, errors: FloatArray | None = None) -> Events:
        """Carry out a proposal, made since the last commit, and return what happened.

        :param errors: float64[n], the surprisal of the environments proposed under the fragments that they would go to;
            a recall happens only where it is clearly below that of the active fragment. None recalls all
        :raises ValueError: if a surprisal is not finite
        """
        sight, previous = proposal.sight, self.active.copy()
        recognition = self.recall.observe(sight, previous, proposal.recognition)
        if len(proposal.envs):
            self._recall(proposal, errors)
        fragmented = np.zeros(self.n_envs, bool)
        # Fractures are rare, and each one makes an object: a loop over them, not over environments.
        for env in () if self.criterion is None else self._fractured(self.criterion, sight, self.active == previous):
            known = self._known(sight, env)
            if known >= 0:
                self._go(sight, env, known)
            else:
                self._open(sight, env)
                fragmented[env] = True
        self.recall.advance(sight, self.active, recognition)
        self.memory.touch(set(self.active.tolist()))
        self._step += 1
        recalled = (self.active != previous) & ~fragmented
        opened = int(np.count_nonzero(fragmented))
        if opened:
            self._forget_evicted()
        self.fractures += opened
        self.recalls += int(np.count_nonzero(recalled))
        return Events(self.active.copy(), previous, fragmented, recalled)

    def reorganise(self) -> list[tuple[int, int]]:
        """Let the recall strategy divide and join fragments between two steps.

        :return: the fragments opened, each with the one that it was part of
        """
        self.active, opened = self.recall.reorganise(self.active)
        self.fractures += len(opened)
        self._forget_evicted()
        return opened

    def suspicion(self) -> IntArray:
        """Return for how many steps what each environment saw has been under suspicion, int64[E].

        Of lying outside its fragment, that is; 0 for criteria that decide at once.
        """
        return np.zeros(self.n_envs, np.int64) if self.criterion is None else self.criterion.suspicion(self.n_envs)

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

    def _recall(self, proposal: Proposal, errors: FloatArray | None) -> None:
        """Move the environments proposed, but those whose own fragment predicts as well."""
        envs, targets = proposal.envs, proposal.fragment_ids
        if errors is not None:
            # A module that is a copy of the other predicts the same, but for rounding.
            better = errors < _CLEARLY * proposal.sight.surprisal[envs]
            envs, targets = envs[better], targets[better]
        for env, target in zip(envs, targets, strict=True):
            self._go(proposal.sight, env, target)

    def _fractured(self, criterion: Criterion, sight: Sight, stayed: BoolArray) -> IntArray:
        """Return those of the environments that stayed, bool[E], whose fragment ends here."""
        (stays,) = stayed.nonzero()
        seen = sight if len(stays) == self.n_envs else sight.select(stays)
        return stays[criterion.update(seen, self.active[stays], stays)]

    def _known(self, sight: Sight, env: int) -> int:
        """Return a fragment for an environment whose own has ended: one it recognises, or has only to join; else -1."""
        (known,) = self.recall.recognise(sight, self.active, np.array([env])).fragment_ids
        if known >= 0:
            return int(known)
        latest, opened_at = self._offspring.get(int(self.active[env]), (-1, 0))
        return latest if latest in self.memory and self._step - opened_at < self.join_within else -1

    def _go(self, sight: Sight, env: int, target: int) -> None:
        """Move an environment to a stored fragment; the way is an edge, once: a border is crossed many times."""
        old, self.active[env] = int(self.active[env]), target
        if sight.same_episode()[env] and not self.memory.graph.has_edge(old, int(target)):
            self.memory.connect(old, int(target), {"kind": "recall"} | self.recall.edge(sight, env, old))

    def _open(self, sight: Sight, env: int) -> None:
        """Open a fragment for an environment."""
        old, same_episode = int(self.active[env]), bool(sight.same_episode()[env])
        new = self.memory.open(keep=self.active.tolist())
        self.active[env] = new
        self._offspring[old] = (new, self._step)
        if same_episode:
            self.memory.connect(old, new, {"kind": "fracture"} | self.recall.edge(sight, env, old))
        self.recall.fractured(sight, env, old, new)

    def _forget_evicted(self) -> None:
        """Keep nothing of fragments that had to make room."""
        self._offspring = {old: latest for old, latest in self._offspring.items() if old in self.memory}
        if self.criterion is not None:
            known = self.criterion.statistics.fragment_ids
            self.criterion.forget(known[~np.isin(known, self.memory.ids)])
