"""How fast ``farl/RoomChain-*`` steps: all agents in one batch, beside the same environments one by one.

- ``batched``: ``RoomChainVecEnv``
- ``one-by-one``: ``RoomChainEnv`` in SB3's ``DummyVecEnv``

Random actions in twelve textured rooms, infos and observations included; nothing learns.
"""

import sys
import time
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Job, Size, main


def run(job: Job) -> dict[str, Any]:
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

    from farl.envs.room_chain import RoomChainEnv, RoomChainVecEnv

    n_envs = int(job.condition.removesuffix("-envs"))
    venv: VecEnv
    if job.method == "batched":
        venv = RoomChainVecEnv(n_envs, cols=12)
    else:
        venv = DummyVecEnv([lambda: RoomChainEnv(cols=12)] * n_envs)
    venv.seed(job.seed)
    venv.reset()
    actions = np.random.default_rng(job.seed).integers(3, size=(job.parameters["steps"] // n_envs, n_envs))
    began = time.perf_counter()
    for each in actions:
        venv.step(each)
    return {"steps_per_second": actions.size / (time.perf_counter() - began)}


BENCHMARK = Benchmark(
    name="room_chain",
    methods=("batched", "one-by-one"),
    conditions=("1-envs", "64-envs"),
    metrics={"steps_per_second": "environment steps per second, on one core"},
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={"steps": 6_400}, note="one repeat of 6 400 steps"),
        "default": Size(seeds=5, parameters={"steps": 128_000}),
        "full": Size(seeds=5, parameters={"steps": 1_280_000}),
    },
    alone=True,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
