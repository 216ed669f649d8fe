"""Grid worlds that never change, as tables: where agents can be, where each action leads, and what they see."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from farl.envs.partial_views import FORWARD, IntArray, partial_views

__all__ = ["LEFT_RIGHT_AHEAD", "PoseWorld", "check_at_least", "check_choice", "goal_reward"]

LEFT_RIGHT_AHEAD = 3
"""Number of actions: 0 turn left, 1 turn right, 2 move forward."""


class PoseWorld:
    """A *pose* is a free cell with a direction, numbered ``4 * cell + direction`` (0 right, 1 down, 2 left, 3 up), so
    that a step of any number of agents is one look-up in ``following``, and what they see one in ``views_of``.

    :param codes: uint8[width, height, C], what each cell looks like
    :param free: bool[width, height], which cells can be stood on
    :param transparent: bool[width, height], which cells can be seen through
    :param goal: cell (x, y) of the goal; None for none
    :param view_size: side of the square view in cells, odd
    :param outside: code of what lies beyond the world, C numbers
    :param under: code of the cell the agent stands on, which it hides, C numbers
    """

    def __init__(
        self,
        codes: npt.NDArray[np.uint8],
        free: npt.NDArray[np.bool_],
        transparent: npt.NDArray[np.bool_],
        goal: tuple[int, int] | None,
        view_size: int,
        outside: Sequence[int],
        under: Sequence[int],
    ) -> None:
        self.codes = codes
        """uint8[width, height, C], what each cell looks like, indexed by x and y."""
        self.reachable: npt.NDArray[np.bool_] = np.ascontiguousarray(free.T)
        """bool[height, width], the cells that can be stood on."""
        cells = np.argwhere(free)
        self.positions: IntArray = np.repeat(cells, 4, axis=0)
        """int64[P, 2], x and y of each pose."""
        self.directions: IntArray = np.tile(np.arange(4), len(cells))
        """int64[P], direction of each pose."""
        self._cell: IntArray = np.full(free.shape, -1)
        self._cell[free] = np.arange(len(cells))
        self.following: IntArray = self._follow()
        """int64[P, 3], the pose that each action leads to."""
        self.is_goal: npt.NDArray[np.bool_] = (self.positions == (goal or (-1, -1))).all(axis=1)
        """bool[P], whether a pose is on the goal."""
        self.views_of: npt.NDArray[np.uint8] = partial_views(
            codes, transparent, self.positions, self.directions, view_size, outside, under
        )
        """uint8[P, view_size, view_size, C], what is seen from each pose, as codes."""

    def pose(self, x: int, y: int, direction: int) -> int:
        """Return the number of a pose, which must be on a free cell."""
        return 4 * int(self._cell[x, y]) + direction

    def _follow(self) -> IntArray:
        poses = np.arange(len(self.positions))
        ahead = self._cell[tuple((self.positions + FORWARD[self.directions]).T)]
        turned = [4 * (poses // 4) + (self.directions + turn) % 4 for turn in (-1, 1)]
        return np.stack([*turned, np.where(ahead < 0, poses, 4 * ahead + self.directions)], axis=1)


def goal_reward(elapsed: npt.ArrayLike, max_steps: int | None) -> npt.NDArray[np.float64]:
    """Return the reward for reaching the goal after so many steps."""
    return 1.0 - 0.9 * np.asarray(elapsed) / (np.inf if max_steps is None else max_steps)


def check_at_least(values: Mapping[str, tuple[object, int]]) -> None:
    """Check parameters that are whole numbers.

    :param values: name -> what was given, and the least that may be
    :raises ValueError: naming the first that is none, or too small
    """
    for name, (value, least) in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check a parameter that is one of some words.

    :raises ValueError: naming them
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
