"""The gradient of a loss over a whole batch, when no process can encode the whole batch at once.

Losses that compare all pairs of a batch need all its embeddings, not only an average over its parts. With
several processes the embeddings are gathered. With `accumulate` parts they are computed twice: without
gradients for the loss, then part by part for the gradients (Gao et al., "Scaling Deep Contrastive Learning
Batch Size under Memory Limited Setup", 2021).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.batches import Batch
from common.devices import random_state, set_random_state
from common.processes import average, average_gradients, gather

Embed = Callable[[Batch], tuple[Tensor, ...]]
"""From a batch to what the losses need of each of its b images and captions, each tensor (b, ...)."""
Losses = Callable[..., dict[str, Tensor]]
"""From a batch and what `Embed` made of all its B pairs, each tensor (B, ...), to named losses, each a ()."""


def compute_gradients(
    model: nn.Module, embed: Embed, losses: Losses, batch: Batch, accumulate: int
) -> dict[str, Tensor]:
    """Add the gradients of the sum of the losses to the model's parameters.

    Args:
        model: whose gradients these are.
        embed: encodes pairs of the batch.
        losses: of the whole batch, that of all processes.
        batch: this process's images and captions; positives and labels are those of the whole batch.
        accumulate: in how many equal parts the pairs go through the encoders.

    Returns:
        each loss, a () without gradients, the mean over the processes.
    """
    if accumulate == 1:
        terms = losses(batch, *map(gather, embed(batch)))
        sum(terms.values()).backward()
    else:
        terms = in_two_passes(model, embed, losses, batch, accumulate)
    average_gradients(model)
    means = average(torch.stack([value.detach().float() for value in terms.values()]))
    return dict(zip(terms, means, strict=True))


def in_two_passes(model: nn.Module, embed: Embed, losses: Losses, batch: Batch, accumulate: int) -> dict[str, Tensor]:
    """The same with one part's activations in memory at a time.

    Equal to one pass, except that batch norms in training see a part and not the whole batch.
    """
    device = batch.images.device
    parts, states, pieces = batch.split(accumulate), [], []
    with torch.no_grad(), norms_at_rest(model):
        for part in parts:
            states.append(random_state(device))
            pieces.append(embed(part))
    whole = [torch.cat(of_parts).requires_grad_() for of_parts in zip(*pieces, strict=True)]  # each (b, ...)
    terms = losses(batch, *map(gather, whole))
    sum(terms.values()).backward()
    after = random_state(device)
    gradients = [emb.grad.chunk(accumulate) for emb in whole]
    for number, (part, state) in enumerate(zip(parts, states, strict=True)):
        set_random_state(state, device)  # the same dropout as in the first pass
        encoded = [(emb, grad[number]) for emb, grad in zip(embed(part), gradients, strict=True) if emb.requires_grad]
        torch.autograd.backward(*zip(*encoded, strict=True))
    set_random_state(after, device)
    return terms


@contextmanager
def norms_at_rest(model: nn.Module) -> Iterator[None]:
    """Batch norms have the running statistics of before at the end, so that a batch encoded twice counts once."""
    buffers = [value for module in model.modules() if isinstance(module, _BatchNorm) for value in module.buffers()]
    before = [value.clone() for value in buffers]
    try:
        yield
    finally:
        for value, kept in zip(buffers, before, strict=True):
            value.copy_(kept)
