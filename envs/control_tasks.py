"""The tasks of classic control in batches, and what can be said of a level of one without stepping it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from farl.errors import ConfigError, did_you_mean

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Dynamics(Protocol):
    """Copies of one task, stepped together. What ends by itself has to be reset before it is stepped again."""

    size: int
    n_actions: int

    def reset(self, envs: Ints, rngs: Sequence[np.random.Generator]) -> None:
        """Begin an episode in the environments ``envs``, drawn from their generators."""

    def step(self, actions: Ints) -> tuple[Floats, Bools]:
        """Step all environments and return rewards and whether they have terminated, one for each."""

    def observe(self) -> npt.NDArray[np.float32]:
        """Observations of all, [E, size]."""

    def draw(self, env: int) -> npt.NDArray[np.uint8]:
        """A picture of one, uint8[H, W, 3]."""

    def get_state(self) -> Any:
        """All that decides what happens next, but for the generators."""

    def set_state(self, state: Any) -> None:
        """Go on from what ``get_state`` returned."""


class _Integrated:
    """A task whose state is numbers that a formula moves.

    :param num_envs: number of copies E
    """

    def __init__(self, num_envs: int) -> None:
        self.state = np.zeros((num_envs, 4))

    def get_state(self) -> Floats:
        """Return float64[E, 4]."""
        return self.state.copy()

    def set_state(self, state: Floats) -> None:
        """Go on from what ``get_state`` returned."""
        self.state = state.copy()


class _Drawn:
    """Draws a state as Gymnasium draws its own task.

    :param task: Gymnasium's id
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._env: Any = None

    def __call__(self, state: Floats) -> npt.NDArray[np.uint8]:
        """Return the picture of a state."""
        if self._env is None:
            self._env = gym.make(self._task, render_mode="rgb_array").unwrapped
        self._env.state = state
        return np.asarray(self._env.render(), np.uint8)


class CartPole(_Integrated):
    """Gymnasium's CartPole-v1 (Barto, Sutton and Anderson 1983): a reward of 1 a step until the pole falls."""

    size, n_actions = 4, 2

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self._physics: Any = CartPoleVectorEnv(num_envs, max_episode_steps=np.iinfo(np.int32).max)
        self._picture = _Drawn("CartPole-v1")

    def draw(self, env: int) -> npt.NDArray[np.uint8]:
        """Cart and pole."""
        return self._picture(self.state[env])

    def reset(self, envs: Ints, rngs: Sequence[np.random.Generator]) -> None:
        """Begin near the upright position."""
        self.state[envs] = [rngs[env].uniform(-0.05, 0.05, 4) for env in envs]

    def step(self, actions: Ints) -> tuple[Floats, Bools]:
        """Push left (0) or right (1) with 10 N for 0.02 s."""
        self._physics.state, self._physics.prev_done[:] = self.state.T, False  # it is reset here, not there
        _, _, fallen, _, _ = self._physics.step(actions)
        self.state = self._physics.state.T
        return np.ones(len(actions)), fallen

    def observe(self) -> npt.NDArray[np.float32]:
        """Position and velocity of the cart, angle and velocity of the pole."""
        return self.state.astype(np.float32)


class Acrobot(_Integrated):
    """Gymnasium's Acrobot-v1 (Sutton 1996): a reward of -1 a step until the tip swings above the bar."""

    size, n_actions = 6, 3

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self._picture = _Drawn("Acrobot-v1")

    def draw(self, env: int) -> npt.NDArray[np.uint8]:
        """The two links."""
        return self._picture(self.state[env])

    def reset(self, envs: Ints, rngs: Sequence[np.random.Generator]) -> None:
        """Begin hanging down."""
        self.state[envs] = [rngs[env].uniform(-0.1, 0.1, 4) for env in envs]

    def step(self, actions: Ints) -> tuple[Floats, Bools]:
        """Apply a torque of -1, 0 or 1 to the joint for 0.2 s."""
        torque: Floats = actions.astype(np.float64) - 1.0
        y: Floats = self.state
        # One step of the classic Runge-Kutta method.
        k1 = self._change(y, torque)
        k2 = self._change(y + 0.1 * k1, torque)
        k3 = self._change(y + 0.1 * k2, torque)
        k4 = self._change(y + 0.2 * k3, torque)
        y = y + 0.2 / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        y[:, :2] = (y[:, :2] + math.pi) % (2 * math.pi) - math.pi
        y[:, 2:] = np.clip(y[:, 2:], [-4 * math.pi, -9 * math.pi], [4 * math.pi, 9 * math.pi])
        self.state = y
        above = -np.cos(y[:, 0]) - np.cos(y[:, 0] + y[:, 1]) > 1.0
        return np.where(above, 0.0, -1.0), above

    @staticmethod
    def _change(state: Floats, torque: Floats) -> Floats:
        """The equations of the book: links of length and mass 1, centres of mass at 0.5, moments of inertia 1."""
        theta1, theta2, dtheta1, dtheta2 = state.T
        cos2, sin2 = np.cos(theta2), np.sin(theta2)
        d1 = 3.5 + cos2
        d2 = 1.25 + 0.5 * cos2
        phi2 = 4.9 * np.cos(theta1 + theta2 - math.pi / 2)
        phi1 = (-0.5 * dtheta2 - dtheta1) * dtheta2 * sin2 + 14.7 * np.cos(theta1 - math.pi / 2) + phi2
        ddtheta2 = (torque + d2 / d1 * phi1 - 0.5 * dtheta1**2 * sin2 - phi2) / (1.25 - d2**2 / d1)
        return np.stack([dtheta1, dtheta2, -(d2 * ddtheta2 + phi1) / d1, ddtheta2], 1)

    def observe(self) -> npt.NDArray[np.float32]:
        """Cosines and sines of the two angles, and their velocities."""
        angles = self.state[:, :2, None]
        turned = np.concatenate([np.cos(angles), np.sin(angles)], 2).reshape(len(self.state), 4)
        seen: npt.NDArray[np.float32] = np.concatenate([turned, self.state[:, 2:]], 1).astype(np.float32)
        return seen


class LunarLander:
    """Gymnasium's LunarLander-v3, one after another: Box2D has no batches.

    Nor does it tell all of its state: an episode is restored by playing it again from its beginning.

    :raises ConfigError: if Box2D is not installed
    """

    size, n_actions = 8, 4

    def __init__(self, num_envs: int) -> None:
        try:
            self.envs = [gym.make("LunarLander-v3", render_mode="rgb_array").unwrapped for _ in range(num_envs)]
        except (ImportError, gym.error.DependencyNotInstalled):
            raise ConfigError("LunarLander needs Box2D: pip install 'farl[control]'") from None
        self.seen = np.zeros((num_envs, 8), np.float32)
        self._seeds: list[int | None] = [None] * num_envs
        self._actions: list[list[int]] = [[] for _ in range(num_envs)]

    def draw(self, env: int) -> npt.NDArray[np.uint8]:
        """The lander above the moon."""
        return np.asarray(self.envs[env].render(), np.uint8)

    def reset(self, envs: Ints, rngs: Sequence[np.random.Generator]) -> None:
        """Begin above the moon."""
        for env in envs:
            self._begin(env, int(rngs[env].integers(2**31)))

    def step(self, actions: Ints) -> tuple[Floats, Bools]:
        """Fire no engine, the left, the main or the right one."""
        rewards, landed = np.zeros(len(actions)), np.zeros(len(actions), bool)
        for env, action in enumerate(actions.tolist()):
            rewards[env], landed[env] = self._step(env, action)
        return rewards, landed

    def get_state(self) -> dict[str, Any]:
        """Return how each episode began, what was done in it, and what is seen."""
        actions = [np.array(each, np.int8) for each in self._actions]
        return {"seeds": list(self._seeds), "actions": actions, "seen": self.seen.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Play the episodes again.

        :raises CannotRestoreError: if they come to something else
        """
        from farl.envs.state import CannotRestoreError  # takes Stable-Baselines3

        for env, (seed, actions) in enumerate(zip(state["seeds"], state["actions"], strict=True)):
            self._begin(env, seed)
            for action in actions.tolist():
                self._step(env, action)
        if not np.array_equal(self.seen, state["seen"]):
            raise CannotRestoreError("LunarLander played again shows something else")

    def _begin(self, env: int, seed: int) -> None:
        self._seeds[env], self._actions[env] = seed, []
        self.seen[env] = self.envs[env].reset(seed=seed)[0]

    def _step(self, env: int, action: int) -> tuple[float, bool]:
        self._actions[env].append(action)
        self.seen[env], reward, landed, _, _ = self.envs[env].step(action)
        return float(reward), landed

    def observe(self) -> npt.NDArray[np.float32]:
        """Position, velocity, angle, its velocity, and whether each leg touches the ground."""
        return self.seen.copy()


TASKS: dict[str, type[CartPole] | type[Acrobot] | type[LunarLander]] = {
    "CartPole": CartPole,
    "Acrobot": Acrobot,
    "LunarLander": LunarLander,
}


def level_offset(size: int, level: int, seed: int, scale: float = 2.0) -> npt.NDArray[np.float32]:
    """Return what is added to the observations in a level: N(0, scale^2) for each number, nothing in level 0."""
    if level == 0:
        return np.zeros(size, np.float32)
    return np.random.default_rng([seed, level]).normal(0.0, scale, size).astype(np.float32)


def control_spaces(
    task: str, level: int = 0, sequence_seed: int = 0, scale: float = 2.0, max_steps: int = 400
) -> tuple[spaces.Box, spaces.Discrete]:
    """Check the settings of a ``ControlVecEnv``, and return its spaces of observations and actions.

    :raises ConfigError: for an unknown task, a number out of range, or a package that is missing
    """
    if task not in TASKS:
        raise ConfigError(f"unknown control task {task!r}{did_you_mean(task, TASKS)}")
    if level < 0 or sequence_seed < 0 or scale < 0:
        raise ConfigError(f"level, sequence_seed and scale must be at least 0; got {level}, {sequence_seed}, {scale}")
    if max_steps < 1:
        raise ConfigError(f"max_steps must be at least 1; got {max_steps}")
    dynamics: Dynamics = TASKS[task](1)
    level_offset(dynamics.size, level, sequence_seed, scale)
    return spaces.Box(-np.inf, np.inf, (dynamics.size,), np.float32), spaces.Discrete(dynamics.n_actions)
