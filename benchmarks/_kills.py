"""Runs that are killed again and again, at random moments, and resumed: are they the run that was never stopped?"""

import os
import random
import select
import signal
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._small_runs import logged, parameters, small_run
from farl.experiment import checkpoint as checkpoints
from farl.experiment import run as runs
from farl.experiment.config import ExperimentConfig

WRITES = 3
"""Each third kill falls into the writing of a checkpoint."""


def kill_and_compare(kind: str, kills: int, folder: Path) -> dict[str, Any]:
    """Train a kind of run once in one go, and again with so many kills, and compare.

    Checkpoints are made every few steps, so that many are being written when the process dies.

    :param folder: empty; of the run directories
    :return: a row of the table
    """
    config = small_run(kind, folder, checkpoints={"freq": 24, "keep": 2})
    chance = random.Random(f"{kind} {kills}")
    _go(config, folder / "warm")  # here, so that what is imported and compiled need not be in each process to come
    whole = folder / "whole"
    began = time.monotonic()
    forked(lambda: _go(config, whole))
    seconds = time.monotonic() - began
    done = writing = chains = 0
    same: list[bool] = []
    while done < kills:
        parts = folder / f"parts-{chains}"
        chains += 1
        while True:
            in_writing = done < kills and done % WRITES == 1
            after = chance.uniform(0.0, seconds / 6) if done < kills and not in_writing else None
            dies_in_write = chance.randrange(1, 4) if in_writing else None
            if not forked(partial(_go, config, parts, dies_in_write), after):
                break
            done += 1
            writing += int(in_writing)
        same.append(_equal(whole, parts, config))
    return {
        "kind": kind,
        "kills": done,
        "while writing": writing,
        "runs": chains,
        "equal": sum(same),
        "seconds": round(time.monotonic() - began, 1),
    }


def _go(config: ExperimentConfig, path: Path, dies_in_write: int | None = None) -> None:
    """Train, or resume what is there; die in the middle of the so-manieth file of a checkpoint."""
    runs.write_report = lambda *_: None  # type: ignore[assignment]
    runs.ExplorationCallback.draw = lambda _: {}  # type: ignore[method-assign]
    if dies_in_write is not None:
        save, written = checkpoints.save_state, [0]

        def save_or_die(state: Any, file: Path) -> None:
            written[0] += 1
            save(state, file)
            if written[0] == dies_in_write:
                os.truncate(file, file.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.save_state = save_or_die  # type: ignore[assignment]
    if (path / "config.yaml").is_file():
        runs.resume(path)
    else:
        path.mkdir(exist_ok=True)
        runs.train(config, path)


def forked(work: Callable[[], None], kill_after: float | None = None) -> bool:
    """Do something in a process of its own, and maybe kill it some seconds after it began; return whether it died.

    :raises RuntimeError: it failed
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(reading)
            os.write(writing, b"!")
            work()
            code = 0
        except BaseException:  # the process ends here, and nobody else would say why
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    os.read(reading, 1)
    if kill_after is not None and not select.select([reading], [], [], kill_after)[0]:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(reading)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("a run failed; see above")
    return os.WIFSIGNALED(status)


def _equal(whole: Path, parts: Path, config: ExperimentConfig) -> bool:
    try:
        np.testing.assert_equal(logged(parts), logged(whole))
        np.testing.assert_equal(parameters(parts, config), parameters(whole, config))
    except AssertionError:
        return False
    return True
