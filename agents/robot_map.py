"""What one robot knows: its current fragment, where it is in it, and how the stored fragments lie to each other."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from farl.maps.geometry import ByteArray
from farl.memory import LongTermMemory
from farl.slam.localising import Cloud
from farl.slam.matching import Match, match
from farl.slam.occupancy import IS_FREE, Canvas, Fit
from farl.slam.planning import project
from farl.slam.pose_graph import Edge, PoseGraph
from farl.slam.poses import between, compose, inverse, moved

FloatArray = npt.NDArray[np.float64]
Fragment = dict[str, Any]
"""A stored fragment: ``cells`` int16[h, w] (log odds), ``corner``, ``been`` float64[n, 2], ``env``; goals are added."""


class Lidar(NamedTuple):
    """What a robot knows of its lidar.

    :ivar angles: float64[B], of the beams, from the heading
    :ivar reach: metres
    """

    angles: FloatArray
    reach: float


class Rules(NamedTuple):
    """How scans are matched and fragments recognised; see ``farl.agents.robot.FARMapRobot``."""

    resolution: float
    matching: bool
    closure: bool
    confirm: int
    particles: int | None = None


class Found(NamedTuple):
    """A stored fragment that was recognised.

    :ivar fragment: which
    :ivar match: where the robot is in it
    :ivar fit: how its map fits what is seen
    """

    fragment: int
    match: Match
    fit: Fit


TRUSTED = 0.7
"""Metres, standard deviation of their relative pose, up to which one fragment vouches for places of another."""
# Of a step, from scan to scan: what the odometry may be off by is no noise that averages out.
_STILL = np.diag([0.02, 0.02, 0.01]) ** 2
_FLOOR = np.diag([0.03, 0.03, 0.01]) ** 2  # of any edge: maps have cells
_GOOD, _RIVAL, _WRONG, _KNOWN = 0.55, 0.9, 0.12, 0.5
_STRANGE = 0.15  # share of a scan that a map does not know, above which another may know better
_SETTLED = 15  # scans in a fragment before it is left for another
_SURE = 0.25  # metres, standard deviation of the robot's place in a fragment up to which it is taken up anywhere
_ELSEWHERE = 1.0  # metres from where a fragment could not be taken up, from which on it is tried again
_UNLIKELY = 16.27  # squared Mahalanobis length, the .999 quantile of 3 degrees of freedom


class RobotMap:
    """The maps of one robot.

    :param memory: holds its stored fragments
    :param lidar: the robot's
    :param rules: see ``Rules``
    :param seed: seed of its particles
    """

    def __init__(self, memory: LongTermMemory[Fragment], lidar: Lidar, rules: Rules, seed: int = 0) -> None:
        self.memory, self.lidar, self.rules = memory, lidar, rules
        self._generator = torch.Generator().manual_seed(seed)
        self.begin(-1)

    def begin(self, fragment: int) -> None:
        """Start anew in a fragment, with its frame where the robot is."""
        self.fragment = fragment
        self.canvas = Canvas(self.rules.resolution)
        self._cloud: Cloud | None = None  # of this fragment; drawn at the first scan in it that needs it
        self.pose, self.covariance = np.zeros(3), np.zeros((3, 3))
        self.odometry = np.zeros(3)
        self.graph = PoseGraph()
        self.graph.add(fragment, np.zeros(3))
        self.crossings: dict[tuple[int, int], FloatArray] = {}
        """Where a fragment is left for another: x and y, float64[2], in the frame of the one that is left."""
        self.been: list[list[float]] = []
        """x and y of places in this fragment where scans were taken in."""
        self.undone = 0
        """Closures that were taken back, or refused for what the graph says."""
        self.closures = 0
        """Closures that were kept."""
        self.scans = 0
        """Scans since this fragment was taken up."""
        self.grew = False
        """Whether the last scan lay partly outside what was known of this fragment."""
        self._left = -1  # the fragment that was left last because another was wanted
        self._refused: dict[int, FloatArray] = {}  # fragments that could not be entered, and where that was
        self._candidate: tuple[int, FloatArray, int] | None = None  # fragment, relative pose, times seen in a row
        self._turn = 0

    @property
    def settled(self) -> bool:
        """Whether it has been in this fragment for long enough to leave it: one scan may show more than it may hold."""
        return self.scans > _SETTLED

    @property
    def others(self) -> list[int]:
        """The stored fragments of this robot."""
        return [frame for frame in self.graph.poses if frame != self.fragment]

    @property
    def world_pose(self) -> FloatArray:
        """float64[3], where it believes to be in the frame of its first fragment: of its start."""
        return compose(self.graph.poses[self.fragment], self.pose)

    def move(self, odometry: FloatArray) -> float:
        """Follow the odometry, float64[3]; return the metres of the step."""
        step = between(self.odometry, odometry)
        self.odometry = odometry.copy()
        way, turn = float(np.hypot(step[0], step[1])), abs(float(step[2]))
        spread = np.array([0.1 * way, 0.1 * way, 0.1 * turn + 0.03 * way])
        self.pose, self.covariance = moved(self.pose, self.covariance, step, np.diag(spread**2))
        return way

    def locate(self, scan: Any) -> Fit:
        """Find out where in its fragment the robot is, and return how the map fits what it sees."""
        if self.rules.particles is not None and self.been:
            if self._cloud is None:
                self._cloud = Cloud(self.pose, self.covariance + _STILL, self.rules.particles, self._generator)
            self.pose, self.covariance = self._cloud.follow(self.pose, self.canvas, scan, *self.lidar)
        elif self.rules.matching and self.been:
            found = self._match(self.canvas, self.pose, self.covariance + _STILL, scan, (0.0, 0.0))
            if found is not None and found.score < 0.5:
                wider = self._match(self.canvas, self.pose, self.covariance + _STILL, scan, (0.3, 0.12))
                found = wider if wider is not None and wider.score > found.score + 0.05 else found
            if found is not None and found.score > 0.25:
                self.pose, self.covariance = found.pose, np.minimum(found.covariance, 1.0)
        return self.canvas.fit(self.pose, scan, *self.lidar)

    def take_in(self, scan: Any) -> int:
        """Enter a scan into the map; return how many cells became known."""
        self.scans += 1
        self.been.append(self.pose[:2].tolist())
        before = self.canvas.area
        new = self.canvas.take_in(self.pose, scan, *self.lidar)
        self.grew = self.canvas.area > before
        return new

    def recognise(self, scan: Any, own: Fit, target: int) -> Found | None:
        """Look for a stored fragment that the robot is in; closes a loop where that is new.

        :param own: how its own map fits
        :param target: the fragment that it is on its way to, which is taken up on arrival; -1 for none
        """
        if target >= 0:
            return self._arrive(scan, target)
        lost = own.new > _STRANGE and self.settled
        looking = self.rules.closure and self._due
        wanted = list(self._near(self._left if lost else None, looking)) if lost or looking else []
        if not wanted:
            return None
        pending = [near for near in wanted if self._candidate is not None and near[0] == self._candidate[0]]
        self._turn += 1
        fragment, guess, covariance = pending[0] if pending else wanted[self._turn % len(wanted)]
        found = self._look(scan, fragment, guess, covariance)
        if found is None:
            self._candidate = None
            return None
        joined = (self.fragment, fragment) in self.crossings
        if not joined and not (self._confirmed(found) and self._close(found, guess, covariance)):
            return None
        return found if lost and found.fit.surprisal + 0.1 < own.surprisal else None

    @property
    def _due(self) -> bool:
        """Whether it is time to look for a loop to close: now and then, and while one is to be confirmed."""
        return self._candidate is not None or self.scans % 3 == 0

    def divide(self, fragment: int) -> None:
        """Go on in a new fragment, whose frame is where the robot is."""
        old, at = self.fragment, self.pose.copy()
        self.graph.add(fragment, self.world_pose)
        self.graph.join(Edge(old, fragment, at, self.covariance + _FLOOR, False))
        self.crossings[old, fragment], self.crossings[fragment, old] = at[:2], np.zeros(2)
        self.fragment, self.canvas = fragment, Canvas(self.rules.resolution)
        self.pose, self.covariance, self.been = np.zeros(3), np.zeros((3, 3)), []
        self._candidate, self.scans, self._left, self._cloud = None, 0, -1, None
        self._refused.clear()

    def go_to(self, found: Found, wanted: bool) -> None:
        """Go on in a stored fragment.

        :param wanted: it was on its way there; so it does not go back because the one that it leaves fits better
        """
        self._left = self.fragment if wanted else -1
        self._refused.clear()
        stored = self.memory[found.fragment]
        self.fragment = found.fragment
        self.canvas = canvas_of(stored, self.rules.resolution)
        self.pose, self.covariance = found.match.pose, found.match.covariance
        self.been = stored["been"].tolist()
        self._candidate, self.scans, self._cloud = None, 0, None

    def stored(self, env: int) -> Fragment:
        """The current fragment, to be kept."""
        cells, corner = self.canvas.inner()
        return {
            "cells": torch.from_numpy(cells),
            "corner": [int(value) for value in corner],
            "been": torch.from_numpy(np.array(self.been, np.float64).reshape(-1, 2)),
            "env": env,
        }

    def enterable(self) -> Iterator[tuple[int, FloatArray]]:
        """Stored fragments that can be taken up where the robot is: which, and its pose in it."""
        for other in self.others:
            if other in self._refused and np.hypot(*(self._refused[other] - self.pose[:2])) < _ELSEWHERE:
                continue
            pose, covariance = self._seen_from(other)
            if max(covariance[0, 0], covariance[1, 1]) > _SURE**2:
                continue
            stored = self.memory[other]
            row, col = np.floor(pose[1::-1] / self.rules.resolution).astype(np.int64) - stored["corner"]
            rows, cols = stored["cells"].shape
            if 0 <= row < rows and 0 <= col < cols and int(stored["cells"][row, col]) < IS_FREE:
                yield other, pose

    def refuse(self, fragment: int) -> None:
        """A fragment could not be taken up here."""
        self._refused[fragment] = self.pose[:2].copy()

    def forget(self, fragment: int) -> None:
        """A stored fragment is gone."""
        if fragment in self.graph.poses and len(self.graph.poses) > 1:
            self.graph.remove(fragment)
        self.crossings = {pair: at for pair, at in self.crossings.items() if fragment not in pair}

    def elsewhere(self, canvas: Canvas, fragment: int) -> ByteArray:
        """What other fragments know of the cells of one, uint8[H, W]; see ``farl.slam.planning``."""
        mask: ByteArray = np.zeros(canvas.cells.shape, np.uint8)
        for other in self.graph.poses:
            if other == fragment:
                continue
            pose, covariance = self.graph.relative(fragment, other)
            if np.sqrt(max(covariance[0, 0], covariance[1, 1])) > TRUSTED:
                continue
            cells, corner = self.canvas.inner() if other == self.fragment else _parts(self.memory[other])
            if cells.size:
                project(mask, canvas, cells, corner, pose)
        return mask

    def fragments(self, env: int) -> dict[int, Fragment]:
        """All that it knows, the current fragment included."""
        return {frame: self.memory[frame] for frame in self.others} | {self.fragment: self.stored(env)}

    def _match(
        self, canvas: Canvas, guess: FloatArray, covariance: FloatArray, scan: Any, window: tuple[float, float]
    ) -> Match | None:
        return match(canvas, guess, covariance, scan, *self.lidar, window)

    def _seen_from(self, other: int) -> tuple[FloatArray, FloatArray]:
        """The robot's pose in another fragment, by the graph, and its covariance."""
        relative, spread = self.graph.relative(other, self.fragment)
        return moved(relative, spread, self.pose, self.covariance)

    def _near(self, left: int | None, looking: bool) -> Iterator[tuple[int, FloatArray, FloatArray]]:
        """Stored fragments that may know this place: which, the robot's pose in it, and its covariance.

        :param left: None: only those that are not joined to this one; else those that are, too, but this one
        :param looking: also those that are not joined
        """
        for other in self.others:
            joined = (self.fragment, other) in self.crossings
            if (left is None or other == left) if joined else not looking:
                continue
            stored = self.memory[other]
            guess, covariance = self._seen_from(other)
            rows, cols = stored["cells"].shape
            row = int(guess[1] / self.rules.resolution) - stored["corner"][0]
            col = int(guess[0] / self.rules.resolution) - stored["corner"][1]
            slack = int(min(2.0 * np.sqrt(max(covariance[0, 0], covariance[1, 1])), 3.0) / self.rules.resolution)
            if -slack <= row < rows + slack and -slack <= col < cols + slack:
                around = stored["cells"][
                    max(row - slack - 1, 0) : max(row + slack + 2, 0), max(col - slack - 1, 0) : max(col + slack + 2, 0)
                ]
                if around.numel() and int(around.min()) < 0:
                    yield other, guess, covariance + _STILL

    def _look(self, scan: Any, fragment: int, guess: FloatArray, covariance: FloatArray) -> Found | None:
        """Match a scan with a stored fragment; None where it does not fit, or fits in several places."""
        spread = np.sqrt(np.diag(covariance))
        window = (float(np.clip(2.5 * spread[:2].max(), 0.3, 3.0)), float(np.clip(2.5 * spread[2], 0.1, 0.5)))
        canvas = canvas_of(self.memory[fragment], self.rules.resolution)
        found = self._match(canvas, guess, covariance, scan, window)
        if found is None or found.score < _GOOD or found.rival > _RIVAL:
            return None
        fit = canvas.fit(found.pose, scan, *self.lidar)
        return None if fit.contradicted > _WRONG or 1.0 - fit.new < _KNOWN else Found(fragment, found, fit)

    def _arrive(self, scan: Any, target: int) -> Found | None:
        """At the crossing to a fragment, find out where in it the robot is."""
        guess, covariance = self._seen_from(target)
        canvas = canvas_of(self.memory[target], self.rules.resolution)
        found: Match | None = Match(guess, covariance, 1.0, 0.0)
        if self.rules.matching:
            found = self._match(canvas, guess, np.minimum(covariance, 0.05) + _STILL, scan, (0.4, 0.15))
        if found is None:
            return None
        fit = canvas.fit(found.pose, scan, *self.lidar)
        return Found(target, found, fit) if found.score > 0.4 and fit.contradicted < 2 * _WRONG else None

    def _confirmed(self, found: Found) -> bool:
        """Whether the same was recognised in several scans on end."""
        relative = compose(self.pose, inverse(found.match.pose))  # of the other frame in this one
        times = 1
        if self._candidate is not None and self._candidate[0] == found.fragment:
            off = between(self._candidate[1], relative)
            if np.hypot(off[0], off[1]) < 0.2 and abs(off[2]) < 0.06:
                times = self._candidate[2] + 1
        self._candidate = (found.fragment, relative, times)
        return times >= self.rules.confirm

    def _close(self, found: Found, guess: FloatArray, covariance: FloatArray) -> bool:
        """Close a loop, if the graph agrees."""
        self._candidate = None
        off = between(guess, found.match.pose)
        total = covariance + found.match.covariance + _FLOOR
        if float(off @ np.linalg.solve(total, off)) > _UNLIKELY:
            self.undone += 1
            return False
        relative = compose(self.pose, inverse(found.match.pose))
        spread = self.covariance + found.match.covariance + _FLOOR
        before = len(self.graph.edges) + 1
        kept = self.graph.close(Edge(self.fragment, found.fragment, relative, spread, True))
        self.undone += before - len(self.graph.edges)
        # No way leads over a closure that was undone.
        joined = {pair for edge in self.graph.edges for pair in ((edge.a, edge.b), (edge.b, edge.a))}
        self.crossings = {pair: at for pair, at in self.crossings.items() if pair in joined}
        if kept:
            self.closures += 1
            self.crossings[self.fragment, found.fragment] = self.pose[:2].copy()
            self.crossings[found.fragment, self.fragment] = found.match.pose[:2].copy()
        return kept

    def state_dict(self) -> dict[str, Any]:
        """Return all of it but the stored fragments."""
        cells, corner = self.canvas.inner()
        candidate = self._candidate
        return {
            "fragment": self.fragment,
            "cells": torch.from_numpy(cells),
            "corner": [int(value) for value in corner],
            "arrays": [torch.from_numpy(each.copy()) for each in (self.pose, self.covariance, self.odometry)],
            "graph": self.graph.state_dict(),
            "crossings": [[a, b, at.tolist()] for (a, b), at in self.crossings.items()],
            "been": [list(at) for at in self.been],
            "counts": [self.undone, self.closures, self._turn, self.scans, self._left, int(self.grew)],
            "refused": [[fragment, at.tolist()] for fragment, at in self._refused.items()],
            "cloud": None if self._cloud is None else self._cloud.state_dict(),
            "generator": self._generator.get_state(),
            "candidate": None if candidate is None else [candidate[0], candidate[1].tolist(), candidate[2]],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.fragment = int(state["fragment"])
        self.canvas = canvas_of(state, self.rules.resolution)
        self.pose, self.covariance, self.odometry = (each.cpu().numpy().copy() for each in state["arrays"])
        self.graph = PoseGraph()
        self.graph.load_state_dict(state["graph"])
        self.crossings = {(int(a), int(b)): np.array(at) for a, b, at in state["crossings"]}
        self.been = [list(at) for at in state["been"]]
        self.undone, self.closures, self._turn, self.scans, self._left, grew = state["counts"]
        self.grew = bool(grew)
        self._refused = {int(fragment): np.array(at) for fragment, at in state["refused"]}
        self._generator.set_state(state["generator"].cpu())
        self._cloud = state["cloud"] and Cloud.from_state_dict(state["cloud"], self._generator)
        kept = state["candidate"]
        self._candidate = None if kept is None else (int(kept[0]), np.array(kept[1]), int(kept[2]))


def canvas_of(stored: Fragment, resolution: float) -> Canvas:
    """The map of a stored fragment."""
    cells, corner = _parts(stored)
    return Canvas.of(cells, corner, resolution) if cells.size else Canvas(resolution)


def _parts(stored: Fragment) -> tuple[Any, Any]:
    return stored["cells"].numpy(), np.array(stored["corner"], np.int64)
