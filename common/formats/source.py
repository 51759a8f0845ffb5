"""What every reader returns: a table of strings, where its rows stand, and how to get the images."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pandas as pd

from common.columns import TEXT, each
from common.containment import is_file


class StoredImages(Protocol):
    """Images that are no files of their own: the bytes of each as of an image file, None where it is missing.

    Attributes:
        files: that they stand in.
        column: of those files that they stand in, where there may be several of images.
    """

    files: Sequence[Path]
    column: str

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes | None]: ...

    def __getitem__(self, number: int) -> bytes | None: ...


@dataclass(frozen=True)
class NamedImages(Sequence[Path]):
    """Images that are files, as the names of all in Arrow's layout; a path is made when it is asked for.

    Attributes:
        folder: that the names are relative to.
        names: `TEXT`.
        files: that they stand in, each in its own.
        column: the same for all, whatever column named them.
    """

    folder: Path
    names: pd.Series
    column: str = "image"

    @property
    def files(self) -> Sequence[Path]:
        return self

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Path]:
        return (file_of(self.folder, name) for name in each(self.names))

    def __getitem__(self, number: int) -> Path:
        return file_of(self.folder, self.names.iloc[number])


def file_of(folder: Path, name: str) -> Path:
    """The file of a name in a folder; "img\\1.jpg", as Windows writes it, is the file of "img/1.jpg" everywhere."""
    file = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not is_file(file) else file


def whole_numbers(column: pd.Series) -> pd.Series:
    """A column of texts without the ".0" of its values, if each that is there is a whole number with it: so are ids
    and years written beside missing ones."""
    if column.dtype != TEXT:
        return column
    first = next((value for value in each(column) if isinstance(value, str) and value), "")
    if not first.endswith(".0"):  # which tells of most columns
        return column
    known = column[column.notna() & (column != "")]
    return column.str.removesuffix(".0") if known.str.fullmatch(r"-?[0-9]+\.0").all() else column


class Lines(Sequence[str]):
    """Where rows stand in a file, "line 7", of which the numbers alone are kept."""

    def __init__(self) -> None:
        self.numbers = array("i")

    def append(self, number: int) -> None:
        self.numbers.append(number)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> str:
        return f"line {self.numbers[number]}"


@dataclass
class Source:
    """A catalogue as it was found, before anything is checked.

    `frame` holds one (image, caption) pair a row, all values strings, lists of strings or missing. Images are files
    (`image_folder` and the image column) unless `images` is set: then the image of row i is its i-th.
    """

    path: Path
    frame: pd.DataFrame
    places: Sequence[str]
    """Where each row stands, in words."""
    image_folder: Path | None = None
    unusable: list[tuple[str, str]] = field(default_factory=list)
    """(reason, line) of the rows that the reader could not read."""
    found: list[str] = field(default_factory=list)
    """What was found out about the format, for the report."""
    columns: dict[str, str] = field(default_factory=dict)
    """The image, caption and id columns, where the format fixes them."""
    images: StoredImages | None = None
