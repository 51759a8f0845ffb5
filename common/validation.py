"""The figures of a gallery: what a training validates with, and the first part of every report."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.batches import Images, Texts
from common.embedding import embed_images, embed_texts
from common.errors import TrainingStopped
from common.gallery import Gallery
from common.processes import from_first, gather_parts, is_first, own_part
from common.recall import CUTOFFS, DIRECTIONS, Ranks, chance, metrics, rank_queries


def both_ranks(image_emb: Tensor, text_emb: Tensor, gallery: Gallery) -> dict[str, Ranks]:
    """The ranks of the images' captions and of the captions' images."""
    return {
        "image_to_text": rank_queries(image_emb, text_emb, gallery.relevant),
        "text_to_image": rank_queries(text_emb, image_emb, gallery.relevant.flip(0)),
    }


def figures(ranks: dict[str, Ranks]) -> dict[str, Any]:
    """Recall and ranks in both directions, and the sum of the six recalls."""
    result: dict[str, Any] = {direction: metrics(ranks[direction]) for direction in DIRECTIONS}
    result["rsum"] = sum(result[direction][f"R@{cutoff}"] for direction in DIRECTIONS for cutoff in CUTOFFS)
    return result


def spread(emb: Tensor) -> float:
    """1 - |mean of the unit vectors|^2: 1 for embeddings in all directions, 0 for a collapsed tower."""
    return 1 - F.normalize(emb, dim=1).mean(0).square().sum().item()


def validate(model: nn.Module, images: Images, texts: Texts, gallery: Gallery, device: torch.device) -> dict[str, Any]:
    """The figures of a gallery (`texts` are its captions), the R@1 of chance, and the spread of each tower.

    Several processes share the embedding out; the first one searches, and tells the others.
    """
    model.eval()
    own_images, own_texts = part_or_first(gallery.images), part_or_first(np.arange(len(texts)))
    image_emb = gather_parts(embed_images(model, images, own_images, device), len(gallery.images))
    text_emb = gather_parts(embed_texts(model, texts.subset(own_texts), device), len(texts))
    for tower, emb in (("image", image_emb), ("text", text_emb)):
        if not emb.isfinite().all():
            raise TrainingStopped(
                f"the {tower} embeddings are not finite: the model has diverged; lower the learning rate"
            )
    return from_first(measured(image_emb, text_emb, gallery) if is_first() else None)


def part_or_first(of: np.ndarray) -> np.ndarray:
    """A process's part; where there is less than one each, the others encode the first, which is not gathered."""
    own = own_part(of)
    return own if len(own) else of[:1]


def measured(image_emb: Tensor, text_emb: Tensor, gallery: Gallery) -> dict[str, Any]:
    ranks = both_ranks(image_emb, text_emb, gallery)
    at_chance = {direction: expected["R@1"] for direction, expected in chance_figures(ranks, gallery).items()}
    spreads = {"image_spread": spread(image_emb), "text_spread": spread(text_emb)}
    return figures(ranks) | {"R@1_at_chance": at_chance} | spreads


def chance_figures(ranks: dict[str, Ranks], gallery: Gallery) -> dict[str, dict[str, float]]:
    sizes = {"image_to_text": len(gallery.captions), "text_to_image": len(gallery.images)}
    return {direction: chance(ranks[direction].counts, sizes[direction]) for direction in DIRECTIONS}
