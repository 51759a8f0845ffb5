"""What a user did wrong, told in one message."""

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path


class InputError(ValueError):
    """A path, a data file, an option or a hyperparameter that cannot be used.

    The message says what was found, what was expected and what to do; scripts
    print it without a traceback and exit with code 2.
    """


class TrainingStopped(RuntimeError):
    """A training that cannot go on: interrupted, its loss is not finite, or the machine is not large enough."""


class DiskFull(Exception):
    """A file that there is no space for; what was there before is as it was."""


def output_is_closed() -> bool:
    """Whether who read the output has closed it, as `head` does."""
    try:
        print(flush=True)  # to flush alone tells nothing where what did not go through is gone
    except BrokenPipeError:
        return True
    return False


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; what is no defect of the program ends in one message without a traceback.

    Exit code 2 for an `InputError` and for a file that cannot be read or written, 1 for
    `TrainingStopped` (Ctrl-C in the training loop, which saves first, is one), `DiskFull` and a GPU whose memory is
    used up, 130 for Ctrl-C elsewhere.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that has not all letters is no reason to end
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()  # while an error of it can still be told
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and output_is_closed():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if error.errno == errno.ENOSPC and error.filename is None:
            print("stopped: the disk is full; free some space and start again (a training: --resume)", file=sys.stderr)
            sys.exit(1)
        if error.filename is None:
            raise
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError) and not Path(error.filename).is_dir()
        what = "a file is there in place of a folder; name another path" if in_the_way else error.strerror
        print(f"error: {error.filename}: {what}", file=sys.stderr)
        sys.exit(2)
    except (TrainingStopped, DiskFull) as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        if "home directory" in str(error):  # pathlib's words
            print("error: a path begins with ~ and a name that has no home folder here; write it out", file=sys.stderr)
            sys.exit(2)
        if "can't allocate memory" in str(error):  # torch's words for a network that is larger than the machine
            print("stopped: this machine has too little memory; use smaller sizes and dimensions", file=sys.stderr)
            sys.exit(1)
        if type(error).__name__ != "OutOfMemoryError":  # torch's; importing it here would delay --help
            raise
        told = str(error).split(". ")[0]
        print(
            f"stopped: the GPU has too little memory ({told}). End what else runs on it, or use a smaller "
            "--image-size, another --image-encoder or --device cpu",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
