"""What a training says when the memory of the GPU or of the machine is used up."""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from common import processes
from common.checkpoints import tensor_bytes
from common.errors import TrainingStopped

GIB = 2**30
LARGEST_SHARE = 0.9
"""How much of the free memory a batch may take: the rest is lost between blocks of different sizes."""


@contextmanager
def told_in_words(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    parts: int,
    device: torch.device,
    rehearse: Callable[[int], None],
) -> Iterator[None]:
    """Turn the errors of used-up memory into one message that says what to do.

    Args:
        model: that is trained.
        optimizer: of the model; AdamW, which keeps two numbers beside each parameter.
        batch_size: pairs a step, of all processes.
        parts: how many equal parts it is encoded in: those of each process.
        device: where the model is.
        rehearse: computes the gradients of so many pairs.

    Raises:
        TrainingStopped: the GPU has too little memory for the batch, or a process that loads images has died.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # they hold what the batch left on the GPU
        at_once, fits, measured = batch_size // parts, batch_size // parts // 2, "half of it may fit"
        if device.type == "cuda" and processes.count() == 1:
            missing = 0 if optimizer.state else 2 * tensor_bytes([group["params"] for group in optimizer.param_groups])
            fits, measured = measure(at_once, missing, *free_memory(model, device), peak_of(model, device, rehearse))
        raise TrainingStopped(describe_out_of_memory(parts, at_once, fits, measured)) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise TrainingStopped(describe_dead_worker(str(error))) from None


def free_memory(model: nn.Module, device: torch.device) -> tuple[int, int]:
    """Bytes in use on a GPU after all that can be freed was freed, and bytes that are free then."""
    model.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)[0]


def peak_of(model: nn.Module, device: torch.device, rehearse: Callable[[int], None]) -> Callable[[int], int]:
    """From a number of pairs to the most bytes that were in use on the GPU."""

    def peak(pairs: int) -> int:
        model.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats(device)
        rehearse(pairs)
        return torch.cuda.max_memory_allocated(device)

    return peak


def measure(at_once: int, missing: int, used: int, free: int, peak: Callable[[int], int]) -> tuple[int, str]:
    """How many pairs fit, from what two small batches need: what is beyond a fixed part is proportional to the pairs.

    Args:
        at_once: pairs that do not fit.
        missing: bytes that are not in use yet and will be, whatever the batch.
        used: bytes in use without a batch.
        free: bytes beside them.
        peak: from a number of pairs to the most bytes in use.

    Returns:
        that number, from 8 up a multiple of 8, 0 if not even four pairs fit; and what was measured, in words.
    """
    more = max(4, at_once // 8)
    while True:
        few = more // 2
        try:
            first, second = peak(few), peak(more)
            break
        except torch.OutOfMemoryError as error:
            traceback.clear_frames(error.__traceback__)
        if more == 4:
            return 0, "not even 4 fit"
        more = max(4, more // 4)
    each = max(1, (second - first) / (more - few))
    fixed = first - few * each + missing
    fits = int((used + LARGEST_SHARE * free - fixed) / each)
    measured = (
        f"each needs {each / 2**20:.0f} MiB, by what {few} and {more} took, and {fixed / GIB:.1f} GiB are needed in "
        f"any case; there are {(used + free) / GIB:.1f}"
    )
    fits = max(0, min(fits, at_once - 1))
    return fits if fits < 8 else fits // 8 * 8, measured


def describe_out_of_memory(parts: int, at_once: int, fits: int, measured: str) -> str:
    """The message.

    Args:
        parts: in how many equal parts the batch is encoded.
        at_once: pairs of a part.
        fits: how many may fit.
        measured: what that rests on.
    """
    too_little = f"the GPU has too little memory for {at_once} pairs at once ({measured}). Start again with "
    if fits < 2:
        return too_little + "a smaller --image-size or another --image-encoder"
    smaller = f"{too_little}--batch-size {fits * parts} or less"
    more = [times for times in range(2, at_once // 2 + 1) if at_once % times == 0 and at_once // times <= fits]
    if not more:  # a part has two pairs or more
        return smaller
    return (
        f"{smaller}, or with {more[0]} times the --accumulate, which encodes the batch in so many parts and keeps all "
        "of it for the loss"
    )


def describe_dead_worker(error: str) -> str:
    return (
        f"a process that loads images has died ({error.strip().rstrip('.')}). Mostly the memory of the machine is used "
        "up, or in a container its shared memory (/dev/shm): free some, then go on with --resume"
    )
