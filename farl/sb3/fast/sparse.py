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
    :ivar starts: int64[R + 1], where each of the R begins, and where the last ends
    :ivar columns: int32[N], where its numbers stand
    :ivar values: float32[N], its numbers
    :ivar dense: float32[R, I], the same rows with all their zeros
    """

    which: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    dense: Tensor

    @classmethod
    def of(cls, observations: Tensor) -> "SparseRows | None":
        """Return R observations on a CPU, [R, ...], as such rows; None where that would be no faster."""
        from farl.sb3.fast import compiled  # numba takes a second to import

        rows = observations.flatten(1)
        if rows.shape[1] < _WIDE:
            return None
        dense = rows.float().contiguous()
        array = dense.numpy()
        room = int(_SPARSE * array.size) + 1
        starts = np.empty(len(array) + 1, np.int64)
        columns, values = np.empty(room, np.int32), np.empty(room, np.float32)
        if compiled.sparse_rows(array, starts, columns, values) == room:
            return None
        return cls(np.arange(len(array)), starts, columns, values, dense)

    def pick(self, which: npt.NDArray[np.int64]) -> "SparseRows":
        """Return some of the R."""
        return SparseRows(which, self.starts, self.columns, self.values, self.dense)

    def last(self, count: int) -> Tensor:
        """Return the last numbers of each of the U rows, float32[U, count]."""
        return self.dense[:, -count:].index_select(0, torch.from_numpy(self.which))

    def layer(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return rows times weight, float32[O, I], transposed, plus bias, float32[O]: float32[U, O]."""
        from farl.sb3.fast import compiled

        outputs = bias.expand(len(self.which), -1).contiguous()
        compiled.sparse_layer(*self._arrays, weight.t().contiguous().numpy(), outputs.numpy())
        return outputs

    def gradient(self, gradient: Tensor, weight_gradient: Tensor) -> None:
        """Write the gradient by the weight, float32[O, I], given that of the outputs, float32[U, O]."""
        from farl.sb3.fast import compiled

        turned = weight_gradient.new_empty(weight_gradient.shape[::-1])
        compiled.sparse_gradient(*self._arrays, gradient.contiguous().numpy(), turned.numpy())
        weight_gradient.copy_(turned.t())

    def __len__(self) -> int:
        return len(self.which)

    @property
    def _arrays(self) -> tuple[Any, Any, Any, Any]:
        return self.which, self.starts, self.columns, self.values
