"""What recognising places costs beside RND, by how many places are known.

- ``rnd``: RND, which learns
- ``recognition``: first visits to places; ``recognition-graph``: and the graph of places gives advice

Sixteen agents walk at random through twelve textured rooms that they know, and their curiosity takes in each step, with
all that it does at the end of a rollout. The store is filled up to the number of places with keys of nothing that is
ever seen, as it would be in a larger world, with no ways between them; so fragments, which are divided along such ways,
are left out. Conditions are that number; with ``-noise`` a twentieth of the colours in view are misread, so that every
view has to be looked for among all places. RND is as it is without fragments.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Job, Size, main

SETTINGS: dict[str, dict[str, Any]] = {
    "rnd": {"module": "rnd", "criterion": None},
    "recognition": {"module": {"name": "recognition", "capacity": 1_000_000, "resolution": None}, "criterion": None},
    "recognition-graph": {
        "module": {"name": "recognition", "capacity": 1_000_000, "resolution": None, "graph": {}},
        "criterion": None,
    },
}
N_ENVS, N_STEPS = 16, 128


def run(job: Job) -> dict[str, Any]:
    import torch

    from farl.envs.room_chain import RoomChainVecEnv
    from farl.recognition.places import unit
    from farl.sb3.config import FARConfig
    from farl.sb3.rollout import Rollout

    torch.set_num_threads(1)
    places, _, noise = job.condition.partition("-")
    venv = RoomChainVecEnv(N_ENVS, plan="chain-12", max_steps=None, noise="color-.05" if noise else None)
    venv.seed(job.seed)
    config = FARConfig.parse(SETTINGS[job.method])
    assert config is not None
    rollout = Rollout(config, venv.observation_space, venv.action_space, N_ENVS, torch.device("cpu"), job.seed)
    rollout.attach(venv)
    rollout.begin(venv.reset(), restarts=True)
    rng = np.random.default_rng(job.seed)

    def walk(steps: int) -> float:
        spent = 0.0
        for step in range(steps):
            actions = rng.integers(3, size=N_ENVS)
            observations, rewards, dones, infos = venv.step(actions)
            began = time.process_time()
            rollout.add(observations, actions, rewards, dones, infos)
            if job.method == "recognition-graph":
                rollout.take_in()
                rollout.advise(dones)
            if (step + 1) % N_STEPS == 0:
                rollout.take_in()
                rollout.update(lambda *_: None)
                rollout.clear()
            spent += time.process_time() - began
        return spent

    walk(job.parameters["before"])
    module: Any = rollout.curiosity.module
    if job.method != "rnd":
        missing = int(places) - len(module.places)
        keys = unit(rng.standard_normal((missing, module.places.keys.shape[1])).astype(np.float32))
        for part in np.array_split(keys, missing // 16 + 1):  # of one batch, each is compared with all before
            module.places.add(part, np.ones(len(part), np.float32))
        walk(N_STEPS)  # memory of the new size is taken once
    taken = walk(job.parameters["steps"])
    return {"us": 1e6 * taken / job.parameters["steps"] / N_ENVS}


def beside_rnd(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many times as long each method takes as RND with the same seed."""
    done = {(row["condition"], row["seed"], row["method"]): row for row in rows if "error" not in row}
    found = []
    for (condition, seed, method), row in done.items():
        rnd = done.get((condition, seed, "rnd"))
        if rnd is not None and method != "rnd" and "us" in row:
            ratio = row["us"] / rnd["us"]
            found.append({"method": method, "condition": condition, "seed": seed, "times_rnd": ratio})
    return found


BENCHMARK = Benchmark(
    name="recognition_cost",
    methods=tuple(SETTINGS),
    conditions=("5000", "100000", "5000-noise", "100000-noise"),
    metrics={
        "us": "CPU time of the curiosity in a step of one of sixteen environments, in microseconds",
        "times_rnd": "the same, as a multiple of RND's with the same seed",
    },
    run=run,
    sizes={
        "quick": Size(seeds=1, parameters={"before": 256, "steps": 128}, note="one repeat of 128 steps"),
        "default": Size(seeds=5, parameters={"before": 2_048, "steps": 1_024}),
        "full": Size(seeds=5, parameters={"before": 8_192, "steps": 4_096}),
    },
    derive=beside_rnd,
    alone=True,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
