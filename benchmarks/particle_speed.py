"""What batching over particles gains: one update of all particles against a plain Python loop over modules.

An update is a forward and a backward pass, a step of SGD, and a forward pass for the weights. The loop has a module and
an optimiser for each particle, as one would write it without this library. Both are measured in turns in the same
process, on one thread, and the fastest of the repeats counts. On the CPU the time is that of the processor, so that
other processes count as little as they can; with ``--device cuda`` it is wall-clock time.

Methods: the backends of the ensemble. Conditions: ``mlp-4k`` and ``mlp-79k`` (100 particles, batch 8), ``conv-5m``
(convolution, batch normalisation and three layers; 100 particles, batch 8), ``impala-10`` and ``impala-100`` (the
network of IMPALA on 64 x 64 images, batch 125).
"""

import argparse
import copy
import resource
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Benchmark, Job, Size, main
from farl.errors import ConfigError
from farl.particles import WPF

RATE = 0.01


class Residual(nn.Module):
    """Two convolutions around which the input goes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [batch, channels, height, width] like the inputs."""
        return inputs + self.second(F.relu(self.first(F.relu(inputs))))


def impala() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width in (16, 32, 32):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(3, 2, 1), Residual(width), Residual(width)]
        channels = width
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(2048, 256), nn.ReLU(), nn.Linear(256, 15))


def mlp(inputs: int, hidden: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def conv() -> nn.Module:
    convolution = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()]
    dense = [nn.Linear(12544, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 2)]
    return nn.Sequential(*convolution, *dense)


# name: network, shape of an input, classes, particles, batch
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int, int]] = {
    "mlp-4k": (partial(mlp, 64, 56, 10), (1, 8, 8), 10, 100, 8),
    "mlp-79k": (partial(mlp, 784, 100, 2), (1, 28, 28), 2, 100, 8),
    "conv-5m": (conv, (1, 28, 28), 2, 100, 8),
    "impala-10": (impala, (3, 64, 64), 15, 10, 125),
    "impala-100": (impala, (3, 64, 64), 15, 100, 125),
}


def plain_loop(module: nn.Module, n: int, inputs: Tensor, targets: Tensor) -> Callable[[], None]:
    modules = [copy.deepcopy(module) for _ in range(n)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=RATE) for m in modules]
    log_weights = torch.zeros(n)

    def update() -> None:
        for i, (network, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            loss = F.cross_entropy(network(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                after = F.cross_entropy(network(inputs), targets)
            log_weights[i] -= (loss.item() + after.item()) / 2
        log_weights.sub_(log_weights.logsumexp(0))

    return update


def seconds_of(update: Callable[[], Any], device: str) -> float:
    """Time of one update, the mean over as many as take a fifth of a second."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    count, start = 0, clock()
    while count == 0 or clock() - start < 0.2:
        update()
        if device != "cpu":
            torch.cuda.synchronize()
        count += 1
    return (clock() - start) / count


def run(job: Job) -> dict[str, Any]:
    build, shape, classes, n, batch = CASES[job.condition]
    device, repeats = job.parameters["device"], job.parameters["repeats"]
    torch.manual_seed(job.seed)
    module = build().to(device)
    inputs = torch.rand(batch, *shape, device=device)
    targets = torch.randint(classes, (batch,), device=device)
    backend = {"vmap": "vmap", "chunked": "chunked", "loop": "loop", "auto": "auto"}[job.method]
    chunk = 10 if job.method == "chunked" else None
    filter_ = WPF(module, n, optimizer=partial(torch.optim.SGD, lr=RATE), backend=backend, chunk_size=chunk)  # type: ignore[arg-type]
    ours, loop = partial(filter_.update, inputs, targets), plain_loop(module, n, inputs, targets)
    seconds, loop_seconds = float("inf"), float("inf")
    for part in range(repeats + 1):
        mine, theirs = seconds_of(ours, device), seconds_of(loop, device)
        if part:  # the first of each warms up
            seconds, loop_seconds = min(seconds, mine), min(loop_seconds, theirs)
    used = (
        torch.cuda.max_memory_allocated()
        if device != "cpu"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {
        "speedup": loop_seconds / seconds,
        "seconds": seconds,
        "loop_seconds": loop_seconds,
        "gigabytes": used / 2**30,
        "parameters": sum(p.numel() for p in module.parameters()),
        "chunk_size": filter_.ensemble.chunk_size,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")


def parameters(options: argparse.Namespace) -> Mapping[str, Any]:
    if options.device not in ("cpu", "cuda"):
        raise ConfigError(f"--device {options.device}: use cpu or cuda")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU here; use --device cpu")
    return {"device": options.device}


BENCHMARK = Benchmark(
    name="particle_speed",
    methods=("auto", "vmap", "chunked", "loop"),
    conditions=tuple(CASES),
    metrics={
        "speedup": "time of the plain Python loop over that of this backend",
        "seconds": "one update of all particles, in s",
        "loop_seconds": "the same by the plain loop, in s",
        "gigabytes": "peak memory of the process so far, the loop's copies and earlier conditions included, in GB",
        "chunk_size": "particles in one batched call",
    },
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={"repeats": 3, "device": "cpu"}, conditions=("mlp-4k", "mlp-79k")),
        "default": Size(
            seeds=3,
            parameters={"repeats": 3, "device": "cpu"},
            note="the backend that auto chooses; without 100 IMPALA networks",
            methods=("auto",),
            conditions=("mlp-4k", "mlp-79k", "conv-5m", "impala-10"),
        ),
        "full": Size(seeds=3, parameters={"repeats": 10, "device": "cpu"}),
    },
    alone=True,
    add_arguments=add_arguments,
    parameters=parameters,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
