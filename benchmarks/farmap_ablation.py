"""What each part of FARMap is worth: decay, threshold, distance, criterion, recall - and worlds that change.

Each method is FARMap with one thing changed; ``default`` is the paper's. ``recolour`` and ``obstacles`` change the
worlds instead: every wall has a new colour at every step, or 20 obstacles move about in each world. The worlds are
drawn by the generator with the paper's parameters, as in `benchmarks.farmap`; conditions are its groups.

Rows named ``a - b`` are differences on the same worlds, averaged over seeds: surprisal against the cuts that
disregard it. Those have in each group about the frequency at which they cost as much active memory as surprisal does,
set after a first look at 16 worlds a group.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

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
MATCHED: dict[str, dict[str, dict[str, Any]]] = {
    "random": {
        "S": {"criterion": "random", "probability": 0.0075},
        "M": {"criterion": "random", "probability": 0.011},
        "L": {"criterion": "random", "probability": 0.015},
    },
    "uniform": {
        "S": {"criterion": "uniform", "every": 125},
        "M": {"criterion": "uniform", "every": 115},
        "L": {"criterion": "uniform", "every": 105},
    },
}
"""Cuts that disregard surprisal, with about the active memory of ``default`` in each group."""
WORLDS: dict[str, dict[str, Any]] = {"recolour": {"recolour": True}, "obstacles": {"obstacles": 20}}
PAIRS = (("default", "random"), ("default", "uniform"), ("default", "no-recall"), ("default", "never"))


def run(job: Job) -> dict[str, Any]:
    """One setting on all worlds of a group, with one seed."""
    maps, steps = worlds_of(job.condition, job.parameters)
    settings, world = SETTINGS.get(job.method, {}), WORLDS.get(job.method, {})
    settings = MATCHED[job.method][job.condition] if job.method in MATCHED else settings
    explore(FARMap, settings, maps[:1], 0, 300, **world)
    return measure(*explore(FARMap, settings, maps, job.seed, steps, **world))


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
    methods=(*SETTINGS, *MATCHED, *WORLDS),
    conditions=tuple(GROUPS),
    metrics=METRICS,
    run=run,
    sizes={
        "quick": Size(
            1, {"steps": 300, "worlds": 4}, "one seed, 300 steps, 4 worlds a group", methods=("default", "random")
        ),
        "default": Size(3, {"steps": 5_000, "worlds": 40}, "three seeds instead of five"),
        "full": Size(5, {"steps": 5_000, "worlds": 40}),
    },
    plot=plot,
    derive=derive,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
