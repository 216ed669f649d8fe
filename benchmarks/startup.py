"""What commands cost before they do anything: CPU time of a new process, imports included.

- ``help``, ``list``, ``schema``, ``validate``: ``farl --help``, ``farl list envs``, ``farl schema``, and
  ``farl validate`` of the condition's configuration
- ``train``: all that ``farl train`` does up to the first step: it checks the configuration, imports what learns, and
  makes the environments and the model; compiled code is in the cache already
- ``torch``, ``sb3``: ``import torch``, and ``import stable_baselines3`` with it, for comparison
"""

import resource
import subprocess
import sys
from typing import Any

from benchmarks.harness import Benchmark, Job, Size, main

_FARL = "from farl.cli import main; sys.exit(main({arguments!r}))"
_TRAIN = """
from farl.experiment.loading import load_config
config = load_config({name!r})
import farl.experiment.progress, farl.experiment.run
from farl.experiment.environments import make_vec_env
from farl.experiment.learner import build_learner, limit_threads
limit_threads(config)
venv = make_vec_env(config.environment, config.seed)
build_learner(config, venv)
venv.close()
"""


def code(method: str, condition: str) -> str:
    """What the new process runs."""
    if method == "torch":
        return "import torch"
    if method == "sb3":
        return "import stable_baselines3"
    if method == "train":
        return _TRAIN.format(name=condition)
    arguments = {
        "help": ["--help"],
        "list": ["list", "envs"],
        "schema": ["schema"],
        "validate": ["validate", condition],
    }
    return f"import sys; {_FARL.format(arguments=arguments[method])}"


def run(job: Job) -> dict[str, Any]:
    command = [sys.executable, "-c", code(job.method, job.condition)]
    for _ in range(2):  # the first one finds files that nobody has read
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


BENCHMARK = Benchmark(
    name="startup",
    methods=("torch", "sb3", "help", "list", "schema", "validate", "train"),
    conditions=(
        *("quickstart", "ppo_baseline", "farmap", "hairpin", "minigrid_multiroom", "atari_venture"),
        *("procgen_chaser", "control_levels", "robot", "miniworld_rooms", "farmap_ppo"),
    ),
    metrics={"cpu": "CPU time of the process, in seconds"},
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={}, note="one process each", conditions=("quickstart",)),
        "default": Size(seeds=5, parameters={}),
        "full": Size(seeds=10, parameters={}),
    },
    alone=True,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
