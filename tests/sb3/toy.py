"""The smallest environments with every kind of observation and action, for tests of any algorithm."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

OBSERVATIONS = {
    "vector": spaces.Box(-10, 10, (3,), np.float32),
    "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
    "dict": spaces.Dict(side=spaces.Discrete(2), place=spaces.Box(-10, 10, (2,), np.float32)),
}
ACTIONS = {"discrete": spaces.Discrete(2), "continuous": spaces.Box(-2, 2, (1,), np.float32)}
FAR_SMALL = {
    "module": {"features": 8, "hidden": 8},
    "criterion": {"name": "zscore", "threshold": 2.0, "min_samples": 10},
    "warmup": 16,
    "batch_size": 16,
    "critic_hidden": [8],
}


class Toy(gym.Env):
    """A corridor of 10 cells; the right half looks different. Episodes of 12 steps; the reward is the cell."""

    def __init__(self, observation="vector", action="discrete"):
        self.kind = observation
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.steps = 0
        return self._see(), {}

    def step(self, action):
        self.x = int(np.clip(self.x + (1 if np.sum(action) > 0 else -1), 0, 9))
        self.steps += 1
        return self._see(), float(self.x), False, self.steps == 12, {}

    def action_masks(self):
        return np.array([True, True])

    def _see(self):
        right = self.x >= 5
        if self.kind == "image":
            image = np.full((36, 36, 1), 200 if right else 20, np.uint8)
            image[self.x] = self.steps
            return image
        place = np.array([self.x, 3.0 if right else -3.0], np.float32)
        if self.kind == "dict":
            return {"side": int(right), "place": place}
        return np.append(place, np.float32(self.steps))


def make_toy(observation="vector", action="discrete", vec="dummy", normalise=False, n_envs=2, **normalisation):
    makers = [lambda: Monitor(Toy(observation, action))] * n_envs
    # Forked: importing torch anew in each process would take longer than all else here.
    env = SubprocVecEnv(makers, start_method="fork") if vec == "subproc" else DummyVecEnv(makers)
    if normalise:
        keys = ["place"] if observation == "dict" else None
        env = VecNormalize(env, norm_obs=observation != "image", norm_obs_keys=keys, **normalisation)
    return env
