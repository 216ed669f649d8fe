"""The loops of ``farl.kinds``, compiled by numba when they are first needed."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_compiled = numba.njit(nogil=True, cache=True)


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
