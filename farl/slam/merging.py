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
        _lay(whole, cells, first.astype(np.float64), corner, pose, resolution, MOST)
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
            _claim(found, cells, first.astype(np.float64), corner, graph.poses[frame], resolution, frame, IS_FREE)
    found[odds > IS_OCCUPIED], found[(odds >= IS_FREE) & (odds <= IS_OCCUPIED)] = WALL, -1
    return found, first


def _outline(shape: tuple[int, ...], corner: Any, pose: Any, resolution: float) -> Any:
    """Rows and columns of a map's four corners in the first frame, float64[4, 2]."""
    y, x = (corner + np.array([(0, 0), (0, shape[1]), (shape[0], 0), shape])).T
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    return np.stack([pose[1] / resolution + sin * x + cos * y, pose[0] / resolution + cos * x - sin * y], axis=1)


@compiled
def _source(row: int, col: int, first: Any, corner: Any, pose: Any, resolution: float) -> tuple[int, int]:
    """The cell of a fragment that lies at a cell of the whole: backwards, so that no cell is left out."""
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    x = col + 0.5 + first[1] - pose[0] / resolution
    y = row + 0.5 + first[0] - pose[1] / resolution
    return math.floor(-sin * x + cos * y - corner[0]), math.floor(cos * x + sin * y - corner[1])


@compiled
def _lay(whole: Any, cells: Any, first: Any, corner: Any, pose: Any, resolution: float, most: int) -> None:
    height, width = cells.shape
    for row in range(len(whole)):
        for col in range(whole.shape[1]):
            r, c = _source(row, col, first, corner, pose, resolution)
            if 0 <= r < height and 0 <= c < width:
                whole[row, col] = max(min(int(whole[row, col]) + int(cells[r, c]), most), -most)


@compiled
def _claim(
    found: Any, cells: Any, first: Any, corner: Any, pose: Any, resolution: float, frame: int, below: int
) -> None:  # fmt: skip
    height, width = cells.shape
    for row in range(len(found)):
        for col in range(found.shape[1]):
            r, c = _source(row, col, first, corner, pose, resolution)
            if 0 <= r < height and 0 <= c < width and cells[r, c] < below:
                found[row, col] = frame
