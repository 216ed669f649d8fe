"""How each fragment was used, and what the agent saw when it was opened."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.exploration.records import KeyFrame

__all__ = ["FragmentUse"]

IntArray = npt.NDArray[np.int64]
Frame = npt.NDArray[np.uint8]

_FRAMES = 64  # key frames that are kept, of the fragments used most


class FragmentUse:
    """Visits, recalls and mean surprisal of each fragment, and a key frame where observations are images."""

    def __init__(self) -> None:
        self._sums = np.zeros((16, 4))  # by fragment: visits, recalls, summed surprisal and its number
        self._frames: dict[int, Frame] = {}

    def add(self, fragments: IntArray, recalled: npt.NDArray[np.bool_], surprisal: npt.NDArray[np.float64]) -> None:
        """Take in N steps.

        :param fragments: int64[N], the active fragment
        :param recalled: bool[N], whether the step recalled it
        :param surprisal: float64[N]
        """
        highest = int(fragments.max(initial=0))
        if highest >= len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros((2 * highest + 1 - len(self._sums), 4))])
        columns = (np.ones(len(fragments)), recalled, surprisal, np.ones(len(fragments)))
        for column, values in enumerate(columns):
            self._sums[:, column] += np.bincount(fragments, values, minlength=len(self._sums))

    def see(self, fragment: int, frame: Frame) -> None:
        """Keep what was seen when a fragment was opened, uint8[H, W] or uint8[H, W, 3]; the first counts."""
        self._frames.setdefault(fragment, frame.copy())
        if len(self._frames) > _FRAMES:
            older = [i for i in self._frames if i != fragment]
            del self._frames[min(older, key=lambda i: float(self._sums[i, 0]) if i < len(self._sums) else 0.0)]

    @property
    def sizes(self) -> dict[int, float]:
        """Visits of each fragment."""
        return {int(i): float(self._sums[i, 0]) for i in np.flatnonzero(self._sums[:, 0])}

    def snapshot(self) -> list[KeyFrame]:
        """Return all fragments that were used, as ``farl.figures`` draws them."""
        used = np.flatnonzero(self._sums[:, 0]).tolist()
        return [
            KeyFrame(i, self._frames.get(i), int(row[0]), int(row[1]), float(row[2] / row[3]))
            for i, row in zip(used, self._sums[used], strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return sums and frames as tensors."""
        frames = {str(i): torch.from_numpy(frame.copy()) for i, frame in self._frames.items()}
        return {"sums": torch.from_numpy(self._sums.copy()), "frames": frames}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "FragmentUse":
        """Restore what ``state_dict`` returned."""
        use = cls()
        use._sums = state["sums"].cpu().numpy().copy()
        use._frames = {int(i): frame.cpu().numpy().copy() for i, frame in state["frames"].items()}
        return use
