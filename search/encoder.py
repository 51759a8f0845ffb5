"""A trained run as two functions: words and pictures to unit vectors."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common.batches import Images, Texts
from common.checkpoints import MODEL, load_model
from common.devices import choose_device
from common.embedding import embed_images, embed_texts
from common.errors import InputError
from common.hashing import digest
from common.images import BROKEN_IMAGE, read_image, refuse_unknown_white, upright
from common.options import read_config

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")
Picture = Path | str | bytes | Image.Image


class Encoder:
    """The encoders of a run.

    Args:
        run: folder that a train.py wrote.
        device: auto, cpu, cuda or cuda:N.
        precision: of the encoders; None for the run's, or the CPU's where a GPU's was the default.

    Attributes:
        identity: what the vectors depend on: the method, the weights and hyperparameters, the image size.

    Raises:
        InputError: there is no such run, or it is broken.
    """

    def __init__(self, run: Path, device: str = "auto", precision: torch.dtype | None = None) -> None:
        self.run, self.device = run, choose_device(device)
        self.config = read_config(run, None)
        self.identity = identity(run, self.config)
        self.model, self.tokenizer = load_model(run, self.config, self.device, precision)
        self.image_size: tuple[int, int] = tuple(self.config["hyperparameters"]["image_size"])

    def texts(self, captions: list[str], show: bool = False) -> np.ndarray:
        """(M, D) float32 unit vectors of captions."""
        return unit(embed_texts(self.model, Texts(*self.tokenizer(captions)), self.device, show))

    def images(self, pixels: Images, which: np.ndarray) -> np.ndarray:
        """(N, D) float32 unit vectors of the decoded images with these numbers."""
        return unit(embed_images(self.model, pixels, which, self.device))

    def picture(self, picture: Picture) -> np.ndarray:
        """(D,) float32 unit vector of one picture.

        Args:
            picture: a file's path, its bytes, or an image of Pillow.

        Raises:
            InputError: it cannot be decoded.
        """
        return self.images(decoded(picture, self.image_size)[None], np.array([0]))[0]


def decoded(picture: Picture, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 of a picture.

    Raises:
        InputError: it cannot be decoded.
    """
    pixels, _, found = read_image(content_of(picture), size)
    if isinstance(found, str):
        name = picture if isinstance(picture, Path | str) else "the picture"
        raise InputError(f"{name}: no image that can be decoded ({found})")
    return pixels


def content_of(picture: Picture) -> Path | bytes:
    """Where a picture is read from; one of Pillow's is written as it is to be seen.

    Raises:
        InputError: one of Pillow's cannot be written.
    """
    if not isinstance(picture, Image.Image):
        return Path(picture) if isinstance(picture, str) else picture
    file = io.BytesIO()
    try:
        refuse_unknown_white(picture)
        image = upright(picture)
        if image.mode not in PNG_MODES:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.save(file, "PNG", exif=b"")
    except BROKEN_IMAGE as error:
        raise InputError(f"the picture, of Pillow's mode {picture.mode}: cannot be read ({error})") from None
    return file.getvalue()


def identity(run: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What a run's vectors depend on.

    Raises:
        InputError: the run has no weights.
    """
    try:
        with (run / MODEL).open("rb") as file:
            weights = hashlib.file_digest(file, "blake2b").hexdigest()[:16]
    except FileNotFoundError:
        raise InputError(f"{run / MODEL}: missing; the run was interrupted before its first validation") from None
    settings = digest([config["hyperparameters"], config["precision"]])
    return {"name": config["model"], "weights": weights, "settings": settings,
            "image_size": list(config["hyperparameters"]["image_size"])}  # fmt: skip


def unit(vectors: torch.Tensor) -> np.ndarray:
    """(N, D) float32 on the CPU, each of length 1."""
    return torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()
