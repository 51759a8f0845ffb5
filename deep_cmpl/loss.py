"""The losses of Deep CMPL (Zhang and Lu, "Deep Cross-Modal Projection Learning", ECCV 2018).

Shapes: image_emb and text_emb are (B, D), positives is (B, B) bool. A bar means unit length.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.batches import NO_LABEL

EPSILON = 1e-8
Divergence = Literal["forward", "reverse", "sum"]


def cmpm(
    image_emb: Tensor,
    text_emb: Tensor,
    positives: Tensor,
    divergence: Divergence = "forward",
    scale: Tensor | None = None,
) -> Tensor:
    """Cross-modal projection matching loss, both directions (equations 2 to 5).

        p[i, j] = softmax over j of  image_emb[i] . text_bar[j]

    Only the gallery side is normalised, so the query's length is an inverse temperature. With a
    `scale` both sides are normalised and the product is multiplied by it instead.

    Args:
        image_emb: (B, D).
        text_emb: (B, D).
        positives: (B, B) bool, image i and text j belong together.
        divergence: see `matching_divergence`.
        scale: () positive, or None for the paper's form.

    Returns:
        (), image-to-text plus text-to-image.
    """
    image_bar, text_bar = F.normalize(image_emb, dim=1), F.normalize(text_emb, dim=1)
    if scale is None:
        image_to_text = image_emb @ text_bar.T  # (B, B) image i, text j
        text_to_image = text_emb @ image_bar.T  # (B, B) text i, image j
    else:
        image_to_text = scale * image_bar @ text_bar.T
        text_to_image = image_to_text.T
    return matching_divergence(image_to_text, positives, divergence) + matching_divergence(
        text_to_image, positives.T, divergence
    )


def matching_divergence(logits: Tensor, positives: Tensor, divergence: Divergence) -> Tensor:
    """Divergence between p = softmax(logits) and q, the uniform distribution over the positives.

        forward (the paper):  KL(p||q) = sum_j p (log p - log(q + 1e-8))
        reverse:              KL(q||p) = sum_j q (log q - log p)
        sum:                  both

    The forward one hardly moves while the positives hold little of p, about 1/B at the start; the
    reverse, a cross-entropy with several positives, is steepest there.

    Args:
        logits: (B, B) query i, gallery item j.
        positives: (B, B) bool, at least one a row.

    Returns:
        (), averaged over the queries.
    """
    log_p = logits.log_softmax(1)
    q = positives.to(logits.dtype)
    q = q / q.sum(1, keepdim=True)  # a distribution: divided by the sum, not by the L2 norm
    loss = logits.new_zeros(())
    if divergence in ("forward", "sum"):
        loss = loss + (log_p.exp() * (log_p - (q + EPSILON).log())).sum(1).mean()
    if divergence in ("reverse", "sum"):
        loss = loss + (torch.xlogy(q, q) - q * log_p).sum(1).mean()
    return loss


def cmpc(image_emb: Tensor, text_emb: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Cross-modal projection classification loss (equations 7 to 11).

    Each embedding is projected on its partner's direction and classified by one weight matrix
    with normalised columns and no bias.

        image_hat = (image_emb . text_bar) text_bar      text_hat = (text_emb . image_bar) image_bar
        cmpc      = CE(image_hat @ W_bar, y) + CE(text_hat @ W_bar, y)

    Args:
        image_emb: (B, D).
        text_emb: (B, D), row i belongs to row i of `image_emb`.
        labels: (B,) int64 in 0..C-1, or `NO_LABEL` for a pair that is left out.
        weight: (D, C).

    Returns:
        (), averaged over the labelled pairs; 0 without any.
    """
    image_bar, text_bar = F.normalize(image_emb, dim=1), F.normalize(text_emb, dim=1)
    image_hat = (image_emb * text_bar).sum(1, keepdim=True) * text_bar  # (B, D)
    text_hat = (text_emb * image_bar).sum(1, keepdim=True) * image_bar  # (B, D)
    weight_bar = F.normalize(weight, dim=0)  # (D, C)
    labelled = (labels != NO_LABEL).sum().clamp(min=1)
    losses = (
        F.cross_entropy(projected @ weight_bar, labels, ignore_index=NO_LABEL, reduction="sum")
        for projected in (image_hat, text_hat)
    )
    return sum(losses) / labelled
