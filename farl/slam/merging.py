"""Many maps as one, as a graph of poses lays them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farl.maps.compiled import compiled
from farl.slam.occupancy import IS_FREE, IS_OCCUPIED, MOST, check_size
from farl.slam.pose_graph import PoseGraph

WALL = -2
"""What ``owners`` has for occupied cells."""


def merged(
    fragments: Iterable[tuple[int, Mapping[str, Any]]], graph: PoseGraph, resolution: float
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Add up the log odds of fragments where the graph has them.

    :param fragments: ``cells`` int16[h, w] and ``corner`` of each, by their frames
    :param graph: has the poses of the frames
    :param resolution: metres a cell
    :return: int16[H, W], and row and column of the first cell, counted from the zero of the graph's first frame
    :raises ConfigError: if the map would not fit into memory
    """
    placed = []
    for frame, one in fragments:
        cells = one["cells"].numpy()
        if cells.size:
            placed.append((cells, np.array(one["corner"], np.float64), graph.poses[frame]))
    if not placed:
        return np.zeros((0, 0), np.int16), np.zeros(2, np.int64)
    ends = np.concatenate([_outline(cells.shape, corner, pose, resolution) for cells, corner, pose in placed])
    first = np.floor(ends.min(axis=0)).astype(np.int64) - 1
    size = np.ceil(ends.max(axis=0)).astype(np.int64) + 2 - first
    check_size(int(size[0]), int(size[1]), resolution)
    whole = np.zeros((int(size[0]), int(size[1])), np.int16)
    for cells, corner, pose in placed:
        _lay(whole, cells, *_place(whole.shape, first, cells.shape, corner, pose, resolution), MOST)
    # The outlines of turned maps reach beyond what is known.
    rows, cols = (np.flatnonzero((whole != 0).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((0, 0), np.int16), np.zeros(2, np.int64)
    known = whole[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].copy()
    return known, first + np.array([rows[0], cols[0]])


def owners(
    fragments: Mapping[int, Mapping[str, Any]], graph: PoseGraph, resolution: float, foremost: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Lay fragments where the graph has them, and say which one knows each free cell.

    :param fragments: as ``merged`` takes them
    :param foremost: the one that counts where it and others know a cell
    :return: int16[H, W], -1 where nothing is known, ``WALL`` where something stands; row and column of the first cell
    """
    odds, first = merged(fragments.items(), graph, resolution)
    found = np.full(odds.shape, -1, np.int16)
    for frame in sorted(fragments, key=lambda each: (each == foremost, each)):
        cells, corner = fragments[frame]["cells"].numpy(), np.array(fragments[frame]["corner"], np.float64)
        if cells.size:
            place = _place(found.shape, first, cells.shape, corner, graph.poses[frame], resolution)
            _claim(found, cells, *place, frame, IS_FREE)
    found[odds > IS_OCCUPIED], found[(odds >= IS_FREE) & (odds <= IS_OCCUPIED)] = WALL, -1
    return found, first


def _outline(shape: tuple[int, ...], corner: Any, pose: Any, resolution: float) -> Any:
    """Rows and columns of a map's four corners in the first frame, float64[4, 2]."""
    y, x = (corner + np.array([(0, 0), (0, shape[1]), (shape[0], 0), shape])).T
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    return np.stack([pose[1] / resolution + sin * x + cos * y, pose[0] / resolution + cos * x - sin * y], axis=1)


def _place(
    whole: tuple[int, ...], first: Any, shape: tuple[int, ...], corner: Any, pose: Any, resolution: float
) -> tuple[Any, Any]:
    """Where a fragment lies in the whole, for the kernels.

    :return: int64[4], the rows and columns that it can reach; float64[6], cosine and sine of its heading, column and
        row of its frame's zero, and row and column of its first cell
    """
    ends = _outline(shape, corner, pose, resolution) - first
    low = np.clip(np.floor(ends.min(axis=0)).astype(np.int64) - 1, 0, whole)
    high = np.clip(np.ceil(ends.max(axis=0)).astype(np.int64) + 1, 0, whole)
    at = pose[0] / resolution - first[1], pose[1] / resolution - first[0]
    return np.concatenate([low, high]), np.array([math.cos(pose[2]), math.sin(pose[2]), *at, *corner])


@compiled
def _source(row: int, col: int, place: Any) -> tuple[int, int]:
    """The cell of a fragment that lies at a cell of the whole: backwards, so that no cell is left out."""
    cos, sin, x, y = place[0], place[1], col + 0.5 - place[2], row + 0.5 - place[3]
    return math.floor(-sin * x + cos * y - place[4]), math.floor(cos * x + sin * y - place[5])


@compiled
def _lay(whole: Any, cells: Any, window: Any, place: Any, most: int) -> None:
    height, width = cells.shape
    for row in range(window[0], window[2]):
        for col in range(window[1], window[3]):
            r, c = _source(row, col, place)
            if 0 <= r < height and 0 <= c < width:
                whole[row, col] = max(min(int(whole[row, col]) + int(cells[r, c]), most), -most)


@compiled
def _claim(found: Any, cells: Any, window: Any, place: Any, frame: int, below: int) -> None:
    height, width = cells.shape
    for row in range(window[0], window[2]):
        for col in range(window[1], window[3]):
            r, c = _source(row, col, place)
            if 0 <= r < height and 0 <= c < width and cells[r, c] < below:
                found[row, col] = frame
