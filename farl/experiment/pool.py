"""Runs tasks in processes of their own, and outlives those that crash."""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

_SECONDS_BETWEEN_TICKS = 0.5
_SECONDS_TO_SAVE = 60.0

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_processes(
    function: Callable[[_Task], _Result],
    tasks: Iterable[_Task],
    processes: int,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[_Task, _Result | None]]:
    """Yield each task with its result as it finishes.

    When a process dies, the tasks that it may have taken along run again, one at a time.

    :param function: A module-level function that raises nothing; it runs in the main thread of a spawned process.
    :param tasks: What to call it with, in this order; each is drawn when a process is free.
    :param processes: How many run at once.
    :param threads: CPU threads of each.
    :param tick: Called about twice a second.
    :param stopped: Once it returns true no further task starts; those that run are awaited.
    :return: Pairs of task and result; the result is None where the process died.
    """
    waiting, suspects = iter(tasks), list[_Task]()
    exhausted = False
    while (suspects or not exhausted) and not stopped():
        alone = bool(suspects)
        batch = iter([suspects.pop(0)]) if alone else waiting
        in_flight: dict[Future[_Result], _Task] = {}
        pool = _pool(1 if alone else processes, threads)
        try:
            more = True
            while in_flight or more:
                more = more and not stopped()
                while more and len(in_flight) < processes:
                    for task in itertools.islice(batch, 1):
                        in_flight[pool.submit(function, task)] = task
                        break
                    else:
                        more = False
                for future in wait(in_flight, timeout=_SECONDS_BETWEEN_TICKS, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield in_flight.pop(future), result
                tick()
            exhausted = exhausted or not alone
        except BrokenProcessPool:
            if alone:
                yield next(iter(in_flight.values())), None
            else:
                suspects = [*in_flight.values()]
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _pool(processes: int, threads: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare_worker, initargs=(threads,))


def _prepare_worker(threads: int) -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which decides what it means
    set_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def set_threads(threads: int) -> None:
    """Limit the CPU threads of this process: best before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _end_with_parent() -> None:
    """A parent that is killed tells nobody: without this, its workers would go on to the end of their tasks."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # training saves and stops; anything else ends here
    time.sleep(_SECONDS_TO_SAVE)
    os._exit(1)
