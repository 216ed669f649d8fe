"""FARMap with other reasons to end a fragment than surprisal, for the ablation.

A fragment may be worth keeping apart where something changes: what can be seen, how wide the way is, how much there is
already. Each of these is put where the surprisal is, and the rest is FARMap. (What is new, FARMap has as an option.)
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from farl.agents.explorer import Explorers
from farl.agents.farmap import FARMap, FarmapPlanners
from farl.fragmentation import Criterion, Sight, ZScore
from farl.maps.crossings import SizeLimit
from farl.maps.geometry import FREE, RIGHT_COLS, RIGHT_ROWS, Int32Array
from farl.maps.local_map import LocalMaps

CutName = Literal["visible-area", "passage", "size"]

NARROW = 3  # cells: the width of a corridor of one cell, enlarged by three
ROOM = 5  # cells: wider than any corridor


class Signals:
    """What a cut looks at, for E agents; kept from step to step.

    :param name: ``visible-area``: by how much the number of free cells in sight changed since the last step;
        ``passage``: 1 where the agent steps from a narrow place into a wide one; ``size``: nothing, for the limit
        looks at the map itself
    """

    def __init__(self, name: CutName, n_envs: int) -> None:
        self._read: Callable[[LocalMaps, Int32Array], npt.NDArray[np.float64]] = {
            "visible-area": self._visible_area,
            "passage": self._passage,
            "size": lambda maps, codes: np.zeros(n_envs),
        }[name]
        self._visible = np.zeros(n_envs)
        self._was_narrow = np.zeros(n_envs, bool)

    def __call__(self, maps: LocalMaps, codes: Int32Array) -> npt.NDArray[np.float64]:
        """Return the signal of each agent, float64[E], after ``codes`` entered the maps."""
        return self._read(maps, codes)

    def _visible_area(self, maps: LocalMaps, codes: Int32Array) -> npt.NDArray[np.float64]:
        visible = (codes == FREE).sum(axis=(1, 2)).astype(np.float64)
        change = np.abs(visible - self._visible)
        self._visible = visible
        return change

    def _passage(self, maps: LocalMaps, codes: Int32Array) -> npt.NDArray[np.float64]:
        width = self._width(maps)
        entered = self._was_narrow & (width >= ROOM)
        self._was_narrow = np.where(width >= ROOM, False, self._was_narrow | (width <= NARROW))
        return entered.astype(np.float64)

    @staticmethod
    def _width(maps: LocalMaps) -> npt.NDArray[np.int64]:
        """Free cells in a row across the way ahead, int64[E]; up to ``ROOM`` on each side."""
        agents = np.arange(maps.n_envs)
        row, col, heading = maps.pose.T
        width = np.ones(maps.n_envs, np.int64)
        for side in (-1, 1):
            steps = side * np.arange(1, ROOM + 1)[:, None]
            label = maps.label[agents, row + steps * RIGHT_ROWS[heading], col + steps * RIGHT_COLS[heading]]
            width += np.logical_and.accumulate(label == FREE, axis=0).sum(axis=0)
        return width


class CutPlanners(FarmapPlanners):
    """FARMap's explorers, which end a fragment by another signal."""

    def __init__(self, cut: CutName, criterion: Criterion, n_envs: int, view_size: int, seed: int, **settings: Any):
        self._signals = Signals(cut, n_envs)
        super().__init__(n_envs, view_size, seed, criterion, **settings)

    def _see(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> Sight:
        sight = super()._see(codes, odometry, starts)
        self.surprisal = self._signals(self.maps, codes)
        return sight._replace(surprisal=self.surprisal, extent=np.where(self.maps.n_new > 0, self.maps.area, 0))


class CutFARMap(FARMap):
    """FARMap whose fragments end by another signal than surprisal.

    :param cut: the signal; see ``Signals``
    :param threshold: z-score of ``visible-area``; least steps in a fragment for ``passage``; cells of the bounding box
        for ``size``
    """

    def __init__(self, *args: Any, cut: CutName = "size", threshold: float = 2.0, **kwargs: Any) -> None:
        self.cut, self.threshold = cut, threshold
        super().__init__(*args, **kwargs)

    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        criterion: Criterion
        if self.cut == "size":
            criterion = SizeLimit(int(self.threshold), int(self.threshold))
        elif self.cut == "passage":
            criterion = Passage(int(self.threshold))
        else:
            criterion = ZScore(self.threshold, self.min_samples, alpha=None)
        return CutPlanners(
            self.cut,
            criterion,
            n_envs,
            self.view_size,
            seed,
            gamma=self.gamma,
            surprisal=self.surprisal,
            recall=self.recall,
            capacity=self.capacity,
            patience=self.patience,
            rule=self.rule,
        )


class Passage(Criterion):
    """Ends a fragment where its signal is 1, after ``min_samples`` steps."""

    def __init__(self, min_samples: int) -> None:
        super().__init__(0.5, min_samples)

    def score(self, sight: Sight, fragment_ids: Any, moments: Any) -> Any:
        """Return the signal itself."""
        return sight.surprisal
