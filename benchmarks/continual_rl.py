"""Policies that go on learning through levels: PPO with ADAM and TRAC, what else keeps it plastic, and ParticlePPO.

Conditions: the control tasks (``--suite control``) as in TRAC (Muppidi et al. 2024): CartPole, Acrobot and LunarLander,
whose observations move by N(0, 2^2) from level to level; two episodes of up to 400 steps for each iteration, separate
networks of 3 x 128, 5 epochs, batches of 32, rewards divided by 20; the networks are never reset. ``adam`` and ``trac``
have the published learning rate of 1e-2; ``adam-tuned``, ``trac-tuned`` and all others have 1e-3, the best on Acrobot.

One run takes three seeds through the levels side by side, in the same batched products
(``benchmarks._stacked_ppo``; it computes what Stable-Baselines3's PPO computes, see the tests). Every seed has an
order of the levels of its own. Intervals are over seeds.

``--suite procgen`` takes SB3's PPO with Adam and with TRAC, and ParticlePPO, through levels 20, 21, ... of two easy
games (16 environments, NatureCNN); an iteration is a rollout of 1 024 steps, and ``mean_return`` is over the
evaluations of each level at its end. Name the methods: ``--methods adam,trac,particle --seeds 0-2 --levels 4``.

The options of ParticlePPO, and the strengths of the baselines, were chosen on Acrobot with ``--methods`` that end in
them (``particle:...``); CartPole and LunarLander confirm. What was chosen is ``particle:norm-noise``: particles around
one network, with layer norm. ``particle`` is without both.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks._defences import Defence, L2Init, PolicyEWC, ReDo, Replay
from benchmarks._lifelong import run_levels
from benchmarks._procgen_levels import ALGORITHMS, run_game
from benchmarks._results import bars, curves
from benchmarks._stacked_ppo import StackedPPO, StackedSettings
from benchmarks.harness import Benchmark, Job, Size, main
from farl.errors import ConfigError
from farl.optimisers import Trac

SUITES = {"control": ("CartPole", "Acrobot", "LunarLander"), "procgen": ("starpilot", "fruitbot")}
SIDE_BY_SIDE = 3
PUBLISHED, TUNED = 1e-2, 1e-3
Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


def adam(rate: float = TUNED) -> Optimizer:
    """Adam of that learning rate."""
    return partial(torch.optim.Adam, lr=rate, fused=True)


def trac(rate: float = TUNED) -> Optimizer:
    """TRAC around Adam of that learning rate."""
    return lambda parameters: Trac(parameters, adam(rate), per_particle=True)


@dataclass(frozen=True)
class Method:
    """How a method learns: its optimiser, its settings, and what it does against loss of plasticity or forgetting."""

    optimizer: Optimizer = field(default_factory=adam)
    settings: Mapping[str, Any] = field(default_factory=dict)
    defence: Callable[[], Defence] = Defence


PARTICLES: dict[str, Any] = {"n_particles": 3}
EVEN = {**PARTICLES, "beta": 0.0}

METHODS: dict[str, Method] = {
    "adam": Method(adam(PUBLISHED)),
    "trac": Method(trac(PUBLISHED)),
    "adam-tuned": Method(),
    "trac-tuned": Method(trac()),
    "l2-init": Method(defence=partial(L2Init, 1e-2)),
    "crelu": Method(settings={"activation": "crelu"}),
    "layer-norm": Method(settings={"layer_norm": True}),
    "ewc": Method(defence=partial(PolicyEWC, 1.0)),
    "redo": Method(defence=partial(ReDo, 0.1)),
    "replay": Method(defence=partial(Replay, 1.0)),
    "ensemble": Method(settings=EVEN),
    "averaging": Method(settings={**EVEN, "init": "noise"}),
    "particle": Method(trac(), PARTICLES),
    "particle:norm-noise": Method(trac(), {**PARTICLES, "layer_norm": True, "init": "noise"}),
}
OPTIONS: dict[str, Method] = {
    "adam:3e-3": Method(adam(3e-3)),
    "adam:3e-4": Method(adam(3e-4)),
    "trac:3e-3": Method(trac(3e-3)),
    "trac:3e-4": Method(trac(3e-4)),
    "particle:adam": Method(adam(), PARTICLES),
    "particle:1e-2": Method(trac(PUBLISHED), PARTICLES),
    "particle:even": Method(trac(), EVEN),
    "particle:policy": Method(trac(), {**PARTICLES, "evidence": "policy"}),
    "particle:forget": Method(trac(), {**PARTICLES, "forgetting": 0.99, "ess_floor": 0.0}),
    "particle:thompson": Method(trac(), {**PARTICLES, "acting": "thompson"}),
    "particle:map": Method(trac(), {**PARTICLES, "acting": "map"}),
    "particle:noise": Method(trac(), {**PARTICLES, "init": "noise"}),
    "particle:six": Method(trac(), {"n_particles": 6}),
    "particle:norm": Method(trac(), {**PARTICLES, "layer_norm": True}),
    "particle:norm-adam": Method(adam(), {**PARTICLES, "layer_norm": True}),
    "particle:norm-six": Method(trac(), {"n_particles": 6, "layer_norm": True}),
    "trac:norm": Method(trac(), {"layer_norm": True}),
    "trac:norm-1e-2": Method(trac(PUBLISHED), {"layer_norm": True}),
    "l2-init:1e-3": Method(defence=partial(L2Init, 1e-3)),
    "l2-init:1e-1": Method(defence=partial(L2Init, 1e-1)),
    "ewc:10": Method(defence=partial(PolicyEWC, 10.0)),
    "redo:0.025": Method(defence=partial(ReDo, 0.025)),
    "replay:0.1": Method(defence=partial(Replay, 0.1)),
}
"""What the chosen options were chosen from; not run unless named."""


def run(job: Job) -> dict[str, Any]:
    """One method on one task, with all seeds of the job side by side; on ProcGen with the job's own seed."""
    if job.condition in SUITES["procgen"]:
        if job.method not in ALGORITHMS:
            raise ValueError(f"the suite procgen has the methods {', '.join(ALGORITHMS)}, not {job.method}")
        return run_game(job.condition, job.method, job.seed, job.parameters)
    method = (METHODS | OPTIONS)[job.method]
    settings = StackedSettings(**method.settings)

    def make(inputs: int, n_actions: int, seeds: Sequence[int]) -> StackedPPO:
        return StackedPPO(inputs, n_actions, seeds, method.optimizer, settings)

    seeds = range(SIDE_BY_SIDE * job.seed, SIDE_BY_SIDE * (job.seed + 1))
    runs = run_levels(
        job.condition, seeds, make, method.defence(), job.parameters["levels"], job.parameters["iterations"]
    )
    return {"runs": [{"seed": seed, **row} for seed, row in zip(seeds, runs, strict=True)]} | {
        "order_std": float(np.std([row["mean_return"] for row in runs], ddof=1))
    }


def each_seed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the seeds that a run took side by side."""
    return [
        {"method": row["method"], "condition": row["condition"], **single}
        for row in rows
        for single in row.get("runs", [])
    ]


def plots(document: Mapping[str, Any]) -> Mapping[str, Figure]:
    """The returns over all levels, and the mean return of each method."""
    pictures = {"mean_return": bars(document, "mean_return")}
    points = max((len(row["curves"]["return"]["x"]) for row in document["rows"] if "curves" in row), default=0)
    if points:
        pictures["curve_return"] = curves(document, "return", "iterations", window=max(1, points // 20))
    return pictures


def with_suite(arguments: Sequence[str]) -> list[str]:
    """``--suite X`` names the conditions of a suite."""
    joined = " ".join(arguments).replace("--suite=", "--suite ").split()
    if "--suite" in joined:
        at = joined.index("--suite")
        joined[at : at + 2] = ["--conditions", ",".join(SUITES.get(joined[at + 1], (joined[at + 1],)))]
    return joined


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", choices=tuple(SUITES), help="conditions of a suite")
    for name in ("levels", "iterations"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{name} (default: by size)")


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    changed = {name: value for name in ("levels", "iterations") if (value := getattr(options, name)) is not None}
    for name, value in changed.items():
        if value < 2:
            raise ConfigError(f"--{name} {value}: must be at least 2")
    return changed


BENCHMARK = Benchmark(
    name="continual_rl",
    methods=(*METHODS, *OPTIONS),
    conditions=(*SUITES["control"], *SUITES["procgen"]),
    metrics={
        "mean_return": "mean return over all levels and iterations",
        "later_return": "the same without the first level",
        "earlier_return": "return on the earlier levels after the last, 5 episodes each",
        "iterations_to_threshold": "iterations until a later level is learnt (100, -200, -100), all of them if never",
        "dormant": "part of the hidden units that are dormant at the end (below 0.025 of their layer's mean)",
        "ess": "effective number of particles in the mixture, mean over levels",
        "order_std": "standard deviation of the mean return over seeds, each with an order of levels of its own",
        "steps": "environment steps",
        "seconds": "wall-clock time of one seed, of those run side by side, in s",
    },
    run=run,
    sizes={
        "quick": Size(
            seeds=1,
            parameters={"levels": 2, "iterations": 2},
            note="two levels of two iterations",
            methods=("adam", "trac", "particle"),
            conditions=("CartPole",),
        ),
        "default": Size(
            seeds=1,
            parameters={"levels": 4, "iterations": 30},
            note="4 levels of 30 iterations instead of 10 of 200",
            methods=tuple(METHODS),
            conditions=SUITES["control"],
        ),
        "full": Size(
            seeds=1,
            parameters={"levels": 10, "iterations": 200},
            methods=tuple(METHODS),
            conditions=SUITES["control"],
        ),
    },
    plot=plots,
    derive=each_seed,
    add_arguments=add_arguments,
    parameters=parameters,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(BENCHMARK, with_suite(sys.argv[1:])))
