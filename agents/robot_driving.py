"""How a robot follows a way: steering, and what it does where it cannot go on."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farl.slam.poses import wrapped

FloatArray = npt.NDArray[np.float64]

_AHEAD = 0.35  # metres on the way that are steered at
_ARRIVED = 0.2  # metres
_TURN_FIRST = 0.9  # radians off the way above which it turns on the spot
_BACK = 12  # steps that it backs off for
_ROOM = 0.06  # metres ahead of its body below which it does not drive on
_BLOCKED, _MOST_BUMPS = 10, 3  # steps that it waits before something that stands in its way, and how often it tries
_PUSHING, _STILL = 0.2, 0.002  # share of the largest velocity at which it should move, and metres that are no move


class Body(NamedTuple):
    """What steering goes by.

    :ivar radius: metres
    :ivar max_turn: radians a second
    """

    radius: float
    max_turn: float


class Course:
    """The way that a robot is on."""

    def __init__(self) -> None:
        self.way: FloatArray = np.zeros((0, 2))
        """float64[L, 2], metres, in the frame of the current fragment."""
        self.at = 0
        """How far along it is."""
        self.target = -1
        """The fragment that is taken up at its end, -1 for none."""
        self.bound = -1
        """The fragment of the view that it leads to at last, -1 before anything was chosen."""
        self.passed: set[int] = set()
        """Fragments that were left on the way there: they are not gone through again."""
        self.scans = 0
        """Scans since the way was chosen."""
        self.backing, self.waited = 0, 0
        self.tries = 0
        """Scans at the end of the way at which the target was not recognised."""
        self.bumps = 0
        """Times that something stood in the way since it last arrived."""
        self.forward = 0.0
        """The forward velocity that was chosen last, as a share of the largest."""
        self.given_up: list[list[float]] = []
        """Ends of ways to views, x and y, that something stood in the way of."""

    def follow(self, way: FloatArray, target: int = -1, bound: int = -1) -> None:
        """Take another way."""
        if target != self.target:
            self.tries = 0
        if bound != self.bound:
            self.passed.clear()
        self.bound = bound
        self.way, self.at, self.target, self.scans, self.waited = way, 0, target, 0, 0

    def stop(self, bound: int | None = None) -> None:
        """Give the way up, but not where it led to at last, unless that changes, too."""
        self.follow(np.zeros((0, 2)), bound=self.bound if bound is None else bound)

    @property
    def over(self) -> bool:
        """Whether there is no way left."""
        return self.at >= len(self.way)

    def take_ends(self) -> list[list[float]]:
        """Places from which all was seen that can be seen there: where a way to a view ended, or was given up."""
        ends = self.given_up + ([self.way[-1].tolist()] if self.over and len(self.way) and self.target < 0 else [])
        self.given_up = []
        self.bumps = 0 if ends else self.bumps
        return ends

    def remaining(self, pose: FloatArray) -> float:
        """Metres to the end of the way, as the crow flies; 0 without one."""
        return float(np.hypot(*(self.way[-1] - pose[:2]))) if len(self.way) else 0.0

    def steer(self, pose: FloatArray, moved: float, scan: Any, angles: FloatArray, body: Body) -> tuple[float, float]:
        """The next forward and turning velocity, as shares of the largest.

        :param moved: metres since the last step, by the odometry: where it should move and does not, it is held fast by
            something that it may not see, beside it or below the lidar
        """
        held = abs(self.forward) > _PUSHING and moved < _STILL
        self.forward, turn = self._steer(pose, held, scan, angles, body)
        return self.forward, turn

    def _steer(self, pose: FloatArray, held: bool, scan: Any, angles: FloatArray, body: Body) -> tuple[float, float]:
        if self.backing > 0:
            self.backing -= 1
            return -0.5, 0.0
        self._advance(pose)
        if self.over:
            return 0.0, 0.0
        x, y = self.way[self.at] - pose[:2]
        off = wrapped(math.atan2(y, x) - pose[2])
        turn = float(np.clip(2.5 * off / body.max_turn, -1.0, 1.0))
        if abs(off) > _TURN_FIRST:
            return 0.0, turn
        ahead = scan[(np.abs(angles) < 0.6) & (scan > 0.0)]
        room = float(ahead.min()) - body.radius if ahead.size else math.inf
        if room < _ROOM or held:
            self.waited += 1
            if self.waited > _BLOCKED:
                self._bump()
        else:
            self.waited = 0
        return (0.0 if room < _ROOM else min(1.0, max(room / 0.5, 0.2)) * math.cos(off) ** 2), turn

    def _bump(self) -> None:
        """Back off, and think again; the third time, where it led is given up."""
        self.bumps += 1
        if self.bumps >= _MOST_BUMPS:
            self.given_up += [self.way[-1].tolist()] if self.target < 0 else []
            self.bumps = 0
        self.stop()
        self.backing = _BACK

    def _advance(self, pose: FloatArray) -> None:
        while self.at < len(self.way):
            away = math.hypot(*(self.way[self.at] - pose[:2]))
            if away > (_AHEAD if self.at + 1 < len(self.way) else _ARRIVED):
                break
            self.at += 1

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as numbers and lists."""
        return {
            "way": self.way.tolist(),
            "passed": sorted(self.passed),
            "given_up": self.given_up,
            "rest": [self.at, self.target, self.bound, self.scans, self.backing, self.waited, self.tries],
            "held": [self.bumps, self.forward],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.way = np.array(state["way"], np.float64).reshape(-1, 2)
        self.passed, self.given_up = set(state["passed"]), [list(at) for at in state["given_up"]]
        self.bumps, self.forward = int(state["held"][0]), float(state["held"][1])
        self.at, self.target, self.bound, self.scans, self.backing, self.waited, self.tries = state["rest"]
