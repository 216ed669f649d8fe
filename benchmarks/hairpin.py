"""Where do maps fragment? At the turns of a hairpin maze and at doorways, as the grid-cell maps of rats do.

Each run explores one plan with as many agents as it has worlds, until it is covered. ``near`` is the share of fractures
within two cells of a turn or doorway, ``chance`` the share of all steps that were taken there: what cuts that disregard
surprisal would give. The methods are FARMap with the paper's criterion, and with random and uniform cuts.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks._results import bars
from benchmarks.harness import Benchmark, Job, Size, main
from farl.agents.farmap import FARMap
from farl.envs.map_world import PLANS, MapWorldVecEnv

SCALE = 3
REACH = 2  # cells, enlarged
METHODS: dict[str, dict[str, Any]] = {
    "farmap": {},
    "random": {"criterion": "random", "probability": 0.01},
    "uniform": {"criterion": "uniform", "every": 100},
}
METRICS = {
    "near": "share of fractures within 2 cells of a turn or doorway",
    "chance": "share of steps there",
    "ratio": "the first over the second",
    "fractures": "fractures per world",
}


class Fractures(BaseCallback):
    """Counts, for each cell, steps and fractures until the worlds are covered."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.steps: Any = np.zeros(shape, np.int64)
        self.fractures: Any = np.zeros(shape, np.int64)

    def _init_callback(self) -> None:
        self._going = np.ones(self.training_env.num_envs, bool)
        self._seen_from = self.training_env.unwrapped.worlds.start.copy()

    def _on_step(self) -> bool:
        # The events belong to what was seen before the step.
        for counts, which in ((self.steps, self._going), (self.fractures, self._going & self._fragmented())):
            np.add.at(counts, tuple(self._seen_from[which].T), 1)
        self._seen_from = self.training_env.unwrapped.worlds.pose[:, :2].copy()
        self._going &= ~self.locals["dones"]
        return bool(self._going.any())

    def _fragmented(self) -> Any:
        return self.model.explorers.last.events.fragmented


def run(job: Job) -> dict[str, Any]:
    """Explore one plan."""
    plan, n_worlds = PLANS[job.condition](), int(job.parameters["worlds"])
    near = ndimage.binary_dilation(_enlarged(plan.landmarks), np.ones((3, 3)), iterations=REACH)
    env = MapWorldVecEnv(n_worlds, maps=plan.walls, scale=SCALE, max_steps=int(job.parameters["steps"]))
    agent = FARMap(env=env, seed=job.seed, **METHODS[job.method])
    counter = Fractures(near.shape)
    agent.learn(int(job.parameters["steps"]) * n_worlds, callback=counter, log_interval=0)
    chance = counter.steps[near].sum() / counter.steps.sum()
    n_fractures = counter.fractures.sum()
    share = counter.fractures[near].sum() / n_fractures if n_fractures else None
    rows, cols = np.nonzero(counter.fractures)
    return {
        "near": share,
        "chance": chance,
        "ratio": None if share is None else share / chance,
        "fractures": n_fractures / n_worlds,
        "places": [rows.tolist(), cols.tolist(), counter.fractures[rows, cols].tolist()],
    }


def plot(document: Mapping[str, Any]) -> dict[str, Figure]:
    """The fractures on the plans, and the share near turns and doorways."""
    rows = [row for row in document["rows"] if "places" in row and row["method"] == "farmap"]
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    if not rows:
        return {}
    figure = Figure(figsize=(5.0 * len(conditions), 5.0), layout="constrained")
    for axes, condition in zip(figure.subplots(1, len(conditions), squeeze=False)[0], conditions, strict=True):
        plan = PLANS[condition]()
        ground = np.where(_enlarged(plan.walls), 0.25, np.where(_enlarged(plan.landmarks), 0.85, 1.0))
        axes.imshow(ground, cmap="gray", vmin=0, vmax=1)
        counts: Any = np.zeros(ground.shape)
        for row in rows:
            if row["condition"] == condition:
                counts[row["places"][0], row["places"][1]] += row["places"][2]
        y, x = np.nonzero(counts)
        axes.scatter(x, y, s=6 + 60 * counts[y, x] / counts.max(), c="#D1491B", alpha=0.7, linewidths=0)
        summary = document["summary"]["farmap"][condition]
        axes.set_title(
            f"{condition}: {summary['near']['mean']:.0%} of fractures within 2 cells of the grey places, "
            f"{summary['chance']['mean']:.0%} by chance",
            fontsize="small",
        )
        axes.set_axis_off()
    return {"fractures": figure, "near": bars(document, "near")}


def _enlarged(cells: Any) -> Any:
    return cells.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


BENCHMARK = Benchmark(
    name="hairpin",
    methods=tuple(METHODS),
    conditions=tuple(PLANS),
    metrics=METRICS,
    run=run,
    sizes={
        "quick": Size(1, {"worlds": 10, "steps": 1_000}, "one seed, 10 worlds"),
        "default": Size(5, {"worlds": 40, "steps": 3_000}),
        "full": Size(20, {"worlds": 40, "steps": 3_000}),
    },
    plot=plot,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
