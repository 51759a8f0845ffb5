"""Products of a catalogue as segments of an index."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.batches import Data
from common.captions import fold
from common.columns import plain_text
from common.hashing import digest
from common.images import read_image
from common.splits import fewer_products
from search.encoder import Encoder
from search.store import ATTRIBUTE, BETWEEN, Segment

THUMBNAIL = (160, 120)
"""(height, width) in pixels"""
QUANTILE = 0.05
"""The share of validation captions that score lower with their own image than the threshold."""
CALIBRATED = 2000
"""Products of validation that are looked at."""


def digests_of(data: Data) -> dict[str, str]:
    """Product id -> a hash of its captions, attributes and images, in the order of the catalogue."""
    catalogue = data.catalogue
    rows = plain_text(catalogue.rows)
    columns = ["caption", *catalogue.attributes]
    contents = data.images.digests[rows["image"]].tolist()
    found: dict[str, list] = {}
    for product, content, *row in zip(rows["product"], contents, *(rows[name] for name in columns), strict=True):
        found.setdefault(product, [columns]).append([content, *row])
    # of several rows, older indexes kept the first one's values: by another hash they are brought up to date
    return {product: digest(lines if len(lines) == 2 else [*lines, "all"]) for product, lines in found.items()}


def segment_of(rows: pd.DataFrame, data: Data, encoder: Encoder, digests: dict[str, str]) -> Segment:
    """The products of some rows, embedded."""
    catalogue, rows = data.catalogue, plain_text(rows)
    first = rows.drop_duplicates("product")
    products = pd.DataFrame({
        "id": first["product"], "title": first["caption"], "digest": first["product"].map(digests),
        **{ATTRIBUTE + name: all_values(rows, name).to_numpy() for name in catalogue.attributes},
    })  # fmt: skip
    images = rows.drop_duplicates(["product", "image"])[["product", "image"]]
    texts = rows[~pd.DataFrame({"of": rows["product"], "text": rows["caption"].map(fold)}).duplicated()]
    pictures = [thumbnail(catalogue.images[image]) for image in images["image"]]
    return Segment(
        products,
        images[["product"]].assign(thumbnail=pictures),
        texts[["product", "caption"]],
        encoder.images(data.images.pixels, images["image"].to_numpy()),
        encoder.texts(texts["caption"].tolist()),
    )


def all_values(rows: pd.DataFrame, attribute: str) -> pd.Series:
    """(P,) the distinct values that the rows of each product have, as a segment keeps them."""
    distinct = rows.drop_duplicates(["product", attribute])
    return distinct.groupby("product", sort=False)[attribute].agg(BETWEEN.join)


def thumbnail(source: Path | bytes | None) -> bytes:
    """A small JPEG of an image."""
    file = io.BytesIO()
    Image.fromarray(read_image(source, THUMBNAIL)[0]).save(file, "JPEG", quality=85)
    return file.getvalue()


def threshold_of(data: Data, encoder: Encoder) -> float | None:
    """The cosine that 95% of the validation captions reach with their own image; None where there is no validation."""
    rows = data.rows("val")
    if rows.empty:
        return None
    rows = fewer_products(rows, CALIBRATED)
    text_emb = encoder.texts(rows["caption"].tolist())
    image_emb = encoder.images(data.images.pixels, rows["image"].to_numpy())
    threshold = float(np.quantile((text_emb * image_emb).sum(axis=1), QUANTILE))
    print(
        f"threshold: {1 - QUANTILE:.0%} of {len(rows):,} pairs of validation have a cosine of {threshold:.3f} or more"
    )
    return threshold
