"""FARMapPlus: the choices of the best global explorer, with a fragment's memory.

FARMap keeps little in its active memory and pays for it with coverage: it knows nothing of what other fragments hold,
samples its subgoals, and hardly ever leaves a fragment for another. FARMapPlus keeps the mechanism - one router,
local maps, a long-term memory with a graph - and changes what is decided with it:

- goals are next best views, in the current fragment and in all stored ones alike: what a goal would show, over the
  steps to it;
- a fragment that is left is measured once: its best goals, and the steps between them and its landmarks
  (``farl.maps.roadmap``), so that the way to a goal in any fragment can be weighed without its map;
- the long-term memory has an index of the places it knows (``farl.maps.known_cells``), a bit per cell, so that nothing
  is explored again from another side;
- a fragment ends when its map gets too large, and before that where it surprises.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from farl.agents.explorer import Explorers, MapExplorer
from farl.agents.fragmented import FragmentedPlanners
from farl.agents.planners import Course, follow, step_anywhere
from farl.fragmentation import Events, Sight
from farl.maps.choice import Memory, Rule, choose_goal
from farl.maps.compiled import compiled
from farl.maps.crossings import CrossingRecall, SizeLimit
from farl.maps.geometry import FREE, UNKNOWN, Int32Array, IntArray
from farl.maps.known_cells import KnownCells
from farl.maps.local_map import LocalMap, MapState
from farl.maps.measuring import Canvas, Outlook, measure
from farl.maps.roadmap import Roadmaps
from farl.maps.unseen import joined
from farl.maps.views import cone_widths

__all__ = ["FARMapPlus"]

_MARGIN = 2  # unknown cells around a stored map when it is looked through
_NOT_SOUGHT = -1  # stands for a colour in what is planned on


class PlusPlanners(FragmentedPlanners):
    """FARMapPlus' explorers; see ``FARMapPlus`` for the parameters."""

    def __init__(
        self,
        n_envs: int,
        view_size: int,
        seed: int,
        largest: int,
        smallest: int,
        rho: float,
        gamma: float,
        reluctance: float,
        capacity: int | None,
    ) -> None:
        self.crossings = CrossingRecall(n_envs)
        limit = SizeLimit(largest, smallest, rho)
        super().__init__(n_envs, view_size, seed, limit, lambda _: self.crossings, gamma, "before", capacity)
        self.index = KnownCells(n_envs)
        self.roadmaps = Roadmaps(n_envs)
        self._rule = Rule(float(reluctance), cone_widths(view_size))
        self._stored: list[dict[int, LocalMap]] = [{} for _ in range(n_envs)]
        # The current maps' bounding boxes by the odometry, as of when something new was last seen.
        self._extent: IntArray = np.tile(np.array([0, -1, 0, -1], np.int64), (n_envs, 1))
        self._reviewed: npt.NDArray[np.bool_] = np.zeros(n_envs, bool)
        self.memory.on_evict.append(self._evicted)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the stored maps, the index of places and the roadmaps, all explorers together."""
        return super().memory_bytes + self.index.nbytes + self.roadmaps.nbytes

    def act(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> IntArray:
        """Take in what is seen, choose anew where there is something new, and return the next steps, int64[E]."""
        events = self.remember(codes, odometry, starts)
        news = (self.index.n_new > 0) | starts
        self.note_news(news)
        self._reviewed &= ~news
        changed = events.fragmented | events.recalled
        self.progress[news | changed, 1] = 0
        for env in np.flatnonzero(changed & (self.index.level > 0)):
            self._seek(int(env), 0)  # what was never seen, or forgotten less often, goes first
        actions = self._choose(np.arange(self.n_envs))
        lost = np.flatnonzero((actions < 0) & ~self._reviewed)
        if len(lost):
            for env in lost:
                self._review(int(env))
            actions[lost] = self._choose(lost)
        for env in np.flatnonzero(actions < 0):
            actions[env] = self._plan_to_unseen(int(env))
            while actions[env] < 0 and (level := self._next_level(int(env))) > 0:
                self._seek(int(env), level)
                self._review(int(env))
                actions[env] = self._choose(np.array([env]))[0]
                if actions[env] < 0:
                    actions[env] = self._plan_to_unseen(int(env))
        return self.look_for_rest(actions)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next."""
        return super().state_dict() | {
            "index": self.index.state_dict(),
            "roadmaps": self.roadmaps.state_dict(),
            "extent": torch.from_numpy(self._extent.copy()),
            "reviewed": torch.from_numpy(self._reviewed.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self.index.load_state_dict(state["index"])
        self.roadmaps.load_state_dict(state["roadmaps"])
        self._stored = [{} for _ in range(self.n_envs)]
        for fragment_id in self.memory.ids:
            stored = self.memory[fragment_id]
            if "env" in stored:
                self._stored[stored["env"]][fragment_id] = stored
        self._extent = state["extent"].numpy().copy()
        self._reviewed = state["reviewed"].numpy().copy()

    def _choose(self, envs: IntArray) -> IntArray:
        memory = Memory(self.index.bits, self.index.centre, self.roadmaps.state, self.router.active)
        actions = _act(
            envs, self.maps.state, self.course, memory, self._rule, self.crossings.trip, self.done, self.impatient,
            self.scratch,
        )  # fmt: skip
        return np.asarray(actions)

    def _see(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> Sight:
        sight = super()._see(self.index.sift(codes, odometry, self._extent), odometry, starts)
        self._measure_extent(np.flatnonzero(self.index.n_new))
        return sight._replace(extent=np.where(self.index.n_new > 0, self.maps.area, 0))

    def _measure_extent(self, envs: IntArray) -> None:
        self._extent[envs] = self.maps.box[envs] - self.maps.origin[envs][:, [0, 0, 1, 1]]

    def _entered(self, envs: IntArray) -> None:
        self._measure_extent(envs)

    def _arrive(self, codes: Int32Array, odometry: Int32Array, events: Events) -> None:
        # A map that is recalled takes in nothing at the crossing: it is known there.
        self.maps.observe(codes, odometry, np.flatnonzero(events.fragmented))

    def _leave(self, env: int, fragment_id: int, to: int) -> None:
        super()._leave(env, fragment_id, to)
        self._stored[env][fragment_id] = self.memory[fragment_id]
        if to not in self._stored[env]:
            self.roadmaps.mark(env, *(int(value) for value in self.maps.pose[env, :2] - self.maps.origin[env]))
        self._measure(env, fragment_id, self.maps.label[env], self.maps.box[env], self.maps.origin[env])

    def _measure(self, env: int, fragment_id: int, label: Int32Array, box: IntArray, origin: IntArray) -> None:
        """Measure a fragment whose map lies on a canvas, with the odometry's zero at ``origin``."""
        down, across = (int(self.index.centre - origin[axis]) for axis in (0, 1))
        landmarks = self.roadmaps.landmarks(env) + origin
        outlook = Outlook(self.index.bits[env], self._rule.widths)
        cells, goals, ways = measure(Canvas(label, box, down, across), outlook, landmarks, self.scratch)
        cells -= origin
        goals[:, :2] -= origin
        self.roadmaps.join(env, fragment_id, cells, self.roadmaps.find(env, cells), goals, ways)

    def _measure_stored(self, env: int, fragment_id: int) -> None:
        label = np.pad(self._stored[env][fragment_id]["label"].numpy(), _MARGIN)
        corner = np.array(self._stored[env][fragment_id]["corner"], np.int64) - _MARGIN
        box = np.array([_MARGIN, label.shape[0] - 1 - _MARGIN, _MARGIN, label.shape[1] - 1 - _MARGIN])
        self._measure(env, fragment_id, label, box, -corner)

    def _review(self, env: int) -> None:
        """Nothing is left to see by what is remembered of the fragments: look through their maps once more."""
        self._reviewed[env] = True
        for fragment_id in self._stored[env]:
            if fragment_id != self.router.active[env]:
                self._measure_stored(env, fragment_id)

    def _next_level(self, env: int) -> int:
        """How often the cells beside what is known were forgotten, the least of those not sought yet; 0 if none is."""
        if self.memory.capacity is None:
            return 0
        whole, corner = joined(self.known_maps(env).values())
        beside = ndimage.binary_dilation(whole == FREE) & (whole == UNKNOWN)
        counts = self.index.times_forgotten(env, whole.shape, corner)[beside]
        return int(min(counts[counts > self.index.level[env]], default=0))

    def _all_known(self, env: int) -> tuple[Int32Array, IntArray]:
        whole, corner = super()._all_known(env)
        if self.memory.capacity is not None:  # what is not sought for now is no more unknown than a wall
            counts = self.index.times_forgotten(env, whole.shape, corner)
            whole[(whole == UNKNOWN) & (counts > self.index.level[env])] = _NOT_SOUGHT
        return whole, corner

    def _seek(self, env: int, level: int) -> None:
        self.index.seek(env, level, self.known_maps(env).values())
        self.idle[env], self._reviewed[env] = 0, False

    def _begin(self, envs: IntArray) -> None:
        for env in envs:
            self._stored[env] = {}
        self.roadmaps.clear(envs)
        self.crossings.trip[envs] = -1
        self.index.clear(envs)
        super()._begin(envs)

    def _evicted(self, fragment_id: int) -> None:
        """What an evicted fragment alone knew is unknown again."""
        for env, fragments in enumerate(self._stored):
            gone = fragments.pop(fragment_id, None)
            if gone is None:
                continue
            self.roadmaps.forget(env, fragment_id)
            known = [*fragments.values(), self.maps.copy_out(env)]
            self.index.forget(env, gone, [one for one in known if one["label"].numel() and _overlap(gone, one)])
            for other in [other for other, known in fragments.items() if _overlap(gone, known)]:
                self._measure_stored(env, other)  # ways that both knew
            if self.crossings.trip[env, 0] == fragment_id:
                self.crossings.trip[env] = -1


class FARMapPlus(MapExplorer):
    """Explores as the best global explorer does, with the active memory of a fragment.

    :param largest: cells of the bounding box above which a fragment ends
    :param smallest: cells of the bounding box above which a surprising view ends a fragment
    :param rho: how surprising, in sample standard deviations of the surprisal since the last fracture
    :param gamma: decay of the map's confidence per step
    :param reluctance: steps added to every way when goals are compared: the larger, the farther it goes for a better
        view
    :param capacity: most fragments held for each world, None for no limit. What is dropped is sought again when
        nothing else is left, what was dropped least often first
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        policy: Any = "MapPolicy",
        env: Any = None,
        largest: int = 1_000,
        smallest: int = 500,
        rho: float = 2.0,
        gamma: float = 0.9,
        reluctance: float = 15.0,
        capacity: int | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        if reluctance < 0:
            raise ValueError(f"reluctance must be at least 0; got {reluctance}")
        if capacity is not None and capacity < 2:
            raise ValueError(f"capacity must be at least 2, the current fragment and another; got {capacity}")
        self.largest, self.smallest, self.rho, self.gamma = largest, smallest, rho, gamma
        self.reluctance, self.capacity = reluctance, capacity
        super().__init__(policy, env, stats_window_size, tensorboard_log, verbose, seed, device, _init_setup_model)

    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        return PlusPlanners(
            n_envs,
            self.view_size,
            seed,
            self.largest,
            self.smallest,
            self.rho,
            self.gamma,
            self.reluctance,
            self.capacity,
        )


def _overlap(a: LocalMap, b: LocalMap) -> bool:
    """Whether the bounding boxes of two stored maps share a cell."""
    return all(
        a["corner"][axis] < b["corner"][axis] + b["label"].shape[axis]
        and b["corner"][axis] < a["corner"][axis] + a["label"].shape[axis]
        for axis in (0, 1)
    )


@compiled
def _act(
    envs: Any, maps: MapState, course: Course, memory: Memory, rule: Rule, trip: Any, done: Any, impatient: Any,
    scratch: Any,
) -> Any:  # fmt: skip
    """The next steps of ``envs``, int64[n]; -1 where there is no goal, or no patience for another one by this rule."""
    plan, progress, pose, origin = course.plan, course.progress, maps.pose, maps.origin
    actions = np.empty(len(envs), np.int64)
    for i in range(len(envs)):
        e = envs[i]
        if done[e]:
            actions[i] = step_anywhere(maps.label, pose, course.random, e)
            continue
        action = follow(maps.label, pose, plan, progress, e)
        if action < 0:
            trip[e, 0] = -1
        if action < 0 and not impatient[e]:
            length, found = choose_goal(e, maps, memory, rule, scratch, plan[e], trip[e])
            progress[e, 0], progress[e, 1] = 0, length
            row, col = pose[e, 0] - origin[e, 0], pose[e, 1] - origin[e, 1]
            if trip[e, 0] >= 0 and row == trip[e, 1] and col == trip[e, 2]:
                action, progress[e, 1] = plan[e, 0], 0  # out of this map
            else:
                action = follow(maps.label, pose, plan, progress, e)
            if action < 0 and found:
                action = step_anywhere(maps.label, pose, course.random, e)
        actions[i] = action
    return actions
