"""What FARMap's memory is worth to a learner: PPO with its local map and subgoals, and the same PPO without.

- ``ppo-farmap``: ``configs/farmap_ppo.yaml``, PPO behind ``FARMapObservation``
- ``ppo``: ``configs/farmap_ppo_baseline.yaml``, the same behind ``EgocentricObservation``: reward and actions are the
  same, the view is all it is given
- ``farmap``, ``farmap-plus``, ``random``: the explorers themselves, for reference

A seed trains on small worlds that the generator draws anew for each episode. Then 100 small worlds and 50 medium ones,
drawn from other seeds, are explored, all methods from the same starts; medium ones are larger than any that was trained
on. PPO samples its actions, as in training. ``ppo-farmap - ppo`` is the difference by seed.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from benchmarks._results import curves
from benchmarks.farmap import METHODS as EXPLORERS
from benchmarks.harness import Benchmark, Job, Size, main
from farl.envs.map_world import MapWorldVecEnv, generate_world

CONFIGS = {"ppo-farmap": "farmap_ppo", "ppo": "farmap_ppo_baseline"}
HELD_OUT = {"small": 300, "medium": 600}
"""Sizes of the worlds that are explored, and the steps."""


def run(job: Job) -> dict[str, Any]:
    """Train with one seed and explore the held-out worlds."""
    began = time.process_time()
    model, wrap = trained(job) if job.method in CONFIGS else (None, lambda env: env)
    seconds = time.process_time() - began
    results: dict[str, Any] = {"train_cpu_seconds": seconds} if model is not None else {}
    worlds = dict(zip(HELD_OUT, job.parameters["worlds"], strict=True))
    lines = {}
    for size, steps in HELD_OUT.items():
        rng = np.random.default_rng([17, steps])
        maps = [generate_world(rng, size) for _ in range(worlds[size])]
        env = MapWorldVecEnv(len(maps), maps=maps, until_covered=False, max_steps=steps + 1)
        coverage = explore(model or explorer(job, env), wrap(env), job.seed, steps).mean(axis=1)
        results |= {f"coverage_{size}": coverage[-1], f"auc_{size}": coverage.mean()}
        lines[f"coverage, {size} worlds"] = {"x": np.arange(1, steps + 1)[4::5], "y": coverage[4::5].round(5)}
    return {**results, "curves": lines}


def trained(job: Job) -> tuple[BaseAlgorithm, Any]:
    """The trained model, and what puts its wrappers around held-out worlds."""
    from farl.experiment.environments import make_vec_env
    from farl.experiment.learner import build_learner
    from farl.experiment.loading import load_config
    from farl.experiment.named_environments import find_vec_wrapper

    overrides = [f"seed={job.seed}", f"total_timesteps={job.parameters['timesteps']}"]
    config = load_config(CONFIGS[job.method], overrides)
    model = build_learner(config, make_vec_env(config.environment, config.seed))
    model.learn(config.total_timesteps)

    def wrap(env: VecEnv) -> VecEnv:
        for wrapper in config.environment.vec_wrappers:
            env = find_vec_wrapper(wrapper)(env, **wrapper.kwargs)
        return env

    return model, wrap


def explorer(job: Job, env: VecEnv) -> BaseAlgorithm:
    """An agent that needs no training."""
    method, settings = EXPLORERS[job.method]
    return method(env=env, seed=job.seed, **settings)


def explore(model: BaseAlgorithm, env: VecEnv, seed: int, steps: int) -> Any:
    """Explore every world of ``env`` for ``steps`` steps: coverage, float[T, N]."""
    worlds = env.unwrapped.worlds  # type: ignore[attr-defined]
    set_random_seed(seed)
    env.seed(1_000_000 + 1_000 * seed)
    observation: Any = env.reset()
    state, starts = None, np.ones(env.num_envs, bool)
    coverage = np.empty((steps, env.num_envs))
    for step in range(steps):
        actions, state = model.predict(observation, state=state, episode_start=starts)
        observation, _, starts, _ = env.step(actions)
        coverage[step] = worlds.coverage
    return coverage


def derive(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The difference that the memory makes, by seed."""
    by_method = {(row["method"], row["seed"]): row for row in rows if "error" not in row}
    pairs = [
        (ours, by_method["ppo", seed])
        for (method, seed), ours in by_method.items()
        if method == "ppo-farmap" and ("ppo", seed) in by_method
    ]
    names = [name for name in METRICS if name != "train_cpu_seconds"]
    return [
        {
            "method": "ppo-farmap - ppo",
            "condition": ours["condition"],
            "seed": ours["seed"],
            **{name: ours[name] - theirs[name] for name in names},
        }
        for ours, theirs in pairs
    ]


def plot(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Coverage over steps."""
    methods = [row for row in document["rows"] if " - " not in row["method"] and "error" not in row]
    if not methods:
        return {}
    shown = {**document, "rows": methods}
    return {f"curve_{size}": curves(shown, f"coverage, {size} worlds") for size in HELD_OUT}


METRICS = {
    "coverage_small": f"coverage of held-out small worlds after {HELD_OUT['small']} steps",
    "auc_small": "area under that coverage curve: mean coverage over all steps",
    "coverage_medium": f"coverage of held-out medium worlds after {HELD_OUT['medium']} steps",
    "auc_medium": "area under that coverage curve",
    "train_cpu_seconds": "CPU seconds of training",
}

BENCHMARK = Benchmark(
    name="farmap_ppo",
    methods=(*CONFIGS, "farmap", "farmap-plus", "random"),
    conditions=("held-out",),
    metrics=METRICS,
    run=run,
    sizes={
        "quick": Size(1, {"timesteps": 4_096, "worlds": [4, 2]}, "one seed, 4 096 training steps, 6 worlds"),
        "default": Size(5, {"timesteps": 400_000, "worlds": [100, 50]}),
        "full": Size(10, {"timesteps": 1_000_000, "worlds": [100, 50]}),
    },
    plot=plot,
    derive=derive,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
