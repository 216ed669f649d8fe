"""How many particles a batched call should take: measured in turns, on one thread by the processor's own time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import torch

PROBES = 5
PATIENCE = 2.0
"""Seconds after which no further turn is taken."""
CALLS = 4
"""Calls of one turn: each takes other particles, as an update does, so that none is measured in a warm cache."""
NEAR = 1.05
"""Costs within this factor of the least are equal: then the larger chunk issues fewer operations."""

logger = logging.getLogger(__name__)


def fastest_chunk(sizes: Iterable[int], n_particles: int, work: Callable[[slice], None], device: torch.device) -> int:
    """Return the size of chunks for which ``work(particles)`` takes least time per particle.

    The sizes take turns and the best of each counts: a machine that is busy for a moment is so for all of them. A size
    above one for which the work raises ``RuntimeError`` (torch.func's way of refusing an operation) leaves the loop.

    :param sizes: sizes to try
    :param n_particles: number of particles
    :param work: what is done with some of them
    :param device: where it is done
    """
    cost = {size: float("inf") for size in sorted(sizes)}
    start = time.perf_counter()
    for turn in range(PROBES):
        for size in list(cost):
            calls = min(CALLS, n_particles // size)
            rows = [slice(k * size, (k + 1) * size) for k in range(calls)]
            try:
                seconds = _seconds(work, rows, device)
            except RuntimeError as error:
                if size == 1:
                    raise
                logger.warning("this module cannot be batched over particles, using the loop: %s", error)
                return 1
            if turn or seconds > PATIENCE / 10:  # the first warms up, which long ones need not
                cost[size] = min(cost[size], seconds / (size * calls))
        if time.perf_counter() - start > PATIENCE and max(cost.values()) < float("inf"):
            break
    best = max(size for size, seconds in cost.items() if seconds <= NEAR * min(cost.values()))
    logger.info("backend auto: %s seconds a particle, taking %d at a time", cost, best)
    return best


def _seconds(work: Callable[[slice], None], rows: list[slice], device: torch.device) -> float:
    cuda = device.type == "cuda"
    # Of one thread, the processor's time does not count what else the machine does.
    clock = time.process_time if not cuda and torch.get_num_threads() == 1 else time.perf_counter
    if cuda:
        torch.cuda.synchronize(device)
    start = clock()
    for some in rows:
        work(some)
    if cuda:
        torch.cuda.synchronize(device)
    return clock() - start
