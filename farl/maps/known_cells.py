"""The long-term memory's index of places: one bit per cell, whether any fragment knows it.

A fragment begins with what is in view and so does not know what lies behind its edges; the index does. It is what
keeps an agent from exploring again, from another side, what another fragment holds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from farl.maps.compiled import compiled
from farl.maps.geometry import RIGHT_COLS, RIGHT_ROWS, STEP_COLS, STEP_ROWS, UNKNOWN, Int32Array, IntArray, WordArray
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

    @property
    def centre(self) -> int:
        """The row and the column where the odometry is 0."""
        return int(self.bits.shape[2]) // 2

    def clear(self, envs: IntArray) -> None:
        """Forget all places of these agents."""
        self.bits[envs] = 0

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

    def forget(self, env: int, stored: LocalMap) -> None:
        """Take a stored map's cells out of the index; those that other maps know must be put in again (``note``)."""
        self._mark(env, stored, False)

    def note(self, env: int, stored: LocalMap) -> None:
        """Put a stored map's cells into the index."""
        self._mark(env, stored, True)

    def state_dict(self) -> dict[str, Any]:
        """Return the bits."""
        return {"bits": torch.from_numpy(self.bits.view(np.int64).copy())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.bits = state["bits"].numpy().copy().view(np.uint64)

    def _grow(self) -> None:
        side, words = self.bits.shape[2:]
        self.bits = np.pad(self.bits, ((0, 0), (0, 0), (side // 2, side // 2), (words // 2, words // 2)))

    def _mark(self, env: int, stored: LocalMap, known: bool) -> None:
        rows, cols = np.nonzero(stored["label"].numpy())
        _mark(self.bits[env], rows + stored["corner"][0] + self.centre, cols + stored["corner"][1] + self.centre, known)


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
