"""A parquet file, or a folder of shards: images in a column of {bytes, path} or of bytes, or named in one of text, one
or a list in a row.

The first is the layout of the public mirrors `ashraq/fashion-product-images-small` and `Marqo/KAGL`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.columns import LISTS, TEXT, mapped, pieces
from common.errors import InputError
from common.formats.source import Source, whole_numbers

IMAGE = "image"
IMAGES_AT_ONCE = 1024


def shards(path: Path) -> list[Path]:
    """The parquet files at a path, in the order of their names."""
    if path.is_dir():
        return sorted(path.glob("*.parquet"))
    return [path] if path.suffix.lower() == ".parquet" and path.is_file() else []


def matches(path: Path) -> bool:
    return bool(shards(path))


@dataclass(frozen=True)
class Chosen(Sequence[str]):
    """The places of some rows."""

    places: Sequence[str]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> str:
        return self.places[self.rows[number]]


class Places(Sequence[str]):
    """Where the rows of some shards stand; no text of ten million is kept for the few that are told."""

    def __init__(self, files: list[Path]) -> None:
        self.names = [f"{file.name}, " if len(files) > 1 else "" for file in files]
        self.ends = np.cumsum([pq.read_metadata(file).num_rows for file in files])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, number: int) -> str:
        shard = int(np.searchsorted(self.ends, number, side="right"))
        return f"{self.names[shard]}row {number - (self.ends[shard - 1] if shard else 0)}"


def read(path: Path, image_column: str | None = None) -> Source:
    """Read everything but the images.

    Args:
        path: of a file or a folder of them.
        image_column: that holds or names the images; None: `image`, else the first of {bytes, path}.

    Raises:
        InputError: a file is not parquet, or has other columns than the first one or two of one name.
    """
    files = shards(path)
    kinds: dict[str, pa.DataType] = {}
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: not a readable parquet file ({error})") from None
        if len(set(schema.names)) < len(schema.names):
            raise InputError(f"{file}: a column name occurs twice in {schema.names}; rename one")
        known = kinds or dict.fromkeys(schema.names, pa.null())
        if schema.names != list(known) or any(differ(known[field.name], field.type) for field in schema):
            raise InputError(f"{file}: its columns differ from those of {files[0]}; move it elsewhere")
        kinds |= {field.name: field.type for field in schema if pa.types.is_null(known[field.name])}
    column = stored_images(kinds, image_column)
    places, found, texts = Places(files), [f"parquet, {len(files)} file{'s' * (len(files) > 1)}"], {}
    for name in [name for name in kinds if name != column]:
        # one column after the other, so that only one is in memory as it is found
        try:
            texts[name] = read_column(files, name, kinds[name])
        except pa.ArrowInvalid:
            found.append(f"column '{name}' is not read, it holds {shorten(str(kinds[name]), 60)}")
    source = Source(path, pd.DataFrame(texts, index=range(len(places))), places, found=found)
    if column is None:
        source.image_folder = path if path.is_dir() else path.parent
        return source
    source.columns, source.images = {"image": column}, ShardImages(files, column, len(places))
    return one_row_an_image(source, list_lengths(files, column)) if is_list(kinds[column]) else source


def one_row_an_image(source: Source, counts: np.ndarray) -> Source:
    """The source with a row for each image of a row's list, which holds so many."""
    rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    frame, places = source.frame.take(rows).reset_index(drop=True), Chosen(source.places, rows)
    return replace(source, frame=frame, places=places, images=ListedImages(source.images, np.cumsum(counts)))


def list_lengths(files: list[Path], column: str) -> np.ndarray:
    """(R,) how many images each row holds, 1 for a list of none: that image is missing, as the row will be told."""
    found = [np.zeros(0, np.int64)]
    for file in files:
        shard = pq.ParquetFile(file)
        parts = [shard.schema.column(number).path for number in range(len(shard.schema))]
        # the images' names tell, too, and are sooner read than their bytes
        names = [part for part in parts if part.startswith(f"{column}.") and not part.endswith(".bytes")]
        for batch in shard.iter_batches(IMAGES_AT_ONCE, columns=names[:1] or [column]):
            images = batch.column(0)
            none = images.null_count == len(images)  # of a type without lists, perhaps
            found.append(np.zeros(len(images), int) if none else pc.list_value_length(images).fill_null(0).to_numpy())
    return np.maximum(1, np.concatenate(found))


def stored_images(kinds: dict[str, pa.DataType], asked_for: str | None) -> str | None:
    """The column that holds the images themselves, if one does."""
    if asked_for in kinds:
        return asked_for if is_struct(item(kinds[asked_for])) or is_binary(item(kinds[asked_for])) else None
    structs = [name for name, kind in kinds.items() if is_struct(item(kind))]
    # other bytes may be anything
    return IMAGE if IMAGE in structs or is_binary(item(kinds.get(IMAGE, pa.null()))) else next(iter(structs), None)


def is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_struct(kind: pa.DataType) -> bool:
    """Whether it is one of {bytes, path}."""
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_binary(kind.field("bytes").type)


def is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return (
        types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_list_view(kind)
    )


def item(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, one by one where they stand in lists."""
    return kind.value_type if is_list(kind) else kind


def differ(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether one is of lists and the other is not; a column without any value may become either."""
    return is_list(one) != is_list(other) and not (pa.types.is_null(one) or pa.types.is_null(other))


def read_column(files: list[Path], name: str, kind: pa.DataType) -> pd.Series:
    """A column of all files as texts, or as lists of texts; what is missing stays missing.

    Raises:
        pa.ArrowInvalid: the values are no texts, and cannot be shown as such.
    """
    if pa.types.is_nested(item(kind)) or (is_list(kind) and is_binary(item(kind))):
        raise pa.ArrowInvalid("values in values")
    tables = [pq.read_table(file, columns=[name]) for file in files]
    if is_list(kind):
        found = [as_texts(table[name][piece]) for table in tables for piece in pieces(len(table))]
        return pd.Series(pd.array(pa.chunked_array(found, LISTS.pyarrow_dtype), LISTS))
    # pandas would round large integers beside a missing one; bytes may be UTF-8
    if pa.types.is_integer(kind) or is_binary(kind) or pa.types.is_binary_view(kind):
        tables = [table.cast(pa.schema([(name, pa.string())])) for table in tables]
    types = {pa.string(): TEXT, pa.large_string(): TEXT}
    columns = [table.to_pandas(ignore_metadata=True, types_mapper=types.get)[name] for table in tables]
    return as_strings(pd.concat(columns, ignore_index=True))


def as_texts(lists: pa.ChunkedArray) -> pa.Array:
    """Lists of texts from lists of values."""
    texts = [some and [None if value is None else str(value) for value in some] for some in lists.to_pylist()]
    return pa.array(texts, LISTS.pyarrow_dtype)


def as_strings(column: pd.Series) -> pd.Series:
    """Values as strings, whole floats (a year with gaps) without their '.0'; what is missing stays so."""
    return column if column.dtype == TEXT else whole_numbers(mapped(column, str))


@dataclass(frozen=True)
class ListedImages:
    """The bytes of the images that stand in lists, row by row; None where they are missing, as in a list of none.

    Attributes:
        lists: of the rows.
        ends: (R,) how many images there are up to the end of each row.
    """

    lists: "ShardImages"
    ends: np.ndarray

    @property
    def files(self) -> list[Path]:
        return self.lists.files

    @property
    def column(self) -> str:
        return self.lists.column

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __iter__(self) -> Iterator[bytes | None]:
        return chain.from_iterable(map(every, self.lists))

    def __getitem__(self, number: int) -> bytes | None:
        row = int(np.searchsorted(self.ends, number, side="right"))
        return every(self.lists[row])[number - self.ends[row]]  # counted from the end of the list


def every(images: list | None) -> list[bytes | None]:
    """The bytes of the images of a list."""
    return [image["bytes"] if isinstance(image, dict) else image for image in images or [None]]


@dataclass(frozen=True)
class ShardImages:
    """The bytes of the images of all files, in the order of the rows; None where they are missing. Where a row holds a
    list of images, it is found as it stands there (`ListedImages`).

    Attributes:
        column: that holds them.
        rows: of all files.
    """

    files: list[Path]
    column: str
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[bytes | None]:
        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches(IMAGES_AT_ONCE, columns=[self.column]):
                images = batch.column(0)
                yield from (images.field("bytes") if is_struct(images.type) else images).to_pylist()

    def __getitem__(self, number: int) -> bytes | None:
        for file in self.files:
            shard = open_shard(file)
            if number < shard.metadata.num_rows:
                break
            number -= shard.metadata.num_rows
        for group in range(shard.num_row_groups):
            rows = shard.metadata.row_group(group).num_rows
            if number < rows:
                image = read_row_group(file, group, self.column)[number].as_py()
                return image["bytes"] if isinstance(image, dict) else image
            number -= rows
        raise IndexError("there are fewer images")


@lru_cache(maxsize=64)
def open_shard(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file, memory_map=True)


@lru_cache(maxsize=4)
def read_row_group(file: Path, group: int, column: str) -> pa.ChunkedArray:
    """A parquet file gives no single row: the images of a row group are read together and kept for a while."""
    return open_shard(file).read_row_group(group, columns=[column]).column(0)
