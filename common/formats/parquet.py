"""A parquet file, or a folder of shards: images in a column of {bytes, path} or of bytes, or named in one of text.

The first is the layout of the public mirrors `ashraq/fashion-product-images-small` and `Marqo/KAGL`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.columns import TEXT, is_list, mapped
from common.errors import InputError
from common.formats.source import Source

IMAGE = "image"
IMAGES_AT_ONCE = 1024


def shards(path: Path) -> list[Path]:
    """The parquet files at a path, in the order of their names."""
    if path.is_dir():
        return sorted(path.glob("*.parquet"))
    return [path] if path.suffix.lower() == ".parquet" and path.is_file() else []


def matches(path: Path) -> bool:
    return bool(shards(path))


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


def read(path: Path) -> Source:
    """Read everything but the images.

    Raises:
        InputError: a file is not parquet, or has other columns than the first one.
    """
    files = shards(path)
    first: dict[str, bool] = {}
    """column -> whether it holds images"""
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: not a readable parquet file ({error})") from None
        columns = {field.name: is_image(field.type) for field in schema}
        first = first or columns
        if columns != first:
            raise InputError(f"{file}: its columns differ from those of {files[0]}; move it elsewhere")
    places = Places(files)
    # one column after the other, so that only one is in memory as it is found
    texts = {name: as_strings(read_column(files, name)) for name, stored in first.items() if not stored}
    source = Source(path, pd.DataFrame(texts, index=range(len(places))), places)
    source.found.append(f"parquet, {len(files)} file{'s' * (len(files) > 1)}")
    if stored := [name for name, stored in first.items() if stored]:
        column = IMAGE if IMAGE in stored else stored[0]
        source.columns, source.images = {"image": column}, ShardImages(files, column)
    else:
        source.image_folder = path if path.is_dir() else path.parent
    return source


def is_image(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or is_struct(kind)


def is_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def read_column(files: list[Path], name: str) -> pd.Series:
    """A column of all files, as pandas takes it; lists as lists of texts."""
    kind = pq.read_schema(files[0]).field(name).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lists = chain.from_iterable(pq.read_table(file, columns=[name])[name].to_pylist() for file in files)
        texts = [None if some is None else [None if value is None else str(value) for value in some] for some in lists]
        return pd.Series(texts, dtype=object)
    types = {pa.string(): TEXT, pa.large_string(): TEXT}
    tables = [pq.read_table(file, columns=[name]) for file in files]
    columns = [table.to_pandas(ignore_metadata=True, types_mapper=types.get)[name] for table in tables]
    return pd.concat(columns, ignore_index=True)


def as_strings(column: pd.Series) -> pd.Series:
    """Values as strings, whole floats (a year with gaps) without their '.0'; what is missing, or a list, stays so."""
    if column.dtype == TEXT or (column.dtype == object and column.map(is_list).any()):
        return column
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return mapped(column, str)


@dataclass(frozen=True)
class ShardImages:
    """The bytes of the images of all files, in the order of the rows; None where they are missing."""

    files: list[Path]
    column: str

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
