"""Which catalogue a script of this folder looks at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from common.errors import InputError
from common.options import CatalogueOptions


@dataclass(frozen=True)
class Choice:
    """The catalogue and its columns."""

    catalogue: tyro.conf.Positional[Path | None] = None
    """A table (.csv, .tsv, .jsonl), a .parquet file or a folder in one of the layouts of data/README.md
    (None: the sample catalogue)."""
    image_column: str | None = None
    """Column of a table with the image's path (None: guessed from common names)."""
    caption_column: str | None = None
    """Column of a table with the caption (None: guessed from common names)."""
    id_column: str | None = None
    """Column of a table with the product's id (None: guessed; without one each image is a product)."""
    image_root: Path | None = None
    """Folder that the image paths of a table are relative to (None: the table's own folder)."""
    caption: Literal["title", "description", "both"] | None = None
    """What the Kaggle layout gives as captions; descriptions stand in styles/<id>.json (None: the title)."""

    def options(self) -> CatalogueOptions:
        """The same as what a training or an evaluation would be given.

        Raises:
            InputError: nothing is there.
        """
        from data.sample import make_sample

        path = (self.catalogue or make_sample()).expanduser().resolve()
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; give the path of a catalogue")
        return CatalogueOptions(
            path, self.image_column, self.caption_column, self.id_column, self.image_root, self.caption
        )
