"""FARMapPlus: the choices of the best global explorer, with a fragment's memory.

FARMap keeps little in its active memory and pays for it with coverage: it knows nothing of what other fragments hold,
samples its subgoals, and hardly ever leaves a fragment for another. FARMapPlus keeps the mechanism - one controller,
local maps, a long-term memory with a graph - and changes what is decided with it:

- goals are next best views, in the current fragment and in all stored ones alike: what a goal would show, over the
  steps to it;
- a fragment that is left is surveyed once: its best goals, and the steps between them and its portals
  (`farl.maps.roadmap`), so that the way to a goal in any fragment can be weighed without its map;
- the long-term memory has an index of the places it knows (`farl.maps.known_cells`), a bit per cell, so that nothing is
  explored again from another side;
- a fragment ends when its map gets too large, and before that where it surprises.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from farl.agents.explorer import Explorers, MapExplorer, follow, step_anywhere
from farl.agents.fragmented import FragmentedPlanners
from farl.fragmentation import Events
from farl.maps.choice import choose_goal
from farl.maps.compiled import compiled
from farl.maps.geometry import Int32Array, IntArray
from farl.maps.known_cells import KnownCells
from farl.maps.local_map import LocalMap
from farl.maps.portals import PortalRecall, SizeLimit
from farl.maps.roadmap import FAR, Portal, Roadmap
from farl.maps.survey import shared_cell, survey, survey_stored
from farl.maps.views import cone_widths

__all__ = ["FARMapPlus"]

_MARGIN = 2  # unknown cells around a stored map when it is looked through


class PlusPlanners(FragmentedPlanners):
    """FARMapPlus' explorers; see `FARMapPlus` for the parameters."""

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
        self.limit = SizeLimit(largest, smallest, rho)
        self.portals = PortalRecall(n_envs)
        super().__init__(n_envs, view_size, seed, self.limit, lambda _: self.portals, gamma, "before", capacity)
        self.index = KnownCells(n_envs)
        self.roadmaps = [Roadmap() for _ in range(n_envs)]
        self._reluctance = float(reluctance)
        self._stored: list[dict[int, LocalMap]] = [{} for _ in range(n_envs)]
        self._widths = cone_widths(view_size)
        self._gates: IntArray = np.zeros((n_envs, 4, 3), np.int64)
        self._goals: IntArray = np.zeros((n_envs, 4, 4), np.int64)
        self._steps: Int32Array = np.zeros((n_envs, 4, 4), np.int32)
        self._counts: IntArray = np.zeros((n_envs, 2), np.int64)  # gates and goals of each
        self._stale: npt.NDArray[np.bool_] = np.zeros(n_envs, bool)
        self._done: npt.NDArray[np.bool_] = np.zeros(n_envs, bool)
        self.memory.on_evict.append(self._evicted)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the stored maps and of the index of places, all explorers together."""
        return super().memory_bytes + self.index.bits.nbytes

    def act(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> IntArray:
        """Take in what is seen, choose anew where there is something new, and return the next steps, int64[E]."""
        events = self.remember(codes, odometry, starts)
        if self._stale.any():
            self._entered(np.flatnonzero(self._stale))
        news = (self.index.n_new > 0) | starts
        self._done &= ~news
        self.progress[news | events.fragmented | events.recalled, 1] = 0
        actions = self._choose(np.arange(self.n_envs), False)
        lost = np.flatnonzero(actions < 0)
        if len(lost):
            for env in lost:
                self._review(int(env))
            actions[lost] = self._choose(lost, True)
        return actions

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next."""
        return super().state_dict() | {
            "index": self.index.state_dict(),
            "roadmaps": [roadmap.state_dict() for roadmap in self.roadmaps],
            "done": torch.from_numpy(self._done.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self.index.load_state_dict(state["index"])
        for roadmap, saved in zip(self.roadmaps, state["roadmaps"], strict=True):
            roadmap.load_state_dict(saved)
        self._stored = [{} for _ in range(self.n_envs)]
        for fragment_id in self.memory.ids:
            stored = self.memory[fragment_id]
            if "env" in stored:
                self._stored[stored["env"]][fragment_id] = stored
        trip = self.portals.trip.copy()
        self._entered(np.arange(self.n_envs))
        self.portals.trip = trip
        self._done = state["done"].numpy().copy()

    def _choose(self, envs: IntArray, last_call: bool) -> IntArray:
        maps = self.maps
        return np.asarray(
            _act(
                envs,
                maps.label,
                maps.box,
                maps.pose,
                maps.origin,
                self.index.bits,
                self.index.centre,
                self.plan,
                self.progress,
                self.random,
                self._gates,
                self._goals,
                self._steps,
                self._counts,
                self.portals.trip,
                self._done,
                last_call,
                self._reluctance,
                self._widths,
                self.scratch,
            )
        )

    def _observe(self, codes: Int32Array, odometry: Int32Array) -> None:
        before = self.maps.area
        super()._observe(self.index.sift(codes, odometry, self.maps), odometry)
        self.portals.odometry = odometry
        self.limit.areas = np.where(self.maps.area > before, self.maps.area, 0)
        self.limit.active = self.controller.active.copy()

    def _arrive(self, codes: Int32Array, odometry: Int32Array, events: Events) -> None:
        # A map that is recalled takes in nothing at the portal: it is known there.
        self.maps.observe(codes, odometry, np.flatnonzero(events.fragmented))

    def _leave(self, env: int, fragment_id: int, to: int) -> None:
        super()._leave(env, fragment_id, to)
        stored, roadmap = self.memory[fragment_id], self.roadmaps[env]
        self._stored[env][fragment_id] = stored
        if to not in self._stored[env]:
            row, col = (int(value) for value in self.portals.odometry[env, :2])
            roadmap.add(Portal(fragment_id, to, row, col))
        self._join(env, fragment_id)
        self._survey(env, fragment_id, self.maps.label[env], self.maps.box[env], self.maps.origin[env])

    def _join(self, env: int, fragment_id: int) -> None:
        """Add portals between a fragment that was just stored and those that it has come to overlap."""
        roadmap, stored = self.roadmaps[env], self._stored[env][fragment_id]
        for other, known in self._stored[env].items():
            if other == fragment_id or not _overlap(stored, known) or roadmap.joined(fragment_id, other):
                continue
            row, col = shared_cell(
                stored["label"].numpy(), np.array(stored["corner"]), known["label"].numpy(), np.array(known["corner"])
            )
            if row == FAR:
                continue
            number = roadmap.add(Portal(fragment_id, other, row, col))
            self.memory.connect(fragment_id, other, {"kind": "overlap", "row": row, "col": col})
            label, corner = _padded(known)
            goals = roadmap.goals(other).copy()
            goals[:, :2] -= corner
            roadmap.survey_portal(
                other,
                number,
                *survey_stored(
                    label, row - corner[0], col - corner[1], roadmap.cells(other) - corner, goals, self.scratch
                ),
            )

    def _survey(self, env: int, fragment_id: int, label: Int32Array, box: IntArray, origin: IntArray) -> None:
        """Measure a fragment whose map lies on a canvas, with the odometry's zero at ``origin``."""
        roadmap = self.roadmaps[env]
        down, across = (int(self.index.centre - origin[axis]) for axis in (0, 1))
        between, goals, to_goals = survey(
            label,
            box,
            self.index.bits[env],
            down,
            across,
            roadmap.cells(fragment_id) + origin,
            self._widths,
            self.scratch,
        )
        goals[:, :2] -= origin
        roadmap.survey(fragment_id, between, goals, to_goals)

    def _review(self, env: int) -> None:
        """Nothing is left to see by what is remembered of the fragments: look through their maps once more."""
        for fragment_id, stored in self._stored[env].items():
            if fragment_id != self.controller.active[env] and stored["label"].numel():
                label, corner = _padded(stored)
                box = np.array([_MARGIN, label.shape[0] - 1 - _MARGIN, _MARGIN, label.shape[1] - 1 - _MARGIN])
                self._survey(env, fragment_id, label, box, -corner)
        self._entered(np.array([env]))

    def _entered(self, envs: IntArray) -> None:
        for env in envs:
            active = int(self.controller.active[env])
            roadmap = self.roadmaps[env]
            roadmap.enter(active)
            routes = roadmap.routes(active)
            n_gates, n_goals = routes.steps.shape
            self._make_room(n_gates, n_goals)
            self._gates[env, :n_gates] = routes.portals
            self._goals[env, :n_goals] = routes.goals
            self._steps[env, :n_gates, :n_goals] = routes.steps
            self._counts[env] = n_gates, n_goals
            self.portals.trip[env] = -1
            self._stale[env] = False

    def _make_room(self, n_gates: int, n_goals: int) -> None:
        more_gates = max(0, 2 * n_gates - self._gates.shape[1]) if n_gates > self._gates.shape[1] else 0
        more_goals = max(0, 2 * n_goals - self._goals.shape[1]) if n_goals > self._goals.shape[1] else 0
        if more_gates or more_goals:
            self._gates = np.pad(self._gates, ((0, 0), (0, more_gates), (0, 0)))
            self._goals = np.pad(self._goals, ((0, 0), (0, more_goals), (0, 0)))
            self._steps = np.pad(self._steps, ((0, 0), (0, more_gates), (0, more_goals)))

    def _begin(self, envs: IntArray) -> None:
        for env in envs:
            self._stored[env] = {}
            self.roadmaps[env] = Roadmap()
        self.index.clear(envs)
        self._done[envs] = False
        super()._begin(envs)

    def _evicted(self, fragment_id: int) -> None:
        """What an evicted fragment alone knew is unknown again."""
        for env, fragments in enumerate(self._stored):
            gone = fragments.pop(fragment_id, None)
            if gone is None:
                continue
            self.roadmaps[env].forget(fragment_id)
            self.index.forget(env, gone)
            for known in [*fragments.values(), self.maps.copy_out(env)]:
                if known["label"].numel() and _overlap(gone, known):
                    self.index.note(env, known)
            if self.portals.trip[env, 0] == fragment_id:
                self.portals.trip[env] = -1
            self._stale[env] = True


class FARMapPlus(MapExplorer):
    """Explores as the best global explorer does, with the active memory of a fragment.

    :param largest: cells of the bounding box above which a fragment ends
    :param smallest: cells of the bounding box above which a surprising view ends a fragment
    :param rho: how surprising, in sample standard deviations of the surprisal since the last fracture
    :param gamma: decay of the map's confidence per step
    :param reluctance: steps added to every way when goals are compared: the larger, the farther it goes for a better
        view
    :param capacity: most fragments held for each world, None for no limit; what is dropped is unknown again
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


def _padded(stored: LocalMap) -> tuple[Int32Array, IntArray]:
    """A stored map with a margin of unknown cells, and the corner of that by the odometry, int64[2]."""
    return np.pad(stored["label"].numpy(), _MARGIN), np.array(stored["corner"], np.int64) - _MARGIN


@compiled
def _act(
    envs: Any,
    label: Any,
    box: Any,
    pose: Any,
    origin: Any,
    bits: Any,
    centre: int,
    plan: Any,
    progress: Any,
    random: Any,
    gates: Any,
    goals: Any,
    steps: Any,
    counts: Any,
    trip: Any,
    done: Any,
    last_call: bool,
    reluctance: float,
    widths: Any,
    scratch: Any,
) -> Any:
    actions = np.empty(len(envs), np.int64)
    for i in range(len(envs)):
        e = envs[i]
        if done[e]:
            actions[i] = step_anywhere(label, pose, random, e)
            continue
        action = follow(label, pose, plan, progress, e)
        if action < 0 and trip[e, 0] >= 0 and progress[e, 1] > 0:
            # At the portal: the next observation recalls what lies behind it.
            action = step_anywhere(label, pose, random, e)
        if action < 0:
            found = choose_goal(
                label,
                box,
                pose,
                origin,
                bits,
                centre,
                plan,
                progress,
                gates,
                goals,
                steps,
                counts,
                trip,
                e,
                reluctance,
                widths,
                scratch,
            )
            action = follow(label, pose, plan, progress, e)
            if action < 0 and (found or last_call):
                done[e] = not found
                action = step_anywhere(label, pose, random, e)
        actions[i] = action
    return actions
