"""What the pictures are drawn from: plain arrays, whoever recorded them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Cells", "Episode", "KeyFrame", "Particles", "Plane", "Trace", "Visits"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Visits:
    """How often each fragment was active in each cell.

    :param counts: int[F, H, W], visits by fragment, row y and column x
    :param fragment_ids: int[F], the id of each layer; -1 for a layer that sums up fragments not kept apart
    :param reachable: bool[H, W], the cells the agent can stand on; the others are drawn as walls
    :param fractures: int[H, W], how often a new fragment was opened in a cell
    :param recalls: int[H, W], how often a stored fragment was recalled in a cell
    :param n_fragments: how many fragments were active at all; None: as many as have a layer with visits
    :raises ValueError: if the shapes do not belong together
    """

    counts: Integers
    fragment_ids: Integers
    reachable: BoolArray
    fractures: Integers | None = None
    recalls: Integers | None = None
    n_fragments: int | None = None

    def __post_init__(self) -> None:
        expected = (len(self.fragment_ids), *self.reachable.shape)
        if self.counts.shape != expected:
            raise ValueError(f"counts must have the shape [fragments, H, W] = {expected}, got {self.counts.shape}")
        for name, marks in (("fractures", self.fractures), ("recalls", self.recalls)):
            if marks is not None and marks.shape != self.reachable.shape:
                raise ValueError(f"{name} must have the shape [H, W] = {self.reachable.shape}, got {marks.shape}")

    @property
    def total(self) -> npt.NDArray[np.int64]:
        """Visits of each cell, int64[H, W]."""
        return np.asarray(self.counts.sum(axis=0, dtype=np.int64))

    @property
    def coverage(self) -> float:
        """Part of the reachable cells that were visited, in [0, 1]."""
        return float(np.count_nonzero(self.total[self.reachable]) / max(int(np.count_nonzero(self.reachable)), 1))

    def sizes(self) -> dict[int, float]:
        """Visits of each fragment that was active at all and has a layer."""
        sums = self.counts.sum(axis=(1, 2), dtype=np.int64)
        return {int(i): float(n) for i, n in zip(self.fragment_ids, sums, strict=True) if n and i >= 0}

    def centers(self) -> dict[int, tuple[float, float]]:
        """The heart (x, y) of each fragment: a cell it owns on the map, with most of its cells around.

        A fragment that owns none has its heart among all cells it was active in.
        """
        owner = self.owner()
        window = max(3, max(self.reachable.shape) // 6 | 1)  # odd, so that it is centred
        centers = {}
        for layer, fragment in enumerate(self.fragment_ids.tolist()):
            cells = owner == layer
            if not cells.any():
                cells = self.counts[layer] > 0
            if fragment >= 0 and cells.any():
                density = _around(_around(cells.astype(np.int64), window), window)  # one pass would leave plateaus
                y, x = np.unravel_index(np.where(cells, density, -1).argmax(), cells.shape)
                centers[fragment] = (float(x), float(y))
        return centers

    def owner(self) -> npt.NDArray[np.int64]:
        """The layer with the most visits of each cell, -1 where there were none, int64[H, W]."""
        if not len(self.counts):
            return np.full(self.reachable.shape, -1)
        return np.where(self.total > 0, self.counts.argmax(axis=0), -1)


def _around(counts: npt.NDArray[np.int64], window: int) -> npt.NDArray[np.int64]:
    """The sum in a square window of odd width around each cell, int64[H, W]; importing SciPy's filter takes longer
    than to draw a picture."""
    half = window // 2
    for _ in range(2):
        sums = np.cumsum(np.pad(counts, ((half + 1, half), (0, 0))), axis=0)
        counts = (sums[window:] - sums[:-window]).T
    return counts


@dataclass(frozen=True)
class Cells:
    """What was measured in each cell; NaN where nothing was.

    :param reachable: bool[H, W]
    :param intrinsic_reward: float[H, W], the mean
    :param forgetting: float[H, W], error on a return over the error at the visit before, geometric mean over returns
    :param first_visit: float[H, W], the timestep
    """

    reachable: BoolArray
    intrinsic_reward: FloatArray
    forgetting: FloatArray
    first_visit: FloatArray


@dataclass(frozen=True)
class Episode:
    """One episode in one world.

    :param reachable: bool[H, W]
    :param counts: int[H, W], visits
    :param fragments: int[H, W], the fragment that was active last in each cell, -1 where the agent was not
    :param way: int[T, 2], the cells (x, y) in the order in which they were visited
    :param complete: whether the episode has ended
    """

    reachable: BoolArray
    counts: Integers
    fragments: Integers
    way: Integers
    complete: bool

    @property
    def coverage(self) -> float:
        """Part of the reachable cells that were visited, in [0, 1]."""
        reached = np.count_nonzero((self.counts > 0) & self.reachable)
        return float(reached / max(int(np.count_nonzero(self.reachable)), 1))


@dataclass(frozen=True)
class Plane:
    """Observations on two axes.

    :param places: float[N, 2]
    :param fragments: int[N], active there
    :param names: names of the two axes
    """

    places: FloatArray
    fragments: Integers
    names: tuple[str, str]


@dataclass(frozen=True)
class KeyFrame:
    """A fragment and how it was used.

    :param fragment: its id
    :param frame: uint8[H, W] or uint8[H, W, 3], what the agent saw when it was opened; None if that was not an image
    :param visits: steps in it
    :param recalls: how often it was recalled
    :param surprisal: mean surprisal in it
    """

    fragment: int
    frame: npt.NDArray[np.uint8] | None
    visits: int
    recalls: int
    surprisal: float


@dataclass(frozen=True)
class Particles:
    """The particles of a filter over time.

    :param steps: int[T]
    :param weights: float[T, N], each row sums to 1
    :param returns: float[T, N], mean return of each particle's latest episodes, NaN where unknown
    """

    steps: Integers
    weights: FloatArray
    returns: FloatArray

    @property
    def effective_sample_size(self) -> FloatArray:
        """1 over the sum of the squared weights, float64[T]."""
        return np.asarray(1.0 / np.maximum((self.weights**2).sum(axis=1), 1e-300))


@dataclass(frozen=True)
class Trace:
    """Surprisal over time in one environment, each of T points summing up one step or several.

    :param steps: int[T], the first step of each point, ascending
    :param surprisal: float[T], the highest
    :param mean: float[T]
    :param fragments: int[T], the active fragment at the end
    :param fractures: int[T], how often a new fragment was opened
    :param recalls: int[T], how often a stored fragment was recalled
    :param fractures_elsewhere: int[T], fractures in other environments that share the memory
    :param threshold: float[T], the surprisal above which the fragment would have ended, NaN where there is none
    :param intrinsic_reward: float[T], the mean, NaN where there is none
    :raises ValueError: if the lengths differ
    """

    steps: Integers
    surprisal: npt.NDArray[np.floating[Any]]
    mean: npt.NDArray[np.floating[Any]]
    fragments: Integers
    fractures: Integers
    recalls: Integers
    fractures_elsewhere: Integers
    threshold: FloatArray | None = None
    intrinsic_reward: FloatArray | None = None

    def __post_init__(self) -> None:
        lengths = {len(column) for column in vars(self).values() if column is not None}
        if len(lengths) != 1:
            raise ValueError(f"the arrays of a trace must have one length, got {sorted(lengths)}")

    def usage(self) -> Mapping[int, float]:
        """Points in which each fragment was active."""
        ids, counts = np.unique(self.fragments, return_counts=True)
        return {int(i): float(n) for i, n in zip(ids, counts, strict=True)}
