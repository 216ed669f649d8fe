"""Floor plans of buildings: how much is covered, over steps and over metres driven, and with how much active memory.

The plans are those of ``--maps FOLDER`` (ROS maps, pictures, arrays: whatever ``farl.envs.map_world.load_grids``
reads), with cells of ``--resolution`` metres where a plan tells its own; without a folder, offices are drawn by the
generator. All plans of a run are explored at once, each once. The condition ``maps`` is the mean over plans; rows with
a plan's name are that plan alone.

``farmap`` and the frontier explorers are as published, and need not see all; ``farmap-patient`` is FARMap as FARL has
it, which looks for what is left where nothing new has come for 500 steps.

The odometry is perfect here, so a map is wrong only where it is missing.
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.farmap import METHODS as AS_PUBLISHED
from benchmarks.farmap import Recorder
from benchmarks.harness import Benchmark, Job, Size, main
from farl.agents.explorer import MapExplorer
from farl.agents.farmap import FARMap
from farl.envs.map_world import MapWorldVecEnv, OccupancyGrid, generate_world, load_grids, map_files
from farl.errors import ConfigError
from farl.maps.geometry import FREE, UNKNOWN
from farl.maps.unseen import joined

METHODS: dict[str, tuple[type[MapExplorer], dict[str, Any]]] = {**AS_PUBLISHED, "farmap-patient": (FARMap, {})}
RESOLUTION = 0.1
_ROUND = 500  # steps after which a run may end, where all is covered
_GENERATED = 0.25  # metres a cell of generated offices, whose corridors are one to six cells wide

Plans = dict[str, OccupancyGrid]


def plans_of(parameters: Mapping[str, Any]) -> Plans:
    """The plans by name, with cells of the chosen size where the file tells its own."""
    if not parameters.get("maps"):
        rng = np.random.default_rng(17)
        drawn = [generate_world(rng, "medium").astype(np.int8) for _ in range(int(parameters["offices"]))]
        return {f"office-{i}": OccupancyGrid(cells, _GENERATED) for i, cells in enumerate(drawn)}
    plans: Plans = {}
    for file in map_files(parameters["maps"]):
        told = file.suffix.lower() in (".yaml", ".yml")
        for name, grid in load_grids(file, resolution=parameters["resolution"] if told else None).items():
            plans[name if name == file.stem else f"{file.stem}:{name}"] = grid
    return plans


def run(job: Job) -> dict[str, Any]:
    """One method on all plans, with one seed."""
    method, settings = METHODS[job.method]
    plans, steps = plans_of(job.parameters), int(job.parameters["steps"])
    world = {"maps": {name: grid.cells for name, grid in plans.items()}, "scale": 1, "until_covered": False}
    # The first steps compile the kernels, or read them from the disk.
    method(env=MapWorldVecEnv(1, max_steps=1_000, **world), **settings).learn(200, log_interval=0)
    env = MapWorldVecEnv(len(plans), max_steps=steps + 1, **world)
    agent, recorder = method(env=env, seed=job.seed, **settings), Recorder()
    began = time.process_time()
    while (done := len(recorder.coverage)) < steps and (not done or (recorder.coverage[-1] < 1.0).any()):
        agent.learn(min(_ROUND, steps - done) * len(plans), recorder, log_interval=0, reset_num_timesteps=not done)
    seconds = time.process_time() - began
    # Where all is covered, nothing changes any more.
    rest = ((0, steps - done), (0, 0))
    coverage, memory, moved = (
        np.pad(np.asarray(rows), rest, mode)
        for rows, mode in ((recorder.coverage, "edge"), (recorder.memory, "edge"), (recorder.moved, "constant"))
    )
    by_plan = [
        _measure(coverage[:, i], memory[:, i], moved[:, i], grid.resolution, _quality(agent, env, i))
        for i, grid in enumerate(plans.values())
    ]
    points = np.unique(np.linspace(0, steps - 1, 101).astype(int))
    return {
        **{name: _mean([row[name] for row in by_plan]) for name in by_plan[0]},
        "steps_per_cpu_second": done * len(plans) / seconds,
        "curves": {"coverage": {"x": points + 1, "y": coverage[points].mean(axis=1)}},
        "plans": dict(zip(plans, by_plan, strict=True)),
    }


def _measure(
    coverage: Any, memory: Any, moved: Any, resolution: float | None, quality: Mapping[str, float | None]
) -> dict[str, float | None]:
    """The metrics of one plan; the first three are of each step, [T]."""
    metres = np.cumsum(moved) * (resolution or math.nan)
    reached = coverage >= 0.9
    end = int((coverage < coverage[-1]).sum())  # after it, nothing new was seen
    return {
        "coverage": float(coverage[-1]),
        "auc": float(coverage.mean()),
        "auc_metres": _finite(np.average(coverage, weights=moved) if moved.any() else coverage[-1]),
        "metres": _finite(metres[-1]),
        "metres_to_90": _finite(metres[reached.argmax()] if reached.any() else metres[-1]),
        "steps_to_end": float(end + 1),
        "metres_to_end": _finite(metres[end]),
        "memory_mean": float(memory[: end + 1].mean()),
        "memory_peak": float(memory.max()),
        **quality,
    }


def _quality(agent: MapExplorer, env: MapWorldVecEnv, i: int) -> dict[str, float | None]:
    """Intersection over union of the agent's map with the plan, over the cells that count; None without one."""
    plan, countable = env.worlds.plan(i).cells, env.worlds.countable(i)
    label, corner = joined(agent.explorers.known_maps(i).values())
    if not label.any():
        return dict.fromkeys(("iou", "iou_free", "iou_occupied"))
    whole = np.full(plan.shape, UNKNOWN, np.int32)
    rows, cols = np.nonzero(label)
    row, col = rows + corner[0] + env.worlds.start[i, 0], cols + corner[1] + env.worlds.start[i, 1]
    inside = (row >= 0) & (row < plan.shape[0]) & (col >= 0) & (col < plan.shape[1])
    whole[row[inside], col[inside]] = label[rows[inside], cols[inside]]
    known_free, known_wall = whole == FREE, (whole != FREE) & (whole != UNKNOWN)
    shares = []
    for held, true in ((known_free, plan == 0), (known_wall, plan == 1)):
        both, either = (held & true & countable).sum(), ((held | true) & countable).sum()
        shares.append(float(both / max(either, 1)))
    return {"iou": float(np.mean(shares)), "iou_free": shares[0], "iou_occupied": shares[1]}


def derive(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each plan alone."""
    return [
        {"method": row["method"], "condition": name, "seed": row["seed"], **values}
        for row in rows
        for name, values in row.get("plans", {}).items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument(
        "--maps", type=Path, metavar="FOLDER", help="floor plans (ROS maps, pictures); else drawn offices"
    )
    parser.add_argument("--resolution", type=float, metavar="M", help=f"metres a cell (default: {RESOLUTION})")
    parser.add_argument("--steps", type=int, metavar="N", help="steps on each plan")


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """The job parameters that follow from the options.

    :raises ConfigError: if a plan cannot be read, or there are no steps
    """
    chosen: dict[str, Any] = {}
    if options.resolution is not None:
        chosen["resolution"] = options.resolution
    if options.steps is not None:
        if options.steps < 1:
            raise ConfigError(f"--steps {options.steps}: must be at least 1")
        chosen["steps"] = options.steps
    if options.maps is not None:
        chosen["maps"] = str(options.maps)
        plans_of({"resolution": RESOLUTION, **chosen})
    return chosen


METRICS = {
    "coverage": "share of the cells seen after the last step",
    "auc": "area under the coverage curve, over steps",
    "auc_metres": "area under the coverage curve, over the metres driven",
    "metres": "metres driven, to the end of the run: to within 500 steps after all was covered",
    "metres_to_90": "metres driven until 90 % are covered (all of them where it is not reached)",
    "steps_to_end": "steps until the last cell was seen that ever was: all of them, where coverage is 1",
    "metres_to_end": "metres driven until then",
    "memory_mean": "active memory: cells of the current map's bounding box, mean over these steps",
    "memory_peak": "the same, largest over steps",
    "iou": "map quality: intersection over union with the plan, mean of free and occupied cells",
    "iou_free": "the same, of free cells",
    "iou_occupied": "the same, of occupied cells",
    "steps_per_cpu_second": "agent steps per CPU second: world, view, map and choice",
}

BENCHMARK = Benchmark(
    name="floorplans",
    methods=tuple(METHODS),
    conditions=("maps",),
    metrics=METRICS,
    run=run,
    sizes={
        "quick": Size(
            1,
            {"steps": 300, "offices": 3, "resolution": 0.2},
            "one seed, 300 steps, coarse cells",
            methods=("farmap", "farmap-plus", "infogain"),
        ),
        "default": Size(5, {"steps": 5_000, "offices": 6, "resolution": RESOLUTION}),
        "full": Size(5, {"steps": 20_000, "offices": 12, "resolution": RESOLUTION}),
    },
    add_arguments=add_arguments,
    parameters=parameters,
    derive=derive,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
