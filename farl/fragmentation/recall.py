"""Strategies of recall: how a stored fragment is recognised."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from farl.fragmentation.criteria import Quantile
from farl.fragmentation.statistics import FloatArray, IntArray
from farl.memory import LongTermMemory

Where = Sequence[Mapping[str, Any]]
KeyArray = npt.NDArray[np.float32]


class Recall(Protocol):
    """How the controller learns that an environment is back in a stored fragment.

    One call of ``propose`` with all environments opens a step; ``fractured`` is called for each fragment that this
    step creates; ``advance`` closes the step.
    """

    def propose(self, envs: IntArray, active: IntArray, keys: KeyArray | None, where: Where | None) -> IntArray:
        """Return the fragment to recall in each of ``envs``, int64[n]; -1 to stay.

        :param envs: int64[n], indices of the environments that are asked about
        :param active: int64[E], active fragment of all environments
        :param keys: float32[E, d], what all environments see now
        :param where: one mapping per environment, what else is known of the place
        """

    def fractured(
        self, env: int, old: int, new: int, same_episode: bool, keys: KeyArray | None, where: Where | None
    ) -> None:
        """Remember the fracture point by which ``new`` is recalled from ``old``, and ``old`` from ``new``.

        :param same_episode: False if the environment was reset between the two fragments
        """

    def advance(self, keys: KeyArray | None, where: Where | None) -> None:
        """Take note of what this step saw, for the next one."""

    def state_dict(self) -> dict[str, Any]:
        """Return what decides the recalls to come."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""


class KeyRecall:
    """Recalls the fragment whose stored key is most similar to what is seen, if it is similar enough.

    A fracture leaves two keys, so that it works in both directions: what was seen at the fracture recalls the new
    fragment, and
    what was seen one step before it, on the other side, recalls the old one. Keys of the active fragment take part in
    the comparison: an environment stays while its own fragment knows the place best.

    :param memory: holds the keys
    :param threshold: least cosine similarity, or a ``Quantile`` of the best similarities seen
    """

    def __init__(self, memory: LongTermMemory[Any], threshold: float | Quantile) -> None:
        self.memory = memory
        self.threshold = threshold
        self._previous: KeyArray | None = None

    def propose(self, envs: IntArray, active: IntArray, keys: KeyArray | None, where: Where | None) -> IntArray:
        """Return the owner of the best key where it reaches the threshold and is not the active fragment."""
        if keys is None:
            raise ValueError("recall by key needs keys, one row per environment")
        if self._previous is not None and len(self._previous) != len(keys):
            self._previous = None  # restored from a run with another number of environments
        if len(self.memory.key_owners) == 0:
            # There is no fracture behind the first fragment: it is recalled by the first thing seen in it.
            telling = np.flatnonzero(keys.any(axis=1))[:1]
            self.memory.add_keys(int(active[telling[0] if len(telling) else 0]), keys[telling])
        match = self.memory.match(keys[envs])
        similar = match.similarity >= float(self.threshold)
        if len(envs) == len(active):
            self._observe(match.similarity.astype(np.float64), keys)
        return np.where(similar & (match.fragment_ids != active[envs]), match.fragment_ids, -1)

    def fractured(
        self, env: int, old: int, new: int, same_episode: bool, keys: KeyArray | None, where: Where | None
    ) -> None:
        """Store the key on either side of the fracture; one of zeros, as of a blank frame, resembles nothing."""
        if keys is not None and keys[env].any():
            self.memory.add_keys(new, keys[env : env + 1])
        if same_episode and self._previous is not None and self._previous[env].any():
            self.memory.add_keys(old, self._previous[env : env + 1])

    def advance(self, keys: KeyArray | None, where: Where | None) -> None:
        """Remember the keys of this step."""
        self._previous = None if keys is None else np.array(keys, np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return the previous keys and the threshold's state."""
        state: dict[str, Any] = {"previous": None if self._previous is None else torch.from_numpy(self._previous)}
        if isinstance(self.threshold, Quantile):
            state["threshold"] = self.threshold.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        previous = state["previous"]
        self._previous = None if previous is None else previous.cpu().numpy().copy()
        if isinstance(self.threshold, Quantile):
            self.threshold.load_state_dict(state["threshold"])

    def _observe(self, similarity: FloatArray, keys: KeyArray) -> None:
        """Take note of the best similarity of every environment."""
        if isinstance(self.threshold, Quantile):
            self.threshold.observe(similarity)


class PlaceRecall(KeyRecall):
    """Recalls by all places that a fragment has seen, not by its fracture points alone.

    Wherever nothing stored resembles what is seen, it becomes a key of the active fragment. So a fragment is recognised
    anywhere in it, from whatever side it is entered. Keys of the first steps behind a border that went unnoticed belong
    to the wrong fragment: have recalls confirmed.

    :param memory: holds the keys; enough of them per fragment for its places
    :param threshold: least cosine similarity, or a ``Quantile`` of the best similarities seen
    """

    def __init__(self, memory: LongTermMemory[Any], threshold: float | Quantile) -> None:
        super().__init__(memory, threshold)
        # Environments whose keys nothing resembled: in this step, and in the last one.
        self._unfamiliar: IntArray = np.zeros(0, np.int64)
        self._pending: IntArray = np.zeros(0, np.int64)

    def propose(self, envs: IntArray, active: IntArray, keys: KeyArray | None, where: Where | None) -> IntArray:
        """Return the owner of the best key, as ``KeyRecall`` does, with the places of the last step among the keys."""
        if self._previous is None or keys is None or len(self._previous) != len(keys):
            self._pending = np.zeros(0, np.int64)  # at the start, or from a run with another number of environments
        if len(self._pending):
            assert self._previous is not None
            owners = active[self._pending]  # where the last step ended
            for fragment_id in np.unique(owners):
                places = np.unique(self._previous[self._pending[owners == fragment_id]], axis=0)
                self.memory.add_keys(int(fragment_id), places)
            self._pending = np.zeros(0, np.int64)
        return super().propose(envs, active, keys, where)

    def advance(self, keys: KeyArray | None, where: Where | None) -> None:
        """Remember the keys of this step, and which of them are of new places."""
        super().advance(keys, where)
        self._pending = self._unfamiliar

    def state_dict(self) -> dict[str, Any]:
        """Return the previous keys, which of them are of new places, and the threshold's state."""
        return super().state_dict() | {"pending": torch.from_numpy(self._pending.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self._pending = state["pending"].cpu().numpy().copy()

    def _observe(self, similarity: FloatArray, keys: KeyArray) -> None:
        super()._observe(similarity, keys)
        self._unfamiliar = np.flatnonzero((similarity < float(self.threshold)) & keys.any(axis=1))


class NoRecall:
    """Never recalls: every fracture opens a new fragment. The control that shows what recall is worth."""

    def propose(self, envs: IntArray, active: IntArray, keys: KeyArray | None, where: Where | None) -> IntArray:
        """Stay everywhere."""
        return np.full(len(envs), -1, np.int64)

    def fractured(
        self, env: int, old: int, new: int, same_episode: bool, keys: KeyArray | None, where: Where | None
    ) -> None:
        """Keep nothing."""

    def advance(self, keys: KeyArray | None, where: Where | None) -> None:
        """Keep nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""
