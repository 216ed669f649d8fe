"""The main job beside its two baselines: how much of the rooms is covered, how soon, and what the memory did.

- ``far``: ``configs/quickstart.yaml``, PPO led by the graph of the places that it recognises
- ``far-published``: ``configs/far_published.yaml``, PPO with fragmented curiosity as published
- ``rnd``: ``configs/rnd_baseline.yaml``, the same with one curiosity module for the whole world
- ``ppo``: ``configs/ppo_baseline.yaml``, the same without curiosity
- ``map-rooms``: ``configs/map_rooms.yaml``, the quickstart's agent in nine rooms of a map
- ``map-small``: the same in FARMap's small worlds: ragged rooms with wide openings and corridors

Conditions are layouts of the nine rooms: ``layout-0`` is the configuration's own, on which its settings were chosen;
the others were never used to choose anything.
"""

import argparse
import sys
from typing import Any

from benchmarks.harness import Benchmark, Job, Size, main
from farl.errors import ConfigError

CONFIGS = {
    "far": "quickstart",
    "far-published": "far_published",
    "rnd": "rnd_baseline",
    "ppo": "ppo_baseline",
    "map-rooms": "map_rooms",
    "map-small": "map_rooms",
}
FURTHER = {
    "map-small": (
        "environment.id=farl/MapWorld-Small-v0",
        "environment.kwargs.observation=vector",
        "environment.kwargs.max_steps=500",
    )
}
"""What a method changes in its configuration."""


def run(job: Job) -> dict[str, Any]:
    from farl.experiment.loading import load_config
    from farl.experiment.run import train

    layout = job.condition.removeprefix("layout-")
    overrides = [f"seed={job.seed}", f"environment.kwargs.layout_seed={layout}", "logging.tensorboard=false"]
    overrides += FURTHER.get(job.method, ())
    if job.parameters["steps"] is not None:
        overrides.append(f"total_timesteps={job.parameters['steps']}")
    metrics = train(load_config(CONFIGS[job.method], overrides))
    names = ("coverage", "coverage_90_timesteps", "fragments", "recalls", "room_agreement")
    known = {name: metrics[name] for name in names if metrics[name] is not None}
    return known | {"seconds": metrics["wall_seconds"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, metavar="N", help="environment steps (default: the configuration's)")


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    if options.steps is None:
        return {}
    if options.steps < 1:
        raise ConfigError(f"--steps {options.steps}: must be at least 1")
    return {"steps": options.steps}


BENCHMARK = Benchmark(
    name="quickstart",
    methods=tuple(CONFIGS),
    conditions=("layout-0", "layout-1"),
    metrics={
        "coverage": "share of the reachable cells visited over training",
        "coverage_90_timesteps": "environment steps until nine tenths were visited, over the runs that got there",
        "fragments": "fragments opened",
        "recalls": "fragments recalled",
        "room_agreement": "adjusted Rand index between fragments and rooms in the last rollout",
        "seconds": "wall-clock time of the run, in s",
    },
    run=run,
    add_arguments=add_arguments,
    parameters=parameters,
    sizes={
        "quick": Size(seeds=1, parameters={"steps": 4_096}, note="one seed, 4 096 steps", conditions=("layout-0",)),
        "default": Size(seeds=5, parameters={"steps": None}),
        "full": Size(seeds=10, parameters={"steps": None}),
    },
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
