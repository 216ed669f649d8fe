"""What curiosity and fragmentation cost: wall-clock time of the same number of steps, learning included.

- ``ppo``: PPO alone
- ``rnd``: PPO with one RND module, nothing fragments
- ``far-N``: PPO with fragmentation and recall over N live fragments. The N modules are there from the start, each with
  as many keys as a fragment may have; the real criterion, the real comparison of keys and the real confirmation run
  at every step, but their verdict is replaced: in each step one environment in fifty, about as many as in the
  quickstart, moves to a fragment drawn at random. So all N modules are in use all the time, however the world looks.

The methods are run in turn, one at a time, and that as many times as there are seeds: a machine that slows down does so
for all of them.
"""

import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Benchmark, Job, Size, main

N_ENVS = 16
N_STEPS = 128
MOVES_PER_STEP = 0.02
ENVIRONMENT = "farl/HeteroRooms-3x3-v0"


def run(job: Job) -> dict[str, Any]:
    from stable_baselines3 import PPO

    from farl import FAR
    from farl.experiment.config import EnvironmentConfig
    from farl.experiment.environments import make_vec_env

    venv = make_vec_env(EnvironmentConfig(id=ENVIRONMENT, kind="minigrid", n_envs=N_ENVS), job.seed)
    far: dict[str, Any] | None = {"criterion": {"name": "ratio", "threshold": 1e9}, "warmup": 1}
    if job.method == "rnd":
        far = {"criterion": None, "recall": None, "warmup": 1}
    if job.method == "ppo":
        far = None
    arguments = {"n_steps": N_STEPS, "batch_size": 512, "n_epochs": 4, "seed": job.seed, "device": "cpu", "far": far}
    model: Any = FAR(PPO)("MlpPolicy", venv, **arguments)
    if job.method.startswith("far-"):
        _scatter(model.curiosity, fragments=int(job.method.removeprefix("far-")), seed=job.seed)
    rollout = N_ENVS * N_STEPS
    model.learn(rollout)  # imports, allocations, and the first use of every module
    steps = job.parameters["steps"]
    began = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    seconds = time.perf_counter() - began
    venv.close()
    live = len(model.curiosity.memory) if model.curiosity is not None else 0
    return {"seconds": seconds, "steps_per_second": steps / seconds, "live_fragments": live}


def _scatter(curiosity: Any, fragments: int, seed: int) -> None:
    """Fill the long-term memory and let environments move between its fragments."""
    from farl.fragmentation import KeyRecall

    rng = np.random.default_rng(seed)
    memory = curiosity.memory
    for _ in range(fragments - len(memory.ids)):
        memory.add(curiosity.bank.initial_state())

    class RandomMoves(KeyRecall):
        def propose(
            self, envs: npt.NDArray[np.int64], active: npt.NDArray[np.int64], keys: Any, where: Any
        ) -> npt.NDArray[np.int64]:
            if len(memory.key_owners) == 0:
                for fragment in memory.ids:
                    drawn = rng.standard_normal((memory.keys_per_fragment, keys.shape[1]))
                    memory.add_keys(int(fragment), drawn.astype(np.float32))
            super().propose(envs, active, keys, where)
            drawn = rng.choice(np.asarray(memory.ids), len(envs))
            moves = (rng.random(len(envs)) < MOVES_PER_STEP) & (drawn != active[envs])
            return np.where(moves, drawn, -1)

    confirm = curiosity.controller.confirm

    def confirm_anyway(envs: npt.NDArray[np.int64], fragments: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return np.ones_like(confirm(envs, fragments))

    curiosity.controller.recall = RandomMoves(memory, threshold=0.95)
    curiosity.controller.confirm = confirm_anyway


BENCHMARK = Benchmark(
    name="overhead",
    methods=("ppo", "rnd", "far-1", "far-10", "far-100"),
    conditions=("rooms",),
    metrics={
        "seconds": "wall-clock time of the run, learning included, in s",
        "steps_per_second": "environment steps per second",
    },
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={"steps": 2_048}, note="one repeat of 2 048 steps"),
        "default": Size(seeds=5, parameters={"steps": 20_480}, note="five repeats of 20 480 steps instead of 102 400"),
        "full": Size(seeds=5, parameters={"steps": 102_400}, note="five repeats of 102 400 steps"),
    },
    alone=True,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
