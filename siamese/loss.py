"""The loss of the Siamese network.

Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006.

Shapes: image_emb and text_emb are (B, D), positives is (B, B) bool.
"""

from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-12
Negatives = Literal["all", "hardest", "random"]


def contrastive(
    image_emb: Tensor, text_emb: Tensor, positives: Tensor, margin: float, negatives: Negatives = "all"
) -> Tensor:
    """Contrastive loss: pairs that belong together are pulled, the others pushed until `margin` apart.

    Equation 4 is that of one pair; the mean over each kind and the choice of negatives are ours.

        d    = ||image_emb - text_emb||
        loss = 1/2 mean over positives of d^2  +  1/2 mean over the chosen negatives of max(0, margin - d)^2

    A constant d gives d^2/2 + max(0, margin - d)^2/2, at least margin^2/4: a loss that stays there has
    learned nothing.

    Args:
        image_emb: (B, D) of unit length.
        text_emb: (B, D) of unit length.
        positives: (B, B) bool, image i and text j belong together, at least one; these pairs are never negatives.
        margin: distance from which a negative is no longer pushed.
        negatives: see `choose_negatives`.

    Returns:
        (), the second term is 0 when no pair is negative.
    """
    distance = distances(image_emb, text_emb)  # (B, B)
    pull = distance[positives].square().mean()
    push = (margin - distance).clamp(min=0).square()  # (B, B)
    chosen = push[choose_negatives(distance.detach(), positives, negatives)]
    return pull / 2 + chosen.sum() / max(1, len(chosen)) / 2


def distances(image_emb: Tensor, text_emb: Tensor) -> Tensor:
    """Euclidean distances (B, B) of every image i to every text j, with a finite gradient where they are 0."""
    squared = image_emb.square().sum(1)[:, None] + text_emb.square().sum(1) - 2 * image_emb @ text_emb.T
    return squared.clamp(min=EPSILON).sqrt()


def choose_negatives(distance: Tensor, positives: Tensor, negatives: Negatives) -> tuple[Tensor, Tensor]:
    """The pairs (image i, text j) to push apart.

        all:      every pair that does not belong together
        hardest:  for each image the nearest such text, for each text the nearest such image
        random:   for each image one such text, for each text one such image

    Args:
        distance: (B, B).
        positives: (B, B) bool.
        negatives: which.

    Returns:
        i (n,) and j (n,); images and texts with which everything belongs have none.
    """
    if negatives == "all":
        return (~positives).nonzero(as_tuple=True)
    nearness = -distance if negatives == "hardest" else torch.rand_like(distance)
    nearness = nearness.masked_fill(positives, -torch.inf)
    negative = ~positives
    images, texts = negative.any(1).nonzero().flatten(), negative.any(0).nonzero().flatten()  # that have one
    text_for_image, image_for_text = nearness.argmax(1), nearness.argmax(0)  # (B,)
    return torch.cat([images, image_for_text[texts]]), torch.cat([text_for_image[images], texts])
