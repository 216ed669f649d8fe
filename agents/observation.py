"""What a learned policy is given to explore with: what it sees, and what the memory of FARMap makes of it.

Both wrappers turn a map world round to the agent: what lies ahead is up, and actions are relative to the heading. They
take any vector environment of map worlds (``farl.envs.map_world``).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from farl.agents.explorer import unpack
from farl.agents.farmap import FARMap
from farl.agents.observation_spaces import egocentric_spaces, farmap_spaces, view_size_of
from farl.agents.planners import Planners
from farl.maps.compiled import compiled
from farl.maps.crop import crop
from farl.maps.geometry import (
    FREE,
    OPPOSITE,
    RIGHT_COLS,
    RIGHT_ROWS,
    STEP_COLS,
    STEP_ROWS,
    UNKNOWN,
    Float32Array,
    Int32Array,
    IntArray,
)
from farl.maps.known_cells import KnownCells

__all__ = ["EgocentricObservation", "FARMapObservation"]

Observations = dict[str, npt.NDArray[Any]]

LOOKAHEAD = 5
"""Steps along the memory's plan to the cell whose direction a policy is told."""
FAR_AWAY = 20.0
"""Steps to a subgoal at which the distance that a policy is told is one half."""
TURNS: IntArray = np.array([[h, OPPOSITE[h], (2, 3, 1, 0)[h], (3, 2, 0, 1)[h]] for h in range(4)], np.int64)
"""int64[4, 4], the step that each heading and relative action makes: ahead, back, left, right."""


class EgocentricObservation(VecEnvWrapper):
    """The view, as numbers that any policy can read, and actions relative to the heading; no memory.

    ## Observation Space
    ``Dict`` of ``view``: float32[2, V, V] in {0, 1}, the free cells and the walls that are seen now, the agent in the
    middle of the bottom row, looking up.

    ## Action Space
    ``Discrete(4)``: step ahead, back, left or right.

    ## Rewards
    The environment's, or ``coverage_reward`` for each cell that is seen for the first time in the episode.

    :param venv: map worlds
    :param coverage_reward: per cell, in place of the environment's reward; None keeps that
    :raises ConfigError: if the environment is not a map world
    """

    def __init__(self, venv: VecEnv, coverage_reward: float | None = None) -> None:
        super().__init__(venv, *egocentric_spaces(venv.observation_space))
        self.view_size = view_size_of(venv.observation_space, type(self).__name__)
        self.coverage_reward = coverage_reward
        self._seen = KnownCells(venv.num_envs)
        self._heading: IntArray = np.zeros(venv.num_envs, np.int64)

    def reset(self) -> Any:
        """Start an episode in every world."""
        codes, odometry = unpack(self.venv.reset())  # type: ignore[arg-type]
        return self._begin(codes, odometry, np.ones(self.num_envs, bool))

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions, int64[E]: ahead, back, left, right."""
        self.venv.step_async(TURNS[self._heading, np.asarray(actions, np.int64)])

    def step_wait(self) -> VecEnvStepReturn:
        """Step every world."""
        observation, rewards, dones, infos = self.venv.step_wait()
        assert isinstance(observation, dict)
        last = observation
        ended = np.flatnonzero(dones)
        if len(ended):
            last = {key: value.copy() for key, value in observation.items()}
            for env in ended:
                for key, value in last.items():
                    value[env] = infos[env]["terminal_observation"][key]
        codes, odometry = unpack(last)
        n_new = self._seen.see(codes, odometry)
        if self.coverage_reward is not None:
            rewards = (self.coverage_reward * n_new).astype(np.float32)
        if not len(ended):
            return self._observe(codes, odometry, dones), rewards, dones, infos
        final = self._end(codes, odometry, ended)
        for env in ended:
            infos[env]["terminal_observation"] = {key: value[env] for key, value in final.items()}
        return self._begin(*unpack(observation), dones), rewards, dones, infos

    def _begin(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> Observations:
        """The first view of an episode was not earned: it is noted without reward."""
        self._seen.clear(np.flatnonzero(starts))
        self._seen.see(codes, odometry)
        return self._observe(codes, odometry, starts)

    def _observe(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> Observations:
        """What the policy is given next."""
        self._heading = odometry[:, 2].astype(np.int64)
        return self._view(codes)

    def _end(self, codes: Int32Array, odometry: Int32Array, ended: IntArray) -> Observations:
        """What the policy would have been given in the episodes that ended; only these rows count."""
        return self._view(codes)

    def _view(self, codes: Int32Array) -> Observations:
        free = codes == FREE
        return {"view": np.stack([free, ~free & (codes != UNKNOWN)], axis=1).astype(np.float32)}


class FARMapObservation(EgocentricObservation):
    """What FARMap's memory knows, for a policy that makes the steps itself.

    FARMap's explorers run inside, fed by what the policy sees: they fragment, recall and choose subgoals as always, but
    their steps are only advice. Where the policy goes another way, they choose anew from there. (FARMapPlus recalls
    fragments at the crossings to which it walks; a policy that walks elsewhere would leave its maps behind.)

    ## Observation Space
    That of ``EgocentricObservation``, and
    - ``map``: float32[4, M, M] in [0, 1], the current local map, the agent in the middle, looking up: free cells,
      walls, frontier (unknown cells next to free ones), and the confidence in what is known.
    - ``subgoal``: float32[5] in [-1, 1]: how far ahead and to the right the plan leads in ``LOOKAHEAD`` steps (over
      ``LOOKAHEAD``), the direction of its end (ahead, right; length 1), and the steps n to there as n / (n +
      ``FAR_AWAY``). All 0 if there is no plan.

    :param venv: map worlds
    :param coverage_reward: see ``EgocentricObservation``
    :param map_size: M, cells a side of the map that the policy is given, odd
    :param settings: FARMap's settings, where they are not the paper's
    :raises ConfigError: if the environment is not a map world
    :raises ValueError: if another parameter is out of range

    >>> from stable_baselines3 import PPO
    >>> from farl.envs.map_world import MapWorldVecEnv
    >>> env = FARMapObservation(MapWorldVecEnv(8, size="small", max_steps=300), coverage_reward=0.01)
    >>> PPO("MultiInputPolicy", env, n_steps=32, batch_size=64).learn(256).num_timesteps
    256
    """

    def __init__(
        self,
        venv: VecEnv,
        coverage_reward: float | None = None,
        map_size: int = 21,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        told, _ = farmap_spaces(venv.observation_space, map_size=map_size)
        super().__init__(venv, coverage_reward)
        self.observation_space = told
        self.map_size = map_size
        self._agent = FARMap(env=venv, **dict(settings or {}))
        self.explorers = self._make_explorers(0)
        self.advice: IntArray = np.zeros(self.num_envs, np.int64)
        """int64[E], the relative action that the explorer itself would take next."""
        self._expected: IntArray = np.zeros((self.num_envs, 2), np.int64)
        self._ahead: IntArray = np.zeros((self.num_envs, 5), np.int64)

    def seed(self, seed: int | None = None) -> Any:
        """Seed the worlds and the explorers' random choices."""
        self.explorers = self._make_explorers(seed or 0)
        return self.venv.seed(seed)

    def _make_explorers(self, seed: int) -> Planners:
        explorers = self._agent._make_explorers(self.num_envs, seed)
        assert isinstance(explorers, Planners)
        return explorers

    def _observe(self, codes: Int32Array, odometry: Int32Array, starts: npt.NDArray[np.bool_]) -> Observations:
        seen = super()._observe(codes, odometry, starts)
        explorers = self.explorers
        astray = (odometry[:, :2] != self._expected).any(axis=1)
        explorers.progress[astray] = 0
        steps = explorers.act(codes, odometry, starts)
        self._expected = odometry[:, :2].astype(np.int64) + np.stack([STEP_ROWS[steps], STEP_COLS[steps]], axis=1)
        self.advice = (TURNS[self._heading] == steps[:, None]).argmax(axis=1)
        self._ahead = _look_ahead(odometry, explorers.plan, explorers.progress, steps, LOOKAHEAD)
        return seen | self._memory(odometry)

    def _end(self, codes: Int32Array, odometry: Int32Array, ended: IntArray) -> Observations:
        # Their memories begin anew with the next observation: here the maps alone take in the last one.
        self.explorers.maps.observe(codes, odometry, ended)
        return super()._end(codes, odometry, ended) | self._memory(odometry)

    def _memory(self, odometry: Int32Array) -> Observations:
        return {"map": crop(self.explorers.maps, self.map_size), "subgoal": _subgoal(odometry, self._ahead)}


def _subgoal(odometry: Int32Array, ahead: IntArray) -> Float32Array:
    """The directions and the distance that a policy is told, float32[E, 5]; ``ahead`` as of ``_look_ahead``."""
    heading, left = odometry[:, 2], ahead[:, 4:]
    way, goal = (_turned(ahead[:, i : i + 2] - odometry[:, :2], heading) for i in (0, 2))
    goal /= np.maximum(np.linalg.norm(goal, axis=1, keepdims=True), 1.0)
    told = np.concatenate([np.clip(way / LOOKAHEAD, -1.0, 1.0), goal, left / (left + FAR_AWAY)], axis=1)
    return np.where(left > 0, told, 0.0).astype(np.float32)


def _turned(away: IntArray, heading: Int32Array) -> npt.NDArray[np.float64]:
    """Displacements in rows and columns as cells ahead and to the right, float64[E, 2]."""
    ahead = away[:, 0] * STEP_ROWS[heading] + away[:, 1] * STEP_COLS[heading]
    right = away[:, 0] * RIGHT_ROWS[heading] + away[:, 1] * RIGHT_COLS[heading]
    return np.stack([ahead, right], axis=1).astype(np.float64)


@compiled
def _look_ahead(odometry: Any, plan: Any, progress: Any, steps: Any, lookahead: int) -> Any:
    """Where the plans lead that the explorers' next steps, int64[E], belong to.

    Returns int64[E, 5]: rows and columns, by the odometry, of the cell ``lookahead`` steps along and of the plan's end,
    and the steps to that; 0 where the next step is none of a plan.
    """
    found = np.zeros((len(plan), 5), np.int64)
    for e in range(len(plan)):
        first, length = progress[e, 0] - 1, progress[e, 1]
        if first < 0 or first >= length or plan[e, first] != steps[e]:
            continue
        row, col = np.int64(odometry[e, 0]), np.int64(odometry[e, 1])
        for i in range(first, length):
            row += STEP_ROWS[plan[e, i]]
            col += STEP_COLS[plan[e, i]]
            if i - first < lookahead:
                found[e, 0], found[e, 1] = row, col
        found[e, 2], found[e, 3], found[e, 4] = row, col, length - first
    return found
