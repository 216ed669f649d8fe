"""How fast the robot's world is, and how fast FARMapRobot drives in it.

The building is an office of about 60 x 60 m with cells of 5 cm; the lidar has 180 beams and reaches 8 m. ``world`` is
the environment alone, many robots at once, turning and driving at random; the others are one robot each, and the time
is that of everything: world, lidar, scan matching, map, choice, and Stable-Baselines3's loop.
"""

import sys
import time
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Job, Size, main
from benchmarks.robot import METHODS
from farl.agents.robot import FARMapRobot
from farl.envs.robot.offices import generate_office
from farl.envs.robot.vec_env import RobotVecEnv


def run(job: Job) -> dict[str, Any]:
    """Time the world alone, or one robot in it."""
    cells = generate_office(np.random.default_rng([29, job.seed]), floors=4, width=60.0).cells
    robots = int(job.parameters["robots"]) if job.method == "world" else 1
    steps = int(job.parameters["steps"])
    env = RobotVecEnv(robots, maps=cells, drift=0.02, until_covered=None, max_steps=10**9)
    env.seed(job.seed)
    if job.method == "world":
        actions = np.random.default_rng(job.seed).uniform(-1.0, 1.0, (64, robots, 2)).astype(np.float32)
        env.reset()
        env.step(actions[0])  # compiles the kernels, or reads them from the disk
        began = time.process_time()
        for step in range(steps // robots):
            env.step(actions[step % 64])
        taken = steps // robots * robots
    else:
        agent = FARMapRobot(env=env, seed=job.seed, **METHODS[job.method])
        agent.learn(200, log_interval=0)
        began, taken = time.process_time(), steps
        agent.learn(steps, reset_num_timesteps=False, log_interval=0)
    return {"steps_per_cpu_second": taken / (time.process_time() - began)}


BENCHMARK = Benchmark(
    name="robot_speed",
    methods=("world", "farmap-robot", "global-match"),
    conditions=("60x60m",),
    metrics={"steps_per_cpu_second": "steps of a robot per CPU second"},
    run=run,
    sizes={
        "quick": Size(1, {"robots": 16, "steps": 400}, "one seed, 400 steps", methods=("world", "farmap-robot")),
        "default": Size(5, {"robots": 16, "steps": 4_000}),
        "full": Size(5, {"robots": 16, "steps": 20_000}),
    },
    alone=True,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
