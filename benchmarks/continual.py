"""Continual learning: particle filters over network weights against the usual methods, over many orders of the tasks.

Conditions: ``splitdigits`` (five tasks of two 8 x 8 digits, one shared two-way head, one pass) and ``splitmnist`` (the
same with 5 000 real MNIST digits). Methods: those of ``farl.continual.METHODS``; what each does stands there and in
``docs/particle_filters.md``.

One run takes one seed through all orders of the tasks side by side, with the learning rate (and strength of a penalty)
of the method's grid that had the best accuracy on *validation* samples over the first of the orders; results are on
test samples. ``accuracy``, ``order_std`` and the rest are over the orders of one seed; intervals are over seeds.

``--suite`` names a condition, ``--orders`` and ``--particles`` change the size.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks._results import default_plots
from benchmarks.harness import Benchmark, Job, Size, main
from farl.continual import METHODS, Method, Run, Setting, TaskSequence, metrics, run_sequence, split_digits, split_mnist
from farl.errors import ConfigError

SUITES = ("splitdigits", "splitmnist")
HIDDEN = {"splitdigits": 56, "splitmnist": 100}  # 4 k and 79 k parameters


def network(inputs: int, hidden: int, classes: int, widening: int) -> nn.Module:
    width = hidden * widening
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))


def load(suite: str) -> TaskSequence:
    return split_digits() if suite == "splitdigits" else split_mnist()


def orders_of(tasks: int, count: int) -> list[list[int]]:
    """The same orders for every method and seed."""
    rng = np.random.default_rng(20_240)
    return [rng.permutation(tasks).tolist() for _ in range(count)]


def run(job: Job) -> dict[str, Any]:
    began = time.process_time()
    own = job.parameters[job.condition]
    sequence = load(job.condition)
    orders = orders_of(len(sequence), own["orders"])
    build = partial(network, int(np.prod(sequence.input_shape)), HIDDEN[job.condition], sequence.n_classes)
    method = METHODS[job.method]
    grid = method.grid() if job.parameters["sweep"] else method.grid()[len(method.grid()) // 2 :][:1]
    learn = partial(learn_orders, build, sequence, own, job.seed)
    sweep = []
    for rate, strength in grid:
        entry = {"rate": rate, "strength": strength}
        try:
            result = learn(method, orders[: own["sweep_orders"]], rate, strength)
        except FloatingPointError:  # this setting diverges
            sweep.append(entry)
            continue
        tested = float(metrics.average_accuracy(result.accuracy).mean())
        sweep.append(entry | {"validation": float(result.validation_accuracy.mean()), "test": tested})
    tried = [entry for entry in sweep if "validation" in entry]
    if not tried:
        raise FloatingPointError(f"{job.method} diverges in every setting of its grid")
    best = max(tried, key=lambda entry: entry["validation"])
    result = learn(method, orders, best["rate"], best["strength"])
    chosen = {"sweep": sweep, "rate": best["rate"], "strength": best["strength"]}
    return summary(result) | chosen | {"cpu_seconds": time.process_time() - began}


def learn_orders(
    build: Callable[[int], nn.Module],
    sequence: TaskSequence,
    own: Mapping[str, Any],
    seed: int,
    method: Method,
    orders: Sequence[Sequence[int]],
    rate: float,
    strength: float,
) -> Run:
    """All orders side by side; they share the initial networks and each task's batches."""
    seeds = [seed] * len(orders)
    setting = Setting(build, seeds, own["particles"], rate, strength, chunk_size=own["chunk"], seed=seed)
    return run_sequence(method.build(setting), sequence, orders, seeds=seeds)


def paired(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For every run, how far its accuracy is above those of plain averaging and of EWC with the same seed."""
    accuracy = {(r["method"], r["condition"], r["seed"]): r["accuracy"] for r in rows if "accuracy" in r}
    derived = []
    for (method, condition, seed), value in accuracy.items():
        row = {"method": method, "condition": condition, "seed": seed}
        for rival in ("average", "ewc"):
            if method != rival and (rival, condition, seed) in accuracy:
                row[f"over_{rival}"] = value - accuracy[rival, condition, seed]
        derived.append(row)
    return derived


def summary(result: Run) -> dict[str, Any]:
    accuracy = result.accuracy
    final = metrics.average_accuracy(accuracy)
    places = list(range(1, accuracy.shape[2] + 1))
    seen = [float(accuracy[:, s, :s].mean()) for s in places]
    return {
        "accuracy": float(final.mean()),
        "order_std": float(final.std()),
        "plasticity": float(metrics.plasticity(accuracy).mean()),
        "forgetting": float(metrics.forgetting(accuracy).mean()),
        "backward_transfer": float(metrics.backward_transfer(accuracy).mean()),
        "forward_transfer": float(metrics.forward_transfer(accuracy).mean()),
        "order_variation": metrics.order_variation(result.predictions) if len(accuracy) > 1 else 0.0,
        "ess": float(result.effective_sample_size[:, -1].mean()),
        "seconds": result.seconds / len(accuracy),
        "megabytes": result.state_bytes / 1e6,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "curves": {
            "accuracy_by_place": {"x": places, "y": accuracy[:, -1].mean(0).tolist()},
            "accuracy_on_tasks_seen": {"x": places, "y": seen},
        },
    }


def plots(document: Mapping[str, Any]) -> Mapping[str, Figure]:
    """Accuracy and its dependence on the order of all methods, and the accuracy per task."""
    figures = {"accuracy_per_task": per_task(document)}
    curves = {name: figure for name, figure in default_plots(document).items() if name.startswith("curve_")}
    return figures | {"accuracy": ranking(document)} | curves


def ranking(document: Mapping[str, Any]) -> Figure:
    conditions = sorted({row["condition"] for row in document["rows"]})
    figure = Figure(figsize=(6.0 * len(conditions), 6.5), layout="constrained")
    for axes, condition in zip(figure.subplots(1, len(conditions), squeeze=False)[0], conditions, strict=True):
        cells = {
            m: c[condition]["accuracy"] for m, c in document["summary"].items() if "accuracy" in c.get(condition, {})
        }
        for place, (method, cell) in enumerate(sorted(cells.items(), key=lambda item: item[1]["mean"])):
            error = [[cell["mean"] - cell["low"]], [cell["high"] - cell["mean"]]]
            axes.barh(place, cell["mean"], xerr=error, color="#0072B2" if METHODS[method].many else "#E69F00")
            axes.text(0.51, place, method, va="center", color="white", fontsize="small")
        axes.set_yticks([])
        axes.set_xlim(0.5, 1.0)
        axes.set_title(condition)
        axes.set_xlabel("mean accuracy over tasks after the last (blue: many networks, orange: one)")
    return figure


def per_task(document: Mapping[str, Any]) -> Figure:
    """For each method, the final accuracy on the task learnt first, second, ..."""
    conditions = sorted({row["condition"] for row in document["rows"]})
    figure = Figure(figsize=(9.0, 5.0 * len(conditions)), layout="constrained")
    for axes, condition in zip(figure.subplots(len(conditions), 1, squeeze=False)[:, 0], conditions, strict=True):
        rows = [row for row in document["rows"] if row["condition"] == condition and "curves" in row]
        names = [name for name in METHODS if any(row["method"] == name for row in rows)]
        curves = [[r["curves"]["accuracy_by_place"]["y"] for r in rows if r["method"] == name] for name in names]
        table = np.array([np.mean(found, 0) for found in curves])
        image = axes.imshow(table, vmin=0.5, vmax=1.0, aspect="auto", cmap="viridis")
        axes.set_yticks(range(len(names)), names, fontsize="small")
        axes.set_xticks(range(table.shape[1]), [f"{place + 1}" for place in range(table.shape[1])])
        axes.set_xlabel(f"place of the task in the order ({condition})")
        for (y, x), value in np.ndenumerate(table):
            axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", color="white", fontsize="x-small")
        figure.colorbar(image, ax=axes, label="accuracy after the last task")
    return figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=int, metavar="N", help="orders of the tasks (default: by size)")
    parser.add_argument("--particles", type=int, metavar="N", help="particles (default: by size)")


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    changed = {name: value for name in ("orders", "particles") if (value := getattr(options, name)) is not None}
    for name, value in changed.items():
        if value < 1:
            raise ConfigError(f"--{name} {value}: must be at least 1")
    sizes = BENCHMARK.sizes[options.size].parameters
    return {suite: {**sizes[suite], **changed} for suite in SUITES} if changed else {}


def with_suite(arguments: Sequence[str]) -> list[str]:
    """``--suite X`` is another name for ``--conditions X``."""
    return [
        argument.replace("--suite", "--conditions", 1) if argument.startswith("--suite") else argument
        for argument in arguments
    ]


_DIGITS = {"orders": 10, "sweep_orders": 3, "particles": 100, "chunk": 1000}
_FULL = {"orders": 10, "sweep_orders": 3, "particles": 100, "chunk": 50}
BENCHMARK = Benchmark(
    name="continual",
    methods=tuple(METHODS),
    conditions=SUITES,
    metrics={
        "accuracy": "mean accuracy over tasks after the last",
        "over_average": "accuracy minus that of plain averaging with the same seed",
        "over_ewc": "accuracy minus that of EWC with the same seed",
        "order_std": "standard deviation of that over orders of the tasks",
        "order_variation": "total variation between the final predictions of two orders",
        "plasticity": "accuracy on each task just after it was learnt",
        "forgetting": "drop from the best accuracy on a task to the last",
        "backward_transfer": "change of accuracy on a task through later ones",
        "forward_transfer": "change of accuracy on a task through earlier ones",
        "ess": "effective number of networks in the prediction",
        "seconds": "wall-clock time of one order, of those run side by side, in s",
        "cpu_seconds": "processor time of all orders and the sweep before them, in s",
        "megabytes": "parameters, optimiser and memories of one learner, in MB",
        "peak_gigabytes": "peak memory of the process, all orders side by side, in GB",
    },
    run=run,
    sizes={
        "quick": Size(
            seeds=1,
            parameters={
                "splitdigits": {"orders": 2, "sweep_orders": 1, "particles": 4, "chunk": 8},
                "splitmnist": {"orders": 2, "sweep_orders": 1, "particles": 2, "chunk": 8},
                "sweep": False,
            },
            note="two orders, few particles, one setting a method, SplitDigits alone",
            conditions=("splitdigits",),
        ),
        "default": Size(
            seeds=5,
            parameters={
                "splitdigits": _DIGITS,
                "splitmnist": {"orders": 5, "sweep_orders": 1, "particles": 10, "chunk": 50},
                "sweep": True,
            },
            note="SplitMNIST with 5 orders and 10 particles instead of 10 and 100",
        ),
        "full": Size(seeds=5, parameters={"splitdigits": _DIGITS, "splitmnist": _FULL, "sweep": True}),
    },
    plot=plots,
    derive=paired,
    add_arguments=add_arguments,
    parameters=parameters,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(BENCHMARK, with_suite(sys.argv[1:])))
