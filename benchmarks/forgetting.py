"""How much of what a curiosity knows of a room is left when it comes back: fragmentation against its alternatives.

Rooms of ``farl/RoomChain`` in a row. Walkers walk at random in one room after the other, 25 rollouts of 128 samples in
each; after each rollout the modules learn (four passes). Then they go back through all rooms with learning frozen.
Conditions are looks and numbers of rooms: ``none-6`` (all alike), ``color-6``, ``texture-6``.

- ``rnd``: one RND module
- ``far``: FARCuriosity; the same settings in every condition
- ``far-replay``: the same, trained like ``rnd-replay``, each module on samples of its own
- ``far-norecall``: the same, but nothing is recalled
- ``rnd-replay``: one RND module; as many samples out of a reservoir of 2 000 join each minibatch
- ``rnd-wide``: one RND module as wide as makes it as large as all of FAR's modules of the same run
- ``ensemble``: as many RND predictors as FAR has modules, all trained on everything
- ``oracle``: one module per room, told which room it is in

Settings were chosen on layouts 100 to 199; ``--layout-seed`` gives the first of the layouts, one per seed.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks._results import legend, name_conditions
from benchmarks.harness import Benchmark, Job, Size, main

LOOKS = {"none": "alike", "color": "color", "texture": "texture"}


def run(job: Job) -> dict[str, Any]:
    from benchmarks._forgetting_methods import make_curiosity
    from benchmarks._forgetting_study import Study
    from farl.envs.room_chain import RoomChain

    look, rooms = job.condition.split("-")
    settings = job.parameters
    world = RoomChain(1, int(rooms), LOOKS[look], layout_seed=settings["layout_seed"] + job.seed)  # type: ignore[arg-type]

    def study(method: str, modules: int = 1) -> Study:
        curiosity = make_curiosity(
            method, settings["walkers"], world.n_rooms, settings["learning_rate"], job.seed, modules
        )
        done = Study(curiosity, world, job.seed)
        done.run(settings["rollouts"], rollout=128, return_rollouts=4)
        return done

    modules = len(study("far").curiosity.memory) if job.method in ("rnd-wide", "ensemble") else 1
    began = time.perf_counter()
    done = study(job.method, modules)
    seconds = time.perf_counter() - began
    curiosity = done.curiosity
    counts = {"fragments": len(curiosity.memory), "recalls": curiosity.recalls}
    weights = sum(tensor.numel() for tensor in curiosity.module.predictor.parameters()) * counts["fragments"]
    return done.metrics() | counts | {"weights": weights, "seconds": seconds, "rooms": done.by_room()}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layout-seed", type=int, default=0, metavar="N", help="layout of seed 0; seed s has N + s")
    parser.add_argument("--rollouts", type=int, default=25, metavar="N", help="of 128 samples, in each room")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="X", help="of the modules")
    parser.add_argument("--walkers", type=int, default=8, metavar="N", help="that share the 128 samples; divides 128")


def _parameters(options: argparse.Namespace) -> Mapping[str, Any]:
    return {name: getattr(options, name) for name in ("layout_seed", "rollouts", "learning_rate", "walkers")}


def _plot(document: Mapping[str, Any]) -> dict[str, Figure]:
    """F and the error on return, both on a logarithmic axis: a group of bars per condition."""
    figure = Figure(figsize=(14.0, 4.0), layout="constrained")
    summary = document["summary"]
    conditions = list(dict.fromkeys(row["condition"] for row in document["rows"]))
    width = 0.8 / len(summary)
    for axes, metric, label in zip(
        figure.subplots(1, 2),
        ("F", "return_error"),
        ("F: error on return / at the end of the first visit", "error on return"),
        strict=True,
    ):
        for index, (method, cells) in enumerate(summary.items()):
            known = [
                (place, cells[name][metric]) for place, name in enumerate(conditions) if metric in cells.get(name, {})
            ]
            x = np.array([place for place, _ in known]) + (index - (len(summary) - 1) / 2) * width
            mean, low, high = (np.array([cell[key] for _, cell in known]) for key in ("mean", "low", "high"))
            whiskers = np.maximum([mean - low, high - mean], 0.0)
            axes.bar(x, mean, width, yerr=whiskers, capsize=2, label=method)
        axes.set(yscale="log", ylabel=label)
        name_conditions(axes, conditions)
        if metric == "F":
            axes.axhline(1.0, color="black", linewidth=0.8)
    legend(figure)
    return {"forgetting": figure}


BENCHMARK = Benchmark(
    name="forgetting",
    methods=("rnd", "far", "far-replay", "far-norecall", "rnd-replay", "rnd-wide", "ensemble", "oracle"),
    conditions=tuple(f"{look}-{rooms}" for look in LOOKS for rooms in (3, 6, 12)),
    metrics={
        "F": "error on return / at the end of the first visit, geometric mean over the rooms left; 1 is no forgetting",
        "N": "error on return / error at first sight",
        "return_error": "error on return, mean over the rooms left",
        "fragments": "modules at the end",
        "purity": "share of samples in a fragment that belong to the room it is used in most",
        "recalls": "number of recalls",
        "seconds": "wall-clock time of the run, in s",
    },
    run=run,
    sizes={
        "quick": Size(seeds=1, note="one seed, three rooms", conditions=("color-3",), methods=("rnd", "far")),
        "default": Size(seeds=5),
        "full": Size(seeds=10),
    },
    plot=_plot,
    add_arguments=_add_arguments,
    parameters=_parameters,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
