"""Run the suites whose paths are given; see README.md."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODES = ["off", "on", "shared", "default"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("--mode", choices=MODES, action="append", help="one of them; default: all")
    options, for_pytest = parser.parse_known_args()
    suites = [os.environ.get(name) for name in ("SB3_TESTS", "SB3_CONTRIB_TESTS")]
    suites = [Path(suite).resolve() for suite in suites if suite]
    if not suites:
        parser.error("say where the peers' tests are: SB3_TESTS=... or SB3_CONTRIB_TESTS=...; see README.md")
    worst = 0
    for suite in suites:
        for mode in options.mode or MODES:
            environment = os.environ | {"PEERS_FAR": mode, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
            # In the folder itself: the checkout around it must not be imported in place of what is installed.
            command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.peers.peers_plugin", "-p", "no:cacheprovider"]
            command += ["--import-mode=importlib", "-c", os.devnull, "--rootdir", str(suite.parent)]
            command += [str(suite), *for_pytest]
            sys.stdout.write(f"{suite}: FAR {mode}\n")
            sys.stdout.flush()
            worst = max(worst, subprocess.run(command, env=environment, cwd=suite).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
