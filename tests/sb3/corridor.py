"""A corridor, a stand-in for curiosity in it, and how a model learns there: for tests of what is recorded."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import networkx as nx
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from farl.sb3.exploration import ExplorationCallback


class Corridor(gym.Env[Any, Any]):
    """A corridor in a ring of walls. The agent walks right by itself, and the episode ends at the last cell."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, width: int = 6, positions: bool = True) -> None:
        self.width = width
        self.positions = positions
        if positions:
            self.reachable = np.zeros((3, width + 2), bool)
            self.reachable[1, 1:-1] = True

    def _info(self) -> dict[str, Any]:
        return {"position": (self.x, 1)} if self.positions else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = 1
        return np.zeros(1, np.float32), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += 1
        return np.zeros(1, np.float32), 0.0, self.x == self.width, False, self._info()


class FakeCuriosity(BaseCallback):
    """Stands in for ``model.curiosity``: fragment 0 in the first three cells, then a new one."""

    def _on_training_start(self) -> None:
        graph = nx.MultiGraph([(0, 1, {"kind": "fracture"})])
        n = self.training_env.num_envs
        self.active = np.zeros(n, np.int64)
        self.seen = False
        self.curiosity = SimpleNamespace(last=None, fragments=1, recalls=0, memory=SimpleNamespace(graph=graph))
        self.model.curiosity = self.curiosity  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        previous = self.active
        x = np.array([info.get("position", (0, 0))[0] for info in self.locals["infos"]])
        self.active = (x > 3).astype(np.int64)
        changed = self.active != previous
        fragmented = changed & (self.active == 1) & (not self.seen)
        self.seen |= bool(fragmented.any())
        self.curiosity.fragments += int(fragmented.any())
        self.curiosity.recalls += int((changed & ~fragmented).sum())
        events = SimpleNamespace(
            active=self.active, previous=previous, fragmented=fragmented, recalled=changed & ~fragmented
        )
        self.curiosity.last = SimpleNamespace(surprisal=x / 10 + 0.05, events=events)
        return True


def make_env(n_envs: int = 1, cls: Any = DummyVecEnv, **kwargs: Any) -> VecEnv:
    env: VecEnv = cls([lambda: Monitor(Corridor(**kwargs)) for _ in range(n_envs)])
    return env


def make_ppo(env: VecEnv, **kwargs: Any) -> PPO:
    return PPO("MlpPolicy", env, n_steps=20, batch_size=20, n_epochs=1, policy_kwargs={"net_arch": [4]}, **kwargs)


def learn(env: VecEnv, steps: int, fake: bool = True, **kwargs: Any) -> ExplorationCallback:
    callback = ExplorationCallback(**kwargs)
    make_ppo(env).learn(steps, CallbackList([FakeCuriosity(), callback] if fake else [callback]))
    return callback
