"""A user's own table: CSV, TSV or JSONL with an image column and a caption column."""

import csv
import io
import json
from pathlib import Path

import pandas as pd

from common.errors import InputError
from common.formats.source import Source

SUFFIXES = (".csv", ".tsv", ".jsonl")
DELIMITERS = (",", "\t", ";", "|")
URL = ("http://", "https://")


def matches(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def read(path: Path) -> Source:
    """Read a table; every line that is no proper row is reported with its number.

    Raises:
        InputError: the file is empty or its encoding is neither UTF-8 nor Windows-1252.
    """
    text, encoding = read_text(path)
    if path.suffix.lower() == ".jsonl":
        source = read_jsonl(path, text)
        source.found.append(f"JSON lines, encoding {encoding}")
    else:
        delimiter = find_delimiter(path, text)
        source = read_delimited(path, text, delimiter)
        source.found.append(f"delimiter {delimiter!r}, encoding {encoding}")
    return source


def read_text(path: Path) -> tuple[str, str]:
    content = path.read_bytes()
    if not content.strip():
        raise InputError(f"{path}: the file is empty; expected a header line and a line a product")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding), "UTF-8" if encoding == "utf-8-sig" else "Windows-1252"
        except UnicodeDecodeError:
            continue
    raise InputError(f"{path}: the encoding is neither UTF-8 nor Windows-1252; save the file as UTF-8")


def find_delimiter(path: Path, text: str) -> str:
    """The delimiter that splits the header and the first rows into the same number of columns, the most."""
    if path.suffix.lower() == ".tsv":
        return "\t"

    def columns(delimiter: str) -> tuple[float, int]:
        # whole lines only; a quoted field may span several
        rows = [row for row, _ in zip(parse(text, delimiter), range(50), strict=False) if row]
        width = len(rows[0])
        agreeing = sum(len(row) == width for row in rows) / len(rows)
        return (agreeing if width > 1 else 0.0), width

    return max(DELIMITERS, key=columns)


def parse(text: str, delimiter: str) -> "csv.reader":
    csv.field_size_limit(2**27)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def read_delimited(path: Path, text: str, delimiter: str) -> Source:
    reader = parse(text, delimiter)
    header = [name.strip() for name in next(reader)]
    if len(set(header)) != len(header):
        raise InputError(f"{path}, line 1: a column name occurs twice in {header}; rename one")
    rows, lines, unusable = [], [], []
    before = reader.line_num
    for row in reader:
        line, before = before + 1, reader.line_num
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            unusable.append((f"{len(row)} columns instead of {len(header)}", f"line {line}"))
            continue
        rows.append(row)
        lines.append(f"line {line}")
    return Source(path, pd.DataFrame(rows, columns=header, dtype=str), lines, path.parent, unusable)


def read_jsonl(path: Path, text: str) -> Source:
    rows, lines, unusable = [], [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            unusable.append(("not a JSON object", f"line {number}"))
            continue
        rows.append({key: None if value is None else str(value) for key, value in row.items()})
        lines.append(f"line {number}")
    return Source(path, pd.DataFrame(rows).astype("object"), lines, path.parent, unusable)
