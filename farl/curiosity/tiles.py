"""Samples of many fragments as rows of equal width, as batched products need them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]

_READING = 8  # samples: reading one module's weights takes about as long as evaluating so many


class Tiles(NamedTuple):
    """B samples sorted into rows of equal width, each row belonging to one fragment.

    :ivar fragment_ids: int64[T], fragment of each row
    :ivar samples: int64[T, W], the samples of each row; rows that are not full repeat sample 0
    :ivar row: int64[B], row of each sample
    :ivar column: int64[B], place of each sample in its row
    :ivar in_order: whether the rows are full and hold the samples as they come: then nothing has to be copied
    """

    fragment_ids: IntArray
    samples: Tensor
    row: Tensor
    column: Tensor
    in_order: bool

    def arrange(self, samples: Tensor) -> Tensor:
        """[B, ...] -> [T, W, ...]."""
        if not self.in_order:
            samples = samples.index_select(0, self.samples.flatten().to(samples.device))
        return samples.reshape(*self.samples.shape, *samples.shape[1:])

    def restore(self, rows: Tensor) -> Tensor:
        """[T, W, ...] -> [B, ...]."""
        rows = rows.flatten(0, 1)
        if self.in_order:
            return rows
        return rows.index_select(0, (self.row * self.samples.shape[1] + self.column).to(rows.device))


def tile(fragment_ids: IntArray) -> Tiles:
    """Sort B samples by fragment into rows of equal width, as a batched product needs them.

    Narrow rows read the weights of a fragment with many samples again and again, wide ones compute places that no
    sample fills. The width is the one for which both together cost least. So less than twice as many samples are
    computed as there are, and ten a fragment, however unevenly they fall: the cost grows with the samples, not with
    the modules.

    A product rounds by the place that a row has in it. The order by fragment, not by slot, makes the places depend on
    the samples alone: a module that comes back to another slot predicts to the bit what it would have predicted.

    :param fragment_ids: int64[B], B > 0
    """
    if (fragment_ids == fragment_ids[0]).all():  # nothing to sort
        everyone = torch.arange(len(fragment_ids))
        return Tiles(fragment_ids[:1], everyone[None], torch.zeros_like(everyone), everyone, in_order=True)
    distinct, position, count = np.unique(fragment_ids, return_inverse=True, return_counts=True)
    widths = np.append(np.unique(count), -(-len(fragment_ids) // len(distinct)))
    rows_for = -(-count // widths[:, None])
    best = np.argmin(rows_for.sum(axis=1) * (widths + _READING))
    width, rows = int(widths[best]), rows_for[best]
    order = np.argsort(position, kind="stable")
    rank = np.empty_like(position)
    rank[order] = np.arange(len(fragment_ids)) - np.repeat(np.cumsum(count) - count, count)
    row = (np.cumsum(rows) - rows)[position] + rank // width
    column = rank % width
    samples = np.zeros((int(rows.sum()), width), np.int64)
    samples[row, column] = np.arange(len(fragment_ids))
    in_order = samples.size == len(fragment_ids) and bool((order[1:] > order[:-1]).all())
    return Tiles(
        np.repeat(distinct, rows),
        torch.from_numpy(samples),
        torch.from_numpy(row),
        torch.from_numpy(column),
        in_order,
    )
