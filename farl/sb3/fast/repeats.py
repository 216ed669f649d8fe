"""Observations that repeat: in a grid world a rollout shows a few hundred kinds of them, thousands of times."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_WORTHWHILE = 0.6  # most kinds an observation
_TRIAL = 8  # that is judged after so small a part of a rollout

Outputs = Callable[[Any], tuple[Tensor, Tensor]]


class Repeats:
    """What a network made of each kind of observation of one rollout, with the network as it is in that rollout.

    Two observations are of one kind if four random projections of them are the same to the last bit, which those of
    different observations are with a probability of about 1e-18.

    :param outputs: the network
    :param n_samples: observations of the whole rollout
    :param before: the rollout before, whose kinds are known already; many of them only if it showed them
    """

    def __init__(self, outputs: Outputs, n_samples: int, before: "Repeats | None" = None) -> None:
        self._outputs = outputs
        self._ids = torch.empty(n_samples, dtype=torch.int64)
        self._done = 0
        self._tables: list[Tensor] = []  # observations, outputs and values, by kind
        self._kind_of: dict[int, int] = {}
        self._fresh = 0  # kinds that the rollout before did not have
        self.pays = True
        """Whether so many observations were of a kind known before that it is worth looking."""
        if before is not None and before._done:
            keys, kept = list(before._kind_of), torch.arange(len(before._kind_of))
            if len(keys) > n_samples // 4:
                kept, _ = _among(before._ids[: before._done], len(keys))
            self._kind_of = {keys[kind]: place for place, kind in enumerate(kept.tolist())}
            self._keep(0, before._tables[0].index_select(0, kept))

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's outputs for the next E observations of the rollout."""
        count, done = len(observations), self._done
        found = _keys(observations) if self.pays else None
        if found is None or (_TRIAL * done >= len(self._ids) and self._fresh > _WORTHWHILE * done):
            self.pays = False
            return self._outputs(observations)
        kind_of, keys = self._kind_of, found.tolist()
        kinds: Any = list(map(kind_of.get, keys))
        if None in kinds:
            known, new_rows = len(kind_of), []
            for row, key in enumerate(keys):
                if key not in kind_of:
                    kind_of[key] = len(kind_of)
                    new_rows.append(row)
            self._fresh += len(new_rows)
            self._keep(known, observations[new_rows])
            kinds = list(map(kind_of.get, keys))
        where = torch.tensor(kinds)
        self._ids[done : done + count] = where
        self._done += count
        _, outputs, values = self._tables
        return outputs.index_select(0, where), values.index_select(0, where)

    def state_dict(self) -> dict[str, Any]:
        """Return the kinds seen so far, and what the network made of them."""
        return {
            "n_samples": len(self._ids),
            "ids": self._ids[: self._done].clone(),
            "keys": torch.tensor(list(self._kind_of), dtype=torch.int64),
            "tables": [table[: len(self._kind_of)].clone() for table in self._tables],
            "fresh": self._fresh,
            "pays": self.pays,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._done, self._fresh, self.pays = len(state["ids"]), int(state["fresh"]), bool(state["pays"])
        self._ids[: self._done] = state["ids"]
        self._kind_of = {key: kind for kind, key in enumerate(state["keys"].tolist())}
        self._tables = list(state["tables"])

    def _keep(self, known: int, observations: Tensor) -> None:
        parts = (observations, *self._outputs(observations))
        more = known + len(observations)
        if not self._tables or more > len(self._tables[0]):
            tables = self._tables or [part[:0] for part in parts]
            self._tables = [
                torch.cat([table[:known], table.new_empty((max(256, more), *table.shape[1:]))]) for table in tables
            ]
        for table, part in zip(self._tables, parts, strict=True):
            table[known:more] = part

    def within(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return one observation of each kind among some of a complete rollout.

        :param rows: int64[B], in the order in which they came
        :return: observations, [U, ...], one of each kind; and for each of the B which of these it is like, int64[B]
        """
        kinds, where = _among(self._ids.index_select(0, rows), len(self._kind_of))
        return self._tables[0].index_select(0, kinds), where


class Samples:
    """N observations, of which each kind need be looked at only once; what repeats too little is left as it is.

    :param observations: [N, ...]
    """

    def __init__(self, observations: Tensor) -> None:
        self._observations = observations
        self._ids: Tensor | None = None
        keys = _keys(observations) if observations.device.type == "cpu" else None
        if keys is not None:
            _, first, ids = np.unique(keys, return_index=True, return_inverse=True)
            if len(first) <= _WORTHWHILE * len(keys):
                self._observations = observations.index_select(0, torch.from_numpy(first))
                self._ids = torch.from_numpy(ids.ravel())

    def pick(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return one observation of each kind among some, int64[B], and as ``Repeats.within`` which is like which.

        None instead is one observation for each row.
        """
        if self._ids is None:
            return self._observations.index_select(0, rows), None
        kinds, where = _among(self._ids.index_select(0, rows), len(self._observations))
        return self._observations.index_select(0, kinds), where


def _among(ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return which of so many kinds there are in int64[B], in order, and the place of each of the B among them."""
    present = torch.zeros(count, dtype=torch.bool)
    present[ids] = True
    return present.nonzero().squeeze(1), present.cumsum(0).sub_(1).index_select(0, ids)


def _keys(observations: Tensor) -> npt.NDArray[np.int64] | None:
    """Return a number for each observation, by which it is known again; None if one is not finite."""
    rows = observations.reshape(len(observations), -1).float()
    projected = torch.mm(rows, _projection(rows.shape[1])).numpy()
    if not np.isfinite(projected).all():
        return None
    words = projected.view(np.int64)
    keys: npt.NDArray[np.int64] = words[:, 0] * np.int64(-7046029254386353131) + words[:, 1]
    return keys


@cache
def _projection(width: int) -> Tensor:
    return torch.randn((width, 4), generator=torch.Generator().manual_seed(width))
