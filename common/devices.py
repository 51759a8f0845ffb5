"""Where to compute, in which precision, and from which random numbers."""

import ctypes
import platform
import random
import resource
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch

from common import processes
from common.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:N"; "auto" that cannot use a GPU of the machine says why.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return own_gpu(torch.cuda.current_device())
        if any(Path("/dev").glob("nvidia[0-9]*")):
            told = f"device: the CPU, although this machine has an NVIDIA GPU: {why_no_cuda()}"
            print(told, file=sys.stderr)  # some scripts print JSON
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: no CUDA GPU can be used here, {why_no_cuda()}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA GPUs, counted from 0")
    return own_gpu(device.index) if device.type == "cuda" else torch.device("cpu")


def own_gpu(index: int | None) -> torch.device:
    """The GPU with this index; with several processes on a machine each takes its own."""
    if processes.count() > 1:
        index, there = processes.number_on_machine(), torch.cuda.device_count()
        if index >= there:
            raise InputError(f"--nproc-per-node: more processes than this machine has CUDA GPUs ({there})")
        torch.cuda.set_device(index)
    return torch.device("cuda", index or 0)


def why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().split("\n")[0]
    return "CUDA reports no device"


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones.

    It gives large blocks back to the system, which has to clear them again at every step: forward and backward of
    efficientnet-lite0 on 60x80 pixels took 1.3 times as long for 128 images, 1.7 times for 256 (2 cores). Other
    systems are left as they are.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def resolve_precision(setting: str, device: torch.device) -> torch.dtype:
    """The precision of the encoders: "default" is float32 on the CPU and bfloat16 on CUDA."""
    if setting == "default":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, setting)


def precision_name(precision: torch.dtype) -> str:
    """The precision as config.json has it, "float32" or "bfloat16"."""
    return str(precision).removeprefix("torch.")


def evaluation_precision(setting: str, recorded: str, device: torch.device) -> torch.dtype:
    """The precision that a trained model is evaluated in: the run's, but for a run that had a GPU's by default and is
    now on a CPU, where bfloat16 can take several times as long."""
    return torch.float32 if setting == "default" and device.type == "cpu" else getattr(torch, recorded)


def encoding_in(precision: torch.dtype, device: torch.device) -> AbstractContextManager:
    """The context in which an encoder runs; norms, logits and losses stay outside, in float32.

    Converted weights are not kept: each is used once, and a CUDA graph has to convert it at each replay.
    """
    lower = precision == torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower, cache_enabled=False)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; to a GPU without waiting for what it is still computing."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of torch's random numbers on the CPU and on the device."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put such a state back; one that was taken on another kind of device as far as it goes."""
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use so far: of tensors on a GPU, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
