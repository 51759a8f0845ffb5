"""Features of frozen encoders: computed once, kept on disk, and from then on in place of pixels and tokens."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.batches import Texts, take
from common.columns import in_pieces
from common.devices import encoding_in
from common.files import kept_array
from common.hashing import array_digest, digest
from common.loading import load, workers_for
from common.processes import first_on_machine_first
from common.session import Session

ENCODED_AT_ONCE = 256
FEATURES_VERSION = 3
"""Of the way from an encoder's weights to features: those that were kept before it changed are not used."""


def features_of(encoder: nn.Module, precision: torch.dtype, inputs: Tensor, *more: Tensor) -> Tensor:
    """What an encoder makes of images (B, 3, H, W) uint8, or of tokens (B, L) int64 and their lengths.

    Inputs that are features already, (B, F) float32, are returned as they are.
    """
    if inputs.is_floating_point():
        return inputs
    with encoding_in(precision, inputs.device):
        return encoder(inputs, *more).float()  # (B, F)


def precompute_features(session: Session, model: nn.Module) -> Session:
    """Let each frozen encoder of a model see every image or caption once.

    The features are kept on disk by all that they depend on: the encoder with its weights, precision and
    device, and the images' content and size or the captions. A second training finds them there.

    Args:
        session: from `prepare`.
        model: with `image_encoder` and `text_encoder`, each with the attributes `dim` and `frozen`.

    Returns:
        the session with features in place of what the frozen encoders would see.
    """
    if session.run.resumed:  # the encoders' weights are in the run
        state = session.run.load_state(session.device)
        with session.run.restoring():
            model.load_state_dict(state["model"])
    model.eval()
    if model.image_encoder.frozen:
        images = image_features(session, model.image_encoder)
        session = replace(session, images=images, train=session.train.with_inputs(images=images))
    if model.text_encoder.frozen:
        train = text_features(session, model.text_encoder, session.train.texts, "train captions")
        val = text_features(session, model.text_encoder, session.val_texts, "val captions")
        session = replace(session, train=session.train.with_inputs(texts=train), val_texts=val)
    return session


def image_features(session: Session, encoder: nn.Module) -> np.ndarray:
    """(N, F) float32 of all images of the catalogue."""
    pixels = session.images
    height, width = pixels.shape[1:3]
    pieces = in_pieces(np.arange(len(pixels)), ENCODED_AT_ONCE)
    batches = load(partial(take, pixels), pieces, session.device, workers_for(pixels, session.device))
    features = (features_of(encoder, session.precision, images) for images in batches)
    name, what = session.settings.image_encoder, f"{height}x{width} images"
    return kept_features(session, encoder, name, what, session.data.images.digests, features)


def text_features(session: Session, encoder: nn.Module, texts: Texts, what: str) -> Texts:
    """The captions as features (M, G) float32."""
    batches = map(texts.batch, in_pieces(np.arange(len(texts)), ENCODED_AT_ONCE))
    features = (
        features_of(encoder, session.precision, tokens.to(session.device), lengths) for tokens, lengths in batches
    )
    kept = kept_features(session, encoder, session.settings.text_encoder, what, texts.tokens, features)
    return replace(texts, tokens=kept)


def kept_features(
    session: Session,
    encoder: nn.Module,
    name: str,
    what: str,
    content: np.ndarray,
    features: Iterable[Tensor],
) -> np.ndarray:
    """Features from the cache, or from the encoder with a progress bar.

    Args:
        session: names the catalogue, the precision and the device.
        encoder: that they are of.
        name: of the encoder.
        what: is encoded.
        content: identifies the N inputs, an entry or a row each.
        features: of all inputs in order, (B, F) at a time, computed when they are asked for.

    Returns:
        (N, F) float32.
    """

    def fill(array: np.ndarray) -> None:
        done = 0
        with tqdm(total=len(array), desc=f"{name} features of {what}", unit=what.split()[-1][:-1]) as bar:
            for some in features:
                array[done : done + len(some)] = some.cpu().numpy()
                done += len(some)
                bar.update(len(some))

    path = session.data.catalogue.path
    depends_on = [weights_digest(encoder), str(session.precision), session.device.type, array_digest(content)]
    key = digest([FEATURES_VERSION, *depends_on])
    file_name = f"{path.name}-{digest(str(path))}-features-{what.replace(' ', '-')}-{name}"
    with torch.inference_mode(), first_on_machine_first():
        return kept_array(file_name, key, (len(content), encoder.dim), fill)


def weights_digest(encoder: nn.Module) -> str:
    """A hash of all parameters and buffers."""
    state = hashlib.blake2b(digest_size=8)
    for name, value in encoder.state_dict().items():
        state.update(name.encode())
        state.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return state.hexdigest()
