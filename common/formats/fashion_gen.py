"""Fashion-Gen: `fashiongen_256_256_train.h5` and `fashiongen_256_256_validation.h5`, images and texts in one file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from common.errors import InputError
from common.formats.source import Source

IMAGE, ID = "input_image", "input_productID"
TEXTS = ("input_description", "input_name", "input_category", "input_subcategory")
ROWS_AT_ONCE = 1024


def files_in(path: Path) -> list[Path]:
    """The HDF5 files at a path, in the order of their names."""
    if path.is_dir():
        return sorted(path.glob("fashiongen_*.h5"))
    return [path] if path.suffix.lower() in (".h5", ".hdf5") and path.is_file() else []


def matches(path: Path) -> bool:
    return bool(files_in(path))


def read(path: Path) -> Source:
    """Read the texts. A product has several images and one caption, its description.

    `partition` is the data set's own, after the file's name; our splits do not follow it.

    Raises:
        InputError: a file cannot be read, or lacks a data set.
    """
    files, parts, places = files_in(path), [], []
    for file in files:
        with open_checked(file) as content:
            columns = {name.removeprefix("input_"): texts(content[name]) for name in TEXTS}
            columns["productID"] = content[ID][:].reshape(-1).astype(str)
        partition = file.stem.rsplit("_", 1)[-1]
        parts.append(pd.DataFrame(columns | {"partition": partition}, dtype=str))
        places += [f"{file.name}, row {number}" for number in range(len(parts[-1]))]
    frame = pd.concat(parts, ignore_index=True)
    columns = {"image": IMAGE, "caption": "description", "id": "productID"}
    found = [f"Fashion-Gen, {len(files)} file{'s' * (len(files) > 1)}"]
    return Source(path, frame, places, found=found, columns=columns, images=StackedImages(files, len(places)))


def open_checked(file: Path) -> h5py.File:
    try:
        content = h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{file}: not a readable HDF5 file ({error})") from None
    if found := difference(content):
        content.close()
        raise InputError(f"{file}: {found}; expected the data sets of Fashion-Gen")
    return content


def difference(content: h5py.File) -> str:
    """What is not as in Fashion-Gen, or ""."""
    names = (IMAGE, ID, *TEXTS)
    if elsewhere := [name for name in names if isinstance(content.get(name, getlink=True), h5py.ExternalLink)]:
        return f"{', '.join(elsewhere)} is a link to another file"
    if missing := [name for name in names if not isinstance(content.get(name), h5py.Dataset)]:
        return f"no {', '.join(missing)}"
    shapes = {name: content[name].shape for name in names}
    image, counts = content[IMAGE], {name: shape[0] if shape else 0 for name, shape in shapes.items()}
    if image.ndim != 4 or image.shape[-1] != 3 or image.dtype != np.uint8:
        return f"{IMAGE} is {image.shape} {image.dtype} instead of (N, height, width, 3) uint8"
    if len(set(counts.values())) > 1:
        return f"data sets of different lengths, {counts}"
    for name in (ID, *TEXTS):
        if content[name].size != counts[name] or content[name].external:
            return f"{name} is {content[name].shape} instead of (N, 1)"
        if name != ID and content[name].dtype.kind not in "SO":
            return f"{name} holds {content[name].dtype} instead of bytes"
    return f"{IMAGE} lies in another file" if image.external else ""


def texts(data_set: h5py.Dataset) -> list[str]:
    """Texts (N, 1) of bytes in latin-1, or in UTF-8 where they can be read as such."""
    starts = range(0, len(data_set), ROWS_AT_ONCE)
    pieces = (data_set[start : start + ROWS_AT_ONCE].reshape(-1) for start in starts)
    return [decoded(text) for piece in pieces for text in piece]


def decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


@dataclass(frozen=True)
class StackedImages:
    """Images (N, H, W, 3) uint8 of all files, each as the bytes of a portable pixmap: a header and the pixels.

    Attributes:
        rows: of all files, N.
    """

    files: list[Path]
    rows: int
    column: str = IMAGE

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[bytes]:
        for file in self.files:
            with h5py.File(file, "r") as content:
                for start in range(0, len(content[IMAGE]), ROWS_AT_ONCE):
                    yield from map(pixmap, content[IMAGE][start : start + ROWS_AT_ONCE])

    def __getitem__(self, number: int) -> bytes:
        for file in self.files:
            images = open_in_process(file, os.getpid())[IMAGE]
            if number < len(images):
                return pixmap(images[number])
            number -= len(images)
        raise IndexError("there are fewer images")


@lru_cache(maxsize=64)
def open_in_process(file: Path, _process: int) -> h5py.File:
    """The file, opened once a process: a forked worker must not share its parent's."""
    return h5py.File(file, "r")


def pixmap(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
