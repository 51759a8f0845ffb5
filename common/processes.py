"""Several processes that train one model, started by torchrun, on one machine or many.

Every process holds the whole model and encodes its own part of each batch. The embeddings are gathered, so
that each computes the loss of the whole batch, and the gradients are averaged. One process alone needs none of
this: each function then returns what it was given.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PATIENCE = timedelta(days=1)
"""How long a process waits for another: the first one may decode a large catalogue meanwhile."""


def start() -> None:
    """Join the other processes if torchrun started this one; all but the first are silent from then on."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    if not is_first():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends


def stop() -> None:
    """Leave the others, after all have come this far."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """Which one this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process prints and writes the run folder."""
    return number() == 0


def number_on_machine() -> int:
    """Which process of this machine this is, from 0: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0)) if dist.is_initialized() else 0


@contextmanager
def first_on_machine_first() -> Iterator[None]:
    """Let the first process of each machine go ahead, to fill the caches that the others then find."""
    if count() > 1 and number_on_machine() > 0:
        dist.barrier()
    yield
    if count() > 1 and number_on_machine() == 0:
        dist.barrier()


def own_part(of: np.ndarray) -> np.ndarray:
    """This process's part of an array, in order; parts differ by one in length where they must."""
    return np.array_split(of, count())[number()] if count() > 1 else of


def gather(emb: Tensor) -> Tensor:
    """The rows (b, ...) of all processes, b the same for each, as (B, ...), in order, with their gradients."""
    return GatheredRows.apply(emb) if count() > 1 else emb


class GatheredRows(torch.autograd.Function):
    """Forward, the rows of all processes; backward, the sum of all processes' gradients of this one's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(count())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(count())[number()]


class Total(torch.autograd.Function):
    """Forward, the sum over all processes; backward, the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Total.forward(ctx, gradient)


def gather_parts(emb: Tensor, total: int) -> Tensor:
    """The rows of the `own_part` of each process, (total, D) in order; without gradients.

    A process without a part gives one row all the same, which is left out.
    """
    if count() == 1:
        return emb
    longest = -(-total // count())
    padded = torch.cat([emb, emb.new_zeros(longest - len(emb), *emb.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(count())]
    dist.all_gather(parts, padded)
    sizes = [len(part) for part in np.array_split(np.arange(total), count())]
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def average(values: Tensor) -> Tensor:
    """The mean over all processes, without gradients."""
    if count() == 1:
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values / count()


def average_gradients(model: nn.Module) -> None:
    """Put the mean over all processes in place of each gradient.

    Each process has the gradient of the whole batch's loss with respect to what it shares, and `gather` hands it
    the gradient of every process's loss with respect to its own embeddings: the mean is the gradient of one loss.
    One flat tensor at the end, not DistributedDataParallel: losses and second passes run outside of `forward`.
    """
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= count()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def wait() -> None:
    """Go on when all processes have come this far."""
    if count() > 1:
        dist.barrier()


def any_of(*values: bool) -> list[bool]:
    """Whether each value is true for any process."""
    return (average(torch.tensor(values, dtype=torch.float32)) > 0).tolist()


def from_first(value: Any) -> Any:
    """The value that the first process has; any that can be pickled."""
    if count() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


def from_all(value: Any) -> list[Any]:
    """The value that each process has."""
    if count() == 1:
        return [value]
    values = [None] * count()
    dist.all_gather_object(values, value)
    return values


def start_alike(model: nn.Module) -> None:
    """Give every process the first one's parameters and buffers, and batch norms that see the whole batch."""
    if count() == 1:
        return
    for value in [*model.parameters(), *model.buffers()]:
        dist.broadcast(value.data, 0)
    on_gpu = next(model.parameters()).is_cuda
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, _BatchNorm):
                whole = nn.SyncBatchNorm.convert_sync_batchnorm(norm) if on_gpu else WholeBatchNorm.of(norm)
                setattr(parent, name, whole)


class WholeBatchNorm(_BatchNorm):
    """A batch norm over the batches of all processes, for the CPU, where torch's SyncBatchNorm does not run.

    Its parameters and buffers are those of the batch norm that it replaces, under the same names.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> "WholeBatchNorm":
        whole = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        whole.train(norm.training)
        whole._parameters, whole._buffers = norm._parameters, norm._buffers
        return whole

    def _check_input_dim(self, inputs: Tensor) -> None:
        """Any (b, C, ...)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(b, C, ...) -> the same, b of this process out of B"""
        if not self.training:
            return super().forward(inputs)
        dtype, inputs = inputs.dtype, inputs.float()
        over = [dim for dim in range(inputs.ndim) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(inputs.ndim)]
        size = inputs.numel() // inputs.shape[1] * count()
        mean = Total.apply(inputs.sum(over)) / size  # (C,)
        centred = inputs - mean.view(shape)
        variance = Total.apply(centred.square().sum(over)) / size  # (C,)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * size / (size - 1), self.momentum)
            self.num_batches_tracked += 1
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(dtype)
