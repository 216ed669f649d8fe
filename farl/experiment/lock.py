"""One process at a time writes to a run directory."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farl.errors import ConfigError

__all__ = ["LOCK_FILE", "hold"]

LOCK_FILE = ".lock"


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Keep all others out of a run directory while the block runs.

    The operating system lets go of the lock with the process that holds it: one that was killed leaves a file, no lock.

    :raises ConfigError: another process writes to the directory, or nobody can
    """
    from filelock import FileLock, Timeout  # takes asyncio: not for those who only look at runs

    file = run / LOCK_FILE
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"{run}: {_holder(file)} is writing to it; wait for it to end, or stop it") from None
    except OSError as error:
        raise ConfigError(f"cannot write to {run}: {(error.strerror or str(error)).lower()}") from None
    try:
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.write_text(json.dumps(facts), encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder(file: Path) -> str:
    """Say who holds a lock, as far as its file tells."""
    try:
        facts: Any = json.loads(file.read_bytes()[:1000])
        return f"process {int(facts['pid'])} on {str(facts['host'])[:60]}, since {str(facts['since'])[:19]},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
