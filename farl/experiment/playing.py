"""Plays whole episodes with a policy: what evaluation and recording share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from farl.exploration import Episodes

MAX_STEPS = 30_000
"""Steps of an episode that is played, if nothing else is said; Atari, the longest of the usual ones, has 27,000."""

Observe = Callable[[Any, Any, npt.NDArray[np.bool_], list[dict[str, Any]]], bool]


@dataclass(frozen=True)
class Played:
    """An episode that was played to its end.

    :ivar extrinsic_return: sum of the environment's rewards
    :ivar length: steps
    :ivar coverage: part of the cells covered, in [0, 1]; None where the environment does not tell
    :ivar cut: whether it was cut off by the limit on its steps; its return is then that of the steps it had
    """

    extrinsic_return: float
    length: int
    coverage: float | None
    cut: bool = False


def seen_reward(model: BaseAlgorithm) -> bool:
    """Whether the latest episodes of the training brought the agent any reward that it was trained on."""
    far = getattr(model, "far", None)
    if far is not None and far.get("extrinsic_coef") == 0:
        return False
    return any(episode["r"] != 0 for episode in model.ep_info_buffer or ())


def play(
    model: BaseAlgorithm,
    venv: VecEnv,
    episodes: int,
    deterministic: bool,
    observe: Observe | None = None,
    max_steps: int = MAX_STEPS,
) -> list[Played]:
    """Play episodes to their ends; where a lost life ends one in training, the game goes on.

    Each environment plays its share of them, so that short episodes do not crowd out long ones.

    :param observe: called after the reset, with the observation, None, and what follows from it, and after each step
        with the observation, the actions, bool[E] where something ended, and the infos; True ends it all
    :param max_steps: most steps of an episode. One that has more is cut off, and its environment, which may never end
        an episode, plays no other
    """
    shares = np.array([(episodes + env) // venv.num_envs for env in range(venv.num_envs)])
    observation: Any = venv.reset()
    coverage = _Coverage(venv)
    state: tuple[npt.NDArray[Any], ...] | None = None
    starts = np.ones(venv.num_envs, dtype=bool)
    if observe is not None:
        observe(observation, None, starts, venv.unwrapped.reset_infos)
    played: list[Played] = []
    lengths, returns = np.zeros(venv.num_envs, np.int64), np.zeros(venv.num_envs)
    while shares.any():
        actions, state = model.predict(observation, state=state, episode_start=starts, deterministic=deterministic)
        observation, rewards, starts, infos = venv.step(actions)
        lengths += 1
        returns += rewards
        if observe is not None and observe(observation, actions, starts, infos):
            break
        coverage.step(infos)
        for env in np.flatnonzero(starts).tolist():
            record = infos[env].get("episode")
            if record is None:
                continue  # a life was lost
            part = coverage.end(env, infos[env])
            lengths[env] = returns[env] = 0
            if shares[env]:
                shares[env] -= 1
                played.append(Played(float(record["r"]), int(record["l"]), part))
        for env in np.flatnonzero((lengths >= max_steps) & (shares > 0)).tolist():
            shares[env] = 0
            played.append(Played(float(returns[env]), int(lengths[env]), infos[env].get("coverage"), cut=True))
    return played


class _Coverage:
    """What part of its cells each environment has covered in the episode that goes on."""

    def __init__(self, venv: VecEnv) -> None:
        self._venv = venv
        self._episodes = Episodes(venv.num_envs) if venv.has_attr("reachable") else None
        for env in range(venv.num_envs):
            self._begin(env)

    def step(self, infos: list[dict[str, Any]]) -> None:
        if self._episodes is not None:
            positions = np.array([info["position"] for info in infos], np.int64)
            self._episodes.add(np.zeros((1, len(infos)), np.int64), positions[None])

    def end(self, env: int, info: dict[str, Any]) -> float | None:
        if self._episodes is None:
            return info.get("coverage")
        self._episodes.end(env)
        part = self._episodes.coverages.pop()
        self._begin(env)
        return float(info.get("coverage", part))

    def _begin(self, env: int) -> None:
        if self._episodes is not None:
            position = self._venv.unwrapped.reset_infos[env].get("position")
            start = None if position is None else np.array(position, np.int64)
            self._episodes.begin(env, self._venv.get_attr("reachable", env)[0], start)
