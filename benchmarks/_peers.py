"""PPO of others, for ``benchmarks.fast``: sbx where it is installed, CleanRL's script where it lies."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from farl.errors import ConfigError

SCRIPT = "CLEANRL_PPO"
"""The variable that says where CleanRL's ``ppo.py`` is."""


def sbx_ppo() -> Any:
    """The class of sbx's PPO.

    :raises ConfigError: if it is not installed
    """
    try:
        from sbx import PPO
    except ImportError as error:
        raise ConfigError("the method sbx needs it: pip install 'farl[sbx]'") from error
    return PPO


def cleanrl_us(environment: str, n_envs: int, n_steps: int, epochs: int, rollouts: int, seed: int) -> float:
    """CPU time of a step of CleanRL's PPO, in us: what more rollouts take, over what fewer take.

    :raises ConfigError: if it is not said where the script is, or it fails
    """
    script = Path(os.environ.get(SCRIPT, ""))
    if not script.is_file():
        raise ConfigError(f"the method cleanrl needs {SCRIPT}=/path/to/cleanrl/ppo.py, and tyro installed")
    few, steps = 3, n_envs * n_steps
    spent = [
        _seconds(script, environment, n_envs, n_steps, epochs, more * steps, seed) for more in (few, few + rollouts)
    ]
    return (spent[1] - spent[0]) / rollouts / steps * 1e6


def _seconds(script: Path, environment: str, n_envs: int, n_steps: int, epochs: int, steps: int, seed: int) -> float:
    settings = {"env-id": environment, "num-envs": n_envs, "num-steps": n_steps, "update-epochs": epochs}
    settings |= {"total-timesteps": steps, "seed": seed}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    threads = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", str(script.resolve()), *words, "--no-cuda"]
        done = subprocess.run(command, cwd=folder, env=threads, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{script.name} failed: {done.stderr.strip().splitlines()[-1:]}")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began
