"""What curiosity and fragmentation cost: time of the same number of steps, learning included.

- ``ppo``: PPO alone
- ``rnd``: PPO with one RND module, nothing fragments
- ``far``: PPO with fragmentation and recall as it comes, with as many fragments as there happen to be
- ``rnd-shared``, ``far-shared``: the same with ``critic: shared``: the policy's own critic learns the sum of rewards
- ``rnd-env``, ``far-env``: the same through ``FARVecEnv``, where the bonus is part of the reward
- ``rlexplore``: SB3's PPO with RLeXplore's RND, which adds the bonus to PPO's advantages and has no critic of its
  own either; it is run when ``--methods`` names it, and needs ``--rlexplore PYTHON``, a Python that has both FARL and
  rllte-core
- ``far-N``: the worst case: N live fragments. The N modules are there from the start, each with as many keys as a
  fragment may have; the real criterion, the real comparison of keys and the real confirmation run at every step, but
  their verdict is replaced: in each step one environment in fifty moves to a fragment drawn at random. So all N modules
  are in use all the time, however the world looks.

Everyone takes gradient steps on batches of 256 samples, one pass over all samples of a rollout; networks are each
library's defaults. ``rooms`` is a MiniGrid of nine rooms (980 numbers); ``atari`` Montezuma's Revenge in 84 x 84
frames.

The methods are run in turn, one at a time, and that as many times as there are seeds: a machine that slows down does so
for all of them. CPU seconds are told beside the wall-clock, for they suffer less from what else runs.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Benchmark, Job, Size, main

BATCH_SIZE = 256
MOVES_PER_STEP = 0.02


def run(job: Job) -> dict[str, Any]:
    steps = job.parameters[f"{job.condition}_steps"]
    if job.method == "rlexplore":
        return _run_rlexplore(job, steps)
    from stable_baselines3 import PPO

    from farl import FAR, FARVecEnv

    far = _settings(job)
    venv = make_env(job.condition, job.seed)
    policy, settings = ppo_settings(job.condition)
    if job.method.endswith("-env"):
        venv = FARVecEnv(venv, far, device="cpu", seed=job.seed)
        model: Any = PPO(policy, venv, seed=job.seed, device="cpu", **settings)
    else:
        model = FAR(PPO)(policy, venv, seed=job.seed, device="cpu", far=far, **settings)
    curiosity = venv.curiosity if isinstance(venv, FARVecEnv) else model.curiosity
    if job.method.startswith("far-") and job.method.removeprefix("far-").isdigit():
        _scatter(curiosity, fragments=int(job.method.removeprefix("far-")), seed=job.seed)
    result = timed(model, settings["n_steps"] * venv.num_envs, steps)
    venv.close()
    if curiosity is not None:
        result["live_fragments"] = len(curiosity.memory)
        result["parameters"] = sum(part.numel() for part in curiosity.module.predictor.parameters())
    return result


def make_env(condition: str, seed: int) -> Any:
    """A vector environment of a condition."""
    from farl.experiment.config import EnvironmentConfig
    from farl.experiment.environments import make_vec_env

    if condition == "rooms":
        # One after another, as most environments are stepped: as a batch they would cost next to nothing.
        rooms = EnvironmentConfig(id="farl/HeteroRooms-3x3-v0", kind="minigrid", n_envs=16, vector_backend="dummy")
        return make_vec_env(rooms, seed)
    return make_vec_env(EnvironmentConfig(id="ALE/MontezumaRevenge-v5", kind="atari", n_envs=8), seed)


def ppo_settings(condition: str) -> tuple[str, dict[str, Any]]:
    """Policy and hyperparameters of PPO."""
    if condition == "rooms":
        return "MlpPolicy", {"n_steps": 128, "batch_size": 512, "n_epochs": 4}
    return "CnnPolicy", {"n_steps": 64, "batch_size": 128, "n_epochs": 4}


def timed(model: Any, warm_up: int, steps: int, callback: Any = None) -> dict[str, Any]:
    """Time of ``steps`` steps, after a first rollout for imports, allocations, and the first use of everything.

    What all that left behind is collected before the clock starts: Python's first full collection takes as long as a
    thousand steps, and would fall into some runs and not into others.
    """
    model.learn(warm_up, callback=callback)
    gc.collect()
    began, began_cpu = time.perf_counter(), time.process_time()
    model.learn(steps, reset_num_timesteps=False, callback=callback)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "steps_per_second": steps / seconds}


def _settings(job: Job) -> dict[str, Any] | None:
    common: dict[str, Any] = {"batch_size": BATCH_SIZE, "warmup": 256}
    if job.condition == "atari":
        common |= {"module": {"frame_stack": 4}}
    if job.method == "ppo":
        return None
    if job.method.endswith("-shared"):
        common |= {"critic": "shared"}
    if job.method.startswith("rnd"):
        return common | {"criterion": None, "recall": None}
    if job.method in ("far", "far-env", "far-shared"):
        return common
    return common | {"criterion": {"name": "ratio", "threshold": 1e9}, "warmup": 1}


def _run_rlexplore(job: Job, steps: int) -> dict[str, Any]:
    python = job.parameters["rlexplore"]
    if python is None:
        raise ValueError("needs --rlexplore PYTHON, or leave it out with --methods")
    command = [str(Path(python).expanduser()), "-m", "benchmarks._rlexplore", job.condition, str(job.seed), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _ratios(rows: Any) -> list[dict[str, Any]]:
    """CPU and wall-clock time of each method over that of ``rnd`` in the same repeat and condition."""
    done = {(row["condition"], row["seed"], row["method"]): row for row in rows if "error" not in row}
    ratios = []
    for (condition, seed, method), row in done.items():
        baseline = done.get((condition, seed, "rnd"))
        if baseline is not None:
            values = {f"{name}_over_rnd": row[name] / baseline[name] for name in ("seconds", "cpu_seconds")}
            ratios.append({"method": method, "condition": f"{condition}, over rnd", "seed": seed, **values})
    return ratios


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rlexplore", metavar="PYTHON", help="a Python that has both FARL and rllte-core")


def _parameters(options: argparse.Namespace) -> Mapping[str, Any]:
    return {"rlexplore": options.rlexplore}


def _scatter(curiosity: Any, fragments: int, seed: int) -> None:
    """Fill the long-term memory and let environments move between its fragments."""
    from farl.fragmentation import KeyRecall, Recognition

    rng = np.random.default_rng(seed)
    memory = curiosity.memory
    for _ in range(fragments - len(memory.ids)):
        memory.add(curiosity.modules.bank.initial_state())

    class RandomMoves(KeyRecall):
        def recognise(self, sight: Any, active: npt.NDArray[np.int64], envs: npt.NDArray[np.int64]) -> Recognition:
            if len(memory.key_owners) == 0:
                for fragment in memory.ids:
                    drawn = rng.standard_normal((memory.keys_per_fragment, sight.keys.shape[1]))
                    memory.add_keys(int(fragment), drawn.astype(np.float32))
            found = super().recognise(sight, active, envs)
            drawn = rng.choice(np.asarray(memory.ids), len(envs))
            moves = (rng.random(len(envs)) < MOVES_PER_STEP) & (drawn != active[envs])
            return Recognition(np.where(moves, drawn, -1), found.similarity)

    router, commit = curiosity.router, curiosity.router.commit
    router.recall = RandomMoves(memory, threshold=0.95)
    # The modules judge, and are not listened to.
    router.commit = lambda proposal, errors: commit(proposal, None if errors is None else np.full(len(errors), -np.inf))


WITHOUT_RLEXPLORE = ("ppo", "rnd", "far", "rnd-shared", "far-shared", "rnd-env", "far-env", "far-10", "far-100")

BENCHMARK = Benchmark(
    name="overhead",
    methods=(*WITHOUT_RLEXPLORE, "rlexplore"),
    conditions=("rooms", "atari"),
    metrics={
        "seconds": "wall-clock time of the run, learning included, in s",
        "cpu_seconds": "the same in CPU time",
        "steps_per_second": "environment steps per second",
        "seconds_over_rnd": "wall-clock time over that of rnd in the same repeat",
        "cpu_seconds_over_rnd": "CPU time over that of rnd in the same repeat",
    },
    run=run,
    sizes={
        "quick": Size(
            seeds=1,
            parameters={"rooms_steps": 2_048, "atari_steps": 512},
            note="one repeat of 2 048 steps, a part of the methods, rooms only",
            methods=("ppo", "rnd", "far", "far-env", "far-10"),
            conditions=("rooms",),
        ),
        "default": Size(
            seeds=3,
            parameters={"rooms_steps": 10_240, "atari_steps": 512},
            methods=WITHOUT_RLEXPLORE,
            note="10 240 steps a repeat instead of 102 400, and 512 instead of 20 480 on Atari",
        ),
        "full": Size(
            seeds=5,
            parameters={"rooms_steps": 102_400, "atari_steps": 20_480},
            methods=WITHOUT_RLEXPLORE,
            note="five repeats of 102 400 steps, and of 20 480 on Atari",
        ),
    },
    alone=True,
    derive=_ratios,
    add_arguments=_add_arguments,
    parameters=_parameters,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
