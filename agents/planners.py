"""Explorers that keep a local map and follow plans over it, to the end of any connected world."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from farl.agents.explorer import Explorers
from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS, BoolArray, Int32Array, IntArray, WordArray, next_random
from farl.maps.local_map import LocalMap, LocalMaps
from farl.maps.planner import Scratch
from farl.maps.unseen import joined, plan_to_unseen

LONGEST_PLAN = 1024
"""Steps that are planned ahead; of a longer path the first ones are walked, then it is planned again."""

PATIENCE = 500
"""Steps without anything new after which an explorer looks for what is left, whatever its own rule says."""


class Course(NamedTuple):
    """Where E explorers are going, for the kernels.

    :ivar plan: int8[E, L], the steps ahead
    :ivar progress: int64[E, 2], steps of the plan that are done, and its length
    :ivar random: uint64[E], one random stream each
    """

    plan: npt.NDArray[np.int8]
    progress: IntArray
    random: WordArray


class Planners(Explorers):
    """Explorers that keep a local map and follow plans over it.

    Where their own rule finds no goal, or has shown nothing new for ``patience`` steps, they lay all that they know
    side by side once and go to the nearest place that could show something (``farl.maps.unseen``).

    :param gamma: decay of the map's confidence
    :param surprisal: see ``LocalMaps``
    :param patience: steps; None never looks for what is left
    """

    def __init__(
        self,
        n_envs: int,
        view_size: int,
        seed: int,
        gamma: float = 0.9,
        surprisal: Any = "before",
        patience: int | None = PATIENCE,
    ) -> None:
        super().__init__(n_envs, view_size, seed)
        self.maps = LocalMaps(n_envs, view_size, gamma, surprisal)
        self.patience = patience
        self.plan: npt.NDArray[np.int8] = np.zeros((n_envs, LONGEST_PLAN), np.int8)
        """int8[E, L], the steps ahead."""
        self.progress: IntArray = np.zeros((n_envs, 2), np.int64)
        """int64[E, 2], steps of the plan that are done, and its length."""
        self.idle: IntArray = np.zeros(n_envs, np.int64)
        """int64[E], steps since something new was seen."""
        self.done: BoolArray = np.zeros(n_envs, bool)
        """bool[E], nothing was left to see when last looked for, and nothing new was seen since."""
        self.tried: IntArray = np.full(n_envs, -1, np.int64)
        """int64[E], the heading in which an unknown cell was stepped to in the last step; -1 for none."""
        self._scratch = Scratch.of(self.maps.side)

    @property
    def active_memory(self) -> IntArray:
        """int64[E], cells of the current map's bounding box."""
        return self.maps.area

    def known_maps(self, env: int) -> dict[int, LocalMap]:
        """Return the one map, as fragment 0."""
        return {0: self.maps.copy_out(env)}

    @property
    def scratch(self) -> Scratch:
        """Work space of the planners, as large as the maps are."""
        if self._scratch.stamp.shape[0] != self.maps.side:
            self._scratch = Scratch.of(self.maps.side)
        return self._scratch

    @property
    def course(self) -> Course:
        """Plans and random streams."""
        return Course(self.plan, self.progress, self.random)

    @property
    def impatient(self) -> BoolArray:
        """bool[E], who has waited long enough for something new."""
        if self.patience is None:
            return np.zeros(self.n_envs, bool)
        return (self.idle > self.patience) & ~self.done

    def note_blocked(self, odometry: Int32Array, starts: BoolArray) -> None:
        """Mark the unknown cells that were stepped to in vain; before anything new is taken in."""
        for env in np.flatnonzero(self.tried >= 0):
            stayed = (self.maps.pose[env, :2] == self.maps.origin[env] + odometry[env, :2]).all()
            if stayed and not starts[env]:
                self.maps.block(int(env), int(self.tried[env]))
        self.tried[:] = -1

    def note_news(self, news: BoolArray) -> None:
        """Count the steps since something new was seen; ``news`` is bool[E]."""
        self.idle += 1
        self.idle[news] = 0
        self.done &= ~news

    def look_for_rest(self, actions: IntArray) -> IntArray:
        """Fill in the steps of those who have no goal, -1 in ``actions``, int64[E]: towards what is left to see."""
        for env in np.flatnonzero(actions < 0):
            actions[env] = self._step_to_unseen(int(env))
        return actions

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next."""
        state = {name: torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}
        return super().state_dict() | {"maps": self.maps.state_dict(), **state}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self.maps.load_state_dict(state["maps"])
        for name in _ARRAYS:
            setattr(self, name, state[name].numpy().copy())

    def _step_to_unseen(self, env: int) -> int:
        self.progress[env] = 0
        step = -1 if self.patience is None else self._plan_to_unseen(env)
        if step < 0:
            self.done[env] = True
            return int(step_anywhere(self.maps.label, self.maps.pose, self.random, env))
        return step

    def _plan_to_unseen(self, env: int) -> int:
        """The first step towards the nearest place that could show something; -1 where there is none."""
        whole, corner = self._all_known(env)
        row, col = self.maps.pose[env, :2] - self.maps.origin[env] - corner
        length, unknown = plan_to_unseen(whole, row, col, Scratch.of(max(whole.shape)), self.plan[env])
        if length > 0:
            # The first step is taken even where the current map does not know its cell: another one does.
            self.progress[env] = 1, length
            return int(self.plan[env, 0])
        self.tried[env] = unknown
        return int(unknown)

    def _all_known(self, env: int) -> tuple[Int32Array, IntArray]:
        """All maps of an explorer in one, with its place, which it may know no longer; see ``joined``."""
        return joined(self.known_maps(env).values(), place=self.maps.pose[env, :2] - self.maps.origin[env])


_ARRAYS = ("plan", "progress", "idle", "done", "tried")


@compiled
def follow(label: Any, pose: Any, plan: Any, progress: Any, e: int) -> int:
    """Return the next step of a plan and count it done; -1 if it is over, or its next cell is not free now."""
    if progress[e, 0] >= progress[e, 1]:
        return -1
    heading = plan[e, progress[e, 0]]
    if label[e, pose[e, 0] + STEP_ROWS[heading], pose[e, 1] + STEP_COLS[heading]] != FREE:
        progress[e, 1] = 0
        return -1
    progress[e, 0] += 1
    return int(heading)


@compiled
def step_anywhere(label: Any, pose: Any, random: Any, e: int) -> int:
    """A random step onto a known free cell; any step if there is none."""
    first = int(4 * next_random(random, e))
    for i in range(4):
        heading = (first + i) % 4
        if label[e, pose[e, 0] + STEP_ROWS[heading], pose[e, 1] + STEP_COLS[heading]] == FREE:
            return heading
    return first
