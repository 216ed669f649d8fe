"""Samples that modules are trained on, and how they are dealt out in minibatches."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from farl.curiosity.module import Prepared
from farl.fragmentation.statistics import rank_in_fragment
from farl.kinds import Kinds, among

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Samples(NamedTuple):
    """What modules are trained on.

    :ivar prepared: what ``CuriosityModule.prepare`` returned for the B samples when they were seen
    :ivar fragment_ids: int64[B], where they belong, as far as is known
    :ivar envs: int64[B], the environments they come from
    :ivar times: int64[B], number of samples seen by the end of their step
    """

    prepared: Prepared
    fragment_ids: IntArray
    envs: IntArray
    times: IntArray

    def select(self, rows: IntArray | BoolArray) -> "Samples":
        """Return some of the samples, by index (int64[b]) or mask (bool[B])."""
        return Samples(select(self.prepared, rows), self.fragment_ids[rows], self.envs[rows], self.times[rows])


def join(parts: Sequence[Samples]) -> Samples:
    """Return all samples of at least one part, in order."""
    if len(parts) == 1:
        return parts[0]
    prepared = {name: torch.cat([part.prepared[name] for part in parts]) for name in parts[0].prepared}
    return Samples(prepared, *(np.concatenate([part[number] for part in parts]) for number in (1, 2, 3)))


def select(prepared: Prepared, rows: IntArray | BoolArray) -> Prepared:
    """Return some rows of prepared samples, by index (int64[b]) or mask (bool[B])."""
    picked = torch.from_numpy(np.flatnonzero(rows) if rows.dtype == bool else rows)
    # Several times faster than indexing, where rows are long.
    return {name: tensor.index_select(0, picked.to(tensor.device)) for name, tensor in prepared.items()}


def fills_minibatches(fragment_ids: IntArray, batch_size: int) -> BoolArray:
    """Mark the oldest samples of each fragment, as many as make full minibatches: int64[N] -> bool[N]."""
    _, fragment, count = np.unique(fragment_ids, return_inverse=True, return_counts=True)
    return rank_in_fragment(fragment_ids) < (count - count % batch_size)[fragment]


def minibatches(rows: IntArray, fragment_ids: IntArray, batch_size: int) -> list[IntArray]:
    """Split rows into rounds of ``batch_size`` from each fragment that has as many left: a list of int64[b].

    Within a round, those of a fragment stand together: a ``ModuleBank`` then need not sort them.
    """
    round_of = rank_in_fragment(fragment_ids) // batch_size
    order = np.lexsort((fragment_ids, round_of))
    return np.split(rows[order], np.flatnonzero(np.diff(round_of[order])) + 1)


def kinds_of(prepared: Prepared, names: Sequence[str] = ()) -> IntArray:
    """Number B samples, int64[B], so that equal ones get equal numbers.

    Each is of its own where they do not lie in host memory.

    :param names: names of what has to be equal; none is all
    """
    parts = [prepared[name] for name in names or prepared]
    if any(part.device.type != "cpu" for part in parts):
        return np.arange(len(parts[0]))
    numbers = [Kinds()(part.detach().numpy()) for part in parts]
    return numbers[0] if len(numbers) == 1 else Kinds()(np.stack(numbers, axis=1))


def once_each(numbers: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Return the first row of each of the numbers among B, int64[B] below ``count``, and how many rows have it."""
    present, where = among(numbers, count)
    first = np.empty(len(present), np.int64)
    first[where[::-1]] = np.arange(len(numbers))[::-1]
    return first, np.bincount(where, minlength=len(present))
