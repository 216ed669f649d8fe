"""FARMap: local maps that are closed where the prediction fails, and taken up again where their border is crossed.

Source: Hwang, Hong, Chen, Boopathy, Agrawal, Fiete, "Grid Cell-Inspired Fragmentation and Recall for Efficient Map
Building", TMLR 2024.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch

from farl.agents.explorer import Explorers, MapExplorer
from farl.agents.fragmented import FragmentedPlanners
from farl.agents.planners import PATIENCE, Course, follow, step_anywhere
from farl.errors import did_you_mean
from farl.fragmentation import Criterion, NoRecall, Random, Ratio, Recall, Sight, Uniform, ZScore
from farl.maps.borders import BorderRecall
from farl.maps.compiled import compiled
from farl.maps.frontiers import FrontierRule, count_frontier, find_clusters, plan_to_frontier
from farl.maps.geometry import Int32Array, IntArray
from farl.maps.known_cells import KnownCells
from farl.maps.local_map import LocalMap, MapState, Surprisal
from farl.maps.planner import plan_to_state
from farl.memory import LongTermMemory

__all__ = ["FARMap"]

CriterionName = Literal["zscore", "ratio", "random", "uniform", "none"]


class Rule(NamedTuple):
    """How the next subgoal is chosen, for the kernels; see ``FARMap``."""

    epsilon: float
    leave_below: float
    frontiers: FrontierRule


class Borders(NamedTuple):
    """The borders of E current fragments, for the kernels; see ``BorderRecall``.

    :ivar table: int64[E, B, 6], as ``Border``
    :ivar n_borders: int64[E]
    :ivar trip: int64[E], the fragment that an agent is on its way to, -1 for none
    :ivar worth: float64[E, B], the damped frontier ratio behind each border
    """

    table: IntArray
    n_borders: IntArray
    trip: IntArray
    worth: npt.NDArray[np.float64]


class FarmapPlanners(FragmentedPlanners):
    """FARMap's explorers; see ``FARMap`` for the parameters."""

    def __init__(
        self,
        n_envs: int,
        view_size: int,
        seed: int,
        criterion: Criterion | None,
        gamma: float,
        surprisal: str,
        recall: bool,
        capacity: int | None,
        patience: int | None,
        rule: Rule,
    ) -> None:
        self.borders: BorderRecall

        def make_recall(memory: LongTermMemory[LocalMap]) -> Recall:
            self.borders = BorderRecall(memory, self.maps)
            return self.borders if recall else NoRecall()

        super().__init__(n_envs, view_size, seed, criterion, make_recall, gamma, surprisal, capacity, patience)
        self._recalls, self._rule = recall, rule
        self._index = KnownCells(n_envs)
        self._worth: npt.NDArray[np.float64] = np.zeros((self.n_envs, 8))
        """float64[E, B], the damped frontier ratio behind each border of the active fragments."""
        self._left_last: dict[int, int] = {}
        self._departures = 0

    def act(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> IntArray:
        """Take in what is seen, plan where there is no plan, and return the next steps, int64[E]."""
        self.remember(codes, odometry, starts)
        borders = Borders(self.borders.table, self.borders.count, self.borders.trip, self._worth)
        actions = _act(self._rule, self.maps.state, self.course, borders, self.done, self.impatient, self.scratch)
        return self.look_for_rest(actions)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next."""
        return super().state_dict() | {
            "departures": self._departures,
            "left_last": dict(self._left_last),
            "index": self._index.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned."""
        self._departures, self._left_last = int(state["departures"]), dict(state["left_last"])
        self._index.load_state_dict(state["index"])
        super().load_state_dict(state)
        trip = self.borders.trip.copy()
        self._entered(np.arange(self.n_envs))
        self.borders.trip = trip

    def _see(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> Sight:
        if self.patience is not None:
            self.note_news(self._index.see(codes, odometry) > 0)
        return super()._see(codes, odometry, starts)

    def _begin(self, envs: IntArray) -> None:
        self._index.clear(envs)
        super()._begin(envs)

    def _summary(self, env: int) -> dict[str, Any]:
        n_frontier = count_frontier(self.maps.label[env], self.maps.box[env])
        return {"frontier_ratio": n_frontier / max(int(self.maps.n_free[env]), 1)}

    def _leave(self, env: int, fragment_id: int, to: int) -> None:
        super()._leave(env, fragment_id, to)
        self._departures += 1
        self._left_last[fragment_id] = self._departures

    def _entered(self, envs: IntArray) -> None:
        if not self._recalls:
            return
        self.borders.enter(envs, self.router.active)
        self._left_last = {key: when for key, when in self._left_last.items() if key in self.memory}
        room = self.borders.table.shape[1]
        if room > self._worth.shape[1]:
            self._worth = np.pad(self._worth, ((0, 0), (0, room - self._worth.shape[1])))
        for env in envs:
            targets = self.borders.table[env, : self.borders.count[env], 0]
            latest = sorted(set(targets.tolist()), key=lambda target: -self._left_last.get(target, 0))
            # FARMap, section 3.3: fragments used lately are worth a little less.
            damping = {target: min(0.95 + 0.01 * rank, 1.0) for rank, target in enumerate(latest)}
            self._worth[env, : len(targets)] = [
                damping[target] * self.memory[target].get("frontier_ratio", 0.0) for target in targets.tolist()
            ]


class FARMap(MapExplorer):
    """Builds a map of an unknown world in fragments.

    The defaults are the paper's. Every environment has its own map, fragments and graph; all are stepped at once.

    :param criterion: ends a fragment: ``zscore`` of the surprisal (the paper), ``ratio`` to its mean,
        at ``random``, ``uniform`` (every so many steps), or ``none``: never
    :param rho: threshold of ``zscore`` (sample standard deviations) or ``ratio`` (multiples of the mean)
    :param min_samples: observations since the last fracture before the next can come (``zscore``, ``ratio``)
    :param probability: chance of a fracture under ``random``, per step
    :param every: steps between fractures of ``uniform``
    :param gamma: decay of the map's confidence per step
    :param surprisal: taken ``before`` the observation enters the map, as the paper says, or ``after``, as its public
        code does; ``new-cells`` takes instead the share of what is seen that the map did not know, which covers more
        at equal memory, with a ``rho`` of about 3
    :param recall: take stored maps up again; without it, every fracture opens a map that is never left but by the next
    :param epsilon: steps; the larger, the less the distance to another fragment counts
    :param leave_below: frontier cells / known free cells of the current map below which other fragments are looked at
    :param min_cluster: frontier clusters below this size count only if there are no larger ones
    :param size_weight: weigh subgoals by the size of their cluster
    :param heading_bias: hardly ever turn back for a subgoal
    :param capacity: most fragments held for each world, None for no limit
    :param patience: steps without anything new, in all fragments together, after which it goes to the nearest place
        that could show something, and so ends every connected world; None never does (the paper)
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        policy: Any = "MapPolicy",
        env: Any = None,
        criterion: CriterionName = "zscore",
        rho: float = 2.0,
        min_samples: int = 26,
        probability: float = 0.005,
        every: int = 200,
        gamma: float = 0.9,
        surprisal: Surprisal = "before",
        recall: bool = True,
        epsilon: float = 5.0,
        leave_below: float = 0.05,
        min_cluster: int = 3,
        size_weight: bool = True,
        heading_bias: bool = True,
        capacity: int | None = None,
        patience: int | None = PATIENCE,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        known = get_args(CriterionName)
        if criterion not in known:
            raise ValueError(
                f"criterion must be one of {', '.join(known)}; got {criterion!r}{did_you_mean(criterion, known)}"
            )
        if epsilon <= 0 or leave_below < 0 or min_cluster < 1:
            raise ValueError(
                "epsilon must be above 0, leave_below at least 0 and min_cluster at least 1; "
                f"got {epsilon}, {leave_below} and {min_cluster}"
            )
        if capacity is not None and capacity < 2:
            raise ValueError(f"capacity must be at least 2, the current fragment and another; got {capacity}")
        self.criterion, self.rho, self.min_samples = criterion, rho, min_samples
        self.probability, self.every = probability, every
        self.gamma, self.surprisal, self.recall, self.epsilon = gamma, surprisal, recall, epsilon
        self.leave_below, self.min_cluster = leave_below, min_cluster
        self.size_weight, self.heading_bias, self.capacity = size_weight, heading_bias, capacity
        self.patience = patience
        super().__init__(policy, env, stats_window_size, tensorboard_log, verbose, seed, device, _init_setup_model)

    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        return FarmapPlanners(
            n_envs,
            self.view_size,
            seed,
            make_criterion(self.criterion, self.rho, self.min_samples, self.probability, self.every, seed),
            self.gamma,
            self.surprisal,
            self.recall,
            self.capacity,
            self.patience,
            self.rule,
        )

    @property
    def rule(self) -> Rule:
        """The settings of its choice of subgoals, for the kernels."""
        frontiers = FrontierRule(bool(self.size_weight), bool(self.heading_bias), int(self.min_cluster))
        return Rule(float(self.epsilon), float(self.leave_below), frontiers)


def make_criterion(
    name: str, rho: float, min_samples: int, probability: float, every: int, seed: int
) -> Criterion | None:
    """Make the criterion of a name; None for ``none``."""
    if name == "zscore":
        return ZScore(rho, min_samples, alpha=None)
    if name == "ratio":
        return Ratio(rho, min_samples, alpha=None)
    if name == "random":
        return Random(probability, seed=seed)
    return Uniform(every) if name == "uniform" else None


@compiled
def _act(rule: Rule, maps: MapState, course: Course, borders: Borders, done: Any, impatient: Any, scratch: Any) -> Any:
    """The next steps, int64[E]; -1 where there is no subgoal, or no patience for another one by this rule."""
    label, pose, origin = maps.label, maps.pose, maps.origin
    plan, progress, table = course.plan, course.progress, borders.table
    actions = np.empty(len(pose), np.int64)
    for e in range(len(pose)):
        action = follow(label, pose, plan, progress, e)
        if action < 0:
            borders.trip[e] = -1
        if action < 0 and not impatient[e]:
            clusters = find_clusters(label[e], maps.box[e], scratch)
            ratio = clusters[:, 0].sum() / max(maps.n_free[e], 1)
            chosen, best = -1, ratio / rule.epsilon
            if ratio < rule.leave_below:
                for k in range(borders.n_borders[e]):
                    row, col = table[e, k, 1] + origin[e, 0], table[e, k, 2] + origin[e, 1]
                    away = abs(row - pose[e, 0]) + abs(col - pose[e, 1])
                    value = borders.worth[e, k] / (away + rule.epsilon)
                    if value > best:
                        chosen, best = k, value
            length = 0
            if chosen >= 0:
                _, to_row, to_col, heading, _, _ = table[e, chosen]
                row, col = to_row + origin[e, 0], to_col + origin[e, 1]
                length = max(plan_to_state(label[e], pose[e], row, col, heading, scratch, plan[e]), 0)
                if length > 0:
                    borders.trip[e] = table[e, chosen, 0]
            if length == 0:
                length = plan_to_frontier(
                    label[e], pose[e], clusters, rule.frontiers, course.random, e, scratch, plan[e]
                )
            progress[e, 0], progress[e, 1] = 0, length
            action = follow(label, pose, plan, progress, e)
            if action < 0 and (length > 0 or done[e]):
                action = step_anywhere(label, pose, course.random, e)
        actions[e] = action
    return actions
