"""Images that are undecodable, too small or blank."""

import io

import numpy as np
import pandas as pd
from PIL import ExifTags, Image
from tqdm import tqdm

from common.catalogue import Catalogue
from common.formats.source import NamedImages
from common.images import BROKEN_IMAGE, DecodedImages
from data.findings import MOST_CASES, Case, Finding

BLANK_DEVIATION = 3.0
"""An image whose colour channels all deviate less (standard deviation, of 255) is nearly of one colour."""
ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""
SECTION = "Images"


def image_findings(catalogue: Catalogue, images: DecodedImages, smallest_side: int) -> dict[str, Finding]:
    """Images that are undecodable, too small or blank.

    Args:
        images: the catalogue's images, decoded at any size.
        smallest_side: pixels; an image whose shorter side has fewer is too small.
    """
    rows = catalogue.rows
    row_of = rows.assign(row=range(len(rows))).groupby("image")["row"].first()
    sizes = {image: size for image, size in original_sizes(catalogue).items() if image in row_of.index}
    small = [(min(size), image) for image, size in sizes.items() if min(size) < smallest_side]
    spread = {image: deviation(images.pixels[image], size) for image, size in sizes.items()}
    blank = [(value, image) for image, value in spread.items() if value < BLANK_DEVIATION]
    small_cases = [
        Case("{} x {} pixels (height x width)".format(*sizes[i]), [int(row_of[i])]) for _, i in sorted(small)
    ]
    blank_cases = [Case(f"standard deviation {value:.1f}", [int(row_of[i])]) for value, i in sorted(blank)]
    broken = [Case(f"{image_name(catalogue, image)}: {reason}") for image, reason in images.errors.items()]
    common = pd.Series([f"{height}x{width}" for height, width in sizes.values()]).value_counts()
    return {
        "undecodable": Finding(
            SECTION, "images that cannot be decoded", len(broken),
            "Their rows are left out. Fetch the images again.", broken[:MOST_CASES],
        ),
        "too_small": Finding(
            SECTION, f"images whose shorter side is below {smallest_side} pixels", len(small),
            "Often an icon or a preview in place of the photograph. Fetch the full image or leave the row out.",
            small_cases[:MOST_CASES], {"sizes": {size: int(count) for size, count in common.head(5).items()}},
        ),
        "blank": Finding(
            SECTION, "images that are nearly of one colour", len(blank),
            "A placeholder, or a faint picture: look at the page, leave the placeholders out.",
            blank_cases[:MOST_CASES],
        ),
    }  # fmt: skip


def original_sizes(catalogue: Catalogue) -> dict[int, tuple[int, int]]:
    """Image number -> its upright (height, width) in pixels; images without a readable header are left out."""
    sizes = {}
    sources = tqdm(catalogue.images, "measuring images", unit="image")
    for number, source in enumerate(sources):
        if source is None:
            continue
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                width, height = image.size
                if image.getexif().get(ExifTags.Base.Orientation) in ON_ITS_SIDE:
                    width, height = height, width
            sizes[number] = (height, width)
        except BROKEN_IMAGE:
            pass  # reported as undecodable
    return sizes


def deviation(pixels: np.ndarray, original: tuple[int, int]) -> float:
    """The largest standard deviation of a colour channel, without the white that an image was padded with.

    Args:
        pixels: (H, W, 3) uint8, decoded with the aspect ratio kept, in the middle.
        original: height and width of the image.
    """
    height, width = pixels.shape[:2]
    scale = min(height / original[0], width / original[1])
    inside_height, inside_width = (max(1, round(side * scale)) for side in original)
    top, left = round((height - inside_height) / 2), round((width - inside_width) / 2)
    inside = pixels[top : top + inside_height, left : left + inside_width]
    return float(inside.std(axis=(0, 1)).max())


def image_name(catalogue: Catalogue, image: int) -> str:
    return catalogue.images[image].name if isinstance(catalogue.images, NamedImages) else f"image of row {image}"
