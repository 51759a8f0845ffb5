"""A training step of the image encoder as CUDA graphs: recorded once, then replayed."""

import gc
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import set_warn_on_accumulate_grad_stream_mismatch

from common.devices import encoding_in, random_state, set_random_state
from common.images import blank_batch
from common.large_batches import norms_at_rest
from common.session import Session
from common.speed import step_seconds

LARGEST_SHARE = 0.5
"""How much of a GPU's free memory the graphs may keep for themselves: what is beside them in a step, and validation
between the steps, needs the rest. Batches that large gain nothing from a replay."""
Shape = tuple[int, int, int, int]


@contextmanager
def replayed(model: nn.Module, session: Session) -> Iterator[None]:
    """Within it, a GPU trains the image encoder by replaying two CUDA graphs, one of its forward, one of its backward.

    They hold the very kernels that Python would launch one by one, and give the same numbers. A step of
    efficientnet-b0 has 1,362 of them: with 256 images of 80x60 pixels on an NVIDIA H200 it took 43 ms, in 9 of which
    the GPU was at work; replayed it takes 9.5.

    An encoder stays as it is on a CPU; frozen or compiled; in several processes, whose norms talk to each other; with
    `accumulate`, whose second part would overwrite the gradients of the first (pytorch/pytorch issue 181723); and where
    it cannot be recorded or the graphs would take too much memory, which is printed.

    Args:
        model: with the submodule `image_encoder`, on the session's device.
        session: of the training.
    """
    encoder, settings, device = model.image_encoder, session.settings, session.device
    is_trained = any(parameter.requires_grad for parameter in encoder.parameters())
    if device.type != "cuda" or not is_trained or settings.compile or session.parts > 1:
        yield
        return
    own_forward, started = encoder.forward, time.perf_counter()
    shape, free = (session.batch_size, 3, *settings.image_size), free_memory(device)
    try:
        needed = step_memory(encoder, session.precision, shape, device)
        if needed > LARGEST_SHARE * free:
            print(f"replay: none, a recorded step of the image encoder would keep {needed / 1e9:.1f} GB of the GPU")
        else:
            record(encoder, session.precision, shape, device)
            print(f"replay: a step of the image encoder was recorded in {time.perf_counter() - started:.1f} s")
    except RuntimeError as error:  # out of memory, or what CUDA cannot record
        traceback.clear_frames(error.__traceback__)  # they hold what was computed so far
        leave(encoder, own_forward)
        reason = (str(error) or type(error).__name__).split(". ")[0].splitlines()[0]
        print(f"replay: none, a step of the image encoder could not be recorded ({reason})")
    try:
        yield
    finally:
        leave(encoder, own_forward)


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that nothing holds."""
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


def step_memory(encoder: nn.Module, precision: torch.dtype, shape: Shape, device: torch.device) -> int:
    """The most bytes that a training step of an encoder takes; it leaves no trace.

    Measured before anything is recorded, for memory that ends during a recording can leave CUDA unusable.
    """
    torch.cuda.reset_peak_memory_stats(device)
    before, state = torch.cuda.memory_allocated(device), random_state(device)
    encoder.train()
    try:
        with norms_at_rest(encoder):
            step_seconds(encoder, precision, shape[2:], shape[0], device)
    finally:
        set_random_state(state, device)
    return torch.cuda.max_memory_allocated(device) - before


def record(encoder: nn.Module, precision: torch.dtype, shape: Shape, device: torch.device) -> None:
    """Let an encoder in training replay its step on uint8 batches of this shape; all else is computed as before.

    A second batch before the backward of the first is too: a replay would overwrite what that needs. Gradients have to
    be None before each step, as they are in `train_step`: a replay writes where those of the step before were. Weights,
    the norms' statistics and the random numbers are as they were.
    """
    own_forward, state = encoder.forward, random_state(device)
    images = blank_batch(shape[0], shape[2:], device)
    encoder.train()
    gc.collect()  # an older graph that is found to be garbage during a recording would break it
    # the graphs run on a stream of their own, which torch would warn of
    set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        with torch.cuda.device(device), norms_at_rest(encoder), encoding_in(precision, device):
            stream = torch.cuda.current_stream()
            try:
                torch.cuda.make_graphed_callables(encoder, (images,))
            finally:  # torch does not come back to its stream when a recording fails
                torch.cuda.set_stream(stream)
                torch.cuda.synchronize()
    finally:
        set_random_state(state, device)
    replay, under_way = encoder.forward, False

    def forward(images: Tensor) -> Tensor:
        nonlocal under_way
        if under_way or images.shape != shape or not (encoder.training and torch.is_grad_enabled()):
            return own_forward(images)
        features, under_way = replay(images), True
        features.register_hook(end)
        return features

    def end(_gradient: Tensor) -> None:
        nonlocal under_way
        under_way = False

    encoder.forward = forward


def leave(encoder: nn.Module, own_forward: Callable[[Tensor], Tensor]) -> None:
    """Give an encoder its own forward back, and the memory of its graphs to others."""
    encoder.forward = own_forward
    # the graphs hold each other: left to a process that is forked later, they would be its end
    gc.collect()
    torch.cuda.empty_cache()
