"""A catalogue's images and captions as a trained model's embeddings."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.batches import Data, Images, Texts, take
from common.captions import Tokenizer
from common.columns import in_pieces
from common.gallery import Gallery
from common.loading import load, workers_for
from common.recall import Ranks

EMBEDDED_AT_ONCE = 256


@torch.inference_mode()
def embed_images(
    model: nn.Module, images: Images, which: np.ndarray, device: torch.device, show: bool = False
) -> Tensor:
    """image_emb (N, D) float32 of the images, decoded or as features, with these indices."""
    pieces = in_pieces(which, EMBEDDED_AT_ONCE)
    loaded = load(partial(take, images), pieces, device, workers_for(images, device))
    bar = tqdm(loaded, total=len(pieces), desc="embedding images", unit="batch", disable=not show)
    return torch.cat([model.encode_image(batch).float() for batch in bar])


@torch.inference_mode()
def embed_texts(model: nn.Module, texts: Texts, device: torch.device, show: bool = False) -> Tensor:
    """text_emb (M, D) float32 of captions."""
    pieces = in_pieces(np.arange(len(texts)), EMBEDDED_AT_ONCE)
    bar = tqdm(pieces, desc="embedding texts", unit="batch", disable=not show)
    batches = (texts.batch(piece) for piece in bar)
    return torch.cat([model.encode_text(tokens.to(device), lengths).float() for tokens, lengths in batches])


@dataclass(frozen=True)
class Embedded:
    """A gallery as a trained model sees it.

    Attributes:
        split: its name, or "all".
        image_emb: (N, D) float32 of `gallery.images`.
        text_emb: (M, D) float32 of `gallery.captions`.
        ranks: of the captions of each image ("image_to_text") and of the images of each caption ("text_to_image").
    """

    model: nn.Module
    tokenizer: Tokenizer
    device: torch.device
    data: Data
    split: str
    gallery: Gallery
    image_emb: Tensor
    text_emb: Tensor
    ranks: dict[str, Ranks]

    def embed(self, captions: list[str]) -> Tensor:
        """text_emb (C, D) float32 of any other captions."""
        return embed_texts(self.model, Texts(*self.tokenizer(captions)), self.device)
