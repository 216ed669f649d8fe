"""Robots that explore: scans come in, fragments end and are taken up again, and the next velocities go out."""

import logging
from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import torch

from farl.agents.explorer import Explorers
from farl.agents.fragmented import Step
from farl.agents.robot_driving import Body, Course
from farl.agents.robot_film import Film
from farl.agents.robot_goals import choose, choose_globally
from farl.agents.robot_map import Found, Fragment, Lidar, RobotMap, Rules
from farl.agents.robot_travel import Taste, look_through
from farl.fragmentation import Criterion, Events, FragmentationAndRecall, Recall, Recognition, Sight
from farl.maps.geometry import IntArray
from farl.memory import LongTermMemory

FloatArray = npt.NDArray[np.float64]
_log = logging.getLogger(__name__)

CHOICE = 10
"""Scans after which a way is chosen anew, even where the old one is not at its end."""
_GROWING = 0.01  # share of a scan that is new, above which a fragment grows
_TRIES, _TRIES_HERE = 12, 2  # scans at a crossing before it is given up; where a fragment is to be taken up anywhere
_AT, _NEAR = 0.3, 1.0  # metres from a crossing at which it is passed, and where the fragment behind it knows the place


class ScanRecall(Recall):
    """Recalls the fragment in which a scan was found to have been taken.

    :param n_envs: number of robots E
    """

    def __init__(self, n_envs: int) -> None:
        self.found: IntArray = np.full(n_envs, -1, np.int64)
        """int64[E], what each robot recognised in its last scan, -1 for nothing."""

    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        """Return what the robots recognised."""
        return Recognition(np.where(self.found[envs] != active[envs], self.found[envs], -1))


class RobotExplorers(Explorers):
    """The explorers of ``farl.agents.robot.FARMapRobot``; see there for what the parameters stand for.

    :param n_envs: number of robots E
    :param scan_every: steps from one scan that is taken in to the next
    :param longest: metres a step above which the odometry is not believed
    """

    def __init__(
        self,
        n_envs: int,
        seed: int,
        criterion: Criterion | None,
        lidar: Lidar,
        body: Body,
        rules: Rules,
        taste: Taste,
        new_cells: bool,
        scan_every: int,
        capacity: int | None,
        one_map: bool = False,
        longest: float = np.inf,
    ) -> None:
        super().__init__(n_envs, len(lidar.angles), seed)
        self.lidar, self.body, self.taste = lidar, body, taste
        # A gap looks narrower than it is, by up to a cell of the map at each side.
        half = rules.resolution / 2
        self._narrow = taste._replace(radius=max(body.radius - half, half))
        """For where no way leads on with some room beside the robot."""
        self._new_cells, self._scan_every, self._one_map = new_cells, scan_every, one_map
        self.longest, self._jumped = longest, False
        self._whole: IntArray = np.zeros(n_envs, np.int64)  # cells of the map of everything, where one is planned on
        limit = None if capacity is None else max(capacity * n_envs, n_envs + 1)
        self.memory: LongTermMemory[Fragment] = LongTermMemory(limit)
        self.recall = ScanRecall(n_envs)
        self.router: FragmentationAndRecall[Fragment] = FragmentationAndRecall(
            criterion, self.memory, self.recall, n_envs, share=False
        )
        self.robots = [RobotMap(self.memory, lidar, rules, int(own >> np.uint64(1))) for own in self.random]
        self.courses = [Course() for _ in range(n_envs)]
        self.done: npt.NDArray[np.bool_] = np.zeros(n_envs, bool)
        """bool[E], nothing is left to see."""
        self.surprisal: FloatArray = np.zeros(n_envs)
        """float64[E], of the last scan."""
        self.last: Step | None = None
        """What the last step did."""
        self.film: Film | None = None
        """Of the first robot; None takes none."""
        self._stale: list[set[int]] = [set() for _ in range(n_envs)]
        self._step = 0
        self.memory.on_evict.append(self._evicted)
        for env, robot in enumerate(self.robots):
            robot.begin(int(self.router.active[env]))

    @property
    def fragments(self) -> int:  # type: ignore[override]
        """Fractures so far, of all robots."""
        return self.router.fractures

    @property
    def recalls(self) -> int:  # type: ignore[override]
        """Recalls so far, of all robots."""
        return self.router.recalls

    @property
    def graph(self) -> "nx.MultiGraph":
        """How the stored fragments are joined."""
        return self.memory.graph

    @property
    def active_memory(self) -> IntArray:
        """int64[E], cells of the bounding box of the map that is planned on."""
        if self._one_map:
            return self._whole
        return np.array([robot.canvas.area for robot in self.robots], np.int64)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the stored fragments."""
        stored = [self.memory[key] for key in self.memory.ids if key in self.memory.tiers]
        return sum(value.nbytes for one in stored for value in one.values() if isinstance(value, torch.Tensor))

    def act(self, scan: Any, odometry: Any, starts: npt.NDArray[np.bool_]) -> Any:
        """Take in what all robots see and return their velocities, float32[E, 2].

        :param scan: float32[E, B], metres
        :param odometry: float32[E, 3]
        :param starts: bool[E], where an episode begins: that robot forgets all
        :raises ValueError: if the odometry is not finite
        """
        self._check(odometry)
        # What is no number was lost, as is what is too near; what is farther than it should see is no echo.
        scan = np.where(np.isnan(scan), 0.0, scan).clip(0.0, self.lidar.reach).astype(np.float32)
        for begun in np.flatnonzero(starts).tolist():
            self._begin(begun, odometry[begun])
        moved = [
            self._follow(robot, np.asarray(told, np.float64)) for robot, told in zip(self.robots, odometry, strict=True)
        ]
        if self._step % self._scan_every == 0 or starts.any():
            self._take_in(scan, starts)
        else:  # nothing happens between scans
            active, never = self.router.active.copy(), np.zeros(self.n_envs, bool)
            self.last = Step(self.surprisal, Events(active, active, never, never))
        if self.film is not None:
            self.film.look(self.robots[0], self._step)
        self._step += 1
        actions = np.zeros((self.n_envs, 2), np.float32)
        # A robot's way is of its own length: what they share, the maps and the scans, is compiled.
        for env, (robot, course) in enumerate(zip(self.robots, self.courses, strict=True)):
            actions[env] = course.steer(robot.pose, moved[env], scan[env], self.lidar.angles, self.body)
        return actions

    def _follow(self, robot: RobotMap, odometry: FloatArray) -> float:
        """Follow the odometry, but for jumps, such as of a counter that begins anew; return the metres of the step."""
        jump = float(np.hypot(*(odometry - robot.odometry)[:2]))
        if jump <= self.longest:
            return robot.move(odometry)
        robot.odometry = odometry.copy()
        if not self._jumped:
            _log.warning(
                "the odometry jumped by %.3g m in one step, and more than %.3g m are not believed: the robot takes "
                "itself to be where it was, and scans say more. Is the odometry in metres? Further jumps are not told",
                jump,
                self.longest,
            )
        self._jumped = True
        return 0.0

    def _check(self, odometry: Any) -> None:
        wrong = ~np.isfinite(odometry).all(axis=1)
        if wrong.any():
            env = int(wrong.argmax())
            raise ValueError(
                f"the odometry of robot {env} is {odometry[env].tolist()}: it must be finite. Nothing was taken in"
            )

    def _take_in(self, scan: Any, starts: npt.NDArray[np.bool_]) -> None:
        """Find out where all are, let the router say who leaves, and enter the scans."""
        fits = [robot.locate(one) for robot, one in zip(self.robots, scan, strict=True)]
        found = [
            robot.recognise(one, fit, self._arrival(course, robot))
            for robot, course, one, fit in zip(self.robots, self.courses, scan, fits, strict=True)
        ]
        self.recall.found[:] = [-1 if one is None else one.fragment for one in found]
        self.surprisal = np.array([fit.new if self._new_cells else fit.surprisal for fit in fits])
        grows = np.array(
            [fit.new > _GROWING and robot.grew and robot.settled for fit, robot in zip(fits, self.robots, strict=True)]
        )
        proposal = self.router.propose(
            Sight(
                self.surprisal,
                position=np.array([robot.world_pose for robot in self.robots]),
                extent=np.where(grows, [robot.canvas.area for robot in self.robots], 0),
                starts=starts,
            )
        )
        # Who was recognised is better, or is where the robot wanted to go: it was judged by its map already.
        events = self.router.commit(proposal, np.full(len(proposal.envs), -1.0))
        for env, (robot, course) in enumerate(zip(self.robots, self.courses, strict=True)):
            robot.been += course.take_ends()
            self._change(env, events, found[env])
            robot.take_in(scan[env])
            self._go_on(env)
        self.last = Step(self.surprisal, events)

    def _arrival(self, course: Course, robot: RobotMap) -> int:
        """The fragment that a robot wanted to go to, where it can be taken up; -1 where not yet."""
        away = course.remaining(robot.pose)
        there = course.target >= 0 and (
            away < _AT or (away < _NEAR and any(other == course.target for other, _ in robot.enterable()))
        )
        return course.target if there else -1

    def _change(self, env: int, events: Events, found: Found | None) -> None:
        robot, course = self.robots[env], self.courses[env]
        old, new = int(events.previous[env]), int(events.active[env])
        if new == old:
            if self._arrival(course, robot) >= 0:
                self._try_again(robot, course)
            return
        if old in self.memory:
            self.memory[old] = robot.stored(env)
        if events.fragmented[env]:
            robot.divide(new)
            course.stop(new)
        else:
            assert found is not None
            wanted = new == course.target
            robot.go_to(found, wanted)
            course.stop(course.bound if wanted else new)
            course.passed |= {old} - {course.bound}
        self._stale[env] |= set(robot.others)
        if old in self.memory and not self._one_map:
            look_through(robot, old, self.taste)
            self._stale[env].discard(old)

    def _try_again(self, robot: RobotMap, course: Course) -> None:
        """The fragment that a robot wants to go to was not recognised where it should be."""
        course.tries += 1
        if not len(course.way) and course.tries > _TRIES_HERE:
            robot.refuse(course.target)
            course.stop()
        elif course.tries > _TRIES:  # the crossing leads nowhere: whatever is behind it is found by other ways
            robot.crossings.pop((robot.fragment, course.target), None)
            robot.crossings.pop((course.target, robot.fragment), None)
            course.stop()

    def _go_on(self, env: int) -> None:
        """Choose a way where there is none, or where it is time to."""
        course = self.courses[env]
        course.scans += 1
        waiting = course.target >= 0 and self._arrival(course, self.robots[env]) >= 0
        if not waiting and course.backing == 0 and (course.over or course.scans >= CHOICE):
            self._rest(env, self._choose(env, self.taste) or self._choose(env, self._narrow))

    def _choose(self, env: int, taste: Taste) -> bool:
        """Choose a way; False where there is none."""
        robot, course = self.robots[env], self.courses[env]
        if self._one_map:
            found, self._whole[env] = choose_globally(robot, course, taste)
            return found
        if choose(robot, course, taste, self._stale[env]):
            return True
        if self.done[env]:
            return False
        # What is remembered of other fragments may be out of date: look through all of them once more.
        for other in robot.others:
            look_through(robot, other, taste)
        self._stale[env].clear()
        return choose(robot, course, taste, self._stale[env])

    def _rest(self, env: int, found: bool) -> None:
        """Stand still for a while where nothing is left to see."""
        self.done[env] = not found
        if not found:
            self.courses[env].stop()
            self.courses[env].scans = -5 * CHOICE

    def _begin(self, env: int, odometry: Any) -> None:
        for fragment in [key for key in self.robots[env].others if key in self.memory]:
            self.memory.evict(fragment)
        old = int(self.router.active[env])
        if old in self.memory:
            self.memory.evict(old)
        self.router.active[env] = self.memory.open(self.router.active.tolist())
        self.robots[env].begin(int(self.router.active[env]))
        self.robots[env].odometry = np.asarray(odometry, np.float64).copy()
        self.courses[env] = Course()
        self.done[env] = False
        self._stale[env] = set()

    def _evicted(self, fragment: int) -> None:
        for robot, course, stale in zip(self.robots, self.courses, self._stale, strict=True):
            if fragment in robot.graph.poses and fragment != robot.fragment:
                robot.forget(fragment)
                stale.discard(fragment)
                if course.target == fragment:
                    course.stop()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next, the long-term memory included."""
        return super().state_dict() | {
            "router": self.router.state_dict(),
            "robots": [robot.state_dict() for robot in self.robots],
            "courses": [course.state_dict() for course in self.courses],
            "stale": [sorted(each) for each in self._stale],
            "done": torch.from_numpy(self.done.copy()),
            "step": self._step,
            "film": None if self.film is None else self.film.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self.router.load_state_dict(state["router"])
        for robot, saved in zip(self.robots, state["robots"], strict=True):
            robot.load_state_dict(saved)
        for course, saved in zip(self.courses, state["courses"], strict=True):
            course.load_state_dict(saved)
        self._stale = [set(each) for each in state["stale"]]
        self.done = state["done"].cpu().numpy().copy()
        self._step = int(state["step"])
        self.film = None if state.get("film") is None else Film.from_state_dict(state["film"])
