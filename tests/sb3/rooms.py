"""Two rooms in a row, seen as a noisy vector, and small FAR models that explore them: for tests of the factory."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from farl import FAR

SMALL = {
    PPO: {"n_steps": 32, "batch_size": 32, "n_epochs": 2},
    A2C: {"n_steps": 16},
    DQN: {"learning_starts": 40, "train_freq": 4, "buffer_size": 2000},
    SAC: {"learning_starts": 40, "buffer_size": 2000},
}
ALGORITHMS = [PPO, A2C, DQN]
FAR_SMALL = {
    "module": {"features": 16, "hidden": 16},
    "criterion": {"name": "zscore", "threshold": 2.0, "min_samples": 10},
    "warmup": 50,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "critic_hidden": [16],
}


class Rooms(gym.Env):
    """A corridor of two rooms seen as a noisy vector: small, and with something to fragment."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length=20):
        self.length = length

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.steps = 0
        return self._see(), {"position": (self.x, 0)}

    def step(self, action):
        self.x = int(np.clip(self.x + (1 if action else -1), 0, self.length - 1))
        self.steps += 1
        return self._see(), float(self.x), False, self.steps >= 30, {"position": (self.x, 0)}

    def _see(self):
        side = 3.0 if self.x >= self.length // 2 else -3.0
        return np.array([side, -side, self.x / 10, 0], np.float32) + 0.1 * self.np_random.normal(size=4).astype(
            np.float32
        )


def make_env(n_envs=2, seed=0):
    return make_vec_env(Rooms, n_envs=n_envs, seed=seed)


def make(algorithm, env=None, far=FAR_SMALL, seed=0, **kwargs):
    env = env or make_env()
    return FAR(algorithm)("MlpPolicy", env, far=far, seed=seed, device="cpu", **(SMALL[algorithm] | kwargs))


def parameters_of(model):
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}


class Record(BaseCallback):
    """Keeps what every step gave."""

    def __init__(self):
        super().__init__()
        self.rewards, self.active = [], []

    def _on_step(self):
        self.model.take_in()
        step = self.model.curiosity.last
        self.rewards.append(step.intrinsic_reward)
        self.active.append(step.events.active)
        return True


class Picture(gym.Env):
    """An image, channels last, whose first channel tells the step."""

    observation_space = spaces.Box(0, 255, (40, 44, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._see(), {}

    def step(self, action):
        self.steps += 1
        return self._see(), 0.0, False, self.steps == 5, {}

    def _see(self):
        image = np.zeros((40, 44, 3), np.uint8)
        image[..., 0] = self.steps
        return image
