"""common/workers.py: what a map does, on all cores, and nothing that is left of it however it ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from itertools import count, islice
from pathlib import Path
from pickle import PicklingError

import pytest
from killing import leave_no_signal_ignored

from common.errors import TrainingStopped
from common.workers import AT_ONCE, FEW, WAITING, cores, on_all_cores

ROOT = Path(__file__).resolve().parents[1]
IN_PROC = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
from common.errors import run_script
from common.workers import on_all_cores

def work(thing):
    time.sleep(0.01)
    return os.getpid()

def main():
    for number, process in enumerate(on_all_cores(work, range(100_000), 100_000)):
        print(process, flush=True)
        if number == {idle_after}:
            time.sleep(60)

if __name__ == "__main__":
    run_script(main)
"""


def power(exponent: int, base: int) -> tuple[int, int]:
    return base**exponent, os.getpid()


@pytest.mark.parametrize("things", [0, 1, FEW, FEW + 1, 5 * FEW + 3])
def test_the_same_as_a_map_and_in_order(things):
    found = list(on_all_cores(partial(power, 3), range(things), things))
    assert [value for value, _ in found] == [base**3 for base in range(things)]
    assert ({process for _, process in found} <= {os.getpid()}) == (things <= FEW)


def test_things_are_taken_a_little_ahead():
    taken = count()
    done = on_all_cores(abs, (next(taken) for _ in range(10**9)), 10**9)
    assert list(islice(done, 3)) == [0, 1, 2]
    assert next(taken) <= AT_ONCE * (WAITING * cores() + 1)
    done.close()
    assert not multiprocessing.active_children()


def divide(thing: int) -> float:
    return 1 / (300 - thing)


def test_an_error_is_raised_where_its_thing_would_come():
    done = on_all_cores(divide, range(1000), 1000)
    assert len(list(islice(done, 288))) == 288
    with pytest.raises(ZeroDivisionError):
        list(done)


def die(thing: int) -> int:
    if thing == 300:
        os.kill(os.getpid(), signal.SIGKILL)
    return thing


def test_a_process_that_dies_is_told():
    with pytest.raises(TrainingStopped, match=r"processes that worked on all cores has died\. Mostly the memory of"):
        list(on_all_cores(die, range(1000), 1000))


def run_script(content: str) -> subprocess.CompletedProcess:
    """Run it to its end: what hangs is killed and fails."""
    words = [sys.executable, "-c", content.format(root=str(ROOT))]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


IDLE = """
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {root!r})
from common import workers
from common.errors import TrainingStopped
workers.cores = lambda: 4

for killed in range(4):  # one of them holds the lock of the queue
    done = workers.on_all_cores(abs, range(1000), 1000)
    next(done)
    time.sleep(0.5)
    processes = sorted(process.pid for process in multiprocessing.active_children())
    os.kill(processes[killed], signal.SIGKILL)
    time.sleep(0.5)
    try:
        list(done)
    except TrainingStopped as stopped:
        print(stopped)
"""


def test_an_idle_process_that_dies_is_told_too():
    ended = run_script(IDLE)
    assert ended.returncode == 0 and ended.stdout.count("processes that worked on all cores has died") == 4, ended


START = """
import os, sys
sys.path.insert(0, {root!r})
from common import workers
workers.cores = lambda: 4
real, started = os.fork, []

def fork():
    if len(started) == 2:
        raise KeyboardInterrupt
    started.append(real())
    return started[-1]

os.fork = fork
try:
    list(workers.on_all_cores(abs, range(1000), 1000))
except KeyboardInterrupt:
    print("interrupted", *started)
"""


@IN_PROC
def test_an_interrupt_while_processes_are_started_ends_them():
    ended = run_script(START)
    assert ended.returncode == 0 and ended.stdout.startswith("interrupted "), ended
    assert end({int(process) for process in ended.stdout.split()[1:]})


CLOSE = """
import sys, time
sys.path.insert(0, {root!r})
from common.workers import AT_ONCE, on_all_cores

def wait(thing):
    time.sleep(600 if thing >= AT_ONCE else 0)

done = on_all_cores(wait, range(1000), 1000)
next(done)
done.close()
print("closed")
"""


def test_work_that_was_handed_out_is_not_waited_for():
    assert run_script(CLOSE).stdout == "closed\n"


def test_work_that_cannot_be_handed_over_is_an_error():
    with pytest.raises((AttributeError, TypeError, PicklingError), match="pickle"):
        list(on_all_cores(lambda thing: thing, range(1000), 1000))


@pytest.fixture(params=[True, False], ids=["busy", "idle"])
def working(tmp_path, request):
    """A process with a group of its own that works on all cores, and its workers, which are busy or wait for work."""
    script, printed = tmp_path / "script.py", 4 * AT_ONCE
    script.write_text(SCRIPT.format(root=str(ROOT), idle_after=None if request.param else printed))
    started = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, str(script)], **started, preexec_fn=leave_no_signal_ignored)
    workers = {int(process.stdout.readline()) for _ in range(printed)}
    if not request.param:
        time.sleep(2)  # until what is done ahead is done
    yield process, workers
    with suppress(ProcessLookupError):  # all of them: one that is left would keep the pipes open
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"  # a zombie has ended
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(processes: set[int]) -> bool:
    """Whether they end soon."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(is_alive(process) for process in processes):
            return True
        time.sleep(0.05)
    return False


@IN_PROC
def test_no_worker_outlives_a_killed_process(working):
    process, workers = working
    assert all(map(is_alive, workers))
    process.kill()
    assert end(workers)


@IN_PROC
def test_ctrl_c_is_one_message(working):
    process, workers = working
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "\ninterrupted\n"
    assert process.returncode == 130 and end(workers)
