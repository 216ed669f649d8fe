"""What it costs to keep curiosity modules in three tiers: memory, latency of a recall, and throughput.

The long-term memory is filled with N fragments (8, or 800), ``memory: {device: 8, host: 64, disk: DIR}``. Then:

- **recall**: modules of each tier are taken into use, one at a time, each drawn from those that lie in that tier:
  the time until it has predicted one sample. Files are dropped from the page cache first, so the disk is read.
- **throughput**: 16 environments, one transition each a step, an update every 128 steps. The real mechanism runs at
  every step, what is seen is compared with two keys a fragment, but the verdict is replaced: in each step an
  environment moves with a probability of 2%, to a neighbour of its fragment, as from room to room (``walk``), or to
  any other (``anywhere``, the worst case: nearly every move is a recall from disk).

``training`` is a whole PPO on a MiniGrid of nine rooms under ``walk``; the others are curiosity and its learning
alone, on random observations. ``atari`` is the module of the FARCuriosity paper (2.20 M parameters, 84 x 84 frames)
under ``walk``; the others have MLPs on 980 inputs.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Benchmark, Job, Size, main
from farl.fragmentation import NoRecall, Recognition, Sight

N_ENVS = 16
MOVES_PER_STEP = 0.02
UPDATE_EVERY = 128
DEVICE, HOST = 8, 64

IntArray = npt.NDArray[np.int64]


def run(job: Job) -> dict[str, Any]:
    fragments = int(job.method.removeprefix("fragments-"))
    rng = np.random.default_rng(job.seed)
    with tempfile.TemporaryDirectory() as folder:
        if job.condition == "training":
            return _training(job, fragments, folder, rng)
        before = _resident_gb()
        curiosity, moves = _curiosity(job, fragments, folder, rng)
        row, observe = _throughput(job, curiosity, rng)
        moves.stop()
        for tier in ("device", "host", "disk"):
            seconds = _recall_latencies(curiosity, tier, job.parameters["recalls"], observe, rng)
            if len(seconds):
                row[f"{tier}_median_ms"] = float(np.median(seconds) * 1e3)
                row[f"{tier}_p99_ms"] = float(np.quantile(seconds, 0.99) * 1e3)
        row["disk_gb"] = curiosity.memory.tiers.disk_bytes / 1e9
        row["host_gb"] = curiosity.memory_bytes / 1e9
        row["resident_gb"] = _resident_gb() - before
        return row


class _Moves(NoRecall):
    """A recall strategy that moves environments at random."""

    def __init__(self, memory: Any, anywhere: bool, rng: np.random.Generator) -> None:
        self.memory, self.anywhere, self.rng, self.probability = memory, anywhere, rng, MOVES_PER_STEP

    def stop(self) -> None:
        self.probability = 0.0

    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        assert sight.keys is not None
        self.memory.match(sight.keys[envs])
        count = len(self.memory)
        step = self.rng.integers(1, count, len(envs)) if self.anywhere else self.rng.choice([-1, 1], len(envs))
        moves = self.rng.random(len(envs)) < self.probability
        return Recognition(np.where(moves, (active[envs] + step) % count, -1))


def _curiosity(job: Job, fragments: int, folder: str, rng: np.random.Generator) -> tuple[Any, _Moves]:
    from farl.curiosity import RND, FARCuriosity
    from farl.memory import LongTermMemory, Tiers

    atari = job.condition == "atari"
    module = RND((4, 84, 84), 512, 512, frame_stack=4) if atari else RND((980,))
    memory = LongTermMemory[Any](max(fragments, N_ENVS + 1), tiers=Tiers(HOST, folder))
    moves = _Moves(memory, job.condition == "anywhere", rng)
    curiosity = FARCuriosity(
        module, memory, None, moves, N_ENVS, confirm_recall=False, warmup=1, keep_loaded=DEVICE, seed=job.seed
    )
    _fill(curiosity, fragments, rng)
    return curiosity, moves


def _fill(curiosity: Any, fragments: int, rng: np.random.Generator) -> None:
    for _ in range(fragments - 1):
        curiosity.memory.add(curiosity.modules.bank.initial_state())
    width = 512 if len(curiosity.module.shape) == 3 else 64
    for fragment_id in curiosity.memory.ids:  # as many keys as a fracture leaves
        curiosity.memory.add_keys(fragment_id, rng.standard_normal((2, width)))
    curiosity.router.active[:] = rng.integers(0, fragments, N_ENVS)


def _training(job: Job, fragments: int, folder: str, rng: np.random.Generator) -> dict[str, Any]:
    from stable_baselines3 import PPO

    from benchmarks.overhead import make_env, ppo_settings, timed
    from farl import FAR

    venv = make_env("rooms", job.seed)
    policy, settings = ppo_settings("rooms")
    memory = {"capacity": max(fragments, N_ENVS + 1), "device": DEVICE, "host": HOST, "disk": folder}
    far = {"criterion": None, "memory": memory, "warmup": 1}
    model: Any = FAR(PPO)(policy, venv, seed=job.seed, device="cpu", far=far, **settings)
    model.curiosity.router.recall = _Moves(model.curiosity.memory, False, rng)
    model.curiosity.confirm_recall = False
    _fill(model.curiosity, fragments, rng)
    result = timed(model, settings["n_steps"] * venv.num_envs, N_ENVS * job.parameters["steps"])
    return {
        "steps_per_second": result["steps_per_second"],
        "steps_per_cpu_second": N_ENVS * job.parameters["steps"] / result["cpu_seconds"],
        "disk_gb": model.curiosity.memory.tiers.disk_bytes / 1e9,
    }


def _throughput(job: Job, curiosity: Any, rng: np.random.Generator) -> tuple[dict[str, Any], Any]:
    import torch

    from farl.curiosity import Transitions

    shape, atari = (curiosity.module.shape, job.condition == "atari")
    shape = (4, *shape[1:]) if atari else shape
    frames = rng.integers(0, 256, (64, N_ENVS, *shape), np.uint8)
    frames = torch.from_numpy(frames if atari else frames.astype(np.float32) / 255)

    def observe(step: int, envs: int = N_ENVS) -> Transitions:
        seen, following = frames[step % 64, :envs], frames[(step + 1) % 64, :envs]
        return Transitions(seen, torch.zeros(envs), following)

    def go(steps: int) -> None:
        for step in range(steps):
            curiosity.step(observe(step), np.zeros(N_ENVS, bool))
            if step % UPDATE_EVERY == UPDATE_EVERY - 1:
                curiosity.update()

    go(UPDATE_EVERY)
    steps = job.parameters["atari_steps" if atari else "steps"]
    began, began_cpu = time.perf_counter(), time.process_time()
    go(steps)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    samples = steps * N_ENVS
    return {"steps_per_second": samples / seconds, "steps_per_cpu_second": samples / cpu_seconds}, observe


def _recall_latencies(curiosity: Any, tier: str, count: int, observe: Any, rng: np.random.Generator) -> list[float]:
    memory, bank = curiosity.memory, curiosity.modules.bank
    prepared = curiosity.module.prepare(observe(0, 1))
    seconds = []
    for _ in range(count):
        at = {"device": bank.fragment_ids, "host": memory.tiers.in_host, "disk": memory.tiers.on_disk}[tier]
        if not at:
            break
        chosen = rng.choice(np.asarray(at), 1)
        if tier == "disk":
            _forget_pages(memory.tiers.file_of(int(chosen[0])))
        began = time.perf_counter()
        for fragment_id in bank.missing(chosen):
            bank.load(fragment_id, memory.lend(fragment_id))
        bank.surprisal(chosen, prepared)
        seconds.append(time.perf_counter() - began)
        curiosity.update()  # unloads what is not in use
    return seconds


def _forget_pages(path: Path) -> None:
    """Drop a file from the page cache, where the system allows it."""
    if hasattr(os, "posix_fadvise"):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _resident_gb() -> float:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9


BENCHMARK = Benchmark(
    name="memory_tiers",
    methods=("fragments-8", "fragments-800"),
    conditions=("training", "walk", "anywhere", "atari"),
    metrics={
        "steps_per_second": "environment steps per second; in training of all of PPO, elsewhere of curiosity alone",
        "steps_per_cpu_second": "the same per second of CPU time",
        "device_median_ms": "time until a module on the device has predicted, in ms",
        "device_p99_ms": "the same, 99th percentile",
        "host_median_ms": "of a module in host memory",
        "host_p99_ms": "the same, 99th percentile",
        "disk_median_ms": "of a module on disk, not in the page cache",
        "disk_p99_ms": "the same, 99th percentile",
        "disk_gb": "size of all files, in 10^9 bytes",
        "host_gb": "modules and keys on the device and in host memory, in 10^9 bytes",
        "resident_gb": "highest resident memory of the process above what it had before, in 10^9 bytes",
    },
    run=run,
    sizes={
        "quick": Size(
            seeds=1,
            parameters={"steps": 256, "atari_steps": 2, "recalls": 20},
            note="one repeat, few steps, no Atari modules",
            conditions=("training", "walk"),
        ),
        "default": Size(
            seeds=3,
            parameters={"steps": 640, "atari_steps": 32, "recalls": 100},
            note="640 steps a repeat instead of 12 800, and 32 instead of 1 280 on Atari",
        ),
        "full": Size(seeds=5, parameters={"steps": 12_800, "atari_steps": 1_280, "recalls": 500}),
    },
    alone=True,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
