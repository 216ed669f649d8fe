"""Scan matching: where in a map was a scan taken?

Correlative (Olson, "Real-time correlative scan matching", ICRA 2009): poses on a lattice around a guess are scored by
how near to something occupied their echoes end; the best is refined by Gauss-Newton steps on the smooth field of that
nearness, with the guess as a prior (as in Hector SLAM, Kohlbrecher et al. 2011, and Cartographer, Hess et al. 2016).
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farl.maps.compiled import compiled
from farl.slam.occupancy import IS_OCCUPIED, Canvas
from farl.slam.poses import wrapped

FloatArray = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]

_REACH = 3  # cells around something occupied where the field is above 0
_SPREAD = 1.2  # cells, standard deviation of that nearness
_ECHO = 0.35  # standard deviation of 1 - nearness of an echo, in the Gauss-Newton steps


class Match(NamedTuple):
    """Where a scan fits.

    :ivar pose: float64[3], in the map's frame
    :ivar covariance: float64[3, 3], of that pose; large along directions that the scan does not fix, as in a corridor
    :ivar score: mean nearness of the echoes to something occupied, in [0, 1]
    :ivar rival: the best score of a pose far from the best one, on the coarse lattice, as a share of the best there
    """

    pose: FloatArray
    covariance: FloatArray
    score: float
    rival: float


def nearness(canvas: Canvas, pose: FloatArray, reach: float) -> Field:
    """How near cells are to something occupied, float32[H, W], within ``reach`` metres of a pose and 0 elsewhere."""
    field: Field = np.zeros(canvas.cells.shape, np.float32)
    x, y, _ = canvas.rays(pose)
    _spread(canvas.cells, field, x, y, reach / canvas.resolution, _KERNEL)
    return field


def match(
    canvas: Canvas,
    guess: FloatArray,
    covariance: FloatArray,
    scan: Any,
    angles: FloatArray,
    furthest: float,
    window: tuple[float, float] = (0.0, 0.0),
    field: Field | None = None,
) -> Match | None:
    """Find the pose near a guess at which a scan fits a map best; None where too few beams have an echo.

    :param canvas: the map
    :param guess: float64[3], in the map's frame
    :param covariance: float64[3, 3], of the guess
    :param scan: float32[B], metres
    :param angles: float64[B], of the beams
    :param furthest: metres, range of the lidar
    :param window: metres and radians to each side that the lattice reaches; 0 and 0 only refine
    :param field: the map's ``nearness``, computed if not given
    """
    echo = (scan > 0.0) & (scan < furthest)
    if echo.sum() < LEAST_ECHOES:
        return None
    reach = furthest + window[0]
    canvas.make_room(guess, reach)
    if field is None or field.shape != canvas.cells.shape:
        field = nearness(canvas, guess, reach)
    points = np.stack([scan[echo] * np.cos(angles[echo]), scan[echo] * np.sin(angles[echo])], axis=1)
    points = points.astype(np.float64) / canvas.resolution
    start, rival = canvas.rays(guess), 0.0
    if window[0] > 0.0:
        step = 2.0 if window[0] > _WIDE else 1.0
        few = points[:: max(len(points) // 60, 1)]
        turn = step / max(float(np.hypot(*points.T).mean()), 4.0)
        start, rival = _search(field, few, start, window[0] / canvas.resolution, window[1], step, turn)
    scale = np.array([canvas.resolution, canvas.resolution, 1.0])
    prior = np.linalg.inv(covariance / np.outer(scale, scale))
    pose, hessian, score = _refine(field, points, start, canvas.rays(guess), prior)
    found: FloatArray = np.asarray(np.linalg.inv(hessian) * np.outer(scale, scale), np.float64)
    x, y = ((pose[:2] + canvas.corner[::-1]) * canvas.resolution).tolist()
    metres: FloatArray = np.array([x, y, wrapped(pose[2])], np.float64)
    return Match(metres, found, float(score), float(rival))


LEAST_ECHOES = 12
"""Echoes below which a scan says nothing of where it was taken."""
_WIDE = 0.6  # metres; a larger window is searched in steps of two cells


def _kernel() -> Field:
    offsets = np.arange(-_REACH, _REACH + 1)
    squares = offsets[:, None] ** 2 + offsets[None, :] ** 2
    return np.asarray(np.exp(-squares / (2 * _SPREAD**2)), np.float32)


_KERNEL = _kernel()


@compiled
def _spread(cells: Any, field: Any, x: float, y: float, reach: float, kernel: Any) -> None:
    half = len(kernel) // 2
    height, width = cells.shape
    low, high = max(int(y - reach), half), min(int(y + reach) + 1, height - half)
    left, right = max(int(x - reach), half), min(int(x + reach) + 1, width - half)
    for row in range(low, high):
        for col in range(left, right):
            if cells[row, col] > IS_OCCUPIED:
                for i in range(len(kernel)):
                    for j in range(len(kernel)):
                        r, c = row + i - half, col + j - half
                        if kernel[i, j] > field[r, c]:
                            field[r, c] = kernel[i, j]


@compiled
def _score(field: Any, points: Any, x: float, y: float, cos: float, sin: float) -> float:
    total = 0.0
    height, width = field.shape
    for k in range(len(points)):
        col = int(x + cos * points[k, 0] - sin * points[k, 1])
        row = int(y + sin * points[k, 0] + cos * points[k, 1])
        if 0 <= row < height and 0 <= col < width:
            total += field[row, col]
    return total / len(points)


@compiled
def _search(
    field: Any, points: Any, start: Any, reach: float, turn_reach: float, step: float, turn: float
) -> Any:  # fmt: skip
    """The best pose of a lattice, and the best score far from it as a share of its score."""
    n, m = int(reach / step), int(turn_reach / turn)
    scores = np.zeros((2 * m + 1, 2 * n + 1, 2 * n + 1))
    best, at_k, at_i, at_j = -1.0, m, n, n
    for k in range(2 * m + 1):
        angle = start[2] + (k - m) * turn
        cos, sin = math.cos(angle), math.sin(angle)
        for i in range(2 * n + 1):
            for j in range(2 * n + 1):
                x, y = start[0] + (j - n) * step, start[1] + (i - n) * step
                # Of equally good ones, the nearest to the guess.
                away = 1e-3 * math.sqrt((i - n) ** 2 + (j - n) ** 2 + (k - m) ** 2)
                score = _score(field, points, x, y, cos, sin) - away
                scores[k, i, j] = score
                if score > best:
                    best, at_k, at_i, at_j = score, k, i, j
    rival, apart = 0.0, int(5.0 / step) + 1
    for k in range(2 * m + 1):
        for i in range(2 * n + 1):
            for j in range(2 * n + 1):
                far = abs(i - at_i) > apart or abs(j - at_j) > apart or abs(k - at_k) * turn > 0.2
                if far and scores[k, i, j] > rival:
                    rival = scores[k, i, j]
    pose = np.array([start[0] + (at_j - n) * step, start[1] + (at_i - n) * step, start[2] + (at_k - m) * turn])
    return pose, rival / max(best, 1e-6)


@compiled
def _refine(field: Any, points: Any, start: Any, guess: Any, prior: Any) -> Any:
    """Gauss-Newton steps; the pose, the Hessian there, and the mean nearness of the echoes."""
    pose = start.copy()
    hessian, gradient = np.empty((3, 3)), np.empty(3)
    jacobian, score = np.empty(3), 0.0
    weight = 1.0 / (_ECHO * _ECHO)
    height, width = field.shape
    for step in range(9):
        hessian[:] = prior
        off = pose - guess
        off[2] = (off[2] + math.pi) % (2.0 * math.pi) - math.pi
        gradient[:] = -prior @ off
        cos, sin, score = math.cos(pose[2]), math.sin(pose[2]), 0.0
        for k in range(len(points)):
            dx, dy = cos * points[k, 0] - sin * points[k, 1], sin * points[k, 0] + cos * points[k, 1]
            x, y = pose[0] + dx - 0.5, pose[1] + dy - 0.5  # values stand in the middles of cells
            col, row = math.floor(x), math.floor(y)
            if not (0 <= row < height - 1 and 0 <= col < width - 1):
                continue
            fx, fy = x - col, y - row
            a, b, c, d = field[row, col], field[row, col + 1], field[row + 1, col], field[row + 1, col + 1]
            value = (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
            score += value
            if value <= 0.0:
                continue
            jacobian[0] = (b - a) * (1 - fy) + (d - c) * fy
            jacobian[1] = (c - a) * (1 - fx) + (d - b) * fx
            jacobian[2] = -jacobian[0] * dy + jacobian[1] * dx
            for i in range(3):
                gradient[i] += weight * jacobian[i] * (1.0 - value)
                for j in range(3):
                    hessian[i, j] += weight * jacobian[i] * jacobian[j]
        if step == 8:
            break
        move = np.linalg.solve(hessian, gradient)
        longest = math.sqrt(move[0] ** 2 + move[1] ** 2)
        if longest > 1.0:
            move *= 1.0 / longest
        pose += move
        if longest < 1e-3 and abs(move[2]) < 1e-5:
            # The score and the Hessian belong to the pose before; it is the same but for rounding.
            break
    return pose, hessian, score / len(points)
