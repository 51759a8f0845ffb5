"""Writing files so that neither a reader nor a killed writer is left with half of one."""

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

CACHE_FOLDER = Path(__file__).resolve().parents[1] / "data" / "cache"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which is given to the file at the end, or removed if that is not reached."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then give it its own."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


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
        the array, memory-mapped and read-only.
    """
    file = folder / f"{name}-{key}.npy"
    try:
        kept = np.load(file, mmap_mode="r")
        if kept.shape == shape:
            return kept
    except (OSError, ValueError, EOFError):  # not there, or broken
        pass
    folder.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        array = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
        fill(array)
        array.flush()
        kept = np.load(part, mmap_mode="r")  # of its own, even when another process removes the file
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    remove_older(folder, name, file)
    return kept


def remove_older(folder: Path, name: str, kept: Path) -> None:
    """Remove the arrays of a name, and what belongs to them, that another key was computed for."""
    for old in folder.glob(f"{glob.escape(name)}-*"):
        if old.stem != kept.stem and old.suffix in (".npy", ".npz", ".json"):
            old.unlink(missing_ok=True)
