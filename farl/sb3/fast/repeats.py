"""Observations that repeat: in a grid world a rollout shows a few hundred kinds of them, thousands of times."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from farl.kinds import Array, IntArray, Kinds, among
from farl.sb3.fast.sparse import SparseRows

_WORTHWHILE = 0.6  # most kinds an observation
_TRIAL = 8  # that is judged after so small a part of a rollout

Outputs = Callable[[Any], tuple[Array, Array]]


class Repeats:
    """What a network made of each kind of observation of one rollout, with the network as it is in that rollout.

    :param outputs: the network
    :param n_samples: observations of the whole rollout
    :param before: the rollout before, whose kinds are known already; many of them only if it showed them
    """

    def __init__(self, outputs: Outputs, n_samples: int, before: "Repeats | None" = None) -> None:
        self._outputs = outputs
        self._ids = np.empty(n_samples, np.int64)
        self._done = 0
        self._kinds = Kinds()
        self._tables: list[npt.NDArray[np.float32]] = []  # outputs and values, by kind
        self._fresh = 0  # kinds that the rollout before did not have
        self.pays = True
        """Whether so many observations were of a kind known before that it is worth looking."""
        if before is not None and before._done:
            known = before._kinds.observations
            if len(known) > n_samples // 4:
                known = known[among(before._ids[: before._done], len(known))[0]]
            self._kinds(known)
            self._keep(0)

    @property
    def observations(self) -> Tensor:
        """One observation of each kind, [K, ...]."""
        return torch.from_numpy(self._kinds.observations)

    def __call__(self, observations: Tensor) -> tuple[Array, Array]:
        """Return the network's outputs for the next E observations of the rollout."""
        done = self._done
        if not self.pays or (_TRIAL * done >= len(self._ids) and self._fresh > _WORTHWHILE * done):
            self.pays = False
            return self._outputs(observations)
        known = len(self._kinds)
        kinds = self._kinds(observations.numpy())
        if len(self._kinds) > known:
            self._fresh += len(self._kinds) - known
            self._keep(known)
        self._done += len(kinds)
        self._ids[done : self._done] = kinds
        outputs, values = self._tables
        return outputs[kinds], values[kinds]

    def state_dict(self) -> dict[str, Any]:
        """Return the kinds seen so far, and what the network made of them."""
        return {
            "n_samples": len(self._ids),
            "ids": torch.from_numpy(self._ids[: self._done].copy()),
            "observations": self.observations.clone(),
            "tables": [torch.from_numpy(table[: len(self._kinds)].copy()) for table in self._tables],
            "fresh": self._fresh,
            "pays": self.pays,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._done, self._fresh, self.pays = len(state["ids"]), int(state["fresh"]), bool(state["pays"])
        self._ids[: self._done] = state["ids"].numpy()
        self._kinds = Kinds()
        if len(state["observations"]):
            self._kinds(state["observations"].numpy())
        self._tables = [table.numpy().copy() for table in state["tables"]]

    def _keep(self, known: int) -> None:
        """Have the network look at all kinds but those known."""
        count = len(self._kinds)
        made = self._outputs(self.observations[known:])
        if not self._tables or count > len(self._tables[0]):
            tables = self._tables or [part[:0] for part in made]
            room = max(256, 2 * count)
            self._tables = [np.empty((room, *part.shape[1:]), np.float32) for part in made]
            for table, old in zip(self._tables, tables, strict=True):
                table[:known] = old[:known]
        for table, part in zip(self._tables, made, strict=True):
            table[known:count] = part

    def within(self, rows: Tensor) -> tuple[IntArray, Tensor]:
        """Return which kinds there are among some observations of a complete rollout.

        :param rows: int64[B], in the order in which they came
        :return: the kinds, int64[U]; and for each of the B which of these it is of, int64[B]
        """
        kinds, where = among(self._ids[rows.numpy()], len(self._kinds))
        return kinds, torch.from_numpy(where)


class Samples:
    """N observations, of which each kind need be looked at only once; what repeats too little is left as it is.

    :param observations: [N, ...]
    :param sparse: whether what is picked may be ``SparseRows``
    """

    def __init__(self, observations: Tensor, sparse: bool = False) -> None:
        self._observations = observations
        self._ids: IntArray | None = None
        self._sparse: SparseRows | None = None
        if observations.device.type == "cpu":
            kinds = Kinds()
            ids = kinds(observations.numpy())
            if len(kinds) <= _WORTHWHILE * len(observations):
                self._observations, self._ids = torch.from_numpy(kinds.observations), ids
                self._sparse = SparseRows.of(self._observations) if sparse else None

    def pick(self, rows: Tensor) -> tuple[Any, Tensor | None]:
        """Return one observation of each kind among some, int64[B], and for each of the B which of these it is like.

        None instead is one observation for each row.
        """
        if self._ids is None:
            return self._observations.index_select(0, rows), None
        kinds, where = among(self._ids[rows.numpy()], len(self._observations))
        if self._sparse is not None:
            return self._sparse.pick(kinds), torch.from_numpy(where)
        return self._observations.index_select(0, torch.from_numpy(kinds)), torch.from_numpy(where)
