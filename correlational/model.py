"""The Correlational network: one code for an image, a text, or both (Chandar et al. 2016, figure 1)."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.captions import Tokenizer
from common.features import features_of
from common.image_encoders import build_image_encoder
from common.text_encoders import build_text_encoder


class ShallowCorrNet(nn.Module):
    """The network of the paper: sigmoids, tied weights, one bias shared by both views.

        h(x, y) = f(W x + V y + b)      h(x) = f(W x + b)      h(y) = f(V y + b)
        x' = g(W^T h + b_x)             y' = g(V^T h + b_y)

    Args:
        image_dim: F.
        text_dim: G.
        code_dim: D.
        output: g; the sigmoid of the paper is for views between 0 and 1.
    """

    def __init__(self, image_dim: int, text_dim: int, code_dim: int, output: nn.Module) -> None:
        super().__init__()
        self.image_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(code_dim, image_dim)))  # W
        self.text_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(code_dim, text_dim)))  # V
        self.bias = nn.Parameter(torch.zeros(code_dim))
        self.image_bias = nn.Parameter(torch.zeros(image_dim))
        self.text_bias = nn.Parameter(torch.zeros(text_dim))
        self.output = output

    def encode(self, image: Tensor | None = None, text: Tensor | None = None) -> Tensor:
        """Image (B, F), text (B, G), or both -> code (B, D); a view that is None is left out."""
        total = self.bias
        if image is not None:
            total = total + image @ self.image_weight.T
        if text is not None:
            total = total + text @ self.text_weight.T
        return total.sigmoid()

    def decode(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Code (B, D) -> both views, image (B, F) and text (B, G)"""
        image = self.output(code @ self.image_weight + self.image_bias)
        text = self.output(code @ self.text_weight + self.text_bias)
        return image, text


class DeepCorrNet(nn.Module):
    """The deep network: a branch of three layers a view, the branches summed, and a mirrored decoder a view.

        h(x, y) = tanh(branch_x(x) + branch_y(y))      h(x) = tanh(branch_x(x))      h(y) = tanh(branch_y(y))

    A branch ends with a batch norm, which keeps all units alive; a decoder ends with a linear layer, because
    features take negative values.

    Args:
        image_dim: F.
        text_dim: G.
        hidden_dims: sizes of the hidden layers, from the view to the code.
        code_dim: D.
    """

    def __init__(self, image_dim: int, text_dim: int, hidden_dims: Sequence[int], code_dim: int) -> None:
        super().__init__()
        self.image_branch = nn.Sequential(
            layers(image_dim, *hidden_dims, code_dim), nn.BatchNorm1d(code_dim, affine=False)
        )
        self.text_branch = nn.Sequential(
            layers(text_dim, *hidden_dims, code_dim), nn.BatchNorm1d(code_dim, affine=False)
        )
        self.image_decoder = layers(code_dim, *reversed(hidden_dims), image_dim)
        self.text_decoder = layers(code_dim, *reversed(hidden_dims), text_dim)

    def encode(self, image: Tensor | None = None, text: Tensor | None = None) -> Tensor:
        """Image (B, F), text (B, G), or both -> code (B, D); the branch of a view that is None is left out."""
        branches = [
            branch(view) for branch, view in ((self.image_branch, image), (self.text_branch, text)) if view is not None
        ]
        return sum(branches).tanh()

    def decode(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Code (B, D) -> both views, image (B, F) and text (B, G)"""
        return self.image_decoder(code), self.text_decoder(code)


def layers(*dims: int) -> nn.Sequential:
    """Linear layers from size to size, with a ReLU between two of them."""
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(dims):
        parts += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


class Correlational(nn.Module):
    """Images and captions as codes of one network, each view without the other; compared by cosine.

    Args:
        image_encoder: (B, 3, H, W) uint8 -> (B, F), with the attribute `dim` = F; frozen.
        text_encoder: (B, L) tokens, (B,) lengths -> (B, G), with the attribute `dim` = G; frozen.
        network: from views to codes and back.
        precision: of the encoders; the network and all that follows are float32.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        network: ShallowCorrNet | DeepCorrNet,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.image_standard = nn.BatchNorm1d(image_encoder.dim, affine=False)
        self.text_standard = nn.BatchNorm1d(text_encoder.dim, affine=False)
        self.network = network
        self.precision = precision

    def image_view(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8, or features (B, F) -> standardised features (B, F)"""
        return self.image_standard(features_of(self.image_encoder, self.precision, images))

    def text_view(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64, (B,) int64 on the CPU, or features (B, G) -> standardised features (B, G)"""
        return self.text_standard(features_of(self.text_encoder, self.precision, tokens, lengths))

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8, or features (B, F) -> h(x) (B, D)"""
        return self.network.encode(image=self.image_view(images))

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64, (B,) int64 on the CPU, or features (B, G) -> h(y) (B, D)"""
        return self.network.encode(text=self.text_view(tokens, lengths))


def build_model(
    settings: Any,
    tokenizer: Tokenizer,
    precision: torch.dtype,
    folder: Path | None = None,
    train_captions: Sequence[str] = (),
) -> Correlational:
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
    image_encoder = build_image_encoder(settings.image_encoder, settings.image_weights, frozen=True, folder=folder)
    text_encoder = build_text_encoder(settings, tokenizer, frozen=True, folder=folder, train_captions=train_captions)
    if settings.network == "shallow":
        network = ShallowCorrNet(image_encoder.dim, text_encoder.dim, settings.code_dim, output=nn.Identity())
    else:
        network = DeepCorrNet(image_encoder.dim, text_encoder.dim, settings.hidden_dims, settings.code_dim)
    return Correlational(image_encoder, text_encoder, network, precision)
