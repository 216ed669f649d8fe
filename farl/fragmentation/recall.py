"""Strategies of recall: how a stored fragment is recognised."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch

from farl.fragmentation.criteria import Quantile
from farl.fragmentation.sight import KeyArray, Sight
from farl.fragmentation.statistics import FloatArray, IntArray
from farl.memory import LongTermMemory


class Recognition(NamedTuple):
    """What n environments recognise.

    :ivar fragment_ids: int64[n], the stored fragment that each recognises, -1 to stay where it is
    :ivar similarity: float64[n], of what is seen to what is stored, where that is how fragments are recognised
    """

    fragment_ids: IntArray
    similarity: FloatArray | None = None


class Reorganisation(NamedTuple):
    """What became of the fragments between two steps.

    :ivar active: int64[E], the fragment that each environment is in now
    :ivar opened: fragments that were opened, each with the one that it was part of
    """

    active: IntArray
    opened: list[tuple[int, int]]


class Recall(ABC):
    """How the router learns that an environment is back in a stored fragment.

    A new strategy writes ``recognise``. In each step, ``recognise`` is asked about all environments; then ``observe``
    is called, ``fractured`` for each fragment that the step opens, and at last ``advance``.
    """

    @abstractmethod
    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        """Say which fragment each of ``envs`` recognises; this changes nothing.

        :param sight: what all environments see
        :param active: int64[E], active fragment of all environments
        :param envs: int64[n], the environments that are asked about
        """

    def observe(self, sight: Sight, active: IntArray, recognition: Recognition) -> Recognition:
        """Take note of what all see, before any is moved, and return what they recognise now."""
        return recognition

    def fractured(self, sight: Sight, env: int, old: int, new: int) -> None:  # noqa: B027 (by default, nothing)
        """Remember the fracture point by which ``new`` is recalled from ``old``, and ``old`` from ``new``."""

    def advance(self, sight: Sight, active: IntArray, recognition: Recognition) -> None:  # noqa: B027
        """Take note of where all are, int64[E], after the step."""

    def reorganise(self, active: IntArray) -> Reorganisation:
        """Divide and join fragments, if there is reason to; asked between rollouts.

        :param active: int64[E], the fragment of each environment
        """
        return Reorganisation(active, [])

    def edge(self, sight: Sight, env: int, old: int) -> dict[str, Any]:
        """Describe the point at which an environment leaves ``old``, for the memory's graph: JSON values only."""
        place = None if sight.position is None else sight.position[env]
        return {} if place is None else {"position": np.asarray(place).tolist()}

    def state_dict(self) -> dict[str, Any]:
        """Return what decides the recalls to come."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore what ``state_dict`` returned."""


class NoRecall(Recall):
    """Never recalls: every fracture opens a new fragment. The control that shows what recall is worth."""

    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        """Stay everywhere."""
        return Recognition(np.full(len(envs), -1, np.int64))


class KeyRecall(Recall):
    """Recalls the fragment whose stored key is most similar to what is seen, if it is similar enough.

    A fracture leaves two keys, so that it works in both directions: what was seen at the fracture recalls the new
    fragment, and what was seen one step before it, on the other side, recalls the old one. Keys of the active fragment
    take part in the comparison: an environment stays while its own fragment knows the place best.

    :param memory: holds the keys
    :param threshold: least cosine similarity, or a ``Quantile`` of the best similarities seen
    """

    def __init__(self, memory: LongTermMemory[Any], threshold: float | Quantile) -> None:
        self.memory = memory
        self.threshold = threshold
        self._previous: KeyArray | None = None  # float32[E, d], what was seen one step before

    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        """Return the owner of the best key where it reaches the threshold and is not the active fragment."""
        match = self.memory.match(_keys(sight)[envs])
        elsewhere = (match.similarity >= float(self.threshold)) & (match.fragment_ids != active[envs])
        return Recognition(np.where(elsewhere, match.fragment_ids, -1), match.similarity.astype(np.float64))

    def observe(self, sight: Sight, active: IntArray, recognition: Recognition) -> Recognition:
        """Store the first key of all, and calibrate the threshold."""
        if len(self.memory.key_owners) == 0:
            # There is no fracture behind the first fragment: it is recalled by the first thing seen in it.
            telling = np.flatnonzero(_keys(sight).any(axis=1))[:1]
            self.memory.add_keys(int(active[telling[0] if len(telling) else 0]), _keys(sight)[telling])
            recognition = self.recognise(sight, active, np.arange(len(active)))
        if isinstance(self.threshold, Quantile):
            self.threshold.observe(_similarity(recognition))
        return recognition

    def fractured(self, sight: Sight, env: int, old: int, new: int) -> None:
        """Store the key on either side of the fracture; one of zeros, as of a blank frame, resembles nothing."""
        keys, before = _keys(sight), self._previous
        if keys[env].any():
            self.memory.add_keys(new, keys[env : env + 1])
        # Restored from a run with another number of environments, they are not what these saw.
        if before is not None and len(before) == len(keys) and sight.same_episode()[env] and before[env].any():
            self.memory.add_keys(old, before[env : env + 1])

    def advance(self, sight: Sight, active: IntArray, recognition: Recognition) -> None:
        """Remember the keys of this step."""
        self._previous = np.array(_keys(sight), np.float32)

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


class PlaceRecall(KeyRecall):
    """Recalls by all places that a fragment has seen, not by its fracture points alone.

    Wherever nothing stored resembles what is seen, it becomes a key of the fragment in which the step ends. So a
    fragment is recognised anywhere in it, from whatever side it is entered. Keys of the first steps behind a border
    that went unnoticed belong to the wrong fragment: have recalls confirmed.

    :param memory: holds the keys; enough of them per fragment for its places
    :param threshold: least cosine similarity, or a ``Quantile`` of the best similarities seen
    """

    def advance(self, sight: Sight, active: IntArray, recognition: Recognition) -> None:
        """Remember the keys of this step, and store those that resembled none."""
        super().advance(sight, active, recognition)
        keys = _keys(sight)
        unfamiliar = (_similarity(recognition) < float(self.threshold)) & keys.any(axis=1)
        for fragment_id in np.unique(active[unfamiliar]):
            places = np.unique(keys[unfamiliar & (active == fragment_id)], axis=0)
            self.memory.add_keys(int(fragment_id), places)


def _keys(sight: Sight) -> KeyArray:
    if sight.keys is None:
        raise ValueError("recall by key needs keys, one row per environment")
    return sight.keys


def _similarity(recognition: Recognition) -> FloatArray:
    assert recognition.similarity is not None
    return recognition.similarity
