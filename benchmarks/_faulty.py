"""An environment that goes wrong in any way that is asked for."""

import errno
import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

BAD_OBSERVATIONS: dict[str, Any] = {
    "observation-nan": np.array([0.0, np.nan, 0.0], np.float32),
    "observation-inf": np.array([0.0, np.inf, 0.0], np.float32),
    "observation-shape": np.zeros(1, np.float32),
    "observation-dtype": np.array(["a", "b", "c"]),
    "observation-outside": np.array([0.0, 1e38, 0.0], np.float32),
    "observation-none": None,
    "observation-ragged": [[0.0], [0.0, 1.0]],
    "observation-dict": {"x": 1},
}
BAD_REWARDS: dict[str, Any] = {
    "reward-nan": float("nan"),
    "reward-inf": np.float32(np.inf),
    "reward-none": None,
    "reward-text": "1",
    "reward-huge": 1e300,
}


def make_read_only(folder: Path) -> None:
    """Take the right to write to a folder from this process; root, who may always, becomes somebody else."""
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o555 if each.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)


def make_writable(folder: Path) -> None:
    """Undo ``make_read_only``."""
    if os.getuid() == 0:
        os.seteuid(0)
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)


class Faulty(gym.Env[Any, Any]):
    """Three numbers and two actions; an episode has ten steps, unless something goes wrong.

    :param fault: what goes wrong; "" for nothing
    :param at: the step of its life at which it does
    :param times: how many of its lives it goes wrong in, counted in the process
    :param folder: the run's, for faults of what it is written to
    """

    observation_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)
    faults = 0

    def __init__(self, fault: str = "", at: int = 20, times: int = 1_000_000, folder: str = "") -> None:
        self.folder = folder
        self.fault, self.at, self.times = fault, at, times
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if self.fault == "reset-raises" and self._now():
            raise LookupError("no such level")
        if self.fault == "reset-none" and self._now():
            return None
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        done = self.steps % 10 == 0 and self.fault != "endless"
        if self.fault and "reset" not in self.fault and self._now():
            if self.fault == "raises":
                raise ValueError("the robot fell over")
            if self.fault == "hangs":
                time.sleep(60)
            if self.fault == "dies":
                os._exit(7)
            if self.fault == "twice":
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            if self.fault == "read-only" and os.access(self.folder, os.W_OK, effective_ids=True):
                make_read_only(Path(self.folder))
            if self.fault.startswith("SIG"):
                signal.raise_signal(getattr(signal, self.fault))
            if self.fault == "disk-full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (2048, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.fault == "deleted":
                shutil.rmtree(self.folder)
            if self.fault == "tuple":
                return self._observation(), 0.0, False, {}
            if self.fault == "flag":
                return self._observation(), 0.0, None, False, {}
            if self.fault == "large-reward":
                return self._observation(), 1e30, done, False, {}
            if self.fault in BAD_OBSERVATIONS:
                return BAD_OBSERVATIONS[self.fault], 0.0, done, False, {}
            if self.fault in BAD_REWARDS:
                return self._observation(), BAD_REWARDS[self.fault], done, False, {}
        return self._observation(), float(action), done, False, {}

    def _now(self) -> bool:
        if self.steps < self.at or Faulty.faults >= self.times:
            return False
        Faulty.faults += 1
        return True

    def _observation(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


class FaultyBatch(VectorEnv[Any, Any, Any]):
    """Many of them in one batch, of which the second goes wrong in what it shows.

    :param num_envs: how many
    :param fault: one of ``BAD_OBSERVATIONS``, or "" for nothing
    :param at: the step at which it goes wrong; 0 for the reset
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (as Gymnasium has it)
    single_observation_space, single_action_space = Faulty.observation_space, Faulty.action_space

    def __init__(self, num_envs: int = 1, fault: str = "", at: int = 20, **others: Any) -> None:
        self.num_envs, self.fault, self.at, self.steps = num_envs, fault, at, 0
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = None

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed if isinstance(seed, int) else None)
        return self._observations(), {}

    def step(self, actions: Any) -> Any:
        self.steps += 1
        nothing = np.zeros(self.num_envs, bool)
        return self._observations(), np.zeros(self.num_envs), nothing, nothing, {}

    def _observations(self) -> Any:
        good = self.np_random.uniform(-1, 1, (self.num_envs, 3)).astype(np.float32)
        if not self.fault or self.steps != self.at:
            return good
        bad = BAD_OBSERVATIONS[self.fault]
        if isinstance(bad, np.ndarray) and bad.dtype == np.float32 and bad.shape == (3,):
            good[1] = bad
            return good
        return np.stack([bad] * self.num_envs) if isinstance(bad, np.ndarray) else bad


gym.register("Faulty-v0", entry_point=Faulty, vector_entry_point=FaultyBatch)
