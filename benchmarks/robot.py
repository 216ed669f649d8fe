"""A robot that drifts in buildings: how much is covered, how good the map is, and how much of it is in active memory.

The buildings are those of ``--maps FOLDER`` (ROS maps, pictures: whatever ``farl.envs.map_world.load_grids`` reads);
without a folder, offices are drawn. Conditions are errors of the odometry in percent (``--drift 0,1,2,5``; see
``RobotSettings.drift``), each the mean over buildings; rows with a building's name are that building alone.

All methods explore with the same next best views and the same odometry, but for ``global-perfect``, whose odometry has
no error, and ``nearest``, which goes to the nearest place that shows something new:

- ``farmap-robot``: fragments, scan matching, loop closure
- ``farmap-robot-new-cells``: the same, with the share of new cells as the surprisal
- ``farmap-robot-particles``: the same, localised in its fragment by 100 particles instead of by scan matching
- ``farmap``: the same, with fragments that end as published, where the surprisal's z-score says so
- ``global``: one map by the odometry alone
- ``global-slam``: one map of everything to plan on, from the same fragments, scan matching and closures: what memory
  costs when nothing is left out
- ``global-match``: one map, with scan matching, without fragments and closures
- ``global-perfect``: one map, by an odometry without error
- ``nearest``: ``global-match`` with the nearest view
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.harness import Benchmark, Job, Size, main
from farl.agents.robot import FARMapRobot
from farl.envs.map_world import OccupancyGrid, load_grids, map_files
from farl.envs.robot.offices import generate_office
from farl.envs.robot.vec_env import RobotVecEnv
from farl.errors import ConfigError
from farl.slam.poses import between, compose

METHODS: dict[str, dict[str, Any]] = {
    "farmap-robot": {},
    "farmap-robot-new-cells": {"surprisal": "new-cells", "rho": 3.0},
    "farmap-robot-particles": {"particles": 100},
    "farmap": {"criterion": "zscore"},
    "global": {"criterion": "none", "matching": False},
    "global-match": {"criterion": "none"},
    "global-slam": {"planning": "global"},
    "global-perfect": {"criterion": "none", "matching": False},
    "nearest": {"criterion": "none", "goal": "nearest"},
}
TILE = 5.0  # metres a side of the pieces that are aligned one by one

Plans = dict[str, OccupancyGrid]


def plans_of(parameters: Mapping[str, Any]) -> Plans:
    """The buildings by name."""
    if not parameters.get("maps"):
        rng = np.random.default_rng(23)
        return {f"office-{i}": generate_office(rng, floors=1 + i % 2) for i in range(int(parameters["offices"]))}
    plans: Plans = {}
    for file in map_files(parameters["maps"]):
        for name, grid in load_grids(file).items():
            plans[name if name == file.stem else f"{file.stem}:{name}"] = grid
    return plans


def run(job: Job) -> dict[str, Any]:
    """One method in all buildings, with one error of the odometry and one seed."""
    drift = 0.0 if job.method == "global-perfect" else float(job.condition.removeprefix("drift-")) / 100.0
    by_plan = {
        name: _explore(grid, METHODS[job.method], drift, job.seed, int(job.parameters["steps"]))
        for name, grid in plans_of(job.parameters).items()
    }
    first = next(iter(by_plan.values()))
    points = first.pop("points")
    curves = [by_plan[name].pop("curve") for name in by_plan]
    for row in by_plan.values():
        row.pop("points", None)
    return {
        **{key: float(np.mean([row[key] for row in by_plan.values()])) for key in first},
        "curves": {"coverage": {"x": points, "y": np.mean(curves, axis=0)}},
        "plans": by_plan,
    }


def _explore(grid: OccupancyGrid, settings: Mapping[str, Any], drift: float, seed: int, steps: int) -> dict[str, Any]:
    if grid.resolution is None:
        grid = grid._replace(resolution=0.05)
    env = RobotVecEnv(1, maps=grid.cells, resolution=grid.resolution, drift=drift, until_covered=None, max_steps=10**9)
    env.seed(seed)
    agent = FARMapRobot(env=env, seed=seed, **settings)
    agent.learn(20, log_interval=0)  # compiles the kernels, or reads them from the disk
    coverage, memory, driven = [], [], []
    began = time.process_time()
    pieces = 100
    for _ in range(pieces):
        agent.learn(max(steps // pieces, 1), reset_num_timesteps=False, log_interval=0)
        coverage.append(float(env.worlds.coverage[0]))
        memory.append(int(agent.explorers.active_memory[0]))
        driven.append(float(env.worlds.driven[0]))
    seconds = time.process_time() - began
    robot = agent.robots[0]
    true = between(env.worlds.start[0], env.worlds.pose[0])
    moved = np.diff(driven, prepend=0.0)
    return {
        "coverage": coverage[-1],
        "auc": float(np.mean(coverage)),
        "auc_metres": float(np.average(coverage, weights=moved + 1e-9)),
        "driven": driven[-1],
        **_quality(agent, env),
        "pose_error": float(np.hypot(*(robot.world_pose - true)[:2])),
        "memory_mean": float(np.mean(memory)),
        "memory_peak": float(np.max(memory)),
        "fragments": float(len(robot.graph.poses)),
        "closures": float(robot.closures),
        "undone": float(robot.undone),
        "steps_per_cpu_second": pieces * max(steps // pieces, 1) / seconds,
        "points": [(k + 1) * max(steps // pieces, 1) for k in range(pieces)],
        "curve": coverage,
    }


def _quality(agent: FARMapRobot, env: RobotVecEnv) -> dict[str, float]:
    """Intersection over union with the truth, of free and occupied cells: after one rigid alignment, and piecewise."""
    saved = agent.whole_map()
    size = saved.resolution or 0.1
    cells = saved.cells[::-1]
    rows, cols = np.nonzero(cells >= 0)
    where = np.stack([saved.origin[0] + (cols + 0.5) * size, saved.origin[1] + (rows + 0.5) * size], axis=1)
    occupied = cells[rows, cols] == 1
    truth = _Truth(env, size)
    start = env.worlds.start[0]
    rigid = truth.align(where, occupied, start, 1.5, 0.3)
    seen = truth.nothing()
    truth.lay(seen, where, occupied, rigid)
    hits = truth.compare(seen)
    seen = truth.nothing()
    tiles = np.floor(where / TILE).astype(np.int64)
    for tile in np.unique(tiles, axis=0):
        inside = (tiles == tile).all(axis=1)
        if inside.sum() >= 50:
            pose = truth.align(where[inside], occupied[inside], rigid, 1.0, 0.15)
            truth.lay(seen, where[inside], occupied[inside], pose)
    local = truth.compare(seen)
    countable = truth.countable
    return {
        "iou": float(
            np.mean([hits[0] / (hits[1] + countable[0] - hits[0]), hits[2] / (hits[3] + countable[1] - hits[2])])
        ),
        "iou_local": float(
            np.mean([local[0] / (local[1] + countable[0] - local[0]), local[2] / (local[3] + countable[1] - local[2])])
        ),
    }


class _Truth:
    """A building with cells of the map's size, to compare with."""

    def __init__(self, env: RobotVecEnv, size: float) -> None:
        building = env.worlds.building(0)
        factor = max(round(size / building.resolution), 1)
        free = building.leap > 0
        height, width = (side // factor * factor for side in free.shape)
        blocks = free[:height, :width].reshape(height // factor, factor, width // factor, factor)
        self.size, self.free = building.resolution * factor, blocks.all(axis=(1, 3))
        wall = ~blocks.all(axis=(1, 3))
        self.wall = wall & ndimage.binary_dilation(self.free, np.ones((3, 3)))
        near = ndimage.distance_transform_edt(~self.wall)
        self.field = np.exp(-(near**2) / 2.0).astype(np.float32)
        self.countable = (int(self.free.sum()), int(self.wall.sum()))

    def align(self, where: Any, occupied: Any, guess: Any, reach: float, turn: float) -> Any:
        """The rigid motion near a guess under which occupied cells lie best on walls."""
        points = where[occupied]
        if len(points) < 10:
            return guess
        points = points[:: max(len(points) // 400, 1)]
        middle = points.mean(axis=0)
        best, found = -1.0, guess
        span, angle_span = reach, turn
        while span > self.size / 4:
            centre = found
            for angle in np.linspace(-angle_span, angle_span, 7):
                for dx in np.linspace(-span, span, 5):
                    for dy in np.linspace(-span, span, 5):
                        turned = np.array([centre[0], centre[1], centre[2] + angle])
                        # Turn about the middle of the points, so that turning and shifting do not fight.
                        turned[:2] += compose(centre, [*middle, 0.0])[:2] - compose(turned, [*middle, 0.0])[:2]
                        turned[:2] += (dx, dy)
                        row, col, inside = self._cells(points, turned)
                        score = float(self.field[row, col][inside].sum())
                        if score > best:
                            best, found = score, turned
            span, angle_span = span / 2, angle_span / 2
        return found

    def nothing(self) -> Any:
        """What is held for free and for occupied, to be laid on: nothing yet, bool[2, H, W]."""
        return np.zeros((2, *self.free.shape), bool)

    def lay(self, seen: Any, where: Any, occupied: Any, pose: Any) -> None:
        """Lay cells that are held for free or occupied where a pose puts them; ``seen`` is changed."""
        row, col, inside = self._cells(where, pose)
        for kind, chosen in enumerate((~occupied, occupied)):
            seen[kind][row[inside & chosen], col[inside & chosen]] = True

    def compare(self, seen: Any) -> Any:
        """Right and all cells that are held for free, and the same of occupied ones, float64[4]."""
        free = seen[0] & ~seen[1]
        beside = ndimage.binary_dilation(self.wall, np.ones((3, 3)))  # a wall may be one cell off: cells are large
        hit = self.wall & ndimage.binary_dilation(seen[1], np.ones((3, 3)))
        wrong = seen[1] & ~beside
        return np.array([(free & self.free).sum(), free.sum(), hit.sum(), hit.sum() + wrong.sum()], np.float64)

    def _cells(self, points: Any, pose: Any) -> Any:
        cos, sin = math.cos(pose[2]), math.sin(pose[2])
        col = np.floor((pose[0] + cos * points[:, 0] - sin * points[:, 1]) / self.size).astype(np.int64)
        row = np.floor((pose[1] + sin * points[:, 0] + cos * points[:, 1]) / self.size).astype(np.int64)
        inside = (row >= 0) & (col >= 0) & (row < self.free.shape[0]) & (col < self.free.shape[1])
        return row.clip(0, self.free.shape[0] - 1), col.clip(0, self.free.shape[1] - 1), inside


def derive(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each building alone."""
    return [
        {"method": row["method"], "condition": f"{row['condition']} {name}", "seed": row["seed"], **values}
        for row in rows
        for name, values in row.get("plans", {}).items()
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="floor plans (ROS maps, pictures); else offices")
    parser.add_argument(
        "--drift", metavar="0,1,2,5", help="errors of the odometry in percent: --conditions drift-0,..."
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps in each building")


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """The job parameters that follow from the options.

    :raises ConfigError: if a plan cannot be read, or there are no steps
    """
    chosen: dict[str, Any] = {}
    if options.drift is not None:
        asked = [f"drift-{part.strip()}" for part in options.drift.split(",")]
        unknown = [name for name in asked if name not in CONDITIONS]
        if unknown:
            raise ConfigError(f"--drift {options.drift}: known are {', '.join(name[6:] for name in CONDITIONS)}")
        options.conditions = ",".join(asked)
    if options.steps is not None:
        if options.steps < 1:
            raise ConfigError(f"--steps {options.steps}: must be at least 1")
        chosen["steps"] = options.steps
    if options.maps is not None:
        chosen["maps"] = str(options.maps)
        plans_of(chosen)
    return chosen


CONDITIONS = ("drift-0", "drift-1", "drift-2", "drift-5")

METRICS = {
    "coverage": "share of the building seen after the last step",
    "auc": "area under the coverage curve, over steps",
    "auc_metres": "area under the coverage curve, over the metres driven",
    "driven": "metres driven",
    "iou": "map quality after the best rigid alignment: intersection over union, mean of free and occupied cells",
    "iou_local": "the same after pieces of 5 x 5 m were aligned one by one",
    "pose_error": "metres by which it is wrong about where it is at the end",
    "memory_mean": "active memory: cells of the bounding box of the map that is planned on, mean over steps",
    "memory_peak": "the same, largest over steps",
    "fragments": "fragments at the end",
    "closures": "loops closed",
    "undone": "closures refused or taken back",
    "steps_per_cpu_second": "steps per CPU second: world, lidar, matching, map and choice",
}

BENCHMARK = Benchmark(
    name="robot",
    methods=tuple(METHODS),
    conditions=CONDITIONS,
    metrics=METRICS,
    run=run,
    sizes={
        "quick": Size(
            1,
            {"steps": 600, "offices": 1},
            "one seed, 600 steps, one office",
            methods=("farmap-robot", "global"),
            conditions=("drift-2",),
        ),
        "default": Size(5, {"steps": 8_000, "offices": 2}),
        "full": Size(5, {"steps": 20_000, "offices": 6}),
    },
    add_arguments=add_arguments,
    parameters=parameters,
    derive=derive,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
