"""An environment that shows what it shows whatever is done, so that two runs of different agents can be compared."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from tests.sb3.toy import ACTIONS

PLACE = spaces.Box(-100, 1e6, (3,), np.float32)
PICTURE = spaces.Box(0, 255, (36, 38, 1), np.uint8)
SPACES = {
    "vector": PLACE,
    "image": PICTURE,
    "dict": spaces.Dict(place=PLACE, side=spaces.Discrete(2)),
    "mixed": spaces.Dict(place=PLACE, picture=PICTURE, side=spaces.MultiBinary(2)),
    "discrete": spaces.Discrete(50),
    "goal": spaces.Dict(observation=PLACE, achieved_goal=spaces.Box(0, 50, (1,)), desired_goal=spaces.Box(0, 50, (1,))),
}
EPISODE = 7


class Conveyor(gym.Env):
    """Each observation tells its number, ``clock``, counted over all episodes of the environment.

    Rewards are 0 but for every 40th step. Episodes of 7 steps end by turns in a terminal state, which alone shows a
    large number, and by a time limit.
    """

    def __init__(self, kind="vector", action="discrete", rewards="sparse", start=0):
        self.kind, self.rewards = kind, rewards
        self.observation_space, self.action_space = SPACES[kind], ACTIONS[action]
        self.clock = start - 1

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.clock += 1
        return see(self.kind, self.clock), {}

    def step(self, action):
        self.steps += 1
        self.clock += 1
        done, terminal = self.steps == EPISODE, (self.clock // EPISODE) % 2 == 0
        seen, info = see(self.kind, self.clock, done), {"clock": self.clock, "position": (self.clock, "unknown")}
        return seen, reward_of(self.rewards, self.clock), done and terminal, done and not terminal, info

    @staticmethod
    def compute_reward(achieved, desired, info):
        return -(np.abs(achieved - desired)[..., 0] > 0.5).astype(np.float32)

    def action_masks(self):
        return np.array([True, True])


def reward_of(rewards, clock):
    if rewards == "goal":
        return float(
            Conveyor.compute_reward(*(see("goal", clock)[key] for key in ("achieved_goal", "desired_goal")), {})
        )
    return {"sparse": float(clock % 40 == 0), "none": 0.0, "large": 100.0 + clock % 3}[rewards]


def see(kind, clock, last=False):
    place = np.array([clock, clock % 5, 90.0 if last else 0.0], np.float32)
    picture = np.full(PICTURE.shape, 40 * (clock % 5), np.uint8)
    picture[0, :2, 0] = divmod(clock, 256)
    goal = {"achieved_goal": np.array([clock % 50], np.float32), "desired_goal": np.array([30.0], np.float32)}
    return {
        "vector": place,
        "image": picture,
        "dict": {"place": place, "side": clock % 2},
        "mixed": {"place": place, "picture": picture, "side": np.array([clock % 2, 1], np.int8)},
        "discrete": clock % 50,
        "goal": {"observation": place, **goal},
    }[kind]


class Shift(VecEnvWrapper):
    """Adds 5 to what is seen: a wrapper that keeps the shape."""

    def reset(self):
        return self.venv.reset() + np.float32(5)

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = info["terminal_observation"] + np.float32(5)
        return observations + np.float32(5), rewards, dones, infos


class Noise(VecEnvWrapper):
    """Adds noise from a generator of its own: its copies must draw the same."""

    def __init__(self, venv):
        super().__init__(venv)
        self.generator = np.random.default_rng(3)

    def reset(self):
        return self._noisy(self.venv.reset())

    def step_wait(self):
        observations, *rest = self.venv.step_wait()
        return self._noisy(observations), *rest

    def _noisy(self, observations):
        return observations + self.generator.normal(size=observations.shape).astype(np.float32)


class WithAction(VecEnvWrapper):
    """Shows the action that was taken: a wrapper that remembers between ``step_async`` and ``step_wait``."""

    def reset(self):
        return self.venv.reset()

    def step_async(self, actions):
        self.actions = actions
        self.venv.step_async(actions)

    def step_wait(self):
        observations, *rest = self.venv.step_wait()
        observations[:, 1] = 10.0 * np.reshape(self.actions, len(observations))
        return observations, *rest


def make_conveyor(kind="vector", action="discrete", rewards="sparse", start=0):
    makers = [
        lambda number=number: Monitor(Conveyor(kind, action, rewards, start + 1000 * number)) for number in (0, 1)
    ]
    return DummyVecEnv(makers)


def clock_of(kind, observations):
    """Return the number of each observation, [B]."""
    if kind == "image":
        return observations.reshape(len(observations), -1)[:, :2].astype(int) @ [256, 1]
    key = {"vector": None, "dict": "place", "mixed": "place", "goal": "observation"}[kind]
    return np.rint((observations if key is None else observations[key])[:, 0]).astype(int)
