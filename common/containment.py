"""Whether what a catalogue names is a file, and whether it stays in the folder that may be read."""

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long for a file, or holds a zero byte
        return False


def inside(folder: Path) -> Callable[[Path], bool]:
    """Tells whether a path stays in a folder, whatever `..`, absolute names and symbolic links are in it."""
    root = os.path.realpath(folder)
    real_folder = lru_cache(maxsize=2**16)(os.path.realpath)  # few folders hold many files

    def is_inside(path: Path) -> bool:
        try:
            real = Path(real_folder(path.parent)) / path.name
            real = Path(os.path.realpath(real)) if path.name == ".." or real.is_symlink() else real
        except (OSError, ValueError):  # no path at all, which `is_file` finds out
            return True
        return real.is_relative_to(root)

    return is_inside
