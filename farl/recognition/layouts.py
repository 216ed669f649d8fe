"""Whether ways lead to the same places in every episode: not where layouts are drawn anew."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

_NOBODY = -1
_ARRAYS = ("taker", "share", "count", "episode")
_HORIZON = 2048
"""Ways over which a share is a mean, those taken last weighing most."""
_FEWEST = 512
"""Ways of each kind without which nothing is said."""
_APART, _TOGETHER = 0.1, 0.05
"""By how much the two shares differ where layouts do, and where they no longer do."""


class Layouts:
    """Compares ways that an agent has taken before in its episode with those that only others, or earlier episodes,
    have taken: how often do they lead to where they led last?

    Noise, moves that fail and places that look alike trouble both alike. Only where every episode has a layout of its
    own do an agent's own ways hold more often than those of others. In rooms that stay, the two shares lie within .05
    of each other under all kinds of noise and under sticky actions; in MiniGrid they lie .2 to .45 apart.

    :param n_actions: number of actions A
    """

    def __init__(self, n_actions: int) -> None:
        self.differ = False
        """Whether layouts differ from episode to episode, as far as it is known."""
        self._taker: Int32Array = np.full((0, n_actions), _NOBODY, np.int32)  # [n, A], the episode that took it last
        self._share = np.zeros(2)  # of the ways of others and of the own that held
        self._count = np.zeros(2, np.int64)
        self._begun = 0
        self.start(0)

    def start(self, n_envs: int) -> None:
        """Begin with E agents, each in a new episode."""
        self._episode: Int32Array = np.arange(self._begun, self._begun + n_envs, dtype=np.int32)
        self._begun += n_envs

    def observe(
        self, before: IntArray, actions: IntArray, expected: IntArray, after: IntArray, starts: npt.NDArray[np.bool_]
    ) -> None:
        """Take in one step of E agents.

        :param before: int64[E], places, -1 where it is not known
        :param actions: int64[E]
        :param expected: int64[E], the places that the actions led to so far, -1 where they were never tried
        :param after: int64[E], places
        :param starts: bool[E], where this step was the first of an episode
        """
        if starts.any():
            new = np.flatnonzero(starts)
            self._episode[new] = np.arange(self._begun, self._begun + len(new))
            self._begun += len(new)
        _compare(self._taker, self._episode, before, actions, expected, after, self._share, self._count)
        if self._count.min() >= _FEWEST:
            self.differ = bool(self._share[1] - self._share[0] > (_TOGETHER if self.differ else _APART))

    def make_room(self, n_places: int) -> None:
        """Hold at least so many places."""
        more = n_places - len(self._taker)
        if more > 0:
            spare = np.full((max(more, len(self._taker), 256), self._taker.shape[1]), _NOBODY, np.int32)
            self._taker = np.concatenate([self._taker, spare])

    def merge(self, n_places: int) -> None:
        """Forget who took which way: places have changed their numbers."""
        self._taker = np.full((n_places, self._taker.shape[1]), _NOBODY, np.int32)

    def state_dict(self) -> dict[str, Any]:
        """Return who took which way, and what came of it."""
        arrays = {name: torch.from_numpy(getattr(self, f"_{name}").copy()) for name in _ARRAYS}
        return arrays | {"begun": self._begun, "differ": self.differ}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; with another number of agents, each is in a new episode."""
        n_envs = len(self._episode)
        for name in _ARRAYS:
            setattr(self, f"_{name}", state[name].cpu().numpy().copy())
        self._begun, self.differ = int(state["begun"]), bool(state["differ"])
        if len(self._episode) != n_envs:
            self.start(n_envs)


@numba.njit(cache=True)
def _compare(
    taker: Int32Array,
    episode: Int32Array,
    before: IntArray,
    actions: IntArray,
    expected: IntArray,
    after: IntArray,
    share: npt.NDArray[np.float64],
    count: IntArray,
) -> None:
    for env in range(len(before)):
        if before[env] < 0:
            continue
        last = taker[before[env], actions[env]]
        if expected[env] >= 0 and last != _NOBODY:
            own = 1 if last == episode[env] else 0
            held = 1.0 if after[env] == expected[env] else 0.0
            count[own] += 1
            share[own] += (held - share[own]) / min(count[own], _HORIZON)
        taker[before[env], actions[env]] = episode[env]
