"""The long-term memory's index of places: one bit per cell, whether any fragment knows it.

A fragment begins with what is in view and so does not know what lies behind its edges; the index does. It is what
keeps an agent from exploring again, from another side, what another fragment holds.

Where the memory is bounded, the index also counts how often each cell was forgotten, and what was forgotten more often
than ``level`` is not sought for now. An agent that always seeks what was forgotten least goes in no circles (node
counting, Koenig and Szymanski 1999).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.maps.compiled import compiled
from farl.maps.geometry import (
    RIGHT_COLS,
    RIGHT_ROWS,
    STEP_COLS,
    STEP_ROWS,
    UNKNOWN,
    ByteArray,
    Int32Array,
    IntArray,
    WordArray,
)
from farl.maps.local_map import LocalMap

OVERLAP = 8
"""Cells around a map that it takes in although another fragment knows them."""


class KnownCells:
    """The indices of E agents, over the cells by their odometry.

    :param n_envs: number of agents E
    """

    def __init__(self, n_envs: int) -> None:
        self.bits: WordArray = np.zeros((n_envs, 2, 256, 4), np.uint64)
        """uint64[E, 2, S, S / 64], a bit per cell: row by row, and column by column."""
        self.n_new: IntArray = np.zeros(n_envs, np.int64)
        """int64[E], cells of the last view that no fragment knew."""
        self.level: IntArray = np.zeros(n_envs, np.int64)
        """int64[E], how often a cell may have been forgotten to be sought again."""
        self._forgotten: ByteArray | None = None  # uint8[E, S, S], made when something is forgotten first

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return self.bits.nbytes + (0 if self._forgotten is None else self._forgotten.nbytes)

    @property
    def centre(self) -> int:
        """The row and the column where the odometry is 0."""
        return int(self.bits.shape[2]) // 2

    def clear(self, envs: IntArray) -> None:
        """Forget all places of these agents."""
        self.bits[envs], self.level[envs] = 0, 0
        if self._forgotten is not None:
            self._forgotten[envs] = 0

    def see(self, codes: Int32Array, odometry: Int32Array) -> IntArray:
        """Note what is seen; return how many cells of each view were unknown, int64[E], as ``n_new``."""
        reach = codes.shape[1] + 1
        while int(np.abs(odometry[:, :2]).max()) + reach >= self.centre:
            self._grow()
        _see(codes, odometry, self.bits, self.centre, self.n_new)
        return self.n_new

    def sift(self, codes: Int32Array, odometry: Int32Array, boxes: IntArray) -> Int32Array:
        """Note what is seen, and return what of it the agents' current maps should take in, int32[E, V, V].

        That is all of it where something is new, or where a map is empty: what is new must be joined to the agent's
        place. Where nothing is new, only what lies in the map or ``OVERLAP`` cells around it: a walk through known
        places hardly enlarges the map, but fragments that meet come to share some cells.

        :param boxes: int64[E, 4], first and last row, first and last column of the maps, by the odometry; empty if
            last < first
        """
        self.see(codes, odometry)
        sifted = codes.copy()
        _sift(sifted, odometry, self.n_new, boxes)
        return sifted

    def forget(self, env: int, stored: LocalMap, others: Iterable[LocalMap]) -> None:
        """Count the cells as forgotten that a stored map knew alone.

        :param others: the maps that are left
        """
        if self._forgotten is None:
            self._forgotten = np.zeros((len(self.bits), *2 * (self.bits.shape[2],)), np.uint8)
        here = self._cells(stored)
        self._mark(env, here, False)
        self.note(env, others)
        alone = here[:, ~_are_known(self.bits[env], here[0], here[1])]
        counts = self._forgotten[env]
        counts[tuple(alone)] = np.minimum(counts[tuple(alone)], 254) + 1
        self._mark(env, alone[:, counts[tuple(alone)] > self.level[env]], True)

    def times_forgotten(self, env: int, shape: tuple[int, ...], corner: IntArray) -> IntArray:
        """How often each cell of a rectangle was forgotten, int64[shape].

        :param corner: row and column of its first cell by the odometry
        """
        found: IntArray = np.zeros(shape, np.int64)
        if self._forgotten is not None:
            row, col = (max(int(value), 0) for value in corner + self.centre)
            up, left = (int(value) for value in np.array([row, col]) - corner - self.centre)
            part = self._forgotten[env, row:, col:][: shape[0] - up, : shape[1] - left]
            found[up : up + part.shape[0], left : left + part.shape[1]] = part
        return found

    def seek(self, env: int, level: int, maps: Iterable[LocalMap]) -> None:
        """Seek what was forgotten up to ``level`` times, and nothing that was forgotten more often.

        :param maps: all that the agent has
        """
        self.level[env] = level
        if self._forgotten is None:
            return
        counts = self._forgotten[env]
        self._mark(env, np.array(np.nonzero(counts > level)), True)
        self._mark(env, np.array(np.nonzero((counts > 0) & (counts <= level))), False)
        self.note(env, maps)

    def note(self, env: int, maps: Iterable[LocalMap]) -> None:
        """Put the cells of maps into the index."""
        for one in maps:
            if one["label"].numel():
                self._mark(env, self._cells(one), True)

    def state_dict(self) -> dict[str, Any]:
        """Return the bits, the level and the counts."""
        return {
            "bits": torch.from_numpy(self.bits.view(np.int64).copy()),
            "level": torch.from_numpy(self.level.copy()),
            "forgotten": None if self._forgotten is None else torch.from_numpy(self._forgotten.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.bits = state["bits"].numpy().copy().view(np.uint64)
        self.level = state["level"].numpy().copy()
        counts = state["forgotten"]
        self._forgotten = None if counts is None else counts.numpy().copy()

    def _grow(self) -> None:
        side, words = self.bits.shape[2:]
        self.bits = np.pad(self.bits, ((0, 0), (0, 0), (side // 2, side // 2), (words // 2, words // 2)))
        if self._forgotten is not None:
            self._forgotten = np.pad(self._forgotten, ((0, 0), *2 * ((side // 2, side // 2),)))

    def _cells(self, stored: LocalMap) -> IntArray:
        """int64[2, n], rows and columns of a map's known cells in the index."""
        found: IntArray = np.array(np.nonzero(stored["label"].numpy()))
        found += np.array(stored["corner"], np.int64)[:, None] + self.centre
        return found

    def _mark(self, env: int, cells: IntArray, known: bool) -> None:
        _mark(self.bits[env], cells[0], cells[1], known)


def _are_known(bits: WordArray, rows: IntArray, cols: IntArray) -> npt.NDArray[np.bool_]:
    return np.asarray(bits[0, rows, cols >> 6] >> (cols & 63).astype(np.uint64) & np.uint64(1), bool)


@compiled
def is_known(bits: Any, row: int, col: int) -> bool:
    """Whether a cell of an index, uint64[2, S, S / 64], is known; what lies outside is not."""
    if row < 0 or col < 0 or row >= bits.shape[1] or col >= bits.shape[1]:
        return False
    return bool((bits[0, row, col >> 6] >> np.uint64(col & 63)) & np.uint64(1))


@compiled
def unknown_in_cone(bits: Any, row: int, col: int, heading: int, widths: Any) -> int:
    """Number of unknown cells in the cone ahead of a state of the index; see ``cone_widths``. Walls hide nothing."""
    plane, line, at, step = 0, row, col, STEP_ROWS[heading]
    if heading >= 2:
        plane, line, at, step = 1, col, row, STEP_COLS[heading]
    side = bits.shape[1]
    gain = 0
    for i in range(len(widths)):
        line += step
        width = widths[i]
        gain += 2 * width + 1
        first, last = max(at - width, 0), min(at + width, side - 1)
        if not 0 <= line < side or first > last:
            continue
        word, shift = first >> 6, np.uint64(first & 63)
        known = bits[plane, line, word] >> shift
        if (last >> 6) != word:
            known |= bits[plane, line, word + 1] << (np.uint64(64) - shift)
        mask = (np.uint64(1) << np.uint64(last - first + 1)) - np.uint64(1)
        gain -= _count_ones(known & mask)
    return gain


@compiled
def _count_ones(word: Any) -> int:
    """Population count (Warren, Hacker's Delight, section 5-1)."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def _mark(bits: Any, rows: Any, cols: Any, known: bool) -> None:
    for i in range(len(rows)):
        for plane in range(2):
            line, at = (rows[i], cols[i]) if plane == 0 else (cols[i], rows[i])
            bit = np.uint64(1) << np.uint64(at & 63)
            if known:
                bits[plane, line, at >> 6] |= bit
            else:
                bits[plane, line, at >> 6] &= ~bit


@compiled
def _see(codes: Any, odometry: Any, bits: Any, centre: int, n_new: Any) -> None:
    size = codes.shape[1]
    half = size // 2
    for e in range(len(codes)):
        heading = odometry[e, 2]
        new = 0
        for f in range(size):
            row = centre + odometry[e, 0] + f * STEP_ROWS[heading] - half * RIGHT_ROWS[heading]
            col = centre + odometry[e, 1] + f * STEP_COLS[heading] - half * RIGHT_COLS[heading]
            for s in range(size):
                if codes[e, size - 1 - f, s] != UNKNOWN:
                    bit = np.uint64(1) << np.uint64(col & 63)
                    if not bits[e, 0, row, col >> 6] & bit:
                        bits[e, 0, row, col >> 6] |= bit
                        bits[e, 1, col, row >> 6] |= np.uint64(1) << np.uint64(row & 63)
                        new += 1
                row += RIGHT_ROWS[heading]
                col += RIGHT_COLS[heading]
        n_new[e] = new


@compiled
def _sift(codes: Any, odometry: Any, n_new: Any, box: Any) -> None:
    size = codes.shape[1]
    half = size // 2
    for e in range(len(codes)):
        if n_new[e] > 0 or box[e, 1] < box[e, 0]:
            continue
        heading = odometry[e, 2]
        for f in range(size):
            row = odometry[e, 0] + f * STEP_ROWS[heading] - half * RIGHT_ROWS[heading]
            col = odometry[e, 1] + f * STEP_COLS[heading] - half * RIGHT_COLS[heading]
            for s in range(size):
                inside = box[e, 0] - OVERLAP <= row <= box[e, 1] + OVERLAP
                if not (inside and box[e, 2] - OVERLAP <= col <= box[e, 3] + OVERLAP):
                    codes[e, size - 1 - f, s] = UNKNOWN
                row += RIGHT_ROWS[heading]
                col += RIGHT_COLS[heading]
