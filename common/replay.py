"""A training step of the image encoder as CUDA graphs: recorded once, then replayed."""

import gc
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import set_warn_on_accumulate_grad_stream_mismatch

from common.devices import encoding_in, random_state, set_random_state
from common.large_batches import norms_at_rest
from common.session import Session


@contextmanager
def replayed(model: nn.Module, session: Session) -> Iterator[None]:
    """Within it, a GPU trains the image encoder by replaying two CUDA graphs, one of its forward, one of its backward.

    They hold the very kernels that Python would launch one by one, and give the same numbers. A step of
    efficientnet-b0 has 1,362 of them: with 256 images of 80x60 pixels on an NVIDIA H200 it took 43 ms, in 9 of which
    the GPU was at work; replayed it takes 9.5.

    An encoder stays as it is on a CPU; frozen, when it works once and not in each step; compiled; in several
    processes, whose norms talk to each other; with `accumulate`, whose second part would overwrite the gradients of the
    first; and where the GPU has no room to record it, which is printed.

    Args:
        model: with the submodule `image_encoder`, on the session's device.
        session: of the training.
    """
    encoder, settings = model.image_encoder, session.settings
    if session.device.type != "cuda" or encoder.frozen or settings.compile or session.parts > 1:
        yield
        return
    own_forward, started = encoder.forward, time.perf_counter()
    shape = (session.batch_size, 3, *settings.image_size)
    try:
        record(encoder, session.precision, shape, session.device)
        print(f"replay: a step of the image encoder was recorded in {time.perf_counter() - started:.1f} s")
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # they hold what was recorded so far
        encoder.forward = own_forward
        print("replay: the GPU's memory is too small to record a step of the image encoder; it will be slower")
    try:
        yield
    finally:
        encoder.forward = own_forward
        # frees the graphs, which hold each other: a process forked later could not, and would die of trying
        gc.collect()


def record(encoder: nn.Module, precision: torch.dtype, shape: tuple[int, int, int, int], device: torch.device) -> None:
    """Let an encoder in training replay its step on uint8 batches of this shape; all else is computed as before.

    Its weights, its norms' statistics and the random numbers are as they were.
    """
    own_forward, state = encoder.forward, random_state(device)
    images = torch.zeros(shape, dtype=torch.uint8, device=device)
    encoder.train()
    # the graphs run on a stream of their own, which torch would warn of
    set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        with norms_at_rest(encoder), encoding_in(precision, device):
            torch.cuda.make_graphed_callables(encoder, (images,))
    finally:
        set_random_state(state, device)
    replay = encoder.forward

    def forward(images: Tensor) -> Tensor:
        return replay(images) if images.shape == shape else own_forward(images)

    encoder.forward = forward
