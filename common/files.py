"""Writing files so that neither a reader nor a killed writer is left with half of one, nor a full disk or power cut."""

import errno
import glob
import math
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.errors import DiskFull, InputError

CACHE_FOLDER = Path(__file__).resolve().parents[1] / "data" / "cache"
HOST = re.sub(r"\W", "-", platform.node()) or "localhost"
PART = re.compile(r"\.(?P<host>[\w-]+)\.(?P<process>\d+)\.part(\.\w+)?$")
"""How the name of a file or folder ends that is not complete yet."""


@contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[Path]:
    """A temporary name to write to, which is given to the file at the end, or removed if that is not reached.

    What is found under the final name is complete and survives a power cut. What killed processes of this machine
    left in the folder is removed first.

    Args:
        path: of the file, or of a folder that is made under the temporary name; an existing folder must be empty.
        size: how many bytes will be written, where that is known; for the message.

    Raises:
        DiskFull: there is no space left.
    """
    remove_leftovers(path.parent)
    part = part_name(path)
    try:
        yield part
        make_durable(part)
        os.replace(part, path)
        with suppress(OSError):  # some file systems cannot do it for a folder
            make_durable_entry(path.parent)
    except Exception as error:
        if is_disk_full(error):
            raise DiskFull(describe_full_disk(path, part, size)) from None
        raise
    finally:
        remove(part)


def part_name(path: Path) -> Path:
    """No two processes share it, nor two machines that share a disk."""
    return path.with_name(f"{path.stem}.{HOST}.{os.getpid()}.part{path.suffix}")


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that are no longer alive were writing in a folder."""
    for path in folder.glob("*.part*"):
        found = PART.search(path.name)
        if found and found["host"] == HOST and not is_alive(int(found["process"])):
            remove(path)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def make_durable(part: Path) -> None:
    """Wait until the content of a file, or of all files if it is a folder, is on the disk."""
    if part.is_dir():
        os.sync()
        return
    with part.open("rb+") as file:
        os.fsync(file.fileno())


def make_durable_entry(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reserve(file: BinaryIO, size: int) -> None:
    """Take the space of a whole file at once: a full disk is then known before hours of work, not after.

    Raises:
        OSError: there is no space left.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:  # some file systems cannot do it
        if is_disk_full(error):
            raise


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or the one it came from, is of a full disk: torch and safetensors raise their own."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error):
            return True
        error = error.__context__
    return False


def describe_full_disk(path: Path, part: Path, size: int) -> str:
    written = 512 * part.stat().st_blocks if part.is_file() else 0
    fits = written + shutil.disk_usage(path.parent).free
    missing = f", {max(size - fits, 1e5) / 1e6:,.1f} MB more are needed" if size else ""
    return (
        f"{path}: the disk is full{missing}. Nothing that was there before is lost: free some space and start again "
        "(a training goes on with --resume)"
    )


def write_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then give it its own."""
    content = text.encode()
    with replacing(path, len(content)) as part:
        part.write_bytes(content)


def check_file(file: Path, option: str) -> None:
    """Make the folder of a file that will be written after long work, and see that it can be.

    Raises:
        InputError: it cannot; the message names the option.
    """
    if file.is_dir():
        raise InputError(f"{option} {file}: a folder; name a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be written there ({error.strerror}); name another file") from None


def kept_array(
    name: str,
    key: str,
    shape: tuple[int, ...],
    fill: Callable[[np.ndarray], None],
    folder: Path = CACHE_FOLDER,
    dtype: type = np.float32,
) -> np.ndarray:
    """An array that is computed once and then read from disk.

    Args:
        name: begins the file's name.
        key: a hash of all that the array depends on; arrays of the same name and another key are removed.
        shape: of the array.
        fill: computes the array, in place.
        folder: where it is kept.
        dtype: of the array.

    Returns:
        the array, memory-mapped and read-only; not as a `np.memmap`, which runs Python code whenever rows are taken.

    Raises:
        DiskFull: there is no space left for it.
    """
    file = folder / f"{name}-{key}.npy"
    try:
        kept = np.load(file, mmap_mode="r")
        if kept.shape == shape:
            return np.asarray(kept)
    except (OSError, ValueError, EOFError):  # not there, or broken
        pass
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file, math.prod(shape) * np.dtype(dtype).itemsize) as part:
        array = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
        with part.open("rb+") as whole:  # writing to mapped memory on a full disk would kill the process
            reserve(whole, part.stat().st_size)
        fill(array)
        array.flush()
        kept = np.load(part, mmap_mode="r")  # of its own, even when another process removes the file
    remove_older(folder, name, file)
    return np.asarray(kept)


def remove_older(folder: Path, name: str, kept: Path) -> None:
    """Remove the arrays of a name, and what belongs to them, that another key was computed for."""
    for old in folder.glob(f"{glob.escape(name)}-*"):
        if old.stem != kept.stem and old.suffix in (".npy", ".npz", ".json") and not PART.search(old.name):
            old.unlink(missing_ok=True)
