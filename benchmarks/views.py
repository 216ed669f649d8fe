"""What it costs to see: the share of a run's time that recording, drawing and writing its pictures take.

- ``default``: pictures as often as the configuration says
- ``end``: pictures at the end of the run alone

Everything the callback of the pictures does is timed, within the run: the share does not depend on how fast the machine
is. What it does while the run goes on, recording and the pictures at intervals with the libraries that draw them, is
told apart from the pictures at the end, which are drawn once however long a run is. What FAR works out when it is asked
at the end of a rollout is its own, and not counted. CPU seconds of the process are told, for they suffer less from what
else runs; a run uses one thread.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Job, Size, main

CONFIGS = {
    "rooms": "quickstart",
    "maps": "farmap_plus",
    "control": "control_levels",
    "minigrid": "minigrid_keycorridor",
}


def run(job: Job) -> dict[str, Any]:
    import torch

    from farl.experiment import run as experiment
    from farl.experiment.loading import load_config

    torch.set_num_threads(1)
    overrides = [f"seed={job.seed}", "torch_threads=1", "device=cpu", "checkpoints.freq=1e9"]
    if job.parameters["steps"] is not None and job.condition != "control":
        overrides.append(f"total_timesteps={job.parameters['steps']}")
    if job.method == "end":
        overrides.append("logging.image_freq=0")
    config = load_config(CONFIGS[job.condition], overrides)
    seconds = {"while": 0.0, "end": 0.0}
    experiment.ExplorationCallback = _timed(seconds)  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        experiment.train(config, Path(folder))
        total = time.process_time() - began
        pictures = len(list((Path(folder) / "exploration").glob("*.png")))
    return {
        "share": seconds["while"] / (total - seconds["end"]),
        "seconds": seconds["while"],
        "end_seconds": seconds["end"],
        "total": total,
        "pictures": pictures,
    }


def _timed(seconds: dict[str, float]) -> Any:
    """The callback of the pictures, whose work is timed: while the run goes on, and at its end."""
    from farl.sb3.exploration import ExplorationCallback

    class Timed(ExplorationCallback):
        pass

    def wrap(name: str) -> None:
        inner = getattr(ExplorationCallback, name)

        def outer(self: Any, *args: Any) -> Any:
            if name in ("_on_rollout_end", "_on_training_end"):
                _ = getattr(self.model, "curiosity_steps", None)  # worked out now, whoever asks
            began = time.process_time()
            try:
                return inner(self, *args)
            finally:
                seconds["end" if name == "_on_training_end" else "while"] += time.process_time() - began

        setattr(Timed, name, outer)

    for name in ("_on_training_start", "_on_rollout_start", "_on_step", "_on_rollout_end", "_on_training_end"):
        wrap(name)
    return Timed


BENCHMARK = Benchmark(
    name="views",
    methods=("default", "end"),
    conditions=tuple(CONFIGS),
    metrics={
        "share": "share of the CPU time before the end that goes into recording and pictures",
        "seconds": "CPU seconds of that",
        "end_seconds": "CPU seconds of the pictures at the end",
        "total": "CPU seconds of the run",
        "pictures": "pictures at the end",
    },
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={"steps": 4_096}, note="one seed, 4 096 steps", conditions=("rooms",)),
        "default": Size(seeds=3, parameters={"steps": None}, conditions=("rooms", "maps", "control")),
        "full": Size(seeds=5, parameters={"steps": None}),
    },
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
