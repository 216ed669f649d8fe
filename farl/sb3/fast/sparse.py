"""Observations that are mostly zeros, as those of grid worlds, and a linear layer that skips these."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_SPARSE = 1 / 4  # largest share of numbers other than zero
_WIDE = 64  # least number of numbers


@dataclass(frozen=True)
class SparseRows:
    """U rows, some of R that are known by their numbers other than zero.

    :ivar which: int64[U], of the R
    :ivar starts: int64[R + 1], where each of the R begins
    :ivar columns: int32[N], where its numbers stand
    :ivar values: float32[N], its numbers
    """

    which: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]

    @classmethod
    def of(cls, observations: Tensor) -> "SparseRows | None":
        """Return R observations on a CPU, [R, ...], as such rows; None where that would be no faster."""
        rows = observations.flatten(1)
        if rows.shape[1] < _WIDE or not len(rows):
            return None
        some = rows[:: max(1, len(rows) // 16)]
        if torch.count_nonzero(some) > 2 * _SPARSE * some.numel() or torch.count_nonzero(rows) > _SPARSE * rows.numel():
            return None
        array = rows.float().numpy()
        row, column = np.nonzero(array)
        starts = np.concatenate([np.zeros(1, np.int64), np.bincount(row, minlength=len(array)).cumsum()])
        return cls(np.arange(len(array)), starts, column.astype(np.int32), array[row, column])

    def pick(self, which: npt.NDArray[np.int64]) -> "SparseRows":
        """Return some of the R."""
        return SparseRows(which, self.starts, self.columns, self.values)

    def layer(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return rows times weight, float32[O, I], transposed, plus bias, float32[O]: float32[U, O]."""
        from farl.sb3.fast import compiled  # numba takes a second to import

        outputs = bias.expand(len(self.which), -1).contiguous()
        compiled.sparse_layer(*self._arrays, weight.t().contiguous().numpy(), outputs.numpy())
        return outputs

    def gradient(self, gradient: Tensor, weight_gradient: Tensor) -> None:
        """Write the gradient by the weight, float32[O, I], given that of the outputs, float32[U, O]."""
        from farl.sb3.fast import compiled

        turned = weight_gradient.new_empty(weight_gradient.shape[::-1])
        compiled.sparse_gradient(*self._arrays, gradient.contiguous().numpy(), turned.numpy())
        weight_gradient.copy_(turned.t())

    @property
    def _arrays(self) -> tuple[Any, ...]:
        return self.which, self.starts, self.columns, self.values
