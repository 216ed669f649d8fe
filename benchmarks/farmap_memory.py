"""Whether memory stays bounded: one agent explores one world of 600 x 600 cells in a single episode that never ends.

The long-term memory holds 32 fragments at most (``limit``), far fewer than the world needs: the least recently used are
evicted all along, and what they held is unknown again. ``no-limit`` is the same without a capacity. RSS is the resident
set of the process that does nothing else.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil
from matplotlib.figure import Figure
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks._results import curves
from benchmarks.farmap import METHODS
from benchmarks.harness import Benchmark, Job, Size, main
from farl.envs.map_world import MapWorldVecEnv, generate_world

CAPACITIES = {"limit": 32, "no-limit": None}
POINTS = 200  # of each curve
WARM = 0.1  # share of the steps after which memory should not grow any more


class Recorder(BaseCallback):
    """RSS, fragments held and fragments evicted so far, at every ``every``-th step."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every

    def _init_callback(self) -> None:
        self.evicted = 0
        self.rows: list[tuple[float, ...]] = []
        self.model.explorers.memory.on_evict.append(self._count)

    def _count(self, fragment_id: int) -> None:
        self.evicted += 1

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            explorers = self.model.explorers
            (coverage,) = self.training_env.unwrapped.worlds.coverage
            self.rows.append(
                (resident_mib(), len(explorers.memory), self.evicted, explorers.memory_bytes / 2**20, coverage)
            )
        return True


def resident_mib() -> float:
    """RSS of this process in MiB."""
    return psutil.Process().memory_info().rss / 2**20


def run(job: Job) -> dict[str, Any]:
    """One agent in one world."""
    steps = int(job.parameters["steps"])
    every = max(1, steps // POINTS)
    world = generate_world(np.random.default_rng([3, job.seed]), "huge")
    env = MapWorldVecEnv(1, maps=world, until_covered=False, max_steps=steps + 1)
    method, settings = METHODS[job.method]
    agent = method(env=env, seed=job.seed, capacity=CAPACITIES[job.condition], **settings)
    recorder = Recorder(every)
    agent.learn(steps, callback=recorder, log_interval=0)
    rss, held, evicted, ltm, coverage = np.array(recorder.rows).T
    warm = int(WARM * len(rss))
    x = every * (1 + np.arange(len(rss)))
    return {
        "rss_warm": rss[warm],
        "rss_end": rss[-1],
        "rss_peak": rss.max(),
        "fragments_held": held.max(),
        "evictions": evicted[-1],
        "fractures": agent.explorers.fragments,
        "ltm_mib": ltm.max(),
        "coverage": coverage[-1],
        "curves": {
            name: {"x": x, "y": y.round(3)}
            for name, y in (("rss", rss), ("fragments held", held), ("evictions", evicted), ("ltm", ltm))
        },
    }


def plot(document: Mapping[str, Any]) -> dict[str, Figure]:
    """RSS and evictions over steps."""
    if not any(row.get("curves") for row in document["rows"]):
        return {}
    rss = curves(document, "rss")
    for axes in rss.axes:
        axes.set(ylim=(0, 1.2 * axes.get_ylim()[1]), xlabel="steps", ylabel="RSS (MiB)")
    return {"rss": rss, "evictions": curves(document, "evictions")}


BENCHMARK = Benchmark(
    name="farmap_memory",
    methods=("farmap", "farmap-plus"),
    conditions=tuple(CAPACITIES),
    metrics={
        "rss_warm": "RSS after a tenth of the steps, in MiB",
        "rss_end": "RSS after the last step, in MiB",
        "rss_peak": "largest RSS, in MiB",
        "fragments_held": "most fragments in long-term memory",
        "evictions": "fragments evicted",
        "fractures": "fragments opened by a fracture",
        "ltm_mib": "most bytes of long-term memory, in MiB",
        "coverage": "share of the world seen at least once (also what was forgotten since)",
    },
    run=run,
    sizes={
        "quick": Size(1, {"steps": 5_000}, "one seed, 5 000 steps", conditions=("limit",)),
        "default": Size(1, {"steps": 1_000_000}, "one seed instead of five", conditions=("limit",)),
        "full": Size(5, {"steps": 1_000_000}),
    },
    plot=plot,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
