"""A user's own table: CSV, TSV or JSONL with an image column and a caption column."""

import codecs
import csv
import io
import json
from collections import defaultdict
from itertools import chain
from pathlib import Path

import pandas as pd

from common.account import examples
from common.columns import clean
from common.errors import InputError
from common.formats.source import Source

SUFFIXES = (".csv", ".tsv", ".jsonl")
DELIMITERS = (",", "\t", ";", "|")
END = "\0end of the file"


def matches(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def read(path: Path) -> Source:
    """Read a table; every line that is no proper row is reported with its number.

    Raises:
        InputError: the file is empty, its encoding is neither UTF-8 nor Windows-1252, a column name
            occurs twice, a quote is never closed, or no line of a .jsonl file is a JSON object.
    """
    text, encoding = read_text(path)
    if path.suffix.lower() == ".jsonl":
        source = read_jsonl(path, text)
        source.found.insert(0, f"JSON lines, encoding {encoding}")
    else:
        delimiter = find_delimiter(path, text)
        source = read_delimited(path, text, delimiter)
        source.found.insert(0, f"delimiter {delimiter!r}, encoding {encoding}")
    return source


def read_text(path: Path) -> tuple[str, str]:
    """The text of a file, and the name of its encoding.

    Raises:
        InputError: it is empty, or its encoding is neither UTF-8 nor UTF-16 with its mark nor Windows-1252.
    """
    content = path.read_bytes()
    encodings = {"utf-8-sig": "UTF-8", "cp1252": "Windows-1252"}
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = {"utf-16": "UTF-16"}
    for encoding, name in encodings.items():
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not text.strip():
            raise InputError(f"{path}: the file is empty; expected a header line and a line a product")
        return text, name
    raise InputError(f"{path}: the encoding is neither UTF-8 nor Windows-1252; save the file as UTF-8")


def find_delimiter(path: Path, text: str) -> str:
    """The delimiter that splits the header and the first rows into the same number of columns, the most."""
    if path.suffix.lower() == ".tsv":
        return "\t"

    def columns(delimiter: str) -> tuple[float, int]:
        # whole lines only; a quoted field may span several
        rows = [row for row, _ in zip(parse(text, delimiter), range(50), strict=False) if row and row != [END]]
        width = len(rows[0])
        agreeing = sum(len(row) == width for row in rows) / len(rows)
        return (agreeing if width > 1 else 0.0), width

    return max(DELIMITERS, key=columns)


def parse(text: str, delimiter: str) -> "csv.reader":
    csv.field_size_limit(2**31 - 1)  # as long as the file may be
    # the line after the last becomes a row of its own, unless a quote is still open there
    return csv.reader(chain(io.StringIO(text, newline=""), [END]), delimiter=delimiter)


def read_delimited(path: Path, text: str, delimiter: str) -> Source:
    reader = parse(text, delimiter)
    header = [name.strip() for name in next(filter(None, reader))]
    if header[-1].endswith(END):
        raise InputError(f"{path}: the header opens a quote and never closes it; close or remove it")
    header = [name or f"column {number}" for number, name in enumerate(header, start=1)]
    if len(set(header)) != len(header):
        raise InputError(f"{path}, line {reader.line_num}: a column name occurs twice in {header}; rename one")
    rows, lines, unusable, long = [], [], [], []
    before = reader.line_num
    for row in reader:
        line, before = before + 1, reader.line_num
        if row == [END]:
            break
        if row and row[-1].endswith(END):
            raise InputError(f"{path}, line {line}: a quote is opened in this row and never closed; close or remove it")
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            unusable.append((f"{len(row)} columns instead of {len(header)}", f"line {line}"))
            continue
        rows.append(row)
        lines.append(f"line {line}")
        if before > line:
            long.append(lines[-1])
    # a stray quote makes one of many
    found = [f"rows that span several lines, by a quote: {len(long):,} {examples(long)}"] if long else []
    return Source(path, pd.DataFrame(rows, columns=header, dtype=str), lines, path.parent, unusable, found)


def as_text(value: object) -> str | list[str | None] | None:
    """A JSON value as text, or a list as texts; an object, or a list in a list, as JSON."""
    if isinstance(value, list):
        return [json.dumps(some) if isinstance(some, list) else as_text(some) for some in value]
    if isinstance(value, dict):
        return json.dumps(value)
    return None if value is None or value != value else clean(str(value))


def read_jsonl(path: Path, text: str) -> Source:
    rows, lines, unusable, with_object = [], [], [], defaultdict(list)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # a number of thousands of digits, brackets in brackets
            row = None
        if not isinstance(row, dict):
            unusable.append(("not a JSON object", f"line {number}"))
            continue
        for key, value in row.items():
            if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict | list) for v in value)):
                with_object[clean(key)].append(f"line {number}")
        rows.append({clean(key): as_text(value) for key, value in row.items()})
        lines.append(f"line {number}")
    if not rows:
        raise InputError(f'{path}: no line is a JSON object like {{"image": ..., "caption": ...}}')
    found = [
        f"objects taken as their JSON in '{name}': {len(places):,} {examples(places)}"
        for name, places in with_object.items()
    ]
    return Source(path, pd.DataFrame(rows).astype("object"), lines, path.parent, unusable, found)
