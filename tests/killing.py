"""Processes that are killed at a chosen moment; the project's code knows nothing of it.

They are forked from a process that has imported everything, so that each takes a second.
"""

import importlib
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from common.files import CACHE_FOLDER, PART

ROOT = Path(__file__).resolve().parents[1]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tiny_runs", "gensim.models", "common.training", "common.features", "data.sample"])
LIMIT = 600  # seconds


def leave_no_signal_ignored() -> None:
    """As `nohup` and the background of a shell do, under which the tests may be run."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(moment: str, main: str, *words, log: Path) -> multiprocessing.Process:
    """Start `module:function` with a command line, or with arguments where it takes some.

    Args:
        moment: what it is killed at: "step N" between the gradients and the update of the N-th step, "late-step N" the
            same with a state saved after each step, "state N" in the middle of writing the N-th training state,
            "replace:NAME N" before a file gets its final name; "never" lets it end.
        main: `module:function`.
        words: of the command line.
        log: file for what it prints.
    """
    # the process that all are forked from takes its path from here
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = CONTEXT.Process(target=child, args=(moment, main, list(map(str, words)), log))
    process.start()
    return process


def run(moment: str, main: str, *words, log: Path) -> str:
    """The same, to its end; returns what was printed."""
    process = start(moment, main, *words, log=log)
    process.join(LIMIT)
    assert process.exitcode == (0 if moment == "never" else -signal.SIGKILL), log.read_text()
    return log.read_text()


def child(moment: str, main: str, words: list[str], log: Path) -> None:
    os.setsid()
    out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: PTH123, SIM115
    from tiny_runs import MODELS, Patches

    for model in MODELS:
        network = importlib.import_module(f"{model}.model")
        network.build_image_encoder = lambda name, weights, frozen, folder: Patches(frozen)
    kind, _, number = moment.partition(" ")
    arm(kind, int(number or 0))
    sys.argv = ["script.py", *words]
    module, _, function = main.partition(":")
    from common.errors import run_script

    run_script(getattr(importlib.import_module(module), function))


def arm(moment: str, number: int) -> None:
    """Patch what the moment is about."""
    import torch

    import common.training

    kind, _, name = moment.partition(":")
    if kind in ("step", "late-step"):
        torch.nn.utils.clip_grad_norm_ = killed_at(torch.nn.utils.clip_grad_norm_, number)
    if kind == "late-step":
        common.training.SAVE_EVERY_SECONDS = 0
    if kind == "state":
        save = torch.save
        torch.save = killed_at(save, number, lambda state, file: write_half(save, state, file))
    if kind == "replace":
        os.replace = killed_at(os.replace, number, counts=lambda _, target: fnmatch(Path(target).name, name))


def killed_at(function, number, before=None, counts=lambda *_: True):
    """The function, which kills this process and its children when it is called for the n-th time."""
    calls = []

    def wrapped(*arguments, **named):
        if counts(*arguments):
            calls.append(1)
            if len(calls) == number:
                if before:
                    before(*arguments)
                os.killpg(0, signal.SIGKILL)
        return function(*arguments, **named)

    return wrapped


def write_half(save, state, file) -> None:
    whole = io.BytesIO()
    save(state, whole)
    file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    file.flush()


def build_images() -> None:
    """A script: the cache of decoded images of a catalogue, in a folder."""
    from common.catalogue import open_catalogue
    from common.images import open_images

    open_images(open_catalogue(Path(sys.argv[1])), (256, 192), Path(sys.argv[2]))


def kill_after(seconds: float, main: str, *words, log: Path) -> None:
    process = start("never", main, *words, log=log)
    process.join(seconds)
    if process.exitcode is None:
        with suppress(ProcessLookupError):  # it has no group yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join()


def moments(number: int, main: str, *words, log: Path) -> list[float]:
    """Random moments of a script, which is run to see how long it takes; the first process is slower to start."""
    run("never", "killing:nothing", log=log)
    started = time.perf_counter()
    run("never", main, *words, log=log)
    length, draw = time.perf_counter() - started, random.Random(0)
    return [length * (number_so_far + draw.random()) / number for number_so_far in range(number)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if PART.search(path.name)]


def cache_parts(data: Path) -> list[str]:
    """Unfinished files of a catalogue, and of word vectors, in the folder of caches."""
    return [name for name in parts(CACHE_FOLDER) if name.startswith((data.name, "word2vec-"))]


def nothing() -> None:
    """A script that does nothing."""


def dead_process() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid
