"""What every reader returns: a table of strings, where its rows stand, and how to get the images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass
class Source:
    """A catalogue as it was found, before anything is checked.

    `frame` holds one (image, caption) pair a row, all values strings or missing. Images are files
    (`image_folder` and the image column) unless `shards` is set: then the image of row i is the i-th
    that `parquet.read_images(shards)` yields.
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
    shards: list[Path] = field(default_factory=list)
