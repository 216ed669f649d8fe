"""Explorers with one map of the whole world: FARMap's baselines, and the best that a global map can do."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from farl.agents.explorer import Explorers, MapExplorer, Planners, follow, step_anywhere
from farl.maps.compiled import compiled
from farl.maps.frontiers import find_clusters, plan_to_frontier
from farl.maps.geometry import Int32Array, IntArray, next_random
from farl.maps.views import cone_widths, plan_to_best_view, plan_to_nearest

__all__ = ["FrontierExplorer", "RandomExplorer"]

Goal = Literal["frontier", "frontier-heading", "nearest", "infogain"]
_GOALS: dict[str, int] = {"frontier": 0, "frontier-heading": 1, "nearest": 2, "infogain": 3}


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

    :param goal: how the next goal is chosen, see `FrontierExplorer`
    :param min_cluster: frontier clusters below this size count only if there are no larger ones
    :param reluctance: steps added to every path by ``infogain``
    """

    def __init__(self, n_envs: int, view_size: int, seed: int, goal: str, min_cluster: int, reluctance: float) -> None:
        super().__init__(n_envs, view_size, seed)
        self._goal, self._min_cluster, self._reluctance = _GOALS[goal], min_cluster, float(reluctance)
        self.done: npt.NDArray[np.bool_] = np.zeros(n_envs, bool)
        """bool[E], there was no goal left when last looked for, and nothing new was seen since."""
        self._widths = cone_widths(view_size)
        self._counts = (self._counter(), self._counter())

    def act(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> IntArray:
        """Take in what is seen, plan where there is no plan, and return the next steps, int64[E]."""
        if starts.any():
            self.maps.clear(np.flatnonzero(starts))
            self.progress[starts] = 0
            self.done[starts] = False
        self.maps.observe(codes, odometry)
        if self._counts[0].shape[0] != self.maps.side + 1:
            self._counts = (self._counter(), self._counter())
        maps = self.maps
        return np.asarray(
            _act(
                self._goal,
                self._min_cluster,
                self._reluctance,
                maps.label,
                maps.box,
                maps.pose,
                maps.n_new,
                self.done,
                self.plan,
                self.progress,
                self.random,
                self._widths,
                self._counts,
                self.scratch,
            )
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next."""
        return super().state_dict() | {"done": torch.from_numpy(self.done.copy())}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self.done = state["done"].numpy().copy()

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
    :raises ValueError: if a parameter is out of range
    """

    def __init__(
        self,
        policy: Any = "MapPolicy",
        env: Any = None,
        goal: Goal = "frontier-heading",
        min_cluster: int = 3,
        reluctance: float = 15.0,
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
        self.goal, self.min_cluster, self.reluctance = goal, min_cluster, reluctance
        super().__init__(policy, env, stats_window_size, tensorboard_log, verbose, seed, device, _init_setup_model)

    def _make_explorers(self, n_envs: int, seed: int) -> Explorers:
        return OneMapPlanners(n_envs, self.view_size, seed, self.goal, self.min_cluster, self.reluctance)


@compiled
def _walk(random: Any) -> Any:
    from_stream = np.empty(len(random), np.int64)
    for e in range(len(random)):
        from_stream[e] = int(4 * next_random(random, e))
    return from_stream


@compiled
def _act(
    goal: int,
    least: int,
    reluctance: float,
    label: Any,
    box: Any,
    pose: Any,
    n_new: Any,
    done: Any,
    plan: Any,
    progress: Any,
    random: Any,
    widths: Any,
    counts: Any,
    scratch: Any,
) -> Any:
    actions = np.empty(len(pose), np.int64)
    for e in range(len(pose)):
        if n_new[e] > 0:
            done[e] = False
            if goal >= 2:
                progress[e, 1] = 0
        action = follow(label, pose, plan, progress, e)
        if action < 0 and goal >= 2 and done[e]:
            action = step_anywhere(label, pose, random, e)
        if action < 0:
            length = 0
            if goal == 2:
                length = plan_to_nearest(label[e], pose[e], scratch, plan[e])
            elif goal == 3:
                length = plan_to_best_view(label[e], pose[e], box[e], widths, reluctance, counts, scratch, plan[e])
            if length == 0:
                clusters = find_clusters(label[e], box[e], scratch)
                length = plan_to_frontier(
                    label[e], pose[e], clusters, goal != 0, goal == 1, least, random, e, scratch, plan[e]
                )
            done[e] = length == 0
            progress[e, 0], progress[e, 1] = 0, length
            action = follow(label, pose, plan, progress, e)
            if action < 0:
                action = step_anywhere(label, pose, random, e)
        actions[e] = action
    return actions
