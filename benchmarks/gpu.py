"""Everything that is claimed for, or wanted of, a machine with a GPU, in under eight minutes.

``python -m benchmarks.gpu --out DIR`` measures one line after the other, each in a process and a share of the time of
its own, so that none that fails or hangs keeps the others from being measured. It prints one table last, which says of
each line what was wanted and what was found, and writes the same to ``DIR/gpu.json`` with the card's name.

``--device cpu --quick`` goes through all of it on a CPU with next to no steps: that it runs, not what it finds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import BAD_INPUT, SOME_FAILED
from farl.experiment.files import write_atomically

SECONDS_IN_ALL = 480


@dataclass(frozen=True)
class Context:
    """Where, and how much."""

    device: str
    quick: bool

    def steps(self, full: int) -> int:
        """Rollout steps of each environment in a turn."""
        return 8 if self.quick else full

    def envs(self, full: int) -> int:
        """Environments."""
        return 2 if self.quick else full


@dataclass(frozen=True)
class Line:
    """One thing to measure.

    :ivar wanted: the limit of what ``measure`` returns
    :ivar at_least: whether that is the least, or the most
    """

    what: str
    measure: Callable[[Context], float]
    wanted: float
    at_least: bool = False


def _atari(context: Context, algorithm: Any, policy: str, n_envs: int = 16, **settings: Any) -> Any:
    from farl.experiment.config import EnvironmentConfig
    from farl.experiment.environments import make_vec_env

    count = context.envs(n_envs)
    env = make_vec_env(
        EnvironmentConfig(id="ALE/MontezumaRevenge-v5", kind="atari", n_envs=count, vector_backend="ale"), seed=0
    )
    n_steps = context.steps(128)
    return algorithm(
        policy,
        env,
        n_steps=n_steps,
        batch_size=n_steps * count // 4,
        n_epochs=4,
        seed=0,
        device=context.device,
        **settings,
    )


def _starpilot(context: Context, algorithm: Any, **settings: Any) -> Any:
    from farl.envs.procgen import ProcgenVecEnv
    from farl.sb3.networks import ImpalaCNN

    count, n_steps = context.envs(64), context.steps(64)
    network = {
        "features_extractor_class": ImpalaCNN,
        "features_extractor_kwargs": {"features_dim": 256},
        "net_arch": [],
    }
    return algorithm(
        "CnnPolicy",
        ProcgenVecEnv("starpilot", count, distribution_mode="easy", seed=0),
        n_steps=n_steps,
        batch_size=n_steps * count // 4,
        n_epochs=3,
        seed=0,
        device=context.device,
        policy_kwargs=network,
        **settings,
    )


def _seconds(models: Sequence[Any], turns: int) -> list[float]:
    """Median wall-clock time of a rollout and its update, of each model, in turns."""
    spent: list[list[float]] = [[] for _ in models]
    for turn in range(turns + 1):
        for model, seconds in zip(models, spent, strict=True):
            began = time.perf_counter()
            model.learn(model.n_steps * model.n_envs, reset_num_timesteps=turn == 0)
            seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds[1:]) for seconds in spent]  # the first of each warms up


def _ratio(context: Context, one: Any, other: Any) -> float:
    mine, theirs = _seconds([one, other], 1 if context.quick else 3)
    return mine / theirs


def fast_ppo(context: Context) -> float:
    from stable_baselines3 import PPO

    from farl import Fast

    return _ratio(context, _atari(context, PPO, "CnnPolicy"), _atari(context, Fast(PPO), "CnnPolicy"))


def fast_recurrent(context: Context) -> float:
    from sb3_contrib import RecurrentPPO

    from farl import Fast

    models = [_atari(context, algorithm, "CnnLstmPolicy") for algorithm in (RecurrentPPO, Fast(RecurrentPPO))]
    return _ratio(context, *models)


def throughput(context: Context) -> float:
    from stable_baselines3 import PPO

    from farl import Fast

    model = _atari(context, Fast(PPO), "CnnPolicy", n_envs=64)
    return float(model.n_steps * model.n_envs / _seconds([model], 1 if context.quick else 3)[0])


def _far(fragments: int) -> Callable[[Context], float]:
    def measure(context: Context) -> float:
        from stable_baselines3 import PPO

        from benchmarks.overhead import _scatter
        from farl import FAR, Fast

        far = {"module": {"frame_stack": 4}, "warmup": 1, "criterion": {"name": "ratio", "threshold": 1e9}}
        model = _atari(context, FAR(Fast(PPO)), "CnnPolicy", far=far)
        if fragments > 1:
            _scatter(model.curiosity, fragments, seed=0)
        return _ratio(context, model, _atari(context, Fast(PPO), "CnnPolicy"))

    return measure


def memory(context: Context) -> float:
    """Peak of GPU memory with FAR over that with RND, on Atari frames."""
    import torch
    from stable_baselines3 import PPO

    from farl import FAR

    peaks = []
    for off in ({}, {"criterion": None, "recall": None}):
        if context.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        model = _atari(context, FAR(PPO), "CnnPolicy", far={"module": {"frame_stack": 4}, **off})
        model.learn(model.n_steps * model.n_envs)
        peaks.append(torch.cuda.max_memory_allocated() if context.device != "cpu" else 1)
        del model
    return peaks[0] / peaks[1]


def one_particle(context: Context) -> float:
    from stable_baselines3 import PPO

    from farl.agents.particle_ppo import ParticlePPO

    return _ratio(context, _starpilot(context, ParticlePPO, n_particles=1), _starpilot(context, PPO))


def ten_particles(context: Context) -> float:
    from farl.agents.particle_ppo import ParticlePPO

    return _ratio(context, *(_starpilot(context, ParticlePPO, n_particles=count) for count in (10, 1)))


def _particles(case: str) -> Callable[[Context], float]:
    def measure(context: Context) -> float:
        from benchmarks import particle_speed
        from benchmarks.harness import Job

        case_now = "mlp-4k" if context.quick else case
        parameters = {"device": context.device, "repeats": 1 if context.quick else 3}
        return float(particle_speed.run(Job("particle_speed", "auto", case_now, 0, parameters))["speedup"])

    return measure


LINES = {
    "fast-ppo": Line("PPO over Fast(PPO), Atari frames", fast_ppo, 6.0, at_least=True),
    "fast-recurrent": Line("RecurrentPPO over Fast(RecurrentPPO), Atari frames", fast_recurrent, 4.0, at_least=True),
    "throughput": Line("steps/s of Fast(PPO), Atari, 64 environments", throughput, 10_000, at_least=True),
    "far-1": Line("FAR(Fast(PPO)) over Fast(PPO), 1 fragment", _far(1), 1.1),
    "far-10": Line("the same, 10 fragments", _far(10), 1.1),
    "far-100": Line("the same, 100 fragments", _far(100), 1.1),
    "memory": Line("GPU memory of FAR over RND", memory, 1.0),
    "one-particle": Line("ParticlePPO with 1 particle over PPO, StarPilot, IMPALA", one_particle, 1.2),
    "ten-particles": Line("ParticlePPO with 10 particles over 1", ten_particles, 3.0),
    "particles-5m": Line("loop over 100 particles of the 5 M network", _particles("conv-5m"), 5.0, at_least=True),
    "particles-impala": Line("loop over 10 particles of IMPALA", _particles("impala-10"), 5.0, at_least=True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all lines, or one; 0 if each was measured, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where gpu.json and table.md go")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default: cuda")
    parser.add_argument("--quick", action="store_true", help="next to no steps: that it runs, not what it finds")
    parser.add_argument("--lines", metavar="a,b", help=f"some of: {', '.join(LINES)}")
    parser.add_argument("--line", choices=LINES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.line is not None:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(LINES[options.line].measure(Context(options.device, options.quick))))
        return 0
    names = list(LINES) if options.lines is None else options.lines.split(",")
    problem = _problem(options, names)
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return BAD_INPUT
    return _measure(options, names)


def _problem(options: argparse.Namespace, names: Sequence[str]) -> str | None:
    if options.out is None:
        return "name a folder for the results: --out DIR"
    unknown = sorted(set(names) - LINES.keys())
    if unknown:
        return f"no such line: {', '.join(unknown)}; there are {', '.join(LINES)}"
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "torch sees no GPU here; use --device cpu --quick to see that all of it runs"
    return None


def _measure(options: argparse.Namespace, names: Sequence[str]) -> int:
    from farl.experiment.metrics import library_versions, machine_facts

    options.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + SECONDS_IN_ALL
    rows = []
    for index, name in enumerate(names):
        share = (ends - time.monotonic()) / (len(names) - index)  # what one line does not need, the others get
        print(f"[{index + 1}/{len(names)}] {LINES[name].what}", file=sys.stderr, flush=True)
        rows.append(
            {"line": name, "what": LINES[name].what, "wanted": _wanted(LINES[name]), **_found(name, options, share)}
        )
        # After each line, so that nothing is lost.
        facts = {**machine_facts(), "versions": library_versions(), "quick": options.quick, "device": options.device}
        write_atomically(options.out / "gpu.json", json.dumps({**facts, "rows": rows}, indent=2) + "\n")
    table = _table(rows)
    write_atomically(options.out / "table.md", table)
    print(table)
    return SOME_FAILED if any(row["found"] is None for row in rows) else 0


def _found(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--line", name, "--device", options.device]
    command += ["--quick"] if options.quick else []
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"found": None, "verdict": f"not measured: not done after {seconds:.0f} s"}
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        return {"found": None, "verdict": f"not measured: {reason}"}
    found, line = float(json.loads(done.stdout.strip().splitlines()[-1])), LINES[name]
    met = found >= line.wanted if line.at_least else found <= line.wanted
    verdict = "quick: no verdict" if options.quick else "met" if met else "missed"
    return {"found": found, "verdict": verdict, "seconds": round(time.monotonic() - began, 1)}


def _wanted(line: Line) -> str:
    return f"at {'least' if line.at_least else 'most'} {line.wanted:,g}"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| line | wanted | found | |", "|---|---|---|---|"]
    for row in rows:
        found = "" if row["found"] is None else f"{row['found']:,.4g}"
        lines.append(f"| {row['what']} | {row['wanted']} | {found} | {row['verdict']} |")
    missed = [row["line"] for row in rows if row["verdict"] == "missed"]
    unmeasured = [row["line"] for row in rows if row["found"] is None]
    lines += ["", f"missed: {', '.join(missed) or 'none'}; not measured: {', '.join(unmeasured) or 'none'}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
