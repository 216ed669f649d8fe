"""Explorers with one map of the whole world: FARMap's baselines, and the best that a global map can do."""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from farl.agents.explorer import Explorers, MapExplorer
from farl.agents.planners import PATIENCE, Course, Planners, follow, step_anywhere
from farl.maps.compiled import compiled
from farl.maps.frontiers import FrontierRule, find_clusters, plan_to_frontier
from farl.maps.geometry import Int32Array, IntArray, next_random
from farl.maps.local_map import MapState
from farl.maps.views import cone_widths, plan_to_best_view, plan_to_nearest

__all__ = ["FrontierExplorer", "RandomExplorer"]

Goal = Literal["frontier", "frontier-heading", "nearest", "infogain"]
_FRONTIER, _HEADING, _NEAREST, _INFOGAIN = range(4)
_GOALS: dict[str, int] = {
    "frontier": _FRONTIER,
    "frontier-heading": _HEADING,
    "nearest": _NEAREST,
    "infogain": _INFOGAIN,
}


class Rule(NamedTuple):
    """How the next goal is chosen, for the kernels; see ``FrontierExplorer``.

    :ivar goal: a value of ``_GOALS``
    :ivar widths: int32[V - 1], of the cone (``cone_widths``)
    """

    goal: int
    frontiers: FrontierRule
    reluctance: float
    widths: Int32Array


class RandomWalkers(Explorers):
    """Explorers that step at random and remember nothing."""

    def act(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> IntArray:
        """Step anywhere."""
        return np.asarray(_walk(self.random))

    @property
    def active_memory(self) -> IntArray:
        """No cells."""
        return np.zeros(self.n_envs, np.int64)


class OneMapPlanners(Planners):
    """Explorers that never fragment.

    :param goal: how the next goal is chosen, see ``FrontierExplorer``
    :param min_cluster: frontier clusters below this size count only if there are no larger ones
    :param reluctance: steps added to every path by ``infogain``
    :param patience: see ``Planners``
    """

    def __init__(
        self,
        n_envs: int,
        view_size: int,
        seed: int,
        goal: str,
        min_cluster: int,
        reluctance: float,
        patience: int | None,
    ) -> None:
        super().__init__(n_envs, view_size, seed, patience=patience)
        self._goal, self._min_cluster, self._reluctance = _GOALS[goal], min_cluster, float(reluctance)
        self._widths = cone_widths(view_size)
        self._counts = (self._counter(), self._counter())

    def act(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> IntArray:
        """Take in what is seen, plan where there is no plan, and return the next steps, int64[E]."""
        if starts.any():
            self.maps.clear(np.flatnonzero(starts))
            self.progress[starts] = 0
        self.note_blocked(odometry, starts)
        self.maps.observe(codes, odometry)
        self.note_news((self.maps.n_new > 0) | starts)
        if self._counts[0].shape[0] != self.maps.side + 1:
            self._counts = (self._counter(), self._counter())
        frontiers = FrontierRule(self._goal != _FRONTIER, self._goal == _HEADING, self._min_cluster)
        rule = Rule(self._goal, frontiers, self._reluctance, self._widths)
        actions = _act(rule, self.maps.state, self.course, self.done, self.impatient, self._counts, self.scratch)
        return self.look_for_rest(actions)

    def _counter(self) -> Int32Array:
        return np.zeros((self.maps.side + 1, self.maps.side + 1), np.int32)


class RandomExplorer(MapExplorer):
    """The random walk."""

    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        return RandomWalkers(n_envs, self.view_size, seed)


class FrontierExplorer(MapExplorer):
    """Goes to the edge of what is known, on one map of everything.

    :param goal: how the next goal is chosen:

        - ``frontier``: a cluster of frontier cells, sampled by 1 / straight distance (the baseline of FARMap's public
          code);
        - ``frontier-heading``: the same, times the cluster's size, and hardly ever one behind the agent: FARMap's own
          rule, and so the fair baseline;
        - ``nearest``: the nearest state, by path length, that looks at an unknown cell;
        - ``infogain``: the state with the most unknown cells in the cone ahead, over path length + ``reluctance``
          (next best view)

        The first two follow a plan to its end; the others plan anew whenever something new is seen.
    :param min_cluster: clusters of fewer frontier cells count only if there are no larger ones
    :param reluctance: steps; the larger, the farther ``infogain`` goes for a better view
    :param patience: steps without anything new after which it goes to the nearest place that could show something, as
        it does when it finds no goal; None never does either (the baselines as published)
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        policy: Any = "MapPolicy",
        env: Any = None,
        goal: Goal = "frontier-heading",
        min_cluster: int = 3,
        reluctance: float = 15.0,
        patience: int | None = PATIENCE,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        if goal not in _GOALS:
            raise ValueError(f"goal must be one of {', '.join(_GOALS)}; got {goal!r}")
        if min_cluster < 1 or reluctance < 0:
            raise ValueError(
                f"min_cluster must be at least 1 and reluctance at least 0; got {min_cluster} and {reluctance}"
            )
        self.goal, self.min_cluster, self.reluctance, self.patience = goal, min_cluster, reluctance, patience
        super().__init__(policy, env, stats_window_size, tensorboard_log, verbose, seed, device, _init_setup_model)

    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        return OneMapPlanners(n_envs, self.view_size, seed, self.goal, self.min_cluster, self.reluctance, self.patience)


@compiled
def _walk(random: Any) -> Any:
    from_stream = np.empty(len(random), np.int64)
    for e in range(len(random)):
        from_stream[e] = int(4 * next_random(random, e))
    return from_stream


@compiled
def _act(rule: Rule, maps: MapState, course: Course, done: Any, impatient: Any, counts: Any, scratch: Any) -> Any:
    """The next steps, int64[E]; -1 where there is no goal, or no patience for another one by this rule."""
    label, pose, box = maps.label, maps.pose, maps.box
    plan, progress = course.plan, course.progress
    actions = np.empty(len(pose), np.int64)
    for e in range(len(pose)):
        if maps.n_new[e] > 0 and rule.goal >= _NEAREST:
            progress[e, 1] = 0
        action = follow(label, pose, plan, progress, e)
        if action < 0 and done[e] and rule.goal >= _NEAREST:
            action = step_anywhere(label, pose, course.random, e)
        if action < 0 and not impatient[e]:
            length = 0
            if rule.goal == _NEAREST:
                length = plan_to_nearest(label[e], pose[e], scratch, plan[e])
            elif rule.goal == _INFOGAIN:
                length = plan_to_best_view(
                    label[e], pose[e], box[e], rule.widths, rule.reluctance, counts, scratch, plan[e]
                )
            if length == 0:
                clusters = find_clusters(label[e], box[e], scratch)
                length = plan_to_frontier(
                    label[e], pose[e], clusters, rule.frontiers, course.random, e, scratch, plan[e]
                )
            progress[e, 0], progress[e, 1] = 0, length
            action = follow(label, pose, plan, progress, e)
            if action < 0 and (length > 0 or done[e]):
                action = step_anywhere(label, pose, course.random, e)
        actions[e] = action
    return actions
