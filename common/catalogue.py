"""A catalogue: products, their images, captions and attributes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from common.account import Report, rows
from common.captions import fold
from common.columns import (
    TEXT,
    categories,
    first_equal,
    first_named,
    free_name,
    give_back_freed_memory,
    hashes,
    mapped,
    pieces,
    squeeze,
    without_lists,
)
from common.containment import inside, is_file
from common.contradictions import contradictions
from common.errors import InputError
from common.formats import deepfashion, fashion_gen, folder, hm, kaggle, parquet, table
from common.formats.source import NamedImages, Source, StoredImages, whole_numbers
from common.hashing import hashed, json_list

FORMATS = (kaggle, hm, deepfashion, fashion_gen, parquet, table, folder)
COMMON_NAMES = {
    "image": ("image", "image_path", "image_file", "image_name", "img", "filename", "file_name", "file", "path"),
    "caption": ("caption", "text", "title", "productDisplayName", "description", "product_name", "name"),
    "id": ("id", "product_id", "item_ID", "item_id", "product", "sku", "article_id"),
}  # fmt: skip
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
UNREAD = "stored image "
"""Begins the product ids of images without one that are no files, until they are read (`batches.named_by_content`)."""
OUR_NAMES = ("product", "image", "caption", "place", "group")
REPEATED = "the same product, image and caption as an earlier row"


@dataclass(frozen=True)
class Catalogue:
    """Products with images and captions.

    Attributes:
        path: where it was opened.
        rows: one (image, caption) pair a row, with the columns `product` (str), `image` (int, an
            index into the images), `caption` (str), `place` (int, an index into the places), and one
            column an attribute (str, "" where missing; categorical unless most values differ).
        places: where the rows stand in the file, in words.
        attributes: names of the attribute columns.
        fingerprint: changes when an id, a caption, an attribute, the column of images or the name or size of one does.
        images: the file of each image, or the bytes where it is no file of its own (None where it is missing).
        report: what was found, and what was left out for which reason.
    """

    path: Path
    rows: pd.DataFrame
    places: Sequence[str]
    attributes: list[str]
    fingerprint: str
    images: NamedImages | StoredImages
    report: Report

    def image_state(self) -> str:
        """A hash of the names, sizes and times of the image files, and of the images' column: it changes when an image
        may have."""
        states = ((str(file), file.stat()) for file in self.images.files)
        of_files = ((name, state.st_size, state.st_mtime_ns) for name, state in states)
        return hashed(json_list(chain([self.images.column], of_files)))

    def without(self, unusable: pd.Series, reason: str) -> "Catalogue":
        """The catalogue without the rows of a boolean mask, which are reported under `reason`."""
        if not unusable.any():
            return self
        self.report.unusable[reason] += [self.places[place] for place in self.rows.loc[unusable, "place"]]
        return replace(self, rows=self.rows[~unusable].reset_index(drop=True))


def open_catalogue(
    path: Path,
    image_column: str | None = None,
    caption_column: str | None = None,
    id_column: str | None = None,
    image_root: Path | None = None,
    strict: bool = False,
    caption: str | None = None,
) -> Catalogue:
    """Open a table, a folder of images with their texts, or a public data set in its own layout (`FORMATS`).

    Nothing is decoded here: images that turn out to be unreadable are reported when the cache of
    decoded images is built (`images.open_images`).

    Raises:
        InputError: the path does not exist or is no catalogue, a column cannot be found, no row
            can be used, or `strict` is set and some row cannot be used.
    """
    path = Path(path).expanduser().resolve()
    source = read_source(path, caption, image_column)
    chosen = choose_columns(source, {"image": image_column, "caption": caption_column, "id": id_column})
    report = Report(list(source.found))
    for reason, place in source.unusable:
        report.unusable[reason].append(place)
    report.found.append("columns: " + ", ".join(f"{what} = {name or '(none)'}" for what, name in chosen.items()))

    table_rows, attributes = tidy(source, chosen)
    catalogue = Catalogue(path, table_rows, source.places, attributes, "", source.images, report)
    del table_rows
    catalogue = catalogue.without(catalogue.rows["caption"] == "", "no caption")
    folder = Path(image_root).expanduser() if image_root else source.image_folder
    if folder and not image_root and not inside(path if path.is_dir() else path.parent)(folder):
        raise InputError(
            f"{folder}: a link out of the catalogue; if its images may be read, say so: --image-root {folder.resolve()}"
        )
    if source.images is None:
        catalogue = link_images(catalogue, folder)
    catalogue = catalogue.without(repeated(catalogue.rows), REPEATED)
    if strict:
        report.refuse_unusable(path)
    if catalogue.rows.empty:
        raise InputError("\n  ".join([f"{path}: an empty catalogue, no row can be used", *report.lines()]))
    remark_on_defects(catalogue)
    return replace(catalogue, fingerprint=fingerprint(catalogue))


def read_source(path: Path, caption: str | None, image_column: str | None) -> Source:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give --data the path of a catalogue")
    reader = next((reader for reader in FORMATS if reader.matches(path)), None)
    if reader is kaggle:
        return kaggle.read(path, caption or "title")
    if caption is not None:
        raise InputError(
            f"{path}: --caption {caption} is for the Kaggle layout (styles.csv); use --caption-column NAME"
        )
    if reader is None and path.suffix.lower() in (".xlsx", ".xls"):
        raise InputError(f"{path}: an Excel workbook; save it as CSV (UTF-8)")
    if reader is None and path.name.lower().endswith(ARCHIVES):
        raise InputError(f"{path}: an archive; unpack it first: python data/prepare.py unpack {path} --output FOLDER")
    if reader is None:
        raise InputError(
            f"{path}: not a catalogue; expected a folder with styles.csv and images/, a .parquet file or a "
            "folder of them, a .csv, .tsv or .jsonl table with an image and a caption column, a folder of images with "
            "a .txt beside each, or the layout of H&M, DeepFashion or Fashion-Gen (data/README.md)"
        )
    return parquet.read(path, image_column) if reader is parquet else reader.read(path)


def choose_columns(source: Source, asked_for: dict[str, str | None]) -> dict[str, str | None]:
    """The image, caption and id column: the one asked for, else the format's, else a common name."""
    names, chosen = list(source.frame.columns), {}
    for what, name in asked_for.items():
        if name is not None and name not in names and name != source.columns.get(what):
            raise InputError(f"{source.path}: no column '{name}' (--{what}-column); its columns are {names}")
        if what == "image" and source.images is not None and name not in (None, source.columns["image"]):
            raise InputError(f"{source.path}: its images stand in '{source.columns['image']}', "
                             f"not in '{name}'; leave out --image-column")  # fmt: skip
        chosen[what] = name or source.columns.get(what) or first_named(names, COMMON_NAMES[what])
        if chosen[what] is None and what != "id":
            message = f"{source.path}: no {what} column found among {names}; name it with --{what}-column NAME"
            raise InputError("\n  ".join([message, *source.found]))
    return chosen


def tidy(source: Source, chosen: dict[str, str | None]) -> tuple[pd.DataFrame, list[str]]:
    """Rows with the columns product, image (still as found), caption, place and the attributes.

    A list of images or captions becomes a row for each. The columns are taken out of the source one by one: a large
    catalogue is not in memory twice.
    """
    frame = without_lists(source.frame.reset_index(drop=True), (chosen["image"], chosen["caption"]))
    found_at, count = frame.index.to_numpy(np.int32), len(frame)
    source.frame, frame = None, frame.reset_index(drop=True)
    attributes = {}
    for name in [name for name in frame.columns if name not in chosen.values()]:
        column = categories(whole_numbers(frame.pop(name)))
        if (column != "").any():  # it may bear one of our own names
            taken = {*OUR_NAMES, *frame.columns, *attributes}
            attributes[free_name(f"{name} (attribute)", taken) if name in OUR_NAMES else name] = column
    result = {"product": pd.Series("", range(count), TEXT), "image": pd.Series(found_at)}
    # the name of a file may hold two spaces
    changes = {"product": ("id", squeeze), "image": ("image", str.strip), "caption": ("caption", squeeze)}
    left = dict(chosen)
    for column, (what, change) in changes.items():
        name = left.pop(what)
        if name in frame:  # images may be stored, and there may be no id
            values = frame[name] if name in left.values() else frame.pop(name)
            result[column] = mapped(whole_numbers(values) if what == "id" else values, change, "")
    result["place"] = pd.Series(found_at)
    result = pd.DataFrame(result | attributes, copy=False)
    # without an id every image is a product of its own
    nameless = result["product"] == ""
    if nameless.any():
        kind = "image " if source.images is None else UNREAD
        result.loc[nameless, "product"] = kind + result.loc[nameless, "image"].astype(TEXT)
    return result, list(attributes)


def link_images(catalogue: Catalogue, folder: Path) -> Catalogue:
    """Replace the file names in `rows["image"]` by indices into the distinct files that exist."""
    catalogue = catalogue.without(catalogue.rows["image"] == "", "no image named")
    is_url = catalogue.rows["image"].str.match(r"https?://", case=False)
    catalogue = catalogue.without(is_url.astype(bool), "the image is a URL; data/prepare.py urls downloads it")
    catalogue, files = numbered(catalogue, folder)
    is_inside = inside(folder)
    outside = np.fromiter((not is_inside(file) for file in files), bool, len(files))
    if len(files) and outside.all():
        raise InputError(
            f"{catalogue.path}: all of its images lie outside {folder}, the first is {files[0]}; "
            "if they may be read, name the folder that holds them with --image-root DIR"
        )
    why = f"the image lies outside {folder}; --image-root DIR names another folder"
    catalogue, files = only(~outside, catalogue, files, why)
    missing = np.fromiter((not is_file(file) for file in files), bool, len(files))
    if len(files) and missing.all():
        raise InputError(
            f"{catalogue.path}: none of its images exists (looked for {len(files)}); the first would be {files[0]}. "
            "Image paths are relative to the table; name another folder with --image-root DIR"
        )
    catalogue, files = only(~missing, catalogue, files, "the image file does not exist")
    give_back_freed_memory()
    return replace(catalogue, images=files)


def numbered(catalogue: Catalogue, folder: Path) -> tuple[Catalogue, NamedImages]:
    """The catalogue with numbers of its distinct images in place of their names, and the images."""
    names = catalogue.rows["image"]
    same = first_equal(names)
    first = same == np.arange(len(same))
    numbers = np.cumsum(first, dtype=np.int32) - 1
    rows = catalogue.rows.assign(image=numbers[same])
    return replace(catalogue, rows=rows), NamedImages(folder, names[first].reset_index(drop=True))


def only(kept: np.ndarray, catalogue: Catalogue, files: NamedImages, reason: str) -> tuple[Catalogue, NamedImages]:
    """The catalogue and its images (N,) without those that are not kept; their rows are reported under `reason`."""
    catalogue = catalogue.without(~pd.Series(kept[catalogue.rows["image"]]), reason)
    numbers = np.cumsum(kept, dtype=np.int32) - 1
    rows = catalogue.rows.assign(image=numbers[catalogue.rows["image"]])
    return replace(catalogue, rows=rows), NamedImages(files.folder, files.names[kept].reset_index(drop=True))


def repeated(table_rows: pd.DataFrame) -> np.ndarray:
    """(N,) bool, whether an earlier row has the same product, image and caption."""
    same = first_equal(*(table_rows[name] for name in ("product", "image", "caption")))
    return same != np.arange(len(same))


def remark_on_defects(catalogue: Catalogue) -> None:
    """Report what may surprise in rows that are kept."""
    table_rows, remarks = catalogue.rows, []
    shared = first_equal(hashes(table_rows["caption"], fold))
    product = first_equal(table_rows["product"])
    by_several = np.zeros(len(table_rows), dtype=bool)
    by_several[shared[product != product[shared]]] = True  # at the first row of each caption
    remarks.append((int(by_several[shared].sum()), "share their caption with another product"))
    del shared, product
    for name in catalogue.attributes:
        remarks.append((int((table_rows[name] == "").sum()), f"without a value for '{name}'"))
        if "colo" in name.lower():
            contradicted = sum(map(bool, contradictions(table_rows["caption"], table_rows[name])))
            remarks.append((contradicted, f"whose caption names another '{name}' only"))
    catalogue.report.found += [f"kept {rows(count)} {what}" for count, what in remarks if count]


def fingerprint(catalogue: Catalogue) -> str:
    """A hash of the rows and of the names and sizes of the images, the same wherever the data lies."""
    sizes = json_list((file.name, file.stat().st_size) for file in catalogue.images.files)
    table_rows = catalogue.rows[["product", "image", "caption", *catalogue.attributes]]
    columns = ["product", catalogue.images.column, "caption", *catalogue.attributes]
    lists = (row for piece in pieces(len(table_rows)) for row in table_rows.iloc[piece].to_numpy(object).tolist())
    return hashed(chain("[", sizes, f", {json.dumps(columns)}, ", json_list(lists), "]"))
