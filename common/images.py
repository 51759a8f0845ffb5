"""Images: decoding, the cache of decoded images, augmentation on the device."""

import hashlib
import io
import json
import math
import re
import shutil
import struct
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from common.catalogue import Catalogue
from common.devices import send
from common.errors import InputError
from common.files import CACHE_FOLDER, remove_older, replacing, reserve
from common.hashing import digest
from common.workers import on_all_cores

WHITE = (255, 255, 255)
THUMBNAIL = (32, 32)
"""(height, width) at which images are compared and, without a cache of their own, checked."""
LARGEST_SHARE = 0.9
"""How much of the free disk a cache may take."""
CACHE_VERSION = 2
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = (5, 6, 7, 8)
# Pillow reports broken files by any of these, depending on the format
BROKEN_IMAGE = (
    OSError, SyntaxError, ValueError, TypeError, OverflowError, LookupError, EOFError, NotImplementedError,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class DecodedImages:
    """Every image of a catalogue, decoded once.

    Attributes:
        pixels: (N, H, W, 3) uint8, memory-mapped and read-only, or decoded when asked for; white where an
            image is unreadable.
        digests: (N,) uint64 hash of each image's file content, 0 where there is none.
        errors: image index -> why it could not be decoded.
        remarks: what may surprise about the images, in words.
    """

    pixels: "np.ndarray | ImageFiles"
    digests: np.ndarray
    errors: dict[int, str]
    remarks: list[str]


def open_images(
    catalogue: Catalogue, size: tuple[int, int], folder: Path = CACHE_FOLDER, source: str = "disk"
) -> DecodedImages:
    """The decoded images of a catalogue, from the cache if its image files have not changed.

    Args:
        size: (height, width) in pixels; the aspect ratio is kept and the rest padded with white.
        folder: where the caches lie; one a catalogue and size, older states of it are removed.
        source: "files" to decode an image whenever it is asked for and cache only a thumbnail of each, "auto"
            to do so where the disk has no room for the cache, anything else to use the cache in any case.
    """
    if source == "files":
        return decoded_on_the_fly(catalogue, size, folder)
    height, width = size
    where = f"{catalogue.path.name}-{digest(str(catalogue.path))}-{height}x{width}"
    key = digest([CACHE_VERSION, catalogue.image_state()])
    pixels_file, facts_file = folder / f"{where}-{key}.npy", folder / f"{where}-{key}.npz"
    try:
        return load_cache(pixels_file, facts_file)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # not there, or broken
        folder.mkdir(parents=True, exist_ok=True)
        if source == "auto" and not fits_on_disk(catalogue, size, folder):
            return decoded_on_the_fly(catalogue, size, folder)
        build_cache(catalogue, size, pixels_file, facts_file)
        remove_older(folder, where, pixels_file)
    return load_cache(pixels_file, facts_file)


def fits_on_disk(catalogue: Catalogue, size: tuple[int, int], folder: Path) -> bool:
    """Whether the cache would fit; prints so when it would not."""
    needed, free = len(catalogue.images) * math.prod(size) * 3, shutil.disk_usage(folder).free
    fits = needed <= LARGEST_SHARE * free
    if not fits:
        print(f"images: a cache of {needed / 1e9:,.1f} GB would not fit in {folder}, {free / 1e9:,.1f} GB are free")
    return fits


def decoded_on_the_fly(catalogue: Catalogue, size: tuple[int, int], folder: Path) -> DecodedImages:
    """What is known about the images from their thumbnails, and pixels that are decoded when asked for."""
    known = open_images(catalogue, THUMBNAIL, folder)
    return replace(known, pixels=ImageFiles(catalogue, size, known.errors))


class ImageFiles:
    """The images of a catalogue in place of an array (N, H, W, 3) uint8, decoded whenever they are asked for.

    Args:
        catalogue: whose images they are.
        size: (height, width) in pixels.
        errors: the images that cannot be decoded, which are white.
    """

    def __init__(self, catalogue: Catalogue, size: tuple[int, int], errors: dict[int, str]) -> None:
        self.catalogue = catalogue
        self.errors = errors
        self.shape = (len(catalogue.images), *size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: np.ndarray | int) -> np.ndarray:
        """(B, H, W, 3) uint8 of the images with these numbers, or (H, W, 3) of one

        Raises:
            InputError: an image cannot be decoded that could be when the catalogue was opened.
        """
        if np.ndim(which) > 0:
            return np.stack([self[number] for number in which])
        source = self.catalogue.images[int(which)]
        pixels, _, found = read_image(source, self.shape[1:3])
        if isinstance(found, str) and int(which) not in self.errors:
            name = source if isinstance(source, Path) else f"image {which} of {self.catalogue.path}"
            raise InputError(
                f"{name}: {found}; it could be read when the catalogue was opened. Bring it back and go on"
            )
        return pixels


def load_cache(pixels_file: Path, facts_file: Path) -> DecodedImages:
    with np.load(facts_file) as kept:
        digests, facts = kept["digests"], json.loads(kept["facts"].item())
    errors = {int(image): reason for image, reason in facts["errors"].items()}
    pixels = np.load(pixels_file, mmap_mode="r")
    return DecodedImages(pixels, digests, errors, facts["remarks"])


def build_cache(catalogue: Catalogue, size: tuple[int, int], pixels_file: Path, facts_file: Path) -> None:
    """Decode every image on all cores into `pixels_file`, through temporary files."""
    digests, errors, sizes = np.zeros(len(catalogue.images), dtype=np.uint64), {}, Counter()
    shape = (len(catalogue.images), *size, 3)
    with replacing(pixels_file, math.prod(shape)) as part:
        with part.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(file, header)
            start = file.tell()
            reserve(file, start + math.prod(shape))
        to_part = partial(read_into, part, start, size)
        count = len(catalogue.images)
        with closing(on_all_cores(to_part, enumerate(catalogue.images), count)) as read:
            bar = tqdm(read, f"decoding images to {size[0]}x{size[1]}", count, unit="image")
            for number, (image_digest, found) in enumerate(bar):
                digests[number] = image_digest
                if isinstance(found, str):
                    errors[number] = found
                else:
                    sizes[found] += 1
        with replacing(facts_file) as kept:
            np.savez(kept, digests=digests, facts=json.dumps({"errors": errors, "remarks": remark_on(sizes)}))


def remark_on(sizes: Counter) -> list[str]:
    """Say which size most images have, and how many have another."""
    if not sizes:
        return []
    (height, width), count = sizes.most_common(1)[0]
    others = sizes.total() - count
    return [f"images are {height}x{width} (height x width)" + (f", {others:,} of them are not" if others else "")]


def read_into(
    file: Path, start: int, size: tuple[int, int], numbered: tuple[int, Path | bytes | None]
) -> tuple[int, tuple[int, int] | str]:
    """Write an image's pixels to its place in a file; returns the rest of what `read_image` gives."""
    number, source = numbered
    pixels, image_digest, found = read_image(source, size)
    with file.open("r+b") as opened:
        opened.seek(start + number * pixels.nbytes)
        opened.write(pixels)
    return image_digest, found


def read_image(source: Path | bytes | None, size: tuple[int, int]) -> tuple[np.ndarray, int, tuple[int, int] | str]:
    """Pixels (H, W, 3) uint8, the content's hash, and the original size or what is wrong with the image."""
    blank = np.full((*size, 3), WHITE, dtype=np.uint8)
    if source is None:
        return blank, 0, "no image bytes"
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        return blank, 0, f"unreadable file, {error.strerror}"
    image_digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
    try:
        pixels, original_size = decode(content, size)
        return pixels, image_digest, original_size
    except BROKEN_IMAGE as error:
        reason = re.sub(r" <.*| \(\d+ bytes.*", "", str(error)) or type(error).__name__
        return blank, image_digest, reason


def decode(content: bytes, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode to (H, W, 3) uint8: upright, on white, scaled to fit with its aspect ratio, padded with white.

    Also returns the original (height, width), upright.
    """
    height, width = size
    with Image.open(io.BytesIO(content)) as image:
        if image.format == "EPS":  # Pillow would let Ghostscript run it
            raise ValueError("PostScript is a program, not a picture")
        original = (image.height, image.width)
        image.draft("RGB", (2 * width, 2 * height))  # JPEG: decode at a coarser scale where that is enough
        image.load()
        refuse_unknown_white(image)
        original = original[::-1] if orientation(image) in QUARTER_TURNS else original
        image = upright(image)
        if image.mode.startswith("I;16"):  # 16 bits a pixel, which Pillow would clip at 255
            image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image)
        image = at_least_a_pixel(image.convert("RGB"), width, height)
        padded = ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC, color=WHITE)
        return np.asarray(padded), original


def refuse_unknown_white(image: Image.Image) -> None:
    """Raise a `ValueError` if the values of an image do not say what they are of."""
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, of which nobody knows what is white; save it with 8 bits a colour")


def orientation(image: Image.Image) -> object:
    """How the camera was held, a number in `UPRIGHT`, or anything else where that is not known."""
    return image.getexif().get(ExifTags.Base.Orientation)


def upright(image: Image.Image) -> Image.Image:
    """The image as it is to be seen; `ImageOps.exif_transpose` fails on odd EXIF."""
    turn = UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def at_least_a_pixel(image: Image.Image, width: int, height: int) -> Image.Image:
    """The image, made to fit where it is so narrow that some versions of Pillow would scale it to nothing."""
    if round(image.width / image.height * height) == 0:
        return image.resize((1, height), Image.Resampling.BICUBIC)
    if round(image.height / image.width * width) == 0:
        return image.resize((width, 1), Image.Resampling.BICUBIC)
    return image


def blank_batch(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """(B, 3, H, W) uint8 zeros, in memory pixel by pixel as batches of images are: a step that is compiled or recorded
    for another layout is not the one that a training takes."""
    return torch.zeros(count, *size, 3, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)


def augment(images: Tensor, flip: bool, shift: float) -> Tensor:
    """Flip half of the images left to right and shift each, the border repeated.

    No colour jitter: colours are words in the captions.

    Args:
        images: (B, 3, H, W) uint8, on any device.
        flip: whether to flip.
        shift: largest shift as a share of the height and width.

    Returns:
        (B, 3, H, W) uint8 on the same device.
    """
    count, channels, height, width = images.shape
    reach_y, reach_x = round(shift * height), round(shift * width)
    if not (flip or reach_y or reach_x):
        return images
    mirrored = move_y = move_x = torch.zeros(count, dtype=torch.int64)
    if flip:
        mirrored = (torch.rand(count) < 0.5).long()
    if reach_y or reach_x:
        move_y = torch.randint(-reach_y, reach_y + 1, (count,))
        move_x = torch.randint(-reach_x, reach_x + 1, (count,))
    # a GPU gets no more than these: all pixels' places, made on the CPU and sent, took 2 to 3 ms a step beside an H200
    mirrored, move_y, move_x = send(torch.stack([mirrored, move_y, move_x]), images.device)[:, :, None]  # (B, 1) each
    which, y, x = (torch.arange(size, device=images.device) for size in (count, height, width))
    y = (y + move_y).clamp(0, height - 1)  # (B, H), the row that each row is taken from
    x = (x + move_x).clamp(0, width - 1)
    x = torch.where(mirrored == 1, width - 1 - x, x)  # (B, W)
    pixel = (which[:, None, None] * height + y[:, :, None]) * width + x[:, None, :]  # (B, H, W), by number
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    taken = pixels.index_select(0, pixel.flatten())  # a third of the time of three indices
    return taken.view(count, height, width, channels).permute(0, 3, 1, 2)
