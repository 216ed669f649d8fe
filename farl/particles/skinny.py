"""Products of one large weight with few rows, as fast as memory gives the weight.

A matrix library copies a weight into its own order first, which costs more than the product if there are few rows to
share it. Here every number of the weight is read once, and used for all rows while it is in a register; columns are
taken in strips, so that the rows' part stays in the nearest cache. Compiled by numba when it is first needed.

The rows of a batch must be a multiple of four, except in ``product_transposed``.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy.typing as npt

Array = npt.NDArray[Any]
_STRIP = 1024
_compiled = numba.njit(fastmath=True, nogil=True, cache=True)


@_compiled
def product(x: Array, w: Array, y: Array) -> None:
    """Write ``x [batch, in] @ w [out, in]^T`` to ``y`` [batch, out], which holds zeros."""
    zero = w.dtype.type(0)
    for start in range(0, w.shape[1], _STRIP):
        strip = slice(start, min(w.shape[1], start + _STRIP))
        for o in range(w.shape[0]):
            row = w[o, strip]
            for b in range(0, x.shape[0], 4):
                x0, x1, x2, x3 = x[b, strip], x[b + 1, strip], x[b + 2, strip], x[b + 3, strip]
                y0 = y1 = y2 = y3 = zero
                for i in range(len(row)):
                    y0 += row[i] * x0[i]
                    y1 += row[i] * x1[i]
                    y2 += row[i] * x2[i]
                    y3 += row[i] * x3[i]
                y[b, o] += y0
                y[b + 1, o] += y1
                y[b + 2, o] += y2
                y[b + 3, o] += y3


@_compiled
def product_transposed(g: Array, w: Array, d: Array) -> None:
    """Write ``g [batch, out] @ w [out, in]`` to ``d`` [batch, in], which holds zeros."""
    even = w.shape[0] - w.shape[0] % 4
    for start in range(0, w.shape[1], _STRIP):
        strip = slice(start, min(w.shape[1], start + _STRIP))
        for o in range(0, even, 4):
            w0, w1, w2, w3 = w[o, strip], w[o + 1, strip], w[o + 2, strip], w[o + 3, strip]
            for b in range(g.shape[0]):
                out = d[b, strip]
                g0, g1, g2, g3 = g[b, o], g[b, o + 1], g[b, o + 2], g[b, o + 3]
                for i in range(len(out)):
                    out[i] += g0 * w0[i] + g1 * w1[i] + g2 * w2[i] + g3 * w3[i]
        for o in range(even, w.shape[0]):
            row = w[o, strip]
            for b in range(g.shape[0]):
                out, g0 = d[b, strip], g[b, o]
                for i in range(len(out)):
                    out[i] += g0 * row[i]


@_compiled
def add_product(w: Array, g: Array, x: Array) -> None:
    """Add ``g [batch, out]^T @ x [batch, in]`` to ``w`` [out, in]."""
    for start in range(0, w.shape[1], _STRIP):
        strip = slice(start, min(w.shape[1], start + _STRIP))
        for o in range(w.shape[0]):
            row = w[o, strip]
            for b in range(0, x.shape[0], 4):
                x0, x1, x2, x3 = x[b, strip], x[b + 1, strip], x[b + 2, strip], x[b + 3, strip]
                g0, g1, g2, g3 = g[b, o], g[b + 1, o], g[b + 2, o], g[b + 3, o]
                for i in range(len(row)):
                    row[i] += g0 * x0[i] + g1 * x1[i] + g2 * x2[i] + g3 * x3[i]
