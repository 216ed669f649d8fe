"""Things that are the same to the last bit are of one kind, and need to be looked at only once."""

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


class Kinds:
    """Numbers observations by what they are: two are of one kind if they are the same to the last bit."""

    def __init__(self) -> None:
        self.observations: Array = np.empty(0)
        """One observation of each kind, [K, ...], in the order in which they came."""
        self._rows: Array = np.empty(0)  # with room for more
        self._words: Array = np.empty(0)  # the same memory, as unsigned numbers
        self._factors: Any = None
        self._slots = np.full(1024, -1, np.int32)

    def __len__(self) -> int:
        return len(self.observations)

    def __call__(self, observations: Array) -> IntArray:
        """Return the kinds of N observations, int64[N]."""
        from farl import compiled_kinds as compiled  # numba takes a second to import

        known, count = len(self.observations), len(observations)
        if known + count > len(self._rows):
            self._make_room(observations)
        if 4 * (known + count) > len(self._slots):
            self._slots = np.full(1 << (8 * (known + count)).bit_length(), -1, np.int32)
            again = np.empty(known, np.int64)
            compiled.number(self._words[:known].copy(), self._factors, self._words, self._slots, 0, again)
        words = np.ascontiguousarray(observations).reshape(count, -1).view(self._words.dtype)
        kinds = np.empty(count, np.int64)
        found = compiled.number(words, self._factors, self._words, self._slots, known, kinds)
        if found > known:
            self.observations = self._rows[:found]
        return kinds

    def _make_room(self, observations: Array) -> None:
        known = len(self.observations)
        rows = np.empty((max(256, 2 * (known + len(observations))), *observations.shape[1:]), observations.dtype)
        if known:
            rows[:known] = self.observations
        flat = rows.reshape(len(rows), -1)
        size = flat.shape[1] * flat.itemsize
        self._rows, self.observations = rows, rows[:known]
        self._words = flat.view(np.uint64 if size % 8 == 0 else np.uint32 if size % 4 == 0 else np.uint8)
        if self._factors is None:
            drawn = np.random.default_rng(0).integers(0, 2**64, self._words.shape[1], np.uint64)
            self._factors = drawn | np.uint64(1)


def among(ids: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Return which of so many kinds there are in int64[B], and the place of each of the B among them."""
    from farl import compiled_kinds as compiled

    present, where = np.empty_like(ids), np.empty_like(ids)
    found = compiled.among(ids, np.full(count, -1), present, where)
    return present[:found], where
