"""common/workers.py: what a map does, on all cores, and nothing that is left of it however it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from itertools import count, islice
from pathlib import Path

import pytest

from common.errors import TrainingStopped
from common.workers import AT_ONCE, FEW, WAITING, on_all_cores

ROOT = Path(__file__).resolve().parents[1]
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
    assert next(taken) <= AT_ONCE * (WAITING * os.cpu_count() + 1)
    done.close()


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


@pytest.fixture(params=[True, False], ids=["busy", "idle"])
def working(tmp_path, request):
    """A process with a group of its own that works on all cores, and its workers, which are busy or wait for work."""
    script, printed = tmp_path / "script.py", 4 * AT_ONCE
    script.write_text(SCRIPT.format(root=str(ROOT), idle_after=None if request.param else printed))
    started = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, str(script)], **started)
    workers = {int(process.stdout.readline()) for _ in range(printed)}
    if not request.param:
        time.sleep(2)  # until what is done ahead is done
    yield process, workers
    with suppress(ProcessLookupError):  # all of them: one that is left would keep the pipes open
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def end(processes: set[int]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_no_worker_outlives_a_killed_process(working):
    process, workers = working
    assert all(Path(f"/proc/{worker}").exists() for worker in workers)
    process.kill()
    assert end(workers)


def test_ctrl_c_is_one_message(working):
    process, workers = working
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "\ninterrupted\n"
    assert process.returncode == 130 and end(workers)
