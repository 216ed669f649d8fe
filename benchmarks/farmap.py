"""FARMap's evaluation: how much of unknown worlds is covered, how fast, and with how much active memory.

Conditions are the groups of worlds by enlarged area: ``S`` up to 3 000 cells, ``M`` up to 7 000, ``L`` above; ``all``
pools them. The worlds are those of ``--maps FILE.npz`` (boolean arrays, True is wall), or else drawn by the generator
with the paper's parameters, 40 of each group (8 in the quick size). ``X300`` and ``X600`` are four generated worlds
of 300 x 300 and two of 600 x 600 cells with their own number of steps; they run when they are asked for with
``--conditions``.

Rows named ``a - b`` are differences between two methods on the same world, averaged over seeds: their intervals are
over worlds.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks._results import curves, default_plots
from benchmarks.harness import Benchmark, Job, Size, main
from farl.agents.explorer import MapExplorer
from farl.agents.farmap import FARMap
from farl.agents.farmap_plus import FARMapPlus
from farl.agents.frontier import FrontierExplorer, RandomExplorer
from farl.agents.oracle import OracleExplorer
from farl.envs.map_world import MapWorldVecEnv, WorldParameters, WorldSize, generate_world, load_maps
from farl.errors import ConfigError
from farl.maps.geometry import BoolArray

SCALE = 3
GROUPS = {"S": (0, 3_000), "M": (3_001, 7_000), "L": (7_001, 10**9)}
MILESTONES = (100, 200, 500, 1_000, 2_500, 5_000)
BATCH = 100  # worlds stepped at once

AS_PUBLISHED = {"patience": None}  # which never look for what is left
METHODS: dict[str, tuple[type[MapExplorer], dict[str, Any]]] = {
    "farmap": (FARMap, AS_PUBLISHED),
    "farmap-plus": (FARMapPlus, {}),
    "frontier": (FrontierExplorer, {"goal": "frontier", **AS_PUBLISHED}),
    "frontier-heading": (FrontierExplorer, {"goal": "frontier-heading", **AS_PUBLISHED}),
    "nearest": (FrontierExplorer, {"goal": "nearest"}),
    "infogain": (FrontierExplorer, {"goal": "infogain"}),
    "random": (RandomExplorer, {}),
    "oracle": (OracleExplorer, {}),
}
PAIRS = (("farmap", "frontier"), ("farmap", "frontier-heading"), ("farmap-plus", "infogain"), ("farmap-plus", "farmap"))

WIDE = {
    "X300": (WorldSize(WorldParameters((13, 13), (6, 6), (2, 2), connect=0.35), (90_000, 105_000)), 4, 10_000),
    "X600": (WorldSize(WorldParameters((26, 26), (6, 6), (2, 2), connect=0.35), (360_000, 400_000)), 2, 20_000),
}


class Recorder(BaseCallback):
    """Coverage, active memory, and whether the agent moved, of every world at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.coverage: list[Any] = []
        self.memory: list[Any] = []
        self.moved: list[Any] = []

    def _on_training_start(self) -> None:
        self._place = self.training_env.unwrapped.worlds.pose[:, :2].copy()

    def _on_step(self) -> bool:
        worlds = self.training_env.unwrapped.worlds
        self.moved.append((worlds.pose[:, :2] != self._place).any(axis=1))
        self._place = worlds.pose[:, :2].copy()
        self.coverage.append(worlds.coverage)
        self.memory.append(self.model.explorers.active_memory)
        return True


def explore(
    method: type[MapExplorer],
    settings: Mapping[str, Any],
    maps: Sequence[BoolArray],
    seed: int,
    steps: int,
    **world: Any,
) -> tuple[Any, Any, list[MapExplorer], float]:
    """Explore every map once: coverage and memory, float[T, N], the agents, and the CPU seconds that it all took."""
    coverage, memory, agents, seconds = [], [], [], 0.0
    for first in range(0, len(maps), BATCH):
        batch = maps[first : first + BATCH]
        env = MapWorldVecEnv(len(batch), maps=batch, scale=SCALE, until_covered=False, max_steps=steps + 1, **world)
        agent = method(env=env, seed=1_000 * seed + first, **settings)
        recorder = Recorder()
        began = time.process_time()
        agent.learn(steps * len(batch), callback=recorder, log_interval=0)
        seconds += time.process_time() - began
        coverage.append(recorder.coverage)
        memory.append(recorder.memory)
        agents.append(agent)
    return np.concatenate(coverage, axis=1), np.concatenate(memory, axis=1), agents, seconds


def measure(coverage: Any, memory: Any, agents: Sequence[MapExplorer], seconds: float) -> dict[str, Any]:
    """The metrics of one run over N worlds; coverage and memory are float[T, N]."""
    steps, n_worlds = coverage.shape
    reached = {share: _steps_to(coverage, share / 100) for share in (90, 95, 99)}
    exploring = np.arange(steps)[:, None] < reached[99]
    total = [agent.explorers for agent in agents]
    points = np.unique(np.linspace(0, steps - 1, 101).astype(int))
    return {
        "auc": coverage.mean(),
        **{f"coverage_{step}": coverage[step - 1].mean() for step in MILESTONES if step <= steps},
        "coverage_end": coverage[-1].mean(),
        **{f"steps_to_{share}": found.mean() for share, found in reached.items()},
        "memory_mean": memory.mean(),
        "memory_exploring": ((memory * exploring).sum(axis=0) / exploring.sum(axis=0)).mean(),
        "memory_peak": memory.max(axis=0).mean(),
        "ltm_kib": sum(explorers.memory_bytes for explorers in total) / n_worlds / 1024,
        "fragments": sum(explorers.fragments for explorers in total) / n_worlds,
        "recalls": sum(explorers.recalls for explorers in total) / n_worlds,
        "steps_per_cpu_second": coverage.size / seconds,
        "curves": {"coverage": {"x": points + 1, "y": coverage[points].mean(axis=1)}},
        "worlds": {"auc": coverage.mean(axis=0).round(5), "memory_mean": memory.mean(axis=0).round(1)},
        "n_worlds": n_worlds,
    }


def run(job: Job) -> dict[str, Any]:
    """One method on all worlds of a group, with one seed."""
    method, settings = METHODS[job.method]
    maps, steps = worlds_of(job.condition, job.parameters)
    if not maps:
        return {"n_worlds": 0}
    # The first steps compile the kernels, or read them from the disk.
    explore(method, settings, maps[:1], 0, 300)
    return measure(*explore(method, settings, maps, job.seed, steps))


def worlds_of(condition: str, parameters: Mapping[str, Any]) -> tuple[list[BoolArray], int]:
    """The maps of a condition and the number of steps."""
    steps = int(parameters["steps"])
    if condition in WIDE:
        size, n_worlds, wide_steps = WIDE[condition]
        rng = np.random.default_rng(7)
        return [generate_world(rng, size) for _ in range(n_worlds)], min(wide_steps, 12 * steps)
    if condition == "all":
        return [world for group in GROUPS for world in worlds_of(group, parameters)[0]], steps
    low, high = GROUPS[condition]
    if parameters.get("maps"):
        maps = load_maps(parameters["maps"], SCALE).values()
        return [world for world in maps if low <= world.size * SCALE**2 <= high], steps
    rng = np.random.default_rng([11, low])
    size = WorldSize(WorldParameters(), (low, min(high, 40_000)))
    return [generate_world(rng, size) for _ in range(int(parameters["worlds"]))], steps


def derive(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All groups together, and paired differences over worlds."""
    pooled = pool_groups(rows)
    return [*pooled, *paired([*rows, *pooled], PAIRS)]


def pool_groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per method and seed over the worlds of all groups, where all of them were run."""
    done = [row for row in rows if row.get("n_worlds")]
    pooled = []
    for (method, seed), found in _grouped(done, "method", "seed").items():
        groups = [row for row in found if row["condition"] in GROUPS]
        if {row["condition"] for row in groups} == set(GROUPS):
            pooled.append({"method": method, "condition": "all", "seed": seed, **_weighted(groups)})
    return pooled


def paired(rows: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """One row per world for the difference between two methods there, averaged over the seeds that both have."""
    differences = []
    for (condition,), found in _grouped([row for row in rows if row.get("n_worlds")], "condition").items():
        by_method = _grouped(found, "method")
        for first, second in pairs:
            if (first,) in by_method and (second,) in by_method:
                differences += _differences(condition, first, second, by_method[first,], by_method[second,])
    return differences


def _weighted(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the worlds of several rows."""
    counts = np.array([row["n_worlds"] for row in rows])
    names = [name for name in METRICS if all(row.get(name) is not None for row in rows)]
    mean = {name: float(np.average([row[name] for row in rows], weights=counts)) for name in names}
    # Steps per second add up as seconds per step do.
    mean["steps_per_cpu_second"] = float(
        counts.sum() / sum(n / row["steps_per_cpu_second"] for n, row in zip(counts, rows, strict=True))
    )
    y = np.average([row["curves"]["coverage"]["y"] for row in rows], axis=0, weights=counts)
    worlds = {name: [value for row in rows for value in row["worlds"][name]] for name in ("auc", "memory_mean")}
    return mean | {
        "curves": {"coverage": {"x": rows[0]["curves"]["coverage"]["x"], "y": y.tolist()}},
        "worlds": worlds,
        "n_worlds": int(counts.sum()),
    }


def _differences(
    condition: str, first: str, second: str, ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    seeds = sorted({row["seed"] for row in ours} & {row["seed"] for row in theirs})
    if not seeds:
        return []

    def mean(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
        return np.mean([row["worlds"][name] for row in rows if row["seed"] in seeds], axis=0)

    auc, memory = (mean(ours, name) - mean(theirs, name) for name in ("auc", "memory_mean"))
    return [
        {
            "method": f"{first} - {second}",
            "condition": condition,
            "seed": world,
            "auc": float(auc[world]),
            "memory_mean": float(memory[world]),
        }
        for world in range(len(auc))
    ]


def _grouped(rows: Sequence[Mapping[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _steps_to(coverage: Any, share: float) -> Any:
    """Steps until a share was covered, int[N]; all of them where it never was."""
    reached = coverage >= share
    return np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, len(coverage))


def plot(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Coverage against steps, and area under that curve against active memory."""
    methods = [row for row in document["rows"] if " - " not in row["method"] and row.get("n_worlds")]
    shown = {**document, "rows": methods}
    if not methods:
        return {}
    return {"coverage": curves(shown, "coverage"), "memory": trade(shown), **_bars(shown)}


def _bars(document: Mapping[str, Any]) -> dict[str, Figure]:
    return {name: figure for name, figure in default_plots(document).items() if name == "auc"}


def trade(document: Mapping[str, Any]) -> Figure:
    """One panel per condition: each method's area under the curve at its mean active memory."""
    conditions = list(dict.fromkeys(row["condition"] for row in document["rows"]))
    figure = Figure(figsize=(4.5 * len(conditions), 4.0), layout="constrained")
    for axes, condition in zip(figure.subplots(1, len(conditions), squeeze=False)[0], conditions, strict=True):
        for (method,), rows in _grouped(document["rows"], "method").items():
            here = [row for row in rows if row["condition"] == condition]
            x, y = (np.mean([row[name] for row in here] or [0.0]) for name in ("memory_mean", "auc"))
            if x > 0:  # the random walk remembers nothing
                axes.plot(x, y, "o")
                axes.annotate(method, (x, y), textcoords="offset points", xytext=(5, 4), fontsize="small")
        axes.margins(x=0.3)
        axes.set(title=condition, xlabel="mean active memory (cells)", ylabel="area under the coverage curve")
    return figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--maps", type=Path, metavar="FILE", help="worlds to explore (.npz); generated ones without")
    parser.add_argument("--steps", type=int, metavar="N", help="steps in each world")


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """The job parameters that follow from the options.

    :raises ConfigError: the maps cannot be read, or there are no steps
    """
    chosen: dict[str, Any] = {}
    if options.maps is not None:
        load_maps(options.maps, SCALE)
        chosen["maps"] = str(options.maps)
    if options.steps is not None:
        if options.steps < 1:
            raise ConfigError(f"--steps {options.steps}: must be at least 1")
        chosen["steps"] = options.steps
    return chosen


METRICS = {
    "auc": "area under the coverage curve: mean coverage over all steps",
    **{f"coverage_{step}": f"coverage after {step} steps" for step in MILESTONES},
    "coverage_end": "coverage after the last step",
    **{
        f"steps_to_{share}": f"steps to {share} % coverage (all of them where it is not reached)"
        for share in (90, 95, 99)
    },
    "memory_mean": "active memory: cells of the current map's bounding box, mean over steps",
    "memory_exploring": "the same, mean over the steps until 99 % are covered",
    "memory_peak": "the same, largest over steps",
    "ltm_kib": "long-term memory at the end, KiB per world",
    "fragments": "fragments opened by a fracture, per world",
    "recalls": "recalls, per world",
    "steps_per_cpu_second": "agent steps per CPU second: world, view, map, choice, and this measurement",
}

BENCHMARK = Benchmark(
    name="farmap",
    methods=tuple(METHODS),
    conditions=(*GROUPS, "all", *WIDE),
    metrics=METRICS,
    run=run,
    sizes={
        "quick": Size(
            1,
            {"steps": 300, "worlds": 8},
            "one seed, 300 steps, 8 generated worlds a group",
            methods=("farmap", "farmap-plus", "frontier-heading", "infogain"),
            conditions=tuple(GROUPS),
        ),
        "default": Size(3, {"steps": 5_000, "worlds": 40}, conditions=tuple(GROUPS)),
        "full": Size(5, {"steps": 5_000, "worlds": 40}, conditions=tuple(GROUPS)),
    },
    plot=plot,
    add_arguments=add_arguments,
    parameters=parameters,
    derive=derive,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
