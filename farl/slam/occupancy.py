"""Occupancy maps by log odds, and what a scan says of them.

A map is an int16 array of log odds in thousandths, 0 where nothing is known, positive where it is occupied; row 0 is
the lowest. The inverse sensor model is that of Thrun, Burgard and Fox ("Probabilistic Robotics", 2005, section 9.2):
cells before an echo are free, the cell of the echo is occupied.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farl.errors import ConfigError
from farl.maps.compiled import compiled

LogOdds = npt.NDArray[np.int16]
FloatArray = npt.NDArray[np.float64]

FREE, HIT, MOST = -350, 900, 4_000
"""What one beam adds to a cell that it passes, to the one where it ends, and the largest amount kept."""
IS_FREE, IS_OCCUPIED = -300, 400
"""Log odds from which on a cell counts as free, or as occupied."""
_MOST_CELLS = 100_000_000  # of a map: 200 MB; at 10 cm, a square of a kilometre


class Fit(NamedTuple):
    """How a scan fits a map.

    :ivar surprisal: 1 - mean confidence of the map in what is seen, over all cells that the scan shows, in [0, 1]; an
        unknown cell counts as one of which the map was sure that it is otherwise (FARMap, section 3.1, with colours
        replaced by free and occupied)
    :ivar new: share of the cells that the scan shows and the map does not know
    :ivar contradicted: share, among those that it knows, of cells that it has the other way round
    """

    surprisal: float
    new: float
    contradicted: float


def check_size(height: int, width: int, resolution: float) -> None:
    """Refuse a map that would not fit into memory, before it is made.

    :raises ConfigError: if it has too many cells
    """
    if height * width > _MOST_CELLS:
        raise ConfigError(
            f"the map would be {width * resolution:,.0f} x {height * resolution:,.0f} m, {height * width:,} cells of "
            f"{resolution:g} m; at most {_MOST_CELLS:,} fit. Is the odometry in metres? Else make `resolution` coarser"
        )


class Canvas:
    """A map that grows as needed, in a frame of its own.

    :param resolution: metres a cell
    :param side: cells of the first canvas
    """

    def __init__(self, resolution: float, side: int = 128) -> None:
        self.resolution = resolution
        self.cells: LogOdds = np.zeros((side, side), np.int16)
        """int16[H, W], log odds."""
        self.corner = np.array([-(side // 2), -(side // 2)], np.int64)
        """int64[2], row and column, counted from the frame's zero, of the first cell."""
        self.box = np.array([0, -1, 0, -1], np.int64)
        """int64[4], first and last row, first and last column of what is known."""

    @property
    def area(self) -> int:
        """Cells of the bounding box of what is known."""
        return int(max(self.box[1] - self.box[0] + 1, 0) * max(self.box[3] - self.box[2] + 1, 0))

    def rays(self, pose: FloatArray) -> FloatArray:
        """A pose in cells of the array: column, row and heading, float64[3]."""
        return np.array(
            [pose[0] / self.resolution - self.corner[1], pose[1] / self.resolution - self.corner[0], pose[2]]
        )

    def make_room(self, pose: FloatArray, reach: float) -> None:
        """Grow so that all within ``reach`` metres of a pose, and a rim around it, lie on the canvas.

        :raises ConfigError: if the map would not fit into memory
        """
        x, y, _ = self.rays(pose)
        margin = math.ceil(reach / self.resolution) + 3
        row, col = math.floor(y), math.floor(x)
        self._grow(row - margin, row + margin, col - margin, col + margin)

    def surround(self, reach: float) -> None:
        """Grow so that all within ``reach`` metres of what is known lies on the canvas."""
        margin = math.ceil(reach / self.resolution) + 3
        first, last, left, right = self.box.tolist()
        self._grow(first - margin, last + margin, left - margin, right + margin)

    def _grow(self, first: int, last: int, left: int, right: int) -> None:
        """Grow so that these rows and columns lie on the canvas."""
        height, width = self.cells.shape
        missing = (max(-first, 0), max(last + 1 - height, 0), max(-left, 0), max(right + 1 - width, 0))
        if any(missing):
            spare = 32  # growing is rare then
            pads = [(side + spare if side else 0) for side in missing]
            check_size(height + pads[0] + pads[1], width + pads[2] + pads[3], self.resolution)
            self.cells = np.pad(self.cells, ((pads[0], pads[1]), (pads[2], pads[3])))
            self.corner -= (pads[0], pads[2])
            if self.box[1] >= self.box[0]:
                self.box += (pads[0], pads[0], pads[2], pads[2])

    def take_in(self, pose: FloatArray, scan: Any, angles: FloatArray, furthest: float) -> int:
        """Enter a scan; return how many cells became known.

        :param pose: float64[3], of the robot in the frame
        :param scan: float32[B], metres; 0 is no reading, ``furthest`` no echo
        :param angles: float64[B], of the beams, from the heading
        """
        self.make_room(pose, furthest)
        return int(
            _take_in(self.cells, self.box, self.rays(pose), scan / self.resolution, angles, furthest / self.resolution)
        )

    def fit(self, pose: FloatArray, scan: Any, angles: FloatArray, furthest: float) -> Fit:
        """How well a scan, taken at a pose, is what the map leads to expect; parameters as of ``take_in``."""
        self.make_room(pose, furthest)
        return Fit(*_fit(self.cells, self.rays(pose), scan / self.resolution, angles, furthest / self.resolution))

    def inner(self) -> tuple[LogOdds, Any]:
        """What is known, int16[h, w], and the row and column, counted from the frame's zero, of its first cell."""
        first, last, left, right = self.box
        return self.cells[first : last + 1, left : right + 1].copy(), self.corner + np.array([first, left])

    @classmethod
    def of(cls, cells: LogOdds, corner: Any, resolution: float) -> "Canvas":
        """A canvas with what ``inner`` returned."""
        canvas = cls(resolution, 1)
        canvas.cells, canvas.corner = cells.copy(), np.array(corner, np.int64)
        canvas.box = np.array([0, cells.shape[0] - 1, 0, cells.shape[1] - 1], np.int64)
        return canvas


@compiled
def _take_in(cells: Any, box: Any, pose: Any, scan: Any, angles: Any, furthest: float) -> int:
    x, y, new = pose[0], pose[1], 0
    # Cells on which a beam of this scan ends are not made free by its others.
    ends = np.full((len(scan), 2), -1, np.int64)
    for beam in range(len(scan)):
        if 0.0 < scan[beam] < furthest:
            angle = pose[2] + angles[beam]
            ends[beam, 0] = int(y + scan[beam] * math.sin(angle))
            ends[beam, 1] = int(x + scan[beam] * math.cos(angle))
    for beam in range(len(scan)):
        if scan[beam] <= 0.0:
            continue
        angle = pose[2] + angles[beam]
        across, along = math.cos(angle), math.sin(angle)
        last_row, last_col, row, col = ends[beam, 0], ends[beam, 1], -1, -1
        gone = 0.0
        while gone < scan[beam]:
            r, c = int(y + gone * along), int(x + gone * across)
            gone += 0.7
            if (r == row and c == col) or (r == last_row and c == last_col):
                continue
            row, col = r, c
            if cells[r, c] == 0:
                new += 1
                _widen(box, r, c)
                cells[r, c] = FREE
            elif cells[r, c] > -MOST:
                cells[r, c] += np.int16(FREE // 3) if gone > 2.0 else np.int16(FREE)
    for beam in range(len(scan)):
        r, c = ends[beam]
        if r >= 0:
            if cells[r, c] == 0:
                new += 1
                _widen(box, r, c)
            cells[r, c] = min(cells[r, c] + HIT, MOST)
    return new


@compiled
def _widen(box: Any, row: int, col: int) -> None:
    if box[1] < box[0]:
        box[0], box[1], box[2], box[3] = row, row, col, col
    box[0], box[1] = min(box[0], row), max(box[1], row)
    box[2], box[3] = min(box[2], col), max(box[3], col)


@compiled
def _confidence(odds: int) -> float:
    """Of a map in a cell being what it holds it for, in [0, 1]: 0 at even odds."""
    return math.tanh(0.0005 * abs(odds))  # 2 p - 1, of odds in thousandths


@compiled
def _fit(cells: Any, pose: Any, scan: Any, angles: Any, furthest: float) -> Any:
    x, y = pose[0], pose[1]
    shown, known, wrong, sure = 0, 0, 0, 0.0
    for beam in range(len(scan)):
        if scan[beam] <= 0.0:
            continue
        angle = pose[2] + angles[beam]
        across, along = math.cos(angle), math.sin(angle)
        gone = 0.5
        while gone < scan[beam] - 1.5:
            odds = int(cells[int(y + gone * along), int(x + gone * across)])
            shown += 1
            if odds != 0:
                known += 1
                if odds < 0:
                    sure += _confidence(odds)
                elif odds > IS_OCCUPIED:
                    wrong += 1
            gone += 1.0
        if scan[beam] < furthest:
            row, col = int(y + scan[beam] * along), int(x + scan[beam] * across)
            # An echo is as expected where the map has something occupied in this cell or next to it.
            best, any_known = -MOST, False
            for r in range(row - 1, row + 2):
                for c in range(col - 1, col + 2):
                    if cells[r, c] != 0:
                        any_known = True
                        best = max(best, int(cells[r, c]))
            shown += 1
            if any_known:
                known += 1
                if best > 0:
                    sure += _confidence(best)
                else:
                    wrong += 1
    if shown == 0:
        return 0.0, 0.0, 0.0
    return 1.0 - sure / shown, 1.0 - known / shown, wrong / max(known, 1)
