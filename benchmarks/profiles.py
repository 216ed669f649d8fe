"""Where the time goes: the ten functions that take most of it, in rooms with 16 environments.

``python -m benchmarks.profiles --out DIR [--methods ppo,fast,far,far-fast,particle-ppo]`` lets each method learn some
rollouts under ``cProfile`` and writes ``DIR/table.md``: for each, the time of a step, and of its ten dearest functions
without what they call. A profiler makes calls dearer than they are: compare shares, not seconds, with other tables.
"""

import argparse
import cProfile
import platform
import pstats
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.harness import BAD_INPUT
from farl.experiment.files import write_atomically

METHODS = ("ppo", "fast", "far", "far-fast", "particle-ppo")
N_ENVS, N_STEPS = 16, 128
WARM_UP, ROLLOUTS, TOP = 4, 8, 10
_SITE = ("site-packages/", "lib/python3.11/", "farl/", "agents/", "envs/")


def make(method: str) -> Any:
    """A model in rooms, with the settings of ``benchmarks.fast``."""
    from benchmarks import fast

    if method != "particle-ppo":
        return fast._model(method, 0, "rooms", N_ENVS)
    from farl.agents.particle_ppo import ParticlePPO

    settings = {"n_steps": N_STEPS, "batch_size": N_STEPS * N_ENVS // 4, "n_epochs": fast.EPOCHS}
    return ParticlePPO("MlpPolicy", fast.make_env("rooms", N_ENVS, 0), seed=0, device="cpu", **settings)


def profile(method: str) -> tuple[float, list[tuple[str, float, float]]]:
    """Return the microseconds of a step, and of the dearest functions name, microseconds, and calls a rollout."""
    import torch

    torch.set_num_threads(1)
    model, steps = make(method), N_STEPS * N_ENVS
    model.learn(WARM_UP * steps)
    began = time.process_time()
    model.learn(ROLLOUTS * steps, reset_num_timesteps=False)
    seconds = time.process_time() - began
    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    model.learn(ROLLOUTS * steps, reset_num_timesteps=False)
    profiler.disable()
    found: Any = pstats.Stats(profiler)
    dearest = sorted(found.stats.items(), key=lambda item: -item[1][2])[:TOP]
    scale = 1e6 / (ROLLOUTS * steps)
    rows = [(_name(*place), own * scale, calls / ROLLOUTS) for place, (_, calls, own, _, _) in dearest]
    return seconds * scale, rows


def _name(path: str, line: int, function: str) -> str:
    if path == "~":
        return function.strip("<>").replace("built-in method ", "").replace("method ", "")
    for part in _SITE:
        if part in path:
            path = path.split(part)[-1]
    return f"{function} ({path})"


def table(method: str, seconds: float, rows: Sequence[tuple[str, float, float]]) -> str:
    """One method's part of the page."""
    lines = [
        f"### {method}: {seconds:.0f} us a step",
        "",
        "| function | us a step, of its own | calls a rollout |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| `{name}` | {own:.1f} | {calls:.0f} |" for name, own, calls in rows), ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile the methods, one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profiles", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where table.md goes")
    parser.add_argument("--methods", default=",".join(METHODS), metavar="a,b", help=f"some of: {', '.join(METHODS)}")
    options = parser.parse_args(arguments)
    methods = options.methods.split(",")
    if unknown := sorted(set(methods) - set(METHODS)):
        print(f"error: no such method: {', '.join(unknown)}; there are {', '.join(METHODS)}", file=sys.stderr)
        return BAD_INPUT
    made = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    parts = [
        "# Where the time goes\n",
        f"{date.today()}, commit {made.stdout.strip()}, {platform.machine()}, one thread, CPU time, one seed.\n",
    ]
    for method in methods:
        print(f"profiles: {method}", file=sys.stderr)
        parts.append(table(method, *profile(method)))
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "table.md", "\n".join(parts))
    print("\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
