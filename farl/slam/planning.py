"""Where to drive in an occupancy map: ways around obstacles, and what could be seen from where."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from farl.maps.compiled import compiled
from farl.slam.occupancy import IS_FREE, IS_OCCUPIED, Canvas

FloatArray = npt.NDArray[np.float64]

UNREACHED = np.float32(1e9)
"""Cost of a cell that no way leads to."""
ELSEWHERE_FREE, ELSEWHERE_OCCUPIED = 1, 2
"""What another map knows of a cell that this one does not."""
_RAYS = 48
_COMFORT = 0.2  # metres beside the robot within which a way costs more


def clearance(canvas: Canvas, radius: float) -> Any:
    """Metres from every cell to the nearest occupied one, float32[H, W]; 0 outside what is known.

    :param radius: metres, of the robot; it has all the room that it wants beyond, where distances are not told apart
    """
    first, last, left, right = canvas.box.tolist()
    furthest = math.ceil((radius + _COMFORT) / canvas.resolution) + 1
    metres = np.zeros(canvas.cells.shape, np.float32)
    metres[first : last + 1, left : right + 1] = furthest * canvas.resolution
    _keep_clear(canvas.cells, canvas.box, metres, furthest, canvas.resolution)
    return metres


def ways(canvas: Canvas, pose: FloatArray, radius: float, clear: Any = None) -> Any:
    """Cost in metres of the way from a pose to every cell, float32[H, W]; ``UNREACHED`` where none is known to lead.

    :param radius: metres, of the robot
    :param clear: the map's ``clearance``, computed if not given
    """
    x, y, _ = canvas.rays(pose)
    cost: Any = np.full(canvas.cells.shape, UNREACHED, np.float32)
    clear = clearance(canvas, radius) if clear is None else clear
    _spread(canvas.cells, clear, cost, int(y), int(x), radius, canvas.resolution)
    return cost


def cost_at(cost: Any, canvas: Canvas, place: FloatArray) -> float:
    """Metres to a place, float64[2], by what ``ways`` returned; ``inf`` where none leads there."""
    col, row = (np.floor(np.asarray(place[:2]) / canvas.resolution).astype(np.int64) - canvas.corner[::-1]).tolist()
    inside = 0 <= row < cost.shape[0] and 0 <= col < cost.shape[1]
    return float(cost[row, col]) if inside and cost[row, col] < UNREACHED else math.inf


def path_to(cost: Any, canvas: Canvas, x: float, y: float) -> FloatArray:
    """The way to a place, float64[L, 2] in metres, by what ``ways`` returned; empty if none leads there."""
    if math.isinf(cost_at(cost, canvas, np.array([x, y]))):
        return np.zeros((0, 2))
    col, row = int(x / canvas.resolution - canvas.corner[1]), int(y / canvas.resolution - canvas.corner[0])
    cells = _descend(cost, row, col)[::-1]
    return np.asarray((cells[:, ::-1] + 0.5 + canvas.corner[::-1]) * canvas.resolution)


def views(
    canvas: Canvas, cost: Any, elsewhere: Any, been: FloatArray, reach: float, least: float
) -> FloatArray:  # fmt: skip
    """Places from which something unknown could be seen, float64[N, 4]: x, y, square metres, metres to drive.

    What lies beyond the canvas does not count: ``Canvas.surround`` makes room for it.

    :param cost: as ``ways`` returned it
    :param elsewhere: uint8[H, W], what other maps know
    :param been: float64[n, 2], places from which all was seen that can be seen there
    :param reach: metres that count
    :param least: square metres below which nothing is worth it
    """
    spacing = max(round(0.4 / canvas.resolution), 1)
    # Squares are counted from the frame's zero: a map has the same views wherever it lies on its canvas.
    row0, col0 = (-canvas.corner % spacing).tolist()
    row0, col0 = row0 - spacing if row0 else 0, col0 - spacing if col0 else 0
    seen = np.zeros((cost.shape[0] // spacing + 2, cost.shape[1] // spacing + 2), np.uint8)
    if len(been):
        rows, cols = (
            np.floor(been[:, axis] / canvas.resolution).astype(np.int64) - canvas.corner[1 - axis] for axis in (1, 0)
        )
        rows, cols = (rows - row0) // spacing, (cols - col0) // spacing
        inside = (rows >= 0) & (cols >= 0) & (rows < seen.shape[0]) & (cols < seen.shape[1])
        seen[rows[inside], cols[inside]] = 1
    found = _views(canvas.cells, cost, elsewhere, seen, spacing, row0, col0, reach / canvas.resolution, canvas.box)
    found[:, 0] = (found[:, 0] + 0.5 + canvas.corner[1]) * canvas.resolution
    found[:, 1] = (found[:, 1] + 0.5 + canvas.corner[0]) * canvas.resolution
    found[:, 2] *= canvas.resolution**2
    return np.asarray(found[found[:, 2] >= least])


def project(mask: Any, canvas: Canvas, cells: Any, corner: Any, pose: FloatArray) -> None:
    """Note in ``mask``, uint8[H, W] of a canvas, what another map knows.

    :param cells: int16[h, w], log odds of that map
    :param corner: its first corner
    :param pose: float64[3], of its frame in the canvas's
    """
    shift = np.array([canvas.corner[1], canvas.corner[0]], np.float64)
    _project(mask, cells, float(corner[0]), float(corner[1]), pose, canvas.resolution, shift)


@compiled
def _keep_clear(cells: Any, box: Any, metres: Any, furthest: int, resolution: float) -> None:
    """Lower the distances around all that is occupied: walls are few cells, and only what is near them matters."""
    first, last, left, right = box
    for row in range(first, last + 1):
        for col in range(left, right + 1):
            if cells[row, col] <= IS_OCCUPIED:
                continue
            for r in range(max(row - furthest, first), min(row + furthest, last) + 1):
                for c in range(max(col - furthest, left), min(col + furthest, right) + 1):
                    apart = np.float32(resolution * math.sqrt((r - row) ** 2 + (c - col) ** 2))
                    metres[r, c] = min(metres[r, c], apart)


@compiled
def _spread(cells: Any, clearance: Any, cost: Any, row: int, col: int, radius: float, resolution: float) -> None:
    height, width = cells.shape
    size = height * width
    queue, waits = np.empty(size, np.int64), np.zeros(size, np.bool_)
    # Where the robot is, it can be, whatever the map has there; and it can get away from there.
    cost[row, col] = 0.0
    queue[0], head, n = row * width + col, 0, 1
    waits[queue[0]] = True
    root = math.sqrt(2.0)
    while n > 0:
        at = queue[head]
        head = (head + 1) % size
        n -= 1
        waits[at] = False
        r, c = at // width, at % width
        base = cost[r, c]
        for dr in range(-1, 2):
            for dc in range(-1, 2):
                i, j = r + dr, c + dc
                if (dr == 0 and dc == 0) or i < 1 or j < 1 or i >= height - 1 or j >= width - 1:
                    continue
                if cells[i, j] > IS_FREE:
                    continue
                near = clearance[i, j]
                if near <= radius and not (near > clearance[r, c] and base < 1.0):
                    continue
                step = resolution * (root if dr != 0 and dc != 0 else 1.0)
                if near < radius + _COMFORT:
                    step *= 1.0 + 2.0 * (radius + _COMFORT - near) / _COMFORT
                to = base + step
                if to < cost[i, j] - 1e-4:
                    cost[i, j] = to
                    key = i * width + j
                    if not waits[key]:
                        waits[key] = True
                        queue[(head + n) % size] = key
                        n += 1


@compiled
def _descend(cost: Any, row: int, col: int) -> Any:
    height, width = cost.shape
    cells = np.empty((height + width, 2), np.int64)
    n = 0
    while True:
        if n == len(cells):  # a way that winds
            longer = np.empty((2 * n, 2), np.int64)
            longer[:n] = cells
            cells = longer
        cells[n, 0], cells[n, 1] = row, col
        n += 1
        best, to_row, to_col = cost[row, col], row, col
        for i in range(max(row - 1, 0), min(row + 2, height)):
            for j in range(max(col - 1, 0), min(col + 2, width)):
                if cost[i, j] < best:
                    best, to_row, to_col = cost[i, j], i, j
        if to_row == row and to_col == col:
            break
        row, col = to_row, to_col
    return cells[:n]


@compiled
def _views(
    cells: Any, cost: Any, elsewhere: Any, seen: Any, spacing: int, row0: int, col0: int, reach: float, box: Any
) -> Any:  # fmt: skip
    found = np.empty((seen.size, 4))
    n = 0
    height, width = cells.shape
    for i in range((box[0] - row0) // spacing, (box[1] - row0) // spacing + 1):
        for j in range((box[2] - col0) // spacing, (box[3] - col0) // spacing + 1):
            if seen[i, j]:
                continue
            # Of each square, the cell nearest to its middle, from wherever it is reached.
            nearest, row, col = 2 * spacing * spacing, -1, -1
            first, left = row0 + i * spacing, col0 + j * spacing
            for r in range(max(first, 0), min(first + spacing, height)):
                for c in range(max(left, 0), min(left + spacing, width)):
                    away = (2 * (r - first) + 1 - spacing) ** 2 + (2 * (c - left) + 1 - spacing) ** 2
                    if cost[r, c] < UNREACHED and away < nearest:
                        nearest, row, col = away, r, c
            if row < 0:
                continue
            gain = 0.0
            for ray in range(_RAYS):
                angle = ray * (2.0 * math.pi / _RAYS)
                across, along = math.cos(angle), math.sin(angle)
                gone, unknown = 1.0, 0
                while gone < reach and unknown < 12:
                    r, c = int(row + 0.5 + gone * along), int(col + 0.5 + gone * across)
                    if r < 0 or c < 0 or r >= height or c >= width or cells[r, c] > 0:
                        break
                    if cells[r, c] == 0:
                        if elsewhere[r, c] == ELSEWHERE_OCCUPIED:
                            break
                        if elsewhere[r, c] == 0:
                            unknown += 1
                            # A ray stands for the sector around it.
                            gain += min(gone * (2.0 * math.pi / _RAYS), 4.0)
                    gone += 1.0
            if gain > 0.0:
                found[n, 0], found[n, 1], found[n, 2], found[n, 3] = col, row, gain, cost[row, col]
                n += 1
    return found[:n]


@compiled
def _project(mask: Any, cells: Any, row0: float, col0: float, pose: Any, resolution: float, shift: Any) -> None:
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    height, width = mask.shape
    for i in range(len(cells)):
        for j in range(cells.shape[1]):
            if cells[i, j] == 0:
                continue
            x, y = j + 0.5 + col0, i + 0.5 + row0
            to_col = int(pose[0] / resolution + cos * x - sin * y - shift[0])
            to_row = int(pose[1] / resolution + sin * x + cos * y - shift[1])
            if not (1 <= to_row < height - 1 and 1 <= to_col < width - 1):
                continue
            if cells[i, j] > 0:
                mask[to_row, to_col] = ELSEWHERE_OCCUPIED
                continue
            # Turned maps leave holes between cells.
            for r in range(to_row - 1, to_row + 2):
                for c in range(to_col - 1, to_col + 2):
                    if mask[r, c] == 0:
                        mask[r, c] = ELSEWHERE_FREE
