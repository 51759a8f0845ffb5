"""A parquet file, or a folder of shards, with an `image` column of {bytes, path}.

The layout of the public mirrors `ashraq/fashion-product-images-small` and `Marqo/KAGL`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.columns import TEXT, mapped
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
        InputError: a file is not parquet, has other columns than the first one, or has no
            `image` column of {bytes, path}.
    """
    files = shards(path)
    names: list[str] = []
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: not a readable parquet file ({error})") from None
        if IMAGE not in schema.names or not is_image(schema.field(IMAGE).type):
            raise InputError(f"{file}: expected a column '{IMAGE}' of {{bytes, path}}, found {schema.names}")
        columns = [name for name in schema.names if name != IMAGE]
        if file == files[0]:
            names = columns
        if columns != names:
            raise InputError(f"{file}: its columns differ from those of {files[0]}; move it elsewhere")
    places = Places(files)
    # one column after the other, so that only one is in memory as it is found
    frame = pd.DataFrame({name: as_strings(read_column(files, name)) for name in names}, index=range(len(places)))
    source = Source(path, frame, places, columns={"image": IMAGE}, images=ShardImages(files))
    source.found.append(f"parquet, {len(files)} file{'s' * (len(files) > 1)}")
    return source


def is_image(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def read_column(files: list[Path], name: str) -> pd.Series:
    """A column of all files, as pandas takes it."""
    types = {pa.string(): TEXT, pa.large_string(): TEXT}
    tables = [pq.read_table(file, columns=[name]) for file in files]
    columns = [table.to_pandas(ignore_metadata=True, types_mapper=types.get)[name] for table in tables]
    return pd.concat(columns, ignore_index=True)


def as_strings(column: pd.Series) -> pd.Series:
    """Values as strings, whole floats (a year with gaps) without their '.0'; missing stays missing."""
    if column.dtype == TEXT:
        return column
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return mapped(column, str)


@dataclass(frozen=True)
class ShardImages:
    """The bytes of the images of all files, in the order of the rows; None where they are missing."""

    files: list[Path]

    def __iter__(self) -> Iterator[bytes | None]:
        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches(IMAGES_AT_ONCE, columns=[IMAGE]):
                yield from batch.column(0).field("bytes").to_pylist()

    def __getitem__(self, number: int) -> bytes | None:
        for file in self.files:
            shard = open_shard(file)
            if number < shard.metadata.num_rows:
                break
            number -= shard.metadata.num_rows
        for group in range(shard.num_row_groups):
            rows = shard.metadata.row_group(group).num_rows
            if number < rows:
                return read_row_group(file, group)[number].as_py()["bytes"]
            number -= rows
        raise IndexError("there are fewer images")


@lru_cache(maxsize=64)
def open_shard(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file, memory_map=True)


@lru_cache(maxsize=4)
def read_row_group(file: Path, group: int) -> pa.ChunkedArray:
    """A parquet file gives no single row: the images of a row group are read together and kept for a while."""
    return open_shard(file).read_row_group(group, columns=[IMAGE]).column(0)
