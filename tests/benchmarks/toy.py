"""A benchmark of nothing, that can fail on demand."""

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Job, Size


def run(job: Job) -> dict[str, Any]:
    with Path(os.environ["TOY_LOG"]).open("a") as log:
        log.write(f"{job.method} {job.condition} {job.seed}\n")
    trouble = os.environ.get("TOY_TROUBLE", "")
    if job.method == "b" and trouble == "raise":
        raise ValueError("no luck")
    if trouble == "hang":
        Path(os.environ["TOY_LOG"]).write_text(str(os.getpid()))
        time.sleep(60)
    if job.method == "b" and trouble == "die":
        os._exit(1)
    score = {"a": 1.0, "b": 2.0}[job.method] + job.seed * job.parameters["slope"]
    return {"score": score, "curves": {"learning": {"x": [0, 1], "y": [0.0, score]}}, "nothing": float("nan")}


BENCHMARK = Benchmark(
    name="toy",
    methods=("a", "b"),
    conditions=("easy", "hard"),
    metrics={"score": "a number", "nothing": "never there"},
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={"slope": 1.0}, conditions=("easy",), note="one seed"),
        "default": Size(seeds=2, parameters={"slope": 1.0}),
        "full": Size(seeds=3, parameters={"slope": 2.0}),
    },
    add_arguments=lambda parser: parser.add_argument("--suite", default="plain"),
    parameters=lambda options: {"suite": options.suite},
)
