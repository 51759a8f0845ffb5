"""The same work on many things, on all cores: in processes, for Python's threads take turns."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import parent_process
from threading import Thread
from typing import TypeVar

from common.errors import TrainingStopped

FEW = 200
"""So many things are done before the processes have started."""
AT_ONCE = 16
"""Things that a process is given together."""
WAITING = 4
"""Such packets for each process, to be done or to be fetched: what is beyond is not yet taken, to save memory."""
Thing, Done = TypeVar("Thing"), TypeVar("Done")


def on_all_cores(work: Callable[[Thing], Done], things: Iterable[Thing], count: int) -> Iterator[Done]:
    """`map(work, things)` in as many processes as there are cores; a few things are done in this one.

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
    cores, things, packets = os.cpu_count() or 1, iter(things), deque()
    with ProcessPoolExecutor(cores, initializer=follow) as pool:
        try:
            while packet := list(islice(things, AT_ONCE)):
                packets.append(pool.submit(do_each, work, packet))
                if len(packets) > WAITING * cores:
                    yield from packets.popleft().result()
            while packets:
                yield from packets.popleft().result()
        except BrokenProcessPool:
            raise TrainingStopped(
                f"one of {cores} processes that worked on all cores has died. Mostly the memory of the machine is used "
                "up: free some, then start again"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def do_each(work: Callable[[Thing], Done], packet: list[Thing]) -> list[Done]:
    return list(map(work, packet))


def follow() -> None:
    """Make this process end with the one that started it, however that ends."""
    leave_signals()
    Thread(target=end_with, args=(parent_process(),), daemon=True).start()


def end_with(parent) -> None:
    parent.join()
    os._exit(1)


def leave_signals(*_) -> None:
    """Ctrl-C and SIGTERM reach a whole group of processes: the one that started this one still needs it, to save and
    end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
