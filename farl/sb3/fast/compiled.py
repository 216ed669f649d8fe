"""Small loops of the fast lane on a CPU, compiled by numba when they are first needed.

A call of torch costs five to twenty microseconds, however little there is to do: in a step of a few environments that
is most of the time. And where observations are mostly zeros, most of a product is, too.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Not all of fastmath: what is not a number must stay so. Without numpy's error model, no division is vectorised.
_compiled = numba.njit(
    fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", nogil=True, cache=True, boundscheck=False
)

NOTHING, TANH, RELU = 0, 1, 2
"""What ``layer`` does to its outputs."""

# tanh as a ratio of two polynomials, exact to within two units in the last place; from there on it is 1.
_LARGEST = np.float32(7.9988)
_P = tuple(
    map(
        np.float32,
        (
            4.89352455891786e-03,
            6.37261928875436e-04,
            1.48572235717979e-05,
            5.12229709037114e-08,
            -8.60467152213735e-11,
            2.00018790482477e-13,
            -2.76076847742355e-16,
        ),
    )
)
_Q = tuple(map(np.float32, (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06)))
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = _P
_Q0, _Q1, _Q2, _Q3 = _Q


@_compiled
def tanh(values: Array) -> None:
    """Take the hyperbolic tangent of float32[N], in place; several times faster than torch."""
    for i in range(len(values)):
        x = values[i]
        x = _LARGEST if x > _LARGEST else x
        x = -_LARGEST if x < -_LARGEST else x
        s = x * x
        p = (((((s * _P6 + _P5) * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
        values[i] = x * p / (((s * _Q3 + _Q2) * s + _Q1) * s + _Q0)


@_compiled
def tanh_backward(gradient: Array, activated: Array) -> None:
    """Multiply a gradient, float32[N], by the slope where the tangent was ``activated``, in place."""
    one = np.float32(1.0)
    for i in range(len(gradient)):
        gradient[i] *= one - activated[i] * activated[i]


@_compiled
def layer(
    inputs: Array, first: int, weight: Array, bias: Array, outputs: Array, place: int, activation: int
) -> None:
    """Write ``inputs[:, first:first + I] @ weight[O, I]^T + bias[O]`` to ``outputs[:, place:place + O]``.

    For a few rows, which a matrix library does no faster.
    """
    n_outputs, n_inputs = weight.shape
    even = n_outputs - n_outputs % 4
    for n in range(len(inputs)):
        row, out = inputs[n, first : first + n_inputs], outputs[n, place : place + n_outputs]
        for o in range(0, even, 4):
            w0, w1, w2, w3 = weight[o], weight[o + 1], weight[o + 2], weight[o + 3]
            y0 = y1 = y2 = y3 = np.float32(0.0)
            for i in range(n_inputs):
                y0 += row[i] * w0[i]
                y1 += row[i] * w1[i]
                y2 += row[i] * w2[i]
                y3 += row[i] * w3[i]
            out[o], out[o + 1] = y0 + bias[o], y1 + bias[o + 1]
            out[o + 2], out[o + 3] = y2 + bias[o + 2], y3 + bias[o + 3]
        for o in range(even, n_outputs):
            w0 = weight[o]
            y0 = np.float32(0.0)
            for i in range(n_inputs):
                y0 += row[i] * w0[i]
            out[o] = y0 + bias[o]
        if activation == TANH:
            tanh(out)
        elif activation == RELU:
            for o in range(n_outputs):
                out[o] = np.float32(0.0) if out[o] < np.float32(0.0) else out[o]


@_compiled
def sparse_layer(which: Array, starts: Array, columns: Array, values: Array, weight: Array, out: Array) -> None:
    """Add ``rows[which] @ weight[I, O]`` to ``out``, [U, O]; row r has ``values`` at ``columns``, from ``starts[r]``."""
    for u in range(len(which)):
        row, begin, end = out[u], starts[which[u]], starts[which[u] + 1]
        even = end - (end - begin) % 4
        for k in range(begin, even, 4):
            w0, w1 = weight[columns[k]], weight[columns[k + 1]]
            w2, w3 = weight[columns[k + 2]], weight[columns[k + 3]]
            v0, v1, v2, v3 = values[k], values[k + 1], values[k + 2], values[k + 3]
            for o in range(len(row)):
                row[o] += v0 * w0[o] + v1 * w1[o] + v2 * w2[o] + v3 * w3[o]
        for k in range(even, end):
            w0, v0 = weight[columns[k]], values[k]
            for o in range(len(row)):
                row[o] += v0 * w0[o]


@_compiled
def sparse_gradient(
    which: Array, starts: Array, columns: Array, values: Array, gradient: Array, weight_gradient: Array
) -> None:
    """Write ``rows[which]^T @ gradient[U, O]`` to ``weight_gradient``, [I, O].

    Column by column, so that what is added to stays in the nearest cache.
    """
    n_inputs = len(weight_gradient)
    ends = np.zeros(n_inputs + 1, np.int64)
    for u in range(len(which)):
        for k in range(starts[which[u]], starts[which[u] + 1]):
            ends[columns[k] + 1] += 1
    for i in range(n_inputs):
        ends[i + 1] += ends[i]
    rows, factors = np.empty(ends[n_inputs], np.int64), np.empty(ends[n_inputs], np.float32)
    for u in range(len(which)):
        for k in range(starts[which[u]], starts[which[u] + 1]):
            place = ends[columns[k]]
            rows[place], factors[place] = u, values[k]
            ends[columns[k]] = place + 1
    begin = 0
    for i in range(n_inputs):
        out, end = weight_gradient[i], ends[i]
        out[:] = np.float32(0.0)
        even = end - (end - begin) % 4
        for k in range(begin, even, 4):
            g0, g1, g2, g3 = gradient[rows[k]], gradient[rows[k + 1]], gradient[rows[k + 2]], gradient[rows[k + 3]]
            v0, v1, v2, v3 = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
            for o in range(len(out)):
                out[o] += v0 * g0[o] + v1 * g1[o] + v2 * g2[o] + v3 * g3[o]
        for k in range(even, end):
            g0, v0 = gradient[rows[k]], factors[k]
            for o in range(len(out)):
                out[o] += v0 * g0[o]
        begin = end


@_compiled
def number(rows: Array, factors: Array, known: Array, slots: Array, count: int, numbers: Array) -> int:
    """Number N rows of words, so that equal rows get equal numbers, and return how many there are by now.

    :param rows: unsigned[N, W]
    :param factors: uint64[W], random and odd, for the hash
    :param known: unsigned[C, W], of which the first ``count`` are numbered already; new ones follow
    :param slots: int32[a power of two], the table of numbers by hash; -1 is empty
    :param numbers: int64[N], for the result
    """
    width, mask = rows.shape[1], len(slots) - 1
    for n in range(len(rows)):
        row = rows[n]
        mixed = np.uint64(0)
        for w in range(width):
            mixed += np.uint64(row[w]) * factors[w]
        slot = np.int64(mixed >> np.uint64(33)) & mask
        while True:
            found = slots[slot]
            if found < 0:
                slots[slot] = found = count
                known[count] = row
                count += 1
                break
            differ, other = row[0] ^ row[0], known[found]
            for w in range(width):
                differ |= row[w] ^ other[w]
            if differ == 0:
                break
            slot = (slot + 1) & mask
        numbers[n] = found
    return count


@_compiled
def among(numbers: Array, place_of: Array, present: Array, where: Array) -> int:
    """Find which numbers there are among B, and return how many.

    :param numbers: int64[B]
    :param place_of: int64[number of numbers], all -1
    :param present: int64[B], for the numbers there are, each once
    :param where: int64[B], for the place in ``present`` of each
    """
    count = 0
    for b in range(len(numbers)):
        place = place_of[numbers[b]]
        if place < 0:
            place = place_of[numbers[b]] = count
            present[count] = numbers[b]
            count += 1
        where[b] = place
    return count


@_compiled
def draw(log_probs: Array, noise: Array, actions: Array, chosen: Array) -> None:
    """Draw one of A actions for each of B rows, as ``torch.multinomial`` does with the same noise.

    :param log_probs: float32[B, A]
    :param noise: float32[B, A], exponential
    :param actions: int64[B], for the result
    :param chosen: float32[B], for their log-probabilities
    """
    for b in range(len(log_probs)):
        best, most = 0, np.float32(-1.0)
        for a in range(log_probs.shape[1]):
            score = np.exp(log_probs[b, a]) / noise[b, a]
            if score > most:
                best, most = a, score
        actions[b], chosen[b] = best, log_probs[b, best]


@_compiled
def draw_gaussian(means: Array, log_std: Array, noise: Array, log_probs: Array) -> None:
    """Turn normal noise, float32[B, A], into actions around ``means``, in place, and write their log-probabilities."""
    half = np.float32(0.5)
    for b in range(len(means)):
        total = np.float32(0.0)
        for a in range(len(log_std)):
            total -= half * noise[b, a] * noise[b, a] + log_std[a] + np.float32(0.918938533204673)
            noise[b, a] = means[b, a] + np.exp(log_std[a]) * noise[b, a]
        log_probs[b] = total
