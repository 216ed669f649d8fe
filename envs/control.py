"""Classic control in batches, with an offset of the observation for each level: TRAC's control experiments."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from farl.envs.control_tasks import TASKS, Dynamics, control_spaces, level_offset
from farl.envs.episodic_vec_env import EpisodicVecEnv, IntArray, Rows
from farl.errors import ConfigError


class ControlVecEnv(EpisodicVecEnv):
    """E copies of a control task whose observations are shifted, by an offset of the level's own.

    Description
        CartPole-v1, Acrobot-v1 and LunarLander-v3 of Gymnasium as tasks of a sequence (Muppidi et al. 2024, TRAC): the
        dynamics stay, what is observed moves by N(0, scale^2) from level to level.
    Observation Space
        The task's numbers plus the offset, without bounds.
    Episodes
        Truncated after ``max_steps``; infos as a ``Monitor`` writes them.

    :param task: ``"CartPole"``, ``"Acrobot"`` or ``"LunarLander"``
    :param num_envs: number of environments E
    :param level: number of the level, from 0
    :param sequence_seed: decides the offsets; the same for all levels of a sequence
    :param scale: standard deviation of the offsets
    :param max_steps: length at which episodes are cut off
    :param seed: starts the episodes; None draws one
    :raises ConfigError: for an unknown task, a number out of range, or a package that is missing
    """

    def __init__(
        self,
        task: str,
        num_envs: int,
        level: int = 0,
        sequence_seed: int = 0,
        scale: float = 2.0,
        max_steps: int = 400,
        seed: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        observation_space, action_space = control_spaces(task, level, sequence_seed, scale, max_steps)
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1; got {num_envs}")
        self.dynamics: Dynamics = TASKS[task](num_envs)
        self.offset = level_offset(self.dynamics.size, level, sequence_seed, scale)
        super().__init__(num_envs, observation_space, action_space, max_steps, render_mode)
        self.metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}
        self._rngs = [np.random.default_rng(None if seed is None else [seed, env]) for env in range(num_envs)]

    def _begin(self, envs: IntArray) -> None:
        self.dynamics.reset(envs, self._rngs)

    def _advance(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        return self.dynamics.step(self._actions)

    def _look(self, envs: Rows) -> npt.NDArray[np.float32]:
        # In rows, as a checkpoint holds it: networks round otherwise where numbers lie in another order.
        return np.ascontiguousarray((self.dynamics.observe() + self.offset)[envs])

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return super().get_state() | {"dynamics": self.dynamics.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        super().set_state(state)
        self.dynamics.set_state(state["dynamics"])

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Pictures as Gymnasium draws them, with ``render_mode="rgb_array"``; otherwise none."""
        return [self.dynamics.draw(env) if self.render_mode == "rgb_array" else None for env in range(self.num_envs)]
