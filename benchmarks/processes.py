"""What sharing the particles of one filter among processes gains: two of them against one process of one thread.

An update is one of :class:`~farl.particles.WPF`, of all particles together. One process of one thread, one process of
two threads and two processes of one thread each are measured in turns, by wall-clock time, and the fastest of the
repeats of each counts. It needs two cores that nothing else uses.

Methods: ``two-threads`` and ``two-processes``. Conditions: networks of ``benchmarks.particle_speed``.
"""

import multiprocessing
import sys
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from benchmarks.harness import Benchmark, Job, Size, main
from benchmarks.particle_speed import CASES, RATE
from farl.particles import WPF

PROCESSES = 2


def _update(case: str, seed: int, group: distributed.ProcessGroup | None = None) -> partial[Any]:
    """Return what updates a new filter by a batch that is always the same."""
    build, shape, classes, n, batch = CASES[case]
    torch.manual_seed(seed)
    module = build()
    inputs, targets = torch.rand(batch, *shape), torch.randint(classes, (batch,))
    filter_ = WPF(module, n, optimizer=partial(torch.optim.SGD, lr=RATE), group=group)
    return partial(filter_.update, inputs, targets)


def _seconds(update: partial[Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        update()
    return (time.perf_counter() - began) / times


def _serve(rank: int, case: str, seed: int, meeting: str, orders: Connection) -> None:
    """Be one of the processes that share a filter: time as many updates as ordered, until none are."""
    import torch._dynamo  # before the group: imported later, its threads may abort the process at its end

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    update = _update(case, seed, distributed.group.WORLD)
    while times := orders.recv():
        orders.send(_seconds(update, times))
    distributed.destroy_process_group()


def run(job: Job) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe() for _ in range(PROCESSES)]
        meeting = (Path(folder) / "meeting").as_uri()
        workers = [
            context.Process(target=_serve, args=(rank, job.condition, job.seed, meeting, theirs))
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for worker in workers if job.method == "two-processes" else []:
            worker.start()
        try:
            torch.set_num_threads(1)
            alone = _update(job.condition, job.seed)
            times = max(1, round(job.parameters["seconds"] / _seconds(alone, 2)))

            def together() -> float:
                if job.method == "two-threads":
                    torch.set_num_threads(PROCESSES)
                    try:
                        return _seconds(alone, times)
                    finally:
                        torch.set_num_threads(1)
                for ours, _ in pipes:
                    ours.send(times)
                return max(ours.recv() for ours, _ in pipes)

            together()  # warms up
            pairs = [(_seconds(alone, times), together()) for _ in range(job.parameters["repeats"])]
        finally:
            torch.set_num_threads(threads)
            for worker, (ours, _) in zip(workers, pipes, strict=True):
                if worker.pid is not None:
                    ours.send(0)
                    worker.join()
    one, shared = (min(column) for column in zip(*pairs, strict=True))
    return {"speedup": one / shared, "seconds": shared, "one_seconds": one}


BENCHMARK = Benchmark(
    name="processes",
    methods=("two-threads", "two-processes"),
    conditions=("mlp-79k", "conv-5m", "impala-10"),
    metrics={
        "speedup": "time of one process of one thread over this",
        "seconds": "wall-clock seconds of an update",
        "one_seconds": "seconds of an update of one process of one thread",
    },
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={"repeats": 1, "seconds": 0.2}, note="one repeat", conditions=("mlp-79k",)),
        "default": Size(seeds=3, parameters={"repeats": 5, "seconds": 1.0}),
        "full": Size(seeds=5, parameters={"repeats": 5, "seconds": 2.0}),
    },
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
