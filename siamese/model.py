"""The Siamese network: two encoders, each followed by a tower of two layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.captions import Tokenizer
from common.features import features_of
from common.image_encoders import build_image_encoder
from common.text_encoders import build_text_encoder


class Siamese(nn.Module):
    """Images and captions in one space, compared by Euclidean distance between vectors of unit length.

    Args:
        image_encoder: (B, 3, H, W) uint8 -> (B, F), with the attribute `dim` = F.
        text_encoder: (B, L) tokens, (B,) lengths -> (B, G), with the attribute `dim` = G.
        hidden_dim: size of the towers' hidden layer.
        embedding_dim: D.
        dropout: on the hidden layer.
        precision: of the encoders; the towers and all that follows are float32.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        hidden_dim: int,
        embedding_dim: int,
        dropout: float,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.image_tower = tower(image_encoder.dim, hidden_dim, embedding_dim, dropout)
        self.text_tower = tower(text_encoder.dim, hidden_dim, embedding_dim, dropout)
        self.precision = precision

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8, or features (B, F) -> image_emb (B, D) of unit length"""
        features = features_of(self.image_encoder, self.precision, images)  # (B, F)
        return F.normalize(self.image_tower(features), dim=1)  # (B, D)

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64, (B,) int64 on the CPU, or features (B, G) -> text_emb (B, D) of unit length"""
        features = features_of(self.text_encoder, self.precision, tokens, lengths)  # (B, G)
        return F.normalize(self.text_tower(features), dim=1)  # (B, D)


def tower(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Standardised features through two linear layers. No ReLU at the end, which collapses a tower."""
    return nn.Sequential(
        nn.BatchNorm1d(inputs, affine=False),
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, outputs),
    )


def build_model(
    settings: Any,
    tokenizer: Tokenizer,
    precision: torch.dtype,
    folder: Path | None = None,
    train_captions: Sequence[str] = (),
) -> Siamese:
    """The network for some hyperparameters.

    Args:
        settings: the hyperparameters of train.py, as attributes.
        tokenizer: of the text encoder.
        precision: of the encoders.
        folder: a run folder whose weights will be loaded afterwards: nothing pretrained is fetched.
        train_captions: what word2vec learns from.

    Raises:
        InputError: pretrained weights cannot be had.
    """
    return Siamese(
        build_image_encoder(settings.image_encoder, settings.image_weights, not settings.finetune, folder),
        build_text_encoder(settings, tokenizer, frozen=True, folder=folder, train_captions=train_captions),
        settings.hidden_dim,
        settings.embedding_dim,
        settings.dropout,
        precision,
    )
