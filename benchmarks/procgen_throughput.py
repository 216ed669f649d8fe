"""Steps per second of ProcgenVecEnv against the bare library, in turns within one process: the adapter's price.

Each run plays 64 copies of a game with random actions, in stretches that alternate between the bare ``ProcgenGym3Env``
and ``ProcgenVecEnv``; the medians are compared.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Job, Size, main
from farl.envs.procgen import ProcgenVecEnv
from farl.envs.procgen_games import N_ACTIONS

N_ENVS = 64


def run(job: Job) -> dict[str, Any]:
    from procgen import ProcgenGym3Env

    rng = np.random.default_rng(job.seed)
    bare = ProcgenGym3Env(
        num=N_ENVS,
        env_name=job.condition,
        distribution_mode="easy",
        rand_seed=job.seed,
        num_threads=job.parameters["threads"],
    )
    ours = ProcgenVecEnv(
        job.condition, N_ENVS, distribution_mode="easy", seed=job.seed, num_threads=job.parameters["threads"]
    )
    ours.reset()

    def step_bare(actions: Any) -> None:
        bare.act(actions)
        bare.observe()

    stretches = [(_rate(step_bare, rng, job), _rate(ours.step, rng, job)) for _ in range(job.parameters["stretches"])]
    theirs, mine = np.median(np.array(stretches[1:] or stretches), 0)
    return {"steps_per_second": float(mine), "bare_steps_per_second": float(theirs), "ratio": float(mine / theirs)}


def _rate(step: Callable[[Any], Any], rng: np.random.Generator, job: Job) -> float:
    steps = job.parameters["steps"]
    actions = rng.integers(0, N_ACTIONS, (steps, N_ENVS))
    began = time.perf_counter()
    for row in actions:
        step(row)
    return steps * N_ENVS / (time.perf_counter() - began)


BENCHMARK = Benchmark(
    name="procgen_throughput",
    methods=("procgen",),
    conditions=("starpilot", "coinrun", "maze"),
    metrics={
        "steps_per_second": "environment steps per second of ProcgenVecEnv",
        "bare_steps_per_second": "the same of ProcgenGym3Env",
        "ratio": "the first over the second",
    },
    run=run,
    sizes={
        "quick": Size(
            seeds=1,
            parameters={"steps": 20, "stretches": 3, "threads": 1},
            note="three stretches of 20 steps",
            conditions=("starpilot",),
        ),
        "default": Size(seeds=3, parameters={"steps": 50, "stretches": 15, "threads": 1}),
        "full": Size(seeds=5, parameters={"steps": 200, "stretches": 21, "threads": 2}),
    },
    alone=True,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
