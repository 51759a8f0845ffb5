"""Deep CMPL: two encoders, each followed by one joint layer (Zhang and Lu 2018, figure 2)."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.captions import Tokenizer
from common.features import features_of
from common.image_encoders import build_image_encoder
from common.text_encoders import build_text_encoder

FIRST_SCALE = 20.0
LARGEST_SCALE = 100.0


class DeepCMPL(nn.Module):
    """Images and captions in one space, compared by cosine.

    Args:
        image_encoder: (B, 3, H, W) uint8 -> (B, F), with the attribute `dim` = F.
        text_encoder: (B, L) tokens, (B,) lengths -> (B, G), with the attribute `dim` = G.
        embedding_dim: D.
        precision: of the encoders; the joint layers and all that follows are float32.
        learned_scale: whether the loss has a scale to learn.
        classes: number of identity labels C of the classification loss, 0 without it.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        embedding_dim: int,
        precision: torch.dtype = torch.float32,
        learned_scale: bool = False,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.image_joint = joint_layer(image_encoder.dim, embedding_dim)
        self.text_joint = joint_layer(text_encoder.dim, embedding_dim)
        self.precision = precision
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE).log()) if learned_scale else None
        self.class_weight = nn.Parameter(torch.randn(embedding_dim, classes)) if classes else None

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> image_emb (B, D)"""
        features = features_of(self.image_encoder, self.precision, images)  # (B, F)
        return self.image_joint(features)  # (B, D)

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64, (B,) int64 on the CPU -> text_emb (B, D)"""
        features = features_of(self.text_encoder, self.precision, tokens, lengths)  # (B, G)
        return self.text_joint(features)  # (B, D)

    def scale(self) -> Tensor | None:
        """The learned scale of the cosines in the loss, at most 100; None for the paper's form."""
        if self.log_scale is None:
            return None
        with torch.no_grad():  # the parameter, not what is made of it: that would have no gradient to come down again
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return self.log_scale.exp()


def joint_layer(inputs: int, outputs: int) -> nn.Sequential:
    """One linear layer and a batch norm, no activation. The batch norm is in the authors' code."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs))


def build_model(
    settings: Any,
    tokenizer: Tokenizer,
    precision: torch.dtype,
    folder: Path | None = None,
    classes: int = 0,
) -> DeepCMPL:
    """The network for some hyperparameters.

    Args:
        settings: the hyperparameters of train.py, as attributes.
        tokenizer: of the text encoder.
        precision: of the encoders.
        folder: a run folder whose weights will be loaded afterwards: nothing pretrained is fetched.
        classes: number of identity labels C, 0 without the classification loss.

    Raises:
        InputError: pretrained weights cannot be had.
    """
    return DeepCMPL(
        build_image_encoder(settings.image_encoder, settings.image_weights, settings.freeze_image_encoder, folder),
        build_text_encoder(settings, tokenizer, settings.freeze_text_encoder, folder),
        settings.embedding_dim,
        precision,
        learned_scale=settings.scale == "learned",
        classes=classes,
    )
