"""The same work on many things, on all cores: in processes, for Python's threads take turns."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import active_children, parent_process
from threading import Thread
from typing import TypeVar

from common.errors import TrainingStopped

FEW = 200
"""So many things are done before the processes have started."""
AT_ONCE = 16
"""Things that a process is given together."""
WAITING = 2
"""Such packets for each process, to be done or to be fetched: what is beyond is not yet taken, to save memory."""
MOST = 32
"""Processes: one hands out the work of all, and each takes memory."""
Thing, Done = TypeVar("Thing"), TypeVar("Done")


def on_all_cores(work: Callable[[Thing], Done], things: Iterable[Thing], count: int) -> Iterator[Done]:
    """`map(work, things)` in as many processes as there are cores; a few things are done in this one.

    To be closed where it is not used up: work that was handed out ends then, and is not waited for.

    Args:
        work: a function of a module, or a `partial` of one; it and all that it gives can be pickled.
        things: taken one after the other, a little ahead.
        count: how many there are.

    Raises:
        TrainingStopped: one of the processes has died.
    """
    if count <= FEW:
        yield from map(work, things)
        return
    processes, things, packets, others = min(MOST, cores()), iter(things), deque(), set(active_children())
    with ProcessPoolExecutor(processes, initializer=follow) as pool:
        try:
            while packet := list(islice(things, AT_ONCE)):
                packets.append(pool.submit(do_each, work, packet))
                if len(packets) > WAITING * processes:
                    yield from packets.popleft().result()
            while packets:
                yield from packets.popleft().result()
        except BrokenProcessPool as error:
            if error.__cause__:  # what a process could not hand over: a defect of the work
                raise
            raise TrainingStopped(
                f"one of {processes} processes that worked on all cores has died. Mostly the memory of the machine is "
                "used up: free some, then start again"
            ) from None
        finally:
            # the pool would wait for all that it has handed out, and forever for one that died at a bad moment
            for process in set(active_children()) - others:
                process.terminate()
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def do_each(work: Callable[[Thing], Done], packet: list[Thing]) -> list[Done]:
    return list(map(work, packet))


def follow() -> None:
    """Leave Ctrl-C to the process that started this one, and end when it says so, or with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=end_with, args=(parent_process(),), daemon=True).start()


def end_with(parent) -> None:
    parent.join()
    os._exit(1)
