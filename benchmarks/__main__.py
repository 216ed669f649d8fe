"""``python -m benchmarks --quick --out DIR`` runs every benchmark, each in a folder of its own under DIR."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks
from benchmarks.harness import BAD_INPUT, INTERRUPTED, Benchmark, main


def discover() -> list[Benchmark]:
    """Every ``BENCHMARK`` of this package, by name."""
    names = [info.name for info in pkgutil.iter_modules(benchmarks.__path__) if not info.name.startswith("_")]
    modules = [importlib.import_module(f"benchmarks.{name}") for name in names]
    return [module.BENCHMARK for module in modules if isinstance(getattr(module, "BENCHMARK", None), Benchmark)]


def run_everything(arguments: Sequence[str] | None = None) -> int:
    """Run all benchmarks in one size; returns the worst exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go, and continue")
    parser.add_argument("--jobs", metavar="N", help="processes (default: cores)")
    sizes = parser.add_mutually_exclusive_group()
    for name in ("quick", "full"):
        sizes.add_argument(f"--{name}", dest="size", action="store_const", const=name)
    options = parser.parse_args(arguments)
    worst = 0
    for benchmark in discover():
        command = ["--out", str(options.out / benchmark.name)]
        command += [f"--{options.size}"] if options.size else []
        command += ["--jobs", options.jobs] if options.jobs else []
        code = main(benchmark, command)
        if code in (BAD_INPUT, INTERRUPTED):
            return code
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(run_everything())
