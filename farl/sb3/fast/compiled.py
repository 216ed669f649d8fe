"""Small loops of the fast lane on a CPU, compiled by numba when they are first needed.

A call of torch costs five to twenty microseconds, however little there is to do: in a step of a few environments that
is most of the time. And where observations are mostly zeros, most of a product is, too.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(function: Function) -> Function:
    # Not all of fastmath: what is not a number must stay so. Without numpy's error model, no division is vectorised.
    fastmath = {"reassoc", "contract", "nsz", "arcp"}
    return cast(Function, numba.njit(fastmath=fastmath, error_model="numpy", nogil=True, cache=True)(function))


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
def layer(inputs: Array, first: int, weight: Array, bias: Array, outputs: Array, place: int, activation: int) -> None:
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
def sparse_rows(rows: Array, starts: Array, columns: Array, values: Array) -> int:
    """Write down the numbers other than zero of float32[R, I], as many as there is room for, and return how many.

    :param starts: int64[R + 1], for where each row begins
    :param columns: int32[room], for where the numbers stand
    :param values: float32[room], for the numbers
    """
    count, room = 0, len(values)
    for r in range(len(rows)):
        starts[r] = count
        for i in range(rows.shape[1]):
            if rows[r, i] != 0:
                if count == room:
                    return room
                columns[count], values[count] = i, rows[r, i]
                count += 1
    starts[len(rows)] = count
    return count


@_compiled
def add_rows(matrix: Array, rows: Array, factors: Array, out: Array) -> None:
    """Add ``factors @ matrix[rows]`` to ``out``, [O]."""
    count = len(rows)
    even = count - count % 4
    for k in range(0, even, 4):
        w0, w1, w2, w3 = matrix[rows[k]], matrix[rows[k + 1]], matrix[rows[k + 2]], matrix[rows[k + 3]]
        f0, f1, f2, f3 = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
        for o in range(len(out)):
            out[o] += f0 * w0[o] + f1 * w1[o] + f2 * w2[o] + f3 * w3[o]
    for k in range(even, count):
        w0, f0 = matrix[rows[k]], factors[k]
        for o in range(len(out)):
            out[o] += f0 * w0[o]


@_compiled
def sparse_layer(which: Array, starts: Array, columns: Array, values: Array, weight: Array, out: Array) -> None:
    """Add ``rows[which] @ weight[I, O]`` to ``out``, [U, O]; row r has ``values`` at ``columns`` from ``starts[r]``."""
    for u in range(len(which)):
        begin, end = starts[which[u]], starts[which[u] + 1]
        add_rows(weight, columns[begin:end], values[begin:end], out[u])


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
        weight_gradient[i] = np.float32(0.0)
        add_rows(gradient, rows[begin : ends[i]], factors[begin : ends[i]], weight_gradient[i])
        begin = ends[i]


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


@_compiled
def categorical(
    outputs: Array, where: Array, actions: Array, log_probs: Array, entropies: Array, chosen: Array
) -> None:
    """Evaluate B actions of which action b has the outputs of row ``where[b]``.

    :param outputs: float32[R, A]
    :param where: int64[B]
    :param actions: int64[B]
    :param log_probs: float32[R, A], for the result
    :param entropies: float32[R], for the result
    :param chosen: float32[B], for the log-probabilities of the actions
    """
    for r in range(len(outputs)):
        most = outputs[r, 0]
        for a in range(outputs.shape[1]):
            most = max(most, outputs[r, a])
        total = np.float32(0.0)
        for a in range(outputs.shape[1]):
            total += np.exp(outputs[r, a] - most)
        most += np.log(total)
        entropy = np.float32(0.0)
        for a in range(outputs.shape[1]):
            log_prob = outputs[r, a] - most
            log_probs[r, a] = log_prob
            entropy -= np.exp(log_prob) * log_prob
        entropies[r] = entropy
    for b in range(len(where)):
        chosen[b] = log_probs[where[b], actions[b]]


@_compiled
def categorical_gradient(
    log_probs: Array,
    entropies: Array,
    where: Array,
    actions: Array,
    by_log_prob: Array,
    by_entropy: float,
    gradient: Array,
) -> None:
    """Add the gradient by the outputs of ``categorical``, float32[R, A], given those of what it returned."""
    sums, counts = np.zeros(len(log_probs), np.float32), np.zeros(len(log_probs), np.float32)
    for b in range(len(where)):
        row = where[b]
        gradient[row, actions[b]] += by_log_prob[b]
        sums[row] += by_log_prob[b]
        counts[row] += np.float32(1.0)
    for r in range(len(log_probs)):
        for a in range(log_probs.shape[1]):
            slope = sums[r] + np.float32(by_entropy) * counts[r] * (log_probs[r, a] + entropies[r])
            gradient[r, a] -= np.exp(log_probs[r, a]) * slope


@_compiled
def normalise(advantages: Array) -> None:
    """Subtract the mean of float32[B] and divide by the standard deviation, in place."""
    mean = np.float32(advantages.mean())
    squares = 0.0
    for b in range(len(advantages)):
        advantages[b] -= mean
        squares += advantages[b] * advantages[b]
    scale = np.float32(1.0 / (np.sqrt(squares / (len(advantages) - 1)) + 1e-8))
    for b in range(len(advantages)):
        advantages[b] *= scale


@_compiled
def losses(
    log_prob: Array,
    old_log_prob: Array,
    advantages: Array,
    values: Array,
    old_values: Array,
    returns: Array,
    clip_range: float,
    clip_range_vf: float,
    vf_coef: float,
    log_ratio: Array,
    error: Array,
    by_log_prob: Array,
    by_values: Array,
) -> None:
    """PPO's losses of B samples, float32[B] all; what they are to be told by is at the end.

    :param clip_range_vf: infinite for none
    :param log_ratio: logarithm of new probability over old
    :param error: errors of the values, as far as they may change
    :param by_log_prob: gradient of the mean surrogate loss
    :param by_values: gradient of the mean squared error, times ``vf_coef``
    """
    count, one = np.float32(len(log_prob)), np.float32(1.0)
    low, high, most = np.float32(1.0 - clip_range), np.float32(1.0 + clip_range), np.float32(clip_range_vf)
    weight = np.float32(2.0 * vf_coef) / count
    for b in range(len(log_prob)):
        log_ratio[b] = log_prob[b] - old_log_prob[b]
        ratio = np.exp(log_ratio[b])
        surrogate = ratio * advantages[b]
        clipped = min(max(ratio, low), high) * advantages[b]
        by_log_prob[b] = -surrogate / count if surrogate <= clipped else np.float32(0.0)
        change = values[b] - old_values[b]
        within = one
        if abs(change) > most:
            within = np.float32(0.0)
            change = most if change > 0 else -most
        error[b] = old_values[b] + change - returns[b]
        by_values[b] = weight * error[b] * within


@_compiled
def adam(
    parameters: Array,
    gradient: Array,
    first: Array,
    second: Array,
    max_norm: float,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    step: float,
) -> None:
    """Do one step of Adam (Kingma and Ba, 2015) on float32[N], with the gradient's norm clipped to ``max_norm``."""
    squares = np.float32(0.0)
    for i in range(len(gradient)):
        squares += gradient[i] * gradient[i]
    norm = np.sqrt(squares) + 1e-6
    scale = np.float32(max_norm / norm if norm > max_norm else 1.0)
    if np.isnan(norm):
        scale = np.float32(norm)
    beta1, beta2 = betas
    keep1, keep2, new1, new2 = np.float32(beta1), np.float32(beta2), np.float32(1.0 - beta1), np.float32(1.0 - beta2)
    size = np.float32(rate / (1.0 - beta1**step))
    root, small = np.float32(1.0 / np.sqrt(1.0 - beta2**step)), np.float32(epsilon)
    for i in range(len(gradient)):
        slope = gradient[i] * scale
        mean, square = keep1 * first[i] + new1 * slope, keep2 * second[i] + new2 * slope * slope
        first[i], second[i] = mean, square
        parameters[i] -= size * mean / (np.sqrt(square) * root + small)
