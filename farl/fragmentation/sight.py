"""What one step of all environments showed: the one thing that criteria and recalls look at."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farl.fragmentation.statistics import BoolArray, FloatArray, IntArray

KeyArray = npt.NDArray[np.float32]


class Sight(NamedTuple):
    """What one step of E environments showed, before anything is made of it.

    :ivar surprisal: float64[E], prediction error of the active fragments
    :ivar keys: float32[E, d], features of what is seen, for recall by key; None where nobody recalls by key
    :ivar position: [E, k], where the environments are, in the coordinates of their world; None if it does not tell,
        object[E] of arrays and None if only some do
    :ivar extent: int64[E], cells of the active map's bounding box, 0 where the step did not enlarge it; None if no map
    :ivar starts: bool[E], True where an episode began since the last step; None is nowhere
    :ivar places: int64[E], the place that each environment is at, where places are recognised, -1 where it is not
        known; None where nobody recognises places
    """

    surprisal: FloatArray
    keys: KeyArray | None = None
    position: npt.NDArray[Any] | None = None
    extent: IntArray | None = None
    starts: BoolArray | None = None
    places: IntArray | None = None

    def select(self, envs: IntArray) -> "Sight":
        """Return what some of the environments, int64[n], showed."""
        return Sight(*(None if part is None else part[envs] for part in self))  # type: ignore[arg-type]

    def same_episode(self) -> BoolArray:
        """Mark the environments whose last step belongs to the same episode, bool[E]."""
        return np.ones(len(self.surprisal), bool) if self.starts is None else ~self.starts

    def checked(self, n_envs: int) -> "Sight":
        """Return the same with the surprisal as float64[E].

        :raises ValueError: unless every part has one row for each of the ``n_envs`` environments
        """
        for name, part in zip(self._fields, self, strict=True):
            if part is not None and len(part) != n_envs:
                raise ValueError(f"{name}: expected one row for each of the {n_envs} environments; got {len(part)}")
        if self.surprisal.dtype == np.float64:
            return self
        return self._replace(surprisal=np.asarray(self.surprisal, np.float64))
