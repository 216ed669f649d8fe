"""Headings, colour codes and random numbers: what worlds, maps and planners agree on.

A heading is also the action that steps that way: 0 up, 1 down, 2 left, 3 right. Rows grow downwards, columns to the
right. A cell's colour identity is its 24-bit RGB code (``red << 16 | green << 8 | blue``).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from farl.maps.compiled import compiled

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]
WordArray = npt.NDArray[np.uint64]

UNKNOWN = 0
"""Code of a cell that is not seen: black."""
FREE = 0xFFFFFF
"""Code of a free cell: white."""

STEP_ROWS = np.array([-1, 1, 0, 0], np.int64)
"""Row step of each heading."""
STEP_COLS = np.array([0, 0, -1, 1], np.int64)
"""Column step of each heading."""
OPPOSITE = np.array([1, 0, 3, 2], np.int64)
"""The heading that turns each heading round."""
RIGHT_ROWS = np.array([0, 0, -1, 1], np.int64)
"""Row step to the right-hand side of each heading."""
RIGHT_COLS = np.array([1, -1, 0, 0], np.int64)
"""Column step to the right-hand side of each heading."""


@compiled
def encode(rgb: Any) -> Any:
    """Turn pictures, uint8[E, V, V, 3], into colour codes, int32[E, V, V]."""
    n_envs, height, width, _ = rgb.shape
    codes = np.empty((n_envs, height, width), np.int32)
    for e in range(n_envs):
        for i in range(height):
            for j in range(width):
                codes[e, i, j] = (np.int32(rgb[e, i, j, 0]) << 16) | (np.int32(rgb[e, i, j, 1]) << 8) | rgb[e, i, j, 2]
    return codes


@compiled
def decode(codes: Any, rgb: Any) -> None:
    """Write colour codes, int32[E, V, V], as pictures into ``rgb``, uint8[E, V, V, 3]."""
    n_envs, height, width = codes.shape
    for e in range(n_envs):
        for i in range(height):
            for j in range(width):
                code = codes[e, i, j]
                rgb[e, i, j, 0] = (code >> 16) & 0xFF
                rgb[e, i, j, 1] = (code >> 8) & 0xFF
                rgb[e, i, j, 2] = code & 0xFF


@compiled
def next_random(states: Any, e: int) -> float:
    """Draw a number in [0, 1) from the stream ``states[e]``, uint64[E], and advance it.

    SplitMix64 (Steele, Lea and Flood 2014): one word of state per environment, so that a saved agent continues exactly.
    """
    states[e] += np.uint64(0x9E3779B97F4A7C15)
    z = states[e]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) / 9007199254740992.0
