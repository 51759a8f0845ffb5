"""What makes encoders faster: a lower precision where it is, and compilation."""

import statistics
import time
from typing import Any

import torch
from torch import nn

from common.devices import encoding_in, precision_name, random_state, set_random_state
from common.embedding import EMBEDDED_AT_ONCE
from common.errors import InputError
from common.image_encoders import build_image_encoder
from common.images import blank_batch
from common.large_batches import norms_at_rest

REPEATS = 3
CANDIDATES = (torch.float32, torch.bfloat16)


def fastest_precision(settings: Any, device: torch.device, pairs: int) -> torch.dtype:
    """Measure which precision trains the image encoder, the larger part of a model, faster here; prints both.

    A precision whose batch does not fit the memory is not chosen. Steps are not replayed here as in a GPU's training.

    Args:
        settings: with `image_encoder` and `image_size`.
        pairs: images at once.
    """
    encoder = build_image_encoder(settings.image_encoder, "none").to(device)
    seconds = {precision: [] for precision in CANDIDATES}
    for repeat in range(REPEATS + 1):
        for precision in CANDIDATES:
            try:
                taken = step_seconds(encoder, precision, settings.image_size, pairs, device)
            except torch.OutOfMemoryError:
                taken = float("inf")
            if repeat > 0:  # the first one warms up
                seconds[precision].append(taken)
    medians = {precision: statistics.median(taken) for precision, taken in seconds.items()}
    fastest = min(medians, key=medians.get)
    speeds = ", ".join(f"{precision_name(of)} {pairs / taken:,.0f} images/s" for of, taken in medians.items())
    print(f"precision: {precision_name(fastest)}, the faster one here ({speeds})")
    return fastest


def step_seconds(
    encoder: nn.Module, precision: torch.dtype, size: tuple[int, int], pairs: int, device: torch.device
) -> float:
    """How long an image encoder takes forward and backward on a batch of (pairs, 3, *size)."""
    images = blank_batch(pairs, size, device)
    started = time.perf_counter()
    with encoding_in(precision, device):
        features = encoder(images)
    if features.requires_grad:
        features.float().square().mean().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    encoder.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def compile_image_encoder(
    encoder: nn.Module, precision: torch.dtype, size: tuple[int, int], pairs: int, twice: bool, device: torch.device
) -> None:
    """Compile an encoder in place, for training on batches of (pairs, 3, *size) and for any in evaluation.

    As one graph: what could not be compiled would be an error, not a slow piece in the middle. Prints what it cost.

    Args:
        encoder: of images.
        precision: that it runs in.
        size: (height, width) in pixels.
        pairs: images at once.
        twice: whether a batch is encoded without gradients first, as `accumulate` does.
        device: where to compute.

    Raises:
        InputError: this machine cannot compile.
    """
    encoder.compile(fullgraph=True)
    state = random_state(device)
    started = time.perf_counter()
    try:
        with norms_at_rest(encoder):
            step_seconds(encoder, precision, size, pairs, device)
            if twice:
                with torch.no_grad():
                    step_seconds(encoder, precision, size, pairs, device)
        encoder.eval()
        with torch.inference_mode():
            for count in (EMBEDDED_AT_ONCE, EMBEDDED_AT_ONCE - 1):  # of a second size: from then on any
                step_seconds(encoder, precision, size, count, device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # torch's own, or what the C++ compiler could not do
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"compile = true: the image encoder cannot be compiled here ({reason}); "
                         "torch.compile needs a C++ compiler. Use compile = false") from None  # fmt: skip
    encoder.train()
    set_random_state(state, device)
    print(f"compile: the image encoder was compiled in {time.perf_counter() - started:.1f} s")
