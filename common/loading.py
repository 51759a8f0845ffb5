"""How images come to the device: from its own memory, from the cache on disk, or decoded on the fly."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.batches import Images
from common.errors import InputError
from common.images import ImageFiles
from common.workers import cores

LARGEST_SHARE = 0.5
"""How much of a GPU's free memory the images and captions may take; the training needs the rest."""
WORKERS = min(8, max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
"""Processes that read ahead, of each process that trains; LOCAL_WORLD_SIZE is torchrun's."""
COPIED_AT_ONCE = 4096
Loaded = TypeVar("Loaded")


def place(
    images: Images, texts: np.ndarray, device: torch.device, wanted: str
) -> tuple[Images, np.ndarray | Tensor, str]:
    """Images and captions where training batches will be taken from, and the images' place in words.

    Captions go to the device with the images. Where these stay, so do they: workers cannot reach a GPU's memory.

    Args:
        images: all images (N, H, W, 3) uint8, or their features (N, F) float32.
        texts: all captions' tokens (M, L) int32, or their features (M, G) float32.
        wanted: "device", "disk" or "files"; "auto" is the device where it is a GPU that has room for both.

    Raises:
        InputError: they do not fit the device.
    """
    if isinstance(images, ImageFiles):
        return images, texts, f"decoded on the fly by {WORKERS} workers"
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    needed = images.nbytes + texts.nbytes
    size = f"{needed / 1e9:.2f} GB"
    if wanted == "device" and free is not None and needed > free:
        there = f"{device} has {free / 1e9:.2f} GB free"
        raise InputError(f"--images-from device: {size} of images and captions, but {there}; use disk")
    if wanted == "device" or (wanted == "auto" and free is not None and needed <= LARGEST_SHARE * free):
        return copied(images, device), copied(texts, device), f"in the memory of {device}, {size} with the captions"
    how = f", read ahead by {WORKERS} workers" if workers_for(images, device) else ""
    return images, texts, f"from the cache on disk, {images.nbytes / 1e9:.2f} GB{how}"


def copied(rows: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device; one that is mapped from the disk is never in memory as a whole."""
    held = torch.empty(rows.shape, dtype=torch.from_numpy(rows[:1].copy()).dtype, device=device)
    for start in range(0, len(rows), COPIED_AT_ONCE):
        held[start : start + COPIED_AT_ONCE] = torch.from_numpy(rows[start : start + COPIED_AT_ONCE].copy())
    return held


def workers_for(images: Images, device: torch.device) -> int:
    """How many processes read ahead: none where there is nothing to wait for."""
    if isinstance(images, Tensor):
        return 0
    # a CPU would only take turns with its own training; there the memory-mapped cache is as fast as memory
    return WORKERS if isinstance(images, ImageFiles) or device.type == "cuda" else 0


def load(
    make: Callable[[np.ndarray], Loaded], batches: Sequence[np.ndarray], device: torch.device, workers: int
) -> Iterator[Loaded]:
    """Make batches and bring them to the device, on a GPU from pinned memory and while it computes.

    Args:
        make: from indices to a tensor, or anything else with `pin_memory` and `to`, on the CPU.
        batches: the indices of each batch.
        workers: how many processes make batches ahead; 0 for none.
    """
    if workers == 0:  # a loader in this process would only add to the time of a short step
        yield from (make(which).to(device) for which in batches)
        return
    pinned = device.type == "cuda"
    # a generator of its own: the loader would otherwise draw from the one that the training's numbers come from
    loader = DataLoader(
        batches, batch_size=None, collate_fn=make, num_workers=workers, pin_memory=pinned,
        generator=torch.Generator(), worker_init_fn=leave_signals_to_the_training,
    )  # fmt: skip
    for batch in loader:
        yield batch.to(device, non_blocking=pinned)


def leave_signals_to_the_training(_worker: int) -> None:
    """Ctrl-C and SIGTERM reach a whole group of processes: the training still needs its workers to save and end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
