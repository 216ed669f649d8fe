"""``python -m benchmarks.faults --part faults``: each fault once, as a user meets it at the command line."""

import contextlib
import io
import logging
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks._faulty import BAD_OBSERVATIONS, BAD_REWARDS, Faulty, make_writable
from farl.cli import main
from farl.errors import ConfigError
from farl.experiment.checkpoint import latest_checkpoint, latest_path
from farl.experiment.lock import hold

BY_ENVIRONMENT = ("raises", "reset-raises", "reset-none", "hangs", "tuple", "flag", *BAD_OBSERVATIONS, *BAD_REWARDS)
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
_EXIT = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 138, "SIGHUP": 129}
_AT = 100
_YAML = """\
total_timesteps: 400
seed: 0
device: cpu
environment:
  id: benchmarks._faulty:Faulty
  n_envs: 1
  kwargs: {{fault: "{fault}", at: {at}, folder: "{folder}"}}
{more}
algorithm: {{name: {algorithm}, hyperparameters: {hyperparameters}}}
checkpoints: {{freq: 64}}
logging: {{image_freq: 0}}
"""
_PPO = ("PPO", "{n_steps: 32, batch_size: 32, n_epochs: 1, policy_kwargs: {net_arch: [8]}}")
_A2C = ("A2C", "{policy_kwargs: {net_arch: [8]}}")


def inject(short: bool, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each fault: the exit code, the first line the user sees, and the steps that were lost."""
    folder.chmod(0o755)  # also for whom a process becomes that may not write
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
    rows = [
        _row(fault, 1, *inject_fault(fault, folder / fault))
        for fault in (BY_ENVIRONMENT[:3] if short else BY_ENVIRONMENT)
    ]
    rows += [_row(fault, _EXIT[fault], *inject_fault(fault, folder / fault)) for fault in SIGNALS]
    rows.append(_row("a loss is infinite", 1, *inject_fault("large-reward", folder / "loss", algorithm=_A2C)))
    rows.append(_row("the disk is full", 1, *inject_fault("disk-full", folder / "full"), allowed=64))
    rows.append(_row("the directory becomes read-only", 1, *inject_fault("read-only", folder / "locked"), allowed=64))
    rows.append(_row("Ctrl-C twice", 130, *inject_fault("twice", folder / "twice"), allowed=64))
    rows.append(_row("the directory is deleted", 1, *inject_fault("deleted", folder / "deleted")))
    for fault in ("observation-nan",) if short else BAD_OBSERVATIONS:
        told = inject_fault(fault, folder / f"batch-{fault}", identity="Faulty-v0", n_envs=2)
        rows.append(_row(f"{fault}, of a batch", 1, *told))
    if not short:
        more = "  vector_backend: subproc\n  timeout: 60"
        rows.append(_row("a worker dies", 1, *inject_fault("dies", folder / "worker", more=more, n_envs=2)))
    rows += [_row(name, 2, code, told, 0, 0) for name, (code, told) in _second_hand(folder / "whole")]
    return rows


def _row(fault: str, expected: int, code: int, told: str, done: int, saved: int, allowed: int = 0) -> dict[str, Any]:
    lost = max(done - saved, 0)
    good = code == expected and told.strip() != "" and "Traceback" not in told and lost <= allowed
    told = re.sub(r"/\S*?/tmp\w+/", "DIR/", told)[:200]
    return {"fault": fault, "exit": code, "first line": told, "steps lost": lost, "runs": 1, "equal": int(good)}


def inject_fault(
    fault: str,
    run: Path,
    algorithm: tuple[str, str] = _PPO,
    more: str = "",
    n_envs: int = 1,
    identity: str = "Faulty",
) -> tuple[int, str, int, int]:
    """Train until the fault; returns exit code, first line of the errors, steps done and steps that are saved."""
    Faulty.faults = 0
    if fault == "hangs":
        more = "  timeout: 0.5"
    run.parent.mkdir(parents=True, exist_ok=True)
    name, hyperparameters = algorithm
    at = 0 if fault == "large-reward" else _AT
    text = _YAML.format(fault=fault, at=at, folder=run, more=more, algorithm=name, hyperparameters=hyperparameters)
    config = run.with_suffix(".yaml")
    text = text.replace("n_envs: 1", f"n_envs: {n_envs}").replace(":Faulty", f":{identity}")
    config.write_text(text, encoding="utf-8")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        code, told = _command("train", str(config), "--out", str(run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        make_writable(run)
    # Progress and warnings of libraries stand beside what the command says; a traceback, where no file takes it.
    starts = ("ended at once",) if fault == "twice" else ("error:", "interrupted")
    lines = [line for line in told if line.startswith(starts) or ("stopping at" in line and fault != "twice")]
    saved = latest_path(run / "checkpoints")
    steps = latest_checkpoint(run / "checkpoints").timesteps if saved is not None else 0
    after = [part for line in lines for part in line.split("after ")[1:2]]
    done = int(after[0].split(" ")[0].replace(",", "")) if after and after[0][0].isdigit() else 0
    done = _AT if fault == "twice" else done  # it ends at once, without a count
    return code, lines[0] if lines else "", done, steps


def _second_hand(run: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    """Faults of what a run left: two processes on it, and files that were damaged."""
    inject_fault("", run)
    with hold(run):
        yield "a second process", _first("resume", str(run), "--timesteps", "800")
    checkpoints = sorted((run / "checkpoints").iterdir())
    (checkpoints[-1] / "model.zip").write_bytes(b"damaged")
    code, told = _command("evaluate", str(run), "--episodes", "1")
    yield (
        "the latest checkpoint is damaged",
        (2 if code == 0 else 99, told[0] if told else ""),
    )  # it goes by the one before
    for folder in checkpoints:
        (folder / "model.zip").write_bytes(b"damaged")
    yield "all checkpoints are damaged", _first("evaluate", str(run))
    (run / "config.yaml").write_bytes((run / "config.yaml").read_bytes()[:200])
    shutil.rmtree(run / "checkpoints")
    yield "config.yaml is damaged", _first("resume", str(run))


def _first(*command: str) -> tuple[int, str]:
    code, told = _command(*command)
    return code, told[0] if told else ""


def _command(*command: str) -> tuple[int, list[str]]:
    """Run a command of farl here; returns its exit code and the lines of its errors."""
    errors = io.StringIO()
    run: Callable[[list[str]], int] = main
    handler, logger = logging.StreamHandler(errors), logging.getLogger("farl")
    logger.addHandler(handler)
    logger.propagate = False
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = run(list(command))
        except (ConfigError, OSError) as error:  # neither may get here
            code, _ = 99, errors.write(f"Traceback: {error}")
        finally:
            logger.removeHandler(handler)
    return code, [" ".join(line.split()) for line in errors.getvalue().splitlines() if line.strip()]
