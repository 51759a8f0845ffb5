"""What a training says when the memory of the GPU or of the machine is used up."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from common.checkpoints import tensor_bytes
from common.devices import batch_that_fits
from common.errors import TrainingStopped

GIB = 2**30


@contextmanager
def told_in_words(model: nn.Module, optimizer: torch.optim.Optimizer, batch_size: int, parts: int) -> Iterator[None]:
    """Turn the errors of used-up memory into one message that says what to do.

    Args:
        model: that is trained.
        optimizer: of the model; AdamW, which keeps two numbers beside each parameter.
        batch_size: pairs a step, of all processes.
        parts: how many equal parts it is encoded in: those of each process.

    Raises:
        TrainingStopped: the GPU has too little memory for the batch, or a process that loads images has died.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        weights = sum(value.nbytes for value in model.state_dict().values())
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        fixed = weights + 3 * sum(parameter.nbytes for parameter in trained)
        held = weights + tensor_bytes([parameter.grad for parameter in trained]) + tensor_bytes(optimizer.state)
        raise TrainingStopped(
            describe_out_of_memory(str(error), batch_size, parts, fixed, max(0, fixed - held))
        ) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise TrainingStopped(describe_dead_worker(str(error))) from None


def describe_out_of_memory(error: str, batch_size: int, parts: int, fixed: int, to_come: int) -> str:
    """The message for CUDA's error.

    Args:
        error: its text, which says how much was wanted, how much there is and how much was in use.
        batch_size: pairs a step, of all processes.
        parts: how many equal parts it is encoded in.
        fixed: bytes that do not depend on the batch: weights, gradients and the optimiser's state.
        to_come: how many of these were not in use yet; in the first step most are not.
    """
    found = re.search(
        r"allocate (\S+ \w+)\b.*total capacity of (\S+ \w+)\b.*allocated memory (\S+ \w+) is allocated by PyTorch",
        error,
        re.S,
    )
    at_once = batch_size // parts
    fits, measured = at_once // 2, "half of it may fit"
    if found:
        wanted, total, used = map(in_bytes, found.groups())
        needed = used + wanted + to_come
        fits = min(batch_that_fits(at_once, total, fixed, needed), (at_once - 1) // 8 * 8)
        measured = (
            f"at least {needed / GIB:.1f} GiB are needed, {fixed / GIB:.1f} of them for model and optimiser; "
            f"there are {total / GIB:.1f}"
        )
    too_little = f"the GPU has too little memory for {at_once} pairs at once ({measured}). Start again with "
    if fits < 2:
        return too_little + "a smaller --image-size or another --image-encoder"
    more = next(times for times in range(2, at_once + 1) if at_once % times == 0 and at_once // times <= fits)
    return (
        f"{too_little}--batch-size {fits * parts} or less, or with {more} times the --accumulate, which encodes the "
        "batch in so many parts and keeps all of it for the loss"
    )


def in_bytes(size: str) -> int:
    """The number of bytes in words like 1.50 GiB."""
    number, unit = size.split()
    return round(float(number) * {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": GIB}[unit])


def describe_dead_worker(error: str) -> str:
    return (
        f"a process that loads images has died ({error.strip().rstrip('.')}). Mostly the memory of the machine is used "
        "up, or in a container its shared memory (/dev/shm): free some, then go on with --resume"
    )
