"""Which of several chunk sizes is the fastest: measured in turns, on one thread by the processor's own time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import torch

PROBES = 5
PATIENCE = 2.0
"""Seconds after which no further turn is taken."""

logger = logging.getLogger(__name__)


def fastest_chunk(sizes: Iterable[int], work: Callable[[int], None], device: torch.device) -> int:
    """Return the size for which ``work(size)`` takes least time per particle.

    The sizes take turns and the best of each counts: a machine that is busy for a moment is so for all of them. A size
    above one for which the work raises ``RuntimeError`` (torch.func's way of refusing an operation) leaves the loop.
    """
    cost = {size: float("inf") for size in sorted(sizes)}
    start = time.perf_counter()
    for turn in range(PROBES):
        for size in list(cost):
            try:
                seconds = _seconds(work, size, device)
            except RuntimeError as error:
                if size == 1:
                    raise
                logger.warning("this module cannot be batched over particles, using the loop: %s", error)
                return 1
            if turn or seconds > PATIENCE / 10:  # the first warms up, which long ones need not
                cost[size] = min(cost[size], seconds / size)
        if time.perf_counter() - start > PATIENCE and max(cost.values()) < float("inf"):
            break
    best = min(cost, key=cost.__getitem__)
    logger.info("backend auto: %s seconds a particle, taking %d at a time", cost, best)
    return best


def _seconds(work: Callable[[int], None], size: int, device: torch.device) -> float:
    cuda = device.type == "cuda"
    # Of one thread, the processor's time does not count what else the machine does.
    clock = time.process_time if not cuda and torch.get_num_threads() == 1 else time.perf_counter
    if cuda:
        torch.cuda.synchronize(device)
    start = clock()
    work(size)
    if cuda:
        torch.cuda.synchronize(device)
    return clock() - start
