"""Small disks, to be filled and to be read-only."""

import os
import subprocess
from pathlib import Path

import pytest


def mounted(folder: Path, *options: str):
    """A small disk, in the memory of this machine; only root may have it."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no disk can be mounted here")


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves so many bytes of a disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        os.posix_fallocate(file.fileno(), 0, free - leave)
    return ballast
