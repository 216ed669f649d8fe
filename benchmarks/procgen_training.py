"""Do the ProcGen configurations learn? ``configs/procgen_GAME.yaml`` to its end, against random actions.

``trained`` is the mean return of the last 100 episodes of training, the policy's actions drawn as in training;
``random`` that of the first 100 episodes with actions drawn at random in the same levels.
"""

import sys
import time
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Job, Size, main

EPISODES = 100


def run(job: Job) -> dict[str, Any]:
    from farl.experiment.loading import load_config

    steps = job.parameters["steps"]
    budget = [] if steps is None else [f"total_timesteps={steps}"]
    config = load_config(f"procgen_{job.condition}", [f"seed={job.seed}", "logging.tensorboard=false", *budget])
    began = time.perf_counter()
    play = _trained if job.method == "trained" else _random
    return {"mean_return": play(config)} | {"seconds": time.perf_counter() - began}


def _trained(config: Any) -> float:
    from farl.experiment.run import train

    return float(train(config)["ep_rew_mean"])


def _random(config: Any) -> float:
    from farl.experiment.environments import make_vec_env

    environment = make_vec_env(config.environment, config.seed)
    environment.reset()
    rng = np.random.default_rng(config.seed)
    returns: list[float] = []
    while len(returns) < EPISODES:
        actions = rng.integers(0, environment.action_space.n, environment.num_envs)
        infos = environment.step(actions)[3]
        returns += [info["episode"]["r"] for info in infos if "episode" in info]
    environment.close()
    return float(np.mean(returns[:EPISODES]))


BENCHMARK = Benchmark(
    name="procgen_training",
    methods=("random", "trained"),
    conditions=("starpilot", "fruitbot", "dodgeball", "chaser"),
    metrics={
        "mean_return": "mean return of 100 episodes, raw rewards",
        "seconds": "wall-clock time, in s",
    },
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={"steps": 4_096}, note="one seed, 4 096 steps", conditions=("starpilot",)),
        "default": Size(seeds=1, parameters={"steps": None}, note="one seed instead of five"),
        "full": Size(seeds=5, parameters={"steps": None}),
    },
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
