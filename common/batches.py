"""From a catalogue to training batches and retrieval galleries."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common.captions import Tokenizer, fold
from common.catalogue import REPEATED, UNREAD, Catalogue, open_catalogue, repeated
from common.columns import TEXT, Part, distinct, first_equal, hashes, mapped
from common.devices import send
from common.errors import InputError
from common.formats.source import NamedImages
from common.images import DecodedImages, ImageFiles, open_images
from common.near_duplicates import photographs
from common.options import CatalogueOptions
from common.processes import own_part
from common.splits import Splits, split_catalogue

NO_LABEL = -100
"""The label that torch's cross entropy leaves out."""

Images = np.ndarray | Tensor | ImageFiles
"""All images (N, H, W, 3) uint8, or their features (N, F) float32, wherever they are."""


@dataclass(frozen=True)
class Data:
    """A catalogue with its decoded images and its splits."""

    catalogue: Catalogue
    images: DecodedImages
    splits: Splits

    def rows(self, split: str) -> pd.DataFrame:
        """The catalogue's rows of a split, and the name of the `group` of each, its first product id."""
        which = self.splits.rows(split)
        names = self.catalogue.rows["product"].array.take(self.splits.group[which])
        return self.catalogue.rows.iloc[which].assign(group=names)

    def captions(self, split: str) -> Part:
        """The captions of a split's rows."""
        return Part(self.catalogue.rows["caption"], self.splits.rows(split))

    def pairs(self, split: str, tokenizer: Tokenizer, label_column: str = "") -> "Pairs":
        """The (image, caption) pairs of a split; see `Pairs`."""
        return Pairs(self.catalogue.rows, self.splits.rows(split), self.images.pixels, tokenizer, label_column)


def load_data(options: CatalogueOptions, image_size: tuple[int, int], sample: Callable[[], Path]) -> Data:
    """Open the catalogue, decode its images, split it, and print what was found.

    Args:
        options: which catalogue.
        image_size: (height, width) in pixels.
        sample: makes the sample catalogue, which is opened when the options name none.

    Raises:
        InputError: the catalogue cannot be used, or some row cannot and `strict` is set.
    """
    path = options.data or sample()
    print(f"catalogue: {path}")
    columns = (options.image_column, options.caption_column, options.id_column)
    catalogue = open_catalogue(path, *columns, options.image_root, options.strict, options.caption)
    images = open_images(catalogue, image_size, source=options.images_from)
    errors = pd.Series(images.errors, dtype="object")
    for reason, broken in errors.groupby(errors):
        catalogue = catalogue.without(catalogue.rows["image"].isin(broken.index), f"image cannot be decoded: {reason}")
    catalogue = merge_equal_images(named_by_content(catalogue, images), images)
    if options.strict:
        catalogue.report.refuse_unusable(catalogue.path)
    if catalogue.rows.empty:
        message = f"{catalogue.path}: an empty catalogue, none of its images can be decoded"
        raise InputError("\n  ".join([message, *catalogue.report.lines()]))
    splits = split_catalogue(catalogue.rows, photographs(catalogue, images))
    for line in [*catalogue.report.lines(), *images.remarks, size_line(catalogue), *splits.report]:
        print(f"  {line}")
    return Data(catalogue, images, splits)


def named_by_content(catalogue: Catalogue, images: DecodedImages) -> Catalogue:
    """Call products that have neither an id nor an image file by what their image holds, wherever their rows stand."""
    if isinstance(catalogue.images, NamedImages):
        return catalogue
    rows = catalogue.rows
    nameless = rows["product"] == UNREAD + rows["image"].astype(TEXT)
    if not nameless.any():
        return catalogue
    content = pd.Series(images.digests[rows.loc[nameless, "image"]], rows.index[nameless])
    named = rows["product"].mask(nameless, mapped(content, "image {:016x}".format))
    return replace(catalogue, rows=rows.assign(product=named))


def merge_equal_images(catalogue: Catalogue, images: DecodedImages) -> Catalogue:
    """Let a product have each photograph once, however many rows or files repeat it."""
    rows = catalogue.rows
    image = rows["image"].to_numpy()
    catalogue = replace(catalogue, rows=rows.assign(image=image[first_equal(rows["product"], images.digests[image])]))
    return catalogue.without(repeated(catalogue.rows), REPEATED)


def size_line(catalogue: Catalogue) -> str:
    rows = catalogue.rows
    products, captions = (distinct(first_equal(of)) for of in (rows["product"], hashes(rows["caption"], fold)))
    return (
        f"{products:,} products, {rows['image'].nunique():,} images, "
        f"{captions:,} distinct captions, {len(rows):,} pairs of the two"
    )


@dataclass(frozen=True)
class Texts:
    """Captions, ready to be encoded.

    Attributes:
        tokens: (M, L) int32 padded with 0, or the captions' features (M, G) float32; a tensor where `place` put them.
        lengths: (M,) int64, of the tokens.
    """

    tokens: np.ndarray | Tensor
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def subset(self, which: np.ndarray) -> "Texts":
        """The captions with these numbers."""
        return Texts(self.tokens[which], self.lengths[which])

    def batch(self, which: np.ndarray) -> tuple[Tensor, Tensor]:
        """The tokens (B, L) int64 or features (B, G), and the lengths (B,) int64."""
        lengths = torch.from_numpy(self.lengths[which])
        tokens = pick(self.tokens, which)
        if not tokens.is_floating_point():
            tokens = tokens[:, : int(lengths.max())].long()
        return tokens, lengths


@dataclass(frozen=True)
class Batch:
    """Pairs of an image and a caption.

    Of several processes each holds the images and captions of b = B / processes pairs; what is known without
    encoding is there for the whole batch.

    Attributes:
        images: (b, 3, H, W) uint8, or the images' features (b, F) float32.
        tokens: (b, L) int64, or the captions' features (b, G) float32.
        lengths: (b,) int64, on the CPU.
        same: (3, B) integers, equal where two pairs are of the same product, have the same caption, or show the same
            image: one that the catalogue names twice, not two files with one content.
        labels: (B,) int64 identity labels, `NO_LABEL` where a product has none.
        pairs: (B,) their numbers in the training split.
        epoch: how many epochs were finished before.
    """

    images: Tensor
    tokens: Tensor
    lengths: Tensor
    same: Tensor
    labels: Tensor
    pairs: np.ndarray
    epoch: int = 0

    @property
    def positives(self) -> Tensor:
        """(B, B) bool, image i and text j belong together: the product, the caption or the image itself is the same."""
        product, caption, image = self.same[:, :, None] == self.same[:, None]  # (B, B) each
        return product | caption | image

    def pin_memory(self) -> "Batch":
        """A copy that a GPU can fetch by itself."""
        return self.with_tensors(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device, non_blocking: bool = True) -> "Batch":
        """The batch on a device, except for the lengths; like a tensor's, but that it never waits for a GPU."""
        return self.with_tensors(lambda tensor: send(tensor, device))

    def with_tensors(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with what belongs on the device changed."""
        names = ("images", "tokens", "same", "labels")
        return replace(self, **{name: change(getattr(self, name)) for name in names})

    def split(self, parts: int) -> list["Batch"]:
        """The images and captions in equal parts, in order."""
        pieces = (self.images.chunk(parts), self.tokens.chunk(parts), self.lengths.chunk(parts))
        return [
            replace(self, images=images, tokens=tokens, lengths=lengths)
            for images, tokens, lengths in zip(*pieces, strict=True)
        ]


class Pairs:
    """The (image, caption) pairs of some rows, ready to be batched.

    Args:
        rows: of a catalogue, a large one; no copy of their texts is kept.
        which: (P,) the numbers of the rows that are pairs.
        images: (N, H, W, 3) uint8, all decoded images.
        tokenizer: encodes the captions, once.
        label_column: attribute whose values are the identity labels, or "product"; "" for none.

    Raises:
        InputError: the label column is empty in all rows, or has one value.
    """

    def __init__(
        self, rows: pd.DataFrame, which: np.ndarray, images: Images, tokenizer: Tokenizer, label_column: str = ""
    ) -> None:
        self.images = images
        self.image = rows["image"].to_numpy()[which]
        self.products, self.captions = (Part(rows[name], which) for name in ("product", "caption"))
        self.product = first_equal(self.products.series())
        self.caption = first_equal(hashes(self.captions.series(), fold))
        self.texts = Texts(*tokenizer(iter(self.captions)))
        self.labels = np.broadcast_to(np.int64(NO_LABEL), len(which))
        self.classes: list[str] = []
        if label_column:
            self.labels, self.classes = identity_labels(Part(rows[label_column], which).series())

    def __len__(self) -> int:
        return len(self.image)

    def distinct_products(self) -> Part:
        """The id of each product, once."""
        first = self.product == np.arange(len(self))
        return Part(self.products.column, self.products.which[first])

    def with_inputs(self, images: Images | None = None, texts: Texts | None = None) -> "Pairs":
        """The same pairs with other images, or other captions: elsewhere, or as features."""
        pairs = copy.copy(self)
        pairs.images = self.images if images is None else images
        pairs.texts = self.texts if texts is None else texts
        return pairs

    def batch(self, which: np.ndarray, epoch: int = 0) -> Batch:
        """The batch of the pairs with these numbers, this process's part of the images and captions.

        Args:
            which: (B,) the numbers.
            epoch: how many epochs were finished before.
        """
        own = own_part(which)
        tokens, lengths = self.texts.batch(own)
        return Batch(
            images=take(self.images, self.image[own]),
            tokens=tokens,
            lengths=lengths,
            same=torch.from_numpy(np.stack([self.product[which], self.caption[which], self.image[which]])),
            labels=torch.from_numpy(self.labels[which]),
            pairs=which,
            epoch=epoch,
        )


def identity_labels(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Class numbers 0..C-1 of an attribute's values, `NO_LABEL` where it is empty, and the values."""
    numbers, classes = pd.factorize(column.astype(TEXT).replace("", None), sort=True)
    if len(classes) < 2:
        raise InputError(
            f"--cmpc-column {column.name}: {len(classes)} different values in the train split; a classifier needs two"
        )
    return np.where(numbers < 0, NO_LABEL, numbers), list(classes)


def pick(rows: Images, which: np.ndarray) -> Tensor:
    """The rows with these numbers, where they are."""
    if isinstance(rows, Tensor):
        return rows[send(torch.tensor(which), rows.device)]
    return torch.from_numpy(rows[which])


def take(images: Images, which: np.ndarray) -> Tensor:
    """(B, 3, H, W) uint8 of images (N, H, W, 3), or (B, F) of features (N, F), where they are."""
    taken = pick(images, which)
    return taken if taken.is_floating_point() else taken.permute(0, 3, 1, 2)
