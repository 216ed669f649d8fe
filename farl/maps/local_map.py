"""The local maps of E agents: for each cell a colour identity, a confidence, and when it was last seen.

FARMap (section 3.1) keeps one channel per colour, scales all of them by gamma at every observation and adds ``1 -
gamma`` where a colour is seen. A cell of a world shows one colour at a time, so that one label and one value per cell
hold the same, and the decay is applied when the cell is next looked at. A cell that changes its colour forgets the
old one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch

from farl.maps.compiled import compiled
from farl.maps.geometry import (
    FREE,
    RIGHT_COLS,
    RIGHT_ROWS,
    STEP_COLS,
    STEP_ROWS,
    UNKNOWN,
    Float32Array,
    Int32Array,
    IntArray,
)

LocalMap = dict[str, Any]
"""A stored map, a fragment's payload: ``label`` int32[h, w], ``value`` float32[h, w], ``corner`` (row, column by the
odometry) of its first cell, and what its agent adds. Only tensors, numbers and lists: it can be saved."""

Surprisal = Literal["before", "after", "new-cells"]
_SURPRISALS = get_args(Surprisal)
_BEFORE, _AFTER, _NEW_CELLS = range(len(_SURPRISALS))

BLOCKED = 1
"""Label of a cell that was never seen but cannot be stepped on: nearly black."""

_DECAYED = 512  # steps after which a confidence counts as 0


class MapState(NamedTuple):
    """The current maps of E agents as kernels take them; each array is that of ``LocalMaps``.

    :ivar label: int32[E, S, S]
    :ivar value: float32[E, S, S]
    :ivar touched: int32[E, S, S]
    :ivar box: int64[E, 4]
    :ivar origin: int64[E, 2]
    :ivar pose: int64[E, 3]
    :ivar clock: int64[E]
    :ivar n_free: int64[E]
    :ivar n_new: int64[E]
    """

    label: Int32Array
    value: Float32Array
    touched: Int32Array
    box: IntArray
    origin: IntArray
    pose: IntArray
    clock: IntArray
    n_free: IntArray
    n_new: IntArray


_ARRAYS = MapState._fields
_CANVASES = ("label", "value", "touched")


class Confidence(NamedTuple):
    """How a map's confidence rises and decays, and how surprisal is made of it.

    :ivar gain: float32, what an observation adds: 1 - gamma
    :ivar powers: float32[512], what is left of it after so many observations
    :ivar surprisal: the place in ``Surprisal`` of the one that is asked for
    """

    gain: Any
    powers: Float32Array
    surprisal: int


class LocalMaps:
    """The current map of each of E agents, on canvases that grow as needed.

    :param n_envs: number of agents E
    :param view_size: V, cells a side of the views that come in
    :param gamma: decay of the confidence per observation, in (0, 1)
    :param surprisal: 1 - mean confidence in what is seen, taken ``"before"`` it enters the map (the paper), or
        ``"after"`` (its public code); or else, for ``"new-cells"``, the share of what is seen that was unknown
    :raises ValueError: if a parameter is out of range
    """

    def __init__(self, n_envs: int, view_size: int, gamma: float = 0.9, surprisal: Surprisal = "before") -> None:
        if not 0.0 < gamma < 1.0:
            raise ValueError(f"gamma must lie in (0, 1); got {gamma}")
        if surprisal not in _SURPRISALS:
            raise ValueError(f"surprisal must be one of {', '.join(_SURPRISALS)}; got {surprisal!r}")
        self.gamma, self.view_size, self._surprisal = gamma, view_size, _SURPRISALS.index(surprisal)
        side = self._least_side
        self.label: Int32Array = np.zeros((n_envs, side, side), np.int32)
        """int32[E, S, S], colour codes."""
        self.value: Float32Array = np.zeros((n_envs, side, side), np.float32)
        """float32[E, S, S], the confidence right after the cell was last seen."""
        self.touched: Int32Array = np.zeros((n_envs, side, side), np.int32)
        """int32[E, S, S], the clock when the cell was last seen."""
        self.box: IntArray = np.zeros((n_envs, 4), np.int64)
        """int64[E, 4], first and last row, first and last column of what is known; none if last < first."""
        self.origin: IntArray = np.zeros((n_envs, 2), np.int64)
        """int64[E, 2], the canvas cell where the odometry is 0."""
        self.pose: IntArray = np.zeros((n_envs, 3), np.int64)
        """int64[E, 3], row and column on the canvas, and heading, of each agent."""
        self.clock: IntArray = np.zeros(n_envs, np.int64)
        """int64[E], observations so far."""
        self.n_free: IntArray = np.zeros(n_envs, np.int64)
        """int64[E], known free cells."""
        self.n_new: IntArray = np.zeros(n_envs, np.int64)
        """int64[E], cells that the last observation made known."""
        self.powers: Float32Array = (gamma ** np.arange(_DECAYED)).astype(np.float32)
        """float32[512], what is left of a confidence after so many observations."""
        self.clear(np.arange(n_envs))

    @property
    def n_envs(self) -> int:
        """Number of agents E."""
        return len(self.label)

    @property
    def state(self) -> MapState:
        """What kernels read and write."""
        return MapState(*(getattr(self, name) for name in _ARRAYS))

    @property
    def side(self) -> int:
        """S, cells a side of the canvases."""
        return int(self.label.shape[1])

    @property
    def _least_side(self) -> int:
        return 4 * (self.view_size + 2)

    @property
    def area(self) -> IntArray:
        """int64[E], cells of the bounding box of what is known: the active memory."""
        return np.asarray((self.box[:, 1] - self.box[:, 0] + 1) * (self.box[:, 3] - self.box[:, 2] + 1))

    def clear(self, envs: npt.ArrayLike) -> None:
        """Forget the maps of the given agents; their odometry starts in the middle of the canvas."""
        for env in np.atleast_1d(np.asarray(envs)):
            self._empty(int(env))
            self.origin[env] = self.side // 2
            self.pose[env] = (*self.origin[env], 0)
            self.clock[env] = 0
        self._shrink()

    def observe(self, codes: Int32Array, odometry: Int32Array, envs: IntArray | None = None) -> npt.NDArray[np.float64]:
        """Take in one view per agent; return the surprisal, float64[E]; see ``surprisal`` above.

        :param codes: int32[E, V, V], colour codes as ``MapWorlds.views``
        :param odometry: int32[E, 3], rows and columns moved since the start, and heading
        :param envs: the agents that look, int64[n]; all by default. The surprisal of the others is 0
        """
        self.pose[:, :2] = self.origin + odometry[:, :2]
        self.pose[:, 2] = odometry[:, 2]
        reach = self.view_size + 1
        outside = (self.pose[:, :2] < reach) | (self.pose[:, :2] >= self.side - reach)
        if outside.any():
            for env in np.flatnonzero(outside.any(axis=1)):
                self._recentre(int(env))
        surprisal = np.zeros(self.n_envs)
        _observe(
            np.arange(self.n_envs) if envs is None else envs,
            codes,
            self.state,
            Confidence(np.float32(1.0 - self.gamma), self.powers, self._surprisal),
            surprisal,
        )
        return surprisal

    def block(self, env: int, heading: int) -> None:
        """Take note that an agent cannot step to the unknown cell that lies in a direction from it."""
        row, col = self.pose[env, 0] + STEP_ROWS[heading], self.pose[env, 1] + STEP_COLS[heading]
        if self.label[env, row, col] == UNKNOWN:
            self.label[env, row, col] = BLOCKED
            r0, r1, c0, c1 = self.box[env]
            self.box[env] = min(r0, row), max(r1, row), min(c0, col), max(c1, col)

    def copy_out(self, env: int) -> LocalMap:
        """Return an agent's map for storage, cropped to what is known, its confidence as of now."""
        r0, r1, c0, c1 = (int(edge) for edge in self.box[env])
        span = np.s_[env, r0 : r1 + 1, c0 : c1 + 1]
        # Cells that are unknown may have been touched in an episode before: their age means nothing, their value is 0.
        age = np.clip(self.clock[env] - self.touched[span], 0, _DECAYED - 1)
        return {
            "label": torch.from_numpy(self.label[span].copy()),
            "value": torch.from_numpy(self.value[span] * self.powers[age]),
            "corner": [r0 - int(self.origin[env, 0]), c0 - int(self.origin[env, 1])],
            "n_free": int(self.n_free[env]),
        }

    def copy_in(self, env: int, stored: Mapping[str, Any]) -> None:
        """Make a stored map an agent's current one; it lies where it lay by the odometry."""
        self._empty(env)
        label = stored["label"].numpy()
        height, width = label.shape
        if label.size == 0:
            return
        place = np.array(stored["corner"], np.int64) + self.origin[env]
        self.box[env] = place[0], place[0] + height - 1, place[1], place[1] + width - 1
        if (place < 2).any() or (place + label.shape >= self.side - 2).any():
            self._recentre(env)
            place = self.box[env, [0, 2]]
        span = np.s_[env, place[0] : place[0] + height, place[1] : place[1] + width]
        self.label[span], self.value[span] = label, stored["value"].numpy()
        self.touched[span] = self.clock[env]
        self.n_free[env] = stored["n_free"]

    def forget(self, env: int) -> None:
        """Empty an agent's map but keep its odometry and clock: a new fragment begins."""
        self._empty(env)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as tensors."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name, tensor in state.items():
            setattr(self, name, tensor.cpu().numpy().copy())

    def _empty(self, env: int) -> None:
        r0, r1, c0, c1 = self.box[env]
        self.label[env, r0 : r1 + 1, c0 : c1 + 1] = UNKNOWN
        self.value[env, r0 : r1 + 1, c0 : c1 + 1] = 0.0
        self.box[env] = 0, -1, 0, -1
        self.n_free[env] = 0

    def _recentre(self, env: int) -> None:
        """Move what is known and the agent to the middle of the canvas; enlarge all canvases if they do not fit."""
        first, last = self._extent(env)
        needed = self._needed(first, last)
        if needed > self.side:
            grow = max(needed, 2 * self.side) - self.side
            for name in _CANVASES:
                setattr(self, name, np.pad(getattr(self, name), ((0, 0), (0, grow), (0, grow))))
        self._move(env, self.side // 2 - (first + last) // 2, [getattr(self, name)[env] for name in _CANVASES])

    def _shrink(self) -> None:
        """Let canvases be smaller where one large map, which is gone, had made them four times as wide as needed.

        Else the largest map that there has ever been would take its memory, for all agents, to the end of a run.
        """
        extents = [self._extent(env) for env in range(self.n_envs)]
        side = max(self._least_side, 2 * max(self._needed(first, last) for first, last in extents))
        if self.side < 2 * side:
            return
        smaller = {name: np.zeros((self.n_envs, side, side), getattr(self, name).dtype) for name in _CANVASES}
        for env, (first, last) in enumerate(extents):
            self._move(env, side // 2 - (first + last) // 2, [canvas[env] for canvas in smaller.values()])
        for name, canvas in smaller.items():
            setattr(self, name, canvas)

    def _extent(self, env: int) -> tuple[IntArray, IntArray]:
        """Return first and last row and column of what is known and what an agent may see, int64[2] each."""
        reach = self.view_size + 2
        first, last = self.pose[env, :2] - reach, self.pose[env, :2] + reach
        r0, r1, c0, c1 = self.box[env]
        if r1 < r0:
            return first, last
        return np.minimum(first, [r0 - 2, c0 - 2]), np.maximum(last, [r1 + 2, c1 + 2])

    def _needed(self, first: IntArray, last: IntArray) -> int:
        return int((last - first).max()) + 2 * (self.view_size + 2)

    def _move(self, env: int, shift: IntArray, canvases: Sequence[npt.NDArray[Any]]) -> None:
        """Move what is known to an agent, and the agent, by rows and columns, onto canvases, [S, S] each."""
        r0, r1, c0, c1 = self.box[env]
        if r1 >= r0:
            inside = np.clip([r0, r1 + 1, c0, c1 + 1], 0, self.side)
            top, left = inside[0] + shift[0], inside[2] + shift[1]
            for name, canvas in zip(_CANVASES, canvases, strict=True):
                kept = getattr(self, name)[env, inside[0] : inside[1], inside[2] : inside[3]].copy()
                canvas[:] = 0
                canvas[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
            self.box[env] += np.repeat(shift, 2)
        self.origin[env] += shift
        self.pose[env, :2] += shift


@compiled
def _observe(envs: Any, codes: Any, maps: MapState, confidence: Confidence, surprisal: Any) -> None:
    label, value, touched, box, pose = maps.label, maps.value, maps.touched, maps.box, maps.pose
    gain, powers, kind = confidence.gain, confidence.powers, confidence.surprisal
    size = codes.shape[1]
    half = size // 2
    for e in envs:
        maps.clock[e] += 1
        now = maps.clock[e]
        heading = pose[e, 2]
        certain, n_seen, new = 0.0, 0, 0
        if box[e, 1] < box[e, 0]:
            box[e, 0] = box[e, 1] = pose[e, 0]
            box[e, 2] = box[e, 3] = pose[e, 1]
        for f in range(size):
            row = pose[e, 0] + f * STEP_ROWS[heading] - half * RIGHT_ROWS[heading]
            col = pose[e, 1] + f * STEP_COLS[heading] - half * RIGHT_COLS[heading]
            for s in range(size):
                code = codes[e, size - 1 - f, s]
                if code != UNKNOWN:
                    old = label[e, row, col]
                    updated = gain
                    if old == code:
                        age = now - touched[e, row, col]
                        if age < len(powers):
                            held = value[e, row, col] * powers[age]
                            # What was predicted is the map as the last observation left it: one decay less.
                            if kind == _BEFORE:
                                certain += value[e, row, col] * powers[age - 1]
                            updated = min(held + gain, np.float32(1.0))
                    else:
                        if old == UNKNOWN:
                            new += 1
                        maps.n_free[e] += (code == FREE) - (old == FREE)
                        label[e, row, col] = code
                        box[e, 0], box[e, 1] = min(box[e, 0], row), max(box[e, 1], row)
                        box[e, 2], box[e, 3] = min(box[e, 2], col), max(box[e, 3], col)
                    value[e, row, col] = updated
                    touched[e, row, col] = now
                    n_seen += 1
                    if kind == _AFTER:
                        certain += updated
                row += RIGHT_ROWS[heading]
                col += RIGHT_COLS[heading]
        maps.n_new[e] = new
        surprisal[e] = new / max(n_seen, 1) if kind == _NEW_CELLS else 1.0 - certain / max(n_seen, 1)
