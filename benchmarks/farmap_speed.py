"""How fast the map explorers are, and how that changes with the size of the world.

Every world is explored until it is covered and then anew from another start, so that agents never idle. The time is
that of everything: worlds, views, maps, choices, and Stable-Baselines3's loop. Each seed measures small and wide worlds
right after each other, with equally many at once; rows of the condition ``slowdown`` hold the ratio of the two.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.farmap import METHODS, SCALE, WIDE
from benchmarks.harness import Benchmark, Job, Size, main
from farl.envs.map_world import MapWorldVecEnv, WorldParameters, WorldSize, generate_world

SIZES = {"60x60": WorldSize(WorldParameters(), (3_300, 3_900)), "300x300": WIDE["X300"][0]}
METRICS = {
    "steps_per_cpu_second": "agent steps per CPU second, all worlds together",
    "slowdown": "steps per CPU second in worlds of 60 x 60 cells over those in worlds of 300 x 300",
}


def run(job: Job) -> dict[str, Any]:
    """Explore worlds of one size with one method."""
    n_worlds, steps = int(job.parameters["worlds"]), int(job.parameters["steps"])
    rng = np.random.default_rng([13, job.seed])
    maps = [generate_world(rng, SIZES[job.condition]) for _ in range(n_worlds)]
    method, settings = METHODS[job.method]
    # The first steps compile the kernels, or read them from the disk.
    method(env=MapWorldVecEnv(1, maps=maps[0], scale=SCALE), **settings).learn(300, log_interval=0)
    agent = method(env=MapWorldVecEnv(n_worlds, maps=maps, scale=SCALE, max_steps=10**9), seed=job.seed, **settings)
    began = time.process_time()
    agent.learn(steps * n_worlds, log_interval=0)
    return {"steps_per_cpu_second": steps * n_worlds / (time.process_time() - began)}


def derive(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The ratio between the sizes, per method and seed."""
    speed = {(row["method"], row["seed"], row["condition"]): row.get("steps_per_cpu_second") for row in rows}
    ratios = []
    for method, seed in dict.fromkeys((row["method"], row["seed"]) for row in rows):
        small, wide = (speed.get((method, seed, condition)) for condition in SIZES)
        if small and wide:
            ratios.append({"method": method, "condition": "slowdown", "seed": seed, "slowdown": small / wide})
    return ratios


BENCHMARK = Benchmark(
    name="farmap_speed",
    methods=("farmap", "farmap-plus", "infogain"),
    conditions=tuple(SIZES),
    metrics=METRICS,
    run=run,
    sizes={
        "quick": Size(
            1, {"worlds": 8, "steps": 200}, "one seed, 8 worlds, 200 steps", methods=("farmap", "farmap-plus")
        ),
        "default": Size(5, {"worlds": 32, "steps": 1_000}, methods=("farmap", "farmap-plus")),
        "full": Size(5, {"worlds": 32, "steps": 4_000}),
    },
    alone=True,
    derive=derive,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
