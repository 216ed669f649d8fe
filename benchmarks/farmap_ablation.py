"""What each part of FARMap is worth: decay, threshold, distance, criterion, recall - and worlds that change.

Each method is FARMap with one thing changed; ``default`` is the paper's. ``recolour`` and ``obstacles`` change the
worlds instead: every wall has a new colour at every step, or 20 obstacles move about in each world. The worlds are
drawn by the generator with the paper's parameters, as in ``benchmarks.farmap``; conditions are its groups.

Rows named ``a - b`` are differences on the same worlds, averaged over seeds: surprisal against the cuts that
disregard it. Those have in each group about the threshold at which they cost as much active memory as surprisal does,
set after a first look at 16 other worlds a group. Where ``passage`` ends fragments as often as it can, it still costs
more in L. ``size-1000`` has one limit for all groups, and far less memory.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks._cuts import CutFARMap
from benchmarks._results import bars
from benchmarks.farmap import GROUPS, METRICS, explore, measure, paired, pool_groups, trade, worlds_of
from benchmarks.harness import Benchmark, Job, Size, main
from farl.agents.farmap import FARMap

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "gamma-0.8": {"gamma": 0.8},
    "gamma-0.95": {"gamma": 0.95},
    "rho-1": {"rho": 1.0},
    "rho-1.5": {"rho": 1.5},
    "rho-3": {"rho": 3.0},
    "epsilon-1": {"epsilon": 1.0},
    "epsilon-50": {"epsilon": 50.0},
    "ratio-1.5": {"criterion": "ratio", "rho": 1.5},
    "no-recall": {"recall": False},
    "never": {"criterion": "none"},
}
MATCHED: dict[str, tuple[str, tuple[float, float, float]]] = {
    "random": ("probability", (0.0075, 0.011, 0.015)),
    "uniform": ("every", (125, 115, 105)),
    "new-cells": ("rho", (2.6, 3.0, 3.5)),
    "visible-area": ("threshold", (4.0, 3.7, 3.8)),
    "passage": ("threshold", (26, 20, 1)),
    "size": ("threshold", (1_700, 2_500, 3_050)),
}
"""Cuts that disregard surprisal, with about the active memory of ``default`` in S, M and L."""
WORLDS: dict[str, dict[str, Any]] = {"recolour": {"recolour": True}, "obstacles": {"obstacles": 20}}
PAIRS = tuple(("default", other) for other in (*MATCHED, "size-1000", "no-recall", "never"))


def run(job: Job) -> dict[str, Any]:
    """One setting on all worlds of a group, with one seed."""
    maps, steps = worlds_of(job.condition, job.parameters)
    agent, settings = setting_of(job.method, job.condition)
    world = WORLDS.get(job.method, {})
    explore(agent, settings, maps[:1], 0, 300, **world)
    return measure(*explore(agent, settings, maps, job.seed, steps, **world))


def setting_of(method: str, group: str) -> tuple[type[FARMap], dict[str, Any]]:
    """The agent of a method and its settings in a group of worlds."""
    if method == "size-1000":
        return CutFARMap, {"cut": "size", "threshold": 1_000}
    if method not in MATCHED:
        return FARMap, SETTINGS.get(method, {})
    name, values = MATCHED[method]
    value = values[list(GROUPS).index(group)]
    if name == "rho":
        return FARMap, {"surprisal": method, name: value}
    if name == "threshold":
        return CutFARMap, {"cut": method, name: value}
    return FARMap, {"criterion": method, name: value}


def derive(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All groups together, and paired differences over worlds."""
    pooled = pool_groups(rows)
    return [*pooled, *paired([*rows, *pooled], PAIRS)]


def plot(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Area under the coverage curve of every setting, and against active memory."""
    shown = {**document, "rows": [row for row in document["rows"] if row.get("n_worlds")]}
    return {"auc": bars(shown, "auc"), "memory": trade(shown)} if shown["rows"] else {}


BENCHMARK = Benchmark(
    name="farmap_ablation",
    methods=(*SETTINGS, *MATCHED, "size-1000", *WORLDS),
    conditions=tuple(GROUPS),
    metrics=METRICS,
    run=run,
    sizes={
        "quick": Size(
            1,
            {"steps": 300, "worlds": 4},
            "one seed, 300 steps, 4 worlds a group",
            methods=("default", "random", "new-cells", "visible-area", "passage", "size"),
        ),
        "default": Size(3, {"steps": 5_000, "worlds": 40}),
        "full": Size(5, {"steps": 5_000, "worlds": 40}),
    },
    plot=plot,
    derive=derive,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
