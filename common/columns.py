"""Columns of text that stay small: Arrow strings instead of Python strings, and integers that say which are equal.

A Python string takes some 60 bytes more than its letters; of ten million products not one column of them would fit.
What has to be done in Python is done piece by piece.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
import pandas as pd
import pyarrow as pa

TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
"""Strings in Arrow's layout: the letters and 8 bytes each."""
LISTS = pd.ArrowDtype(pa.list_(pa.large_string()))
"""Lists of strings in Arrow's layout."""
AT_ONCE = 2**16


def in_pieces(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """An array in pieces of so many rows, the last one shorter; at least one piece, as `np.concatenate` wants it."""
    return np.array_split(rows, range(size, len(rows), size))


def first_named(names: Iterable[str], candidates: Iterable[str]) -> str | None:
    """The name, in whatever case, that is the first of the candidates; None where none is there."""
    lower = {name.lower(): name for name in reversed(list(names))}
    return next((lower[candidate.lower()] for candidate in candidates if candidate.lower() in lower), None)


def pieces(count: int, size: int = AT_ONCE) -> Iterator[slice]:
    """Slices that cut a sequence of this length into pieces."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def each(column: pd.Series) -> Iterator:
    """The values of a column, of which only a piece at a time is held as Python objects."""
    return chain.from_iterable(column.iloc[piece].tolist() for piece in pieces(len(column)))


@dataclass(frozen=True, eq=False)
class Part(Sequence):
    """The values of some rows of a column, which is not copied.

    Args:
        column: the whole column.
        which: (N,) the numbers of the rows.
    """

    column: pd.Series
    which: np.ndarray

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, number: int) -> object:
        return self.column.iloc[self.which[number]]

    def __iter__(self) -> Iterator:
        return chain.from_iterable(map(self.some, pieces(len(self))))

    def some(self, numbers: slice | np.ndarray) -> list:
        """Several values."""
        return self.column.iloc[self.which[numbers]].tolist()

    def series(self) -> pd.Series:
        """A column of these rows alone, a copy."""
        return self.column.iloc[self.which]


def table_of(rows: Iterable[list | dict], names: list[str] | None = None) -> pd.DataFrame:
    """A table of `TEXT` from rows of strings and lists of strings, of which only a piece at a time is held.

    A column with a list in it becomes one of `LISTS`; each text in it, a list of one.

    Args:
        rows: the values in the order of the columns, or by their names, where some may be missing.
        names: of the columns; None: those of the rows, in the order in which they first occur.
    """
    rows, parts = iter(rows), [pd.DataFrame(columns=names, dtype=TEXT)]
    while some := list(islice(rows, AT_ONCE)):
        part = pd.DataFrame(some, columns=names, dtype=object)
        parts.append(part.apply(lambda column: as_lists(column) if column.map(is_list).any() else column.astype(TEXT)))
    columns = {}
    for name in dict.fromkeys(chain.from_iterable(parts)):
        # taken out one by one, and joined without a copy
        found = [part.pop(name) if name in part else pd.Series(None, part.index, TEXT) for part in parts]
        if any(part.dtype == LISTS for part in found):
            found = list(map(as_lists, found))
        columns[name] = pd.concat(found, ignore_index=True)
    give_back_freed_memory()
    return pd.DataFrame(columns, copy=False)


def mapped(column: pd.Series, change: Callable[..., str], missing: str | None = None) -> pd.Series:
    """The texts that a function makes of a column's values, as `TEXT`; what is missing becomes `missing`."""
    found, index = [pa.array([], pa.large_string())], column.index
    for piece in pieces(len(column)):
        values, gone = column.iloc[piece].tolist(), column.iloc[piece].isna()
        texts = [missing if lacks else change(value) for value, lacks in zip(values, gone, strict=True)]
        try:
            found.append(pa.array(texts, pa.large_string()))
        except UnicodeEncodeError:
            found.append(pa.array([text if text is None else clean(text) for text in texts], pa.large_string()))
    del column  # if it is the caller's no more, it need not be there together with the next
    joined = pa.concat_arrays(found)
    found.clear()
    give_back_freed_memory()
    return pd.Series(pd.array(joined, dtype=TEXT), index=index)


def give_back_freed_memory() -> None:
    """Arrow would keep what it has freed, of large tables more than they take."""
    pa.default_memory_pool().release_unused()


def clean(text: str) -> str:
    """The text with a question mark for each half of a surrogate pair, which no file could hold."""
    return text.encode("utf-8", "replace").decode()


def squeeze(text: str) -> str:
    """The text without white space at its ends, and with single spaces inside."""
    return " ".join(text.split())


def without_lists(frame: pd.DataFrame, parted: Container[str | None]) -> pd.DataFrame:
    """The table with a row for each value of the lists in some columns; those in other columns become one text.

    The index tells which row each comes from.
    """
    lists = [name for name in frame if frame[name].dtype == LISTS]
    for name in sorted(lists, key=lambda name: name in parted):  # fewer rows first
        if name in parted:
            frame = frame.explode(name).astype({name: TEXT})
        else:
            frame[name] = mapped(frame[name], lambda texts: ", ".join(filter(None, texts)))
    return frame


def free_name(name: str, taken: Container[str]) -> str:
    """The name, with a number if it is taken."""
    names = chain([name], (f"{name} {number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def is_list(value: object) -> bool:
    return isinstance(value, list)


def as_lists(column: pd.Series) -> pd.Series:
    """A column of lists and texts as `LISTS`, a text as a list of one; what is missing stays so."""
    if column.dtype == LISTS:
        return column
    values = zip(column.tolist(), column.isna(), strict=True)
    lists = [None if gone else value if is_list(value) else [value] for value, gone in values]
    return pd.Series(pd.array(pa.array(lists, LISTS.pyarrow_dtype), LISTS), column.index)


def categories(column: pd.Series) -> pd.Series:
    """A column, tidied: as numbers of its values if they are few, which is all but a byte or two a row."""
    number, values = pd.factorize(column)  # -1 where missing
    if len(values) > len(column) // 2:
        return mapped(column, squeeze, "")
    number_of_tidy, tidy_values = pd.factorize(mapped(pd.Series([*values, ""]), squeeze))
    return pd.Series(pd.Categorical.from_codes(number_of_tidy[number], tidy_values))


def plain_text(rows: pd.DataFrame) -> pd.DataFrame:
    """The table with its categorical columns as `TEXT`, for a part of a catalogue that is looked at closely."""
    return rows.astype({name: TEXT for name in rows if rows[name].dtype == "category"})


def hashes(column: pd.Series | np.ndarray, change: Callable[[str], str] | None = None) -> np.ndarray:
    """(N,) uint64 hashes of a column's values, or of what a function makes of them; the same in every process. Integers
    in an array are returned as they are.

    Two different ones of ten million have the same hash once in 400,000 catalogues.
    """
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        return column
    column, found = pd.Series(column), np.empty(len(column), dtype=np.uint64)
    for piece in pieces(len(column)):
        values = column.iloc[piece].tolist()
        values = values if change is None else list(map(change, values))
        found[piece] = pd.util.hash_array(np.array([*values, None], dtype=object), categorize=False)[:-1]
    return found


def first_equal(*columns: pd.Series | np.ndarray) -> np.ndarray:
    """(N,) int32: for each row the first row with the same values in all these columns (sorts: N log N)."""
    same = _first_equal(hashes(columns[0]))
    for column in columns[1:]:
        other = _first_equal(hashes(column))
        both = same * np.int64(len(same)) + other
        del same, other
        same = _first_equal(both)
    return same


def _first_equal(values: np.ndarray) -> np.ndarray:
    # stable: equal rows stay in their order, the first one first
    order = np.argsort(values, kind="stable").astype(np.int32)
    ordered = values[order]
    first = np.arange(len(values), dtype=np.int32)
    first[1:][ordered[1:] == ordered[:-1]] = 0
    del ordered
    same = np.empty_like(order)
    same[order] = order[np.maximum.accumulate(first)]
    return same


def distinct(same: np.ndarray) -> int:
    """How many different values there are, from what `first_equal` gave."""
    return int((same == np.arange(len(same))).sum())
