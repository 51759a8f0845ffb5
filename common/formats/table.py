"""A user's own table: CSV, TSV or JSONL with an image column and a caption column."""

import codecs
import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

from common.account import examples
from common.columns import clean, table_of
from common.errors import InputError
from common.formats.source import Lines, Source

SUFFIXES = (".csv", ".tsv", ".jsonl")
WORKBOOK_STARTS = (b"PK\3\4", b"\xd0\xcf\x11\xe0")
"""The first bytes of .xlsx and .xls, whatever the file is called."""
DELIMITERS = (",", "\t", ";", "|")
ANNOUNCEMENT = re.compile(r'"?sep=([^\w\s"]|\t)"?[\r\n]*')
"""A first line that Excel writes or asks for, as "sep=;": no header, but the delimiter of the rest."""
END = "\0end of the file"
READ_AT_ONCE = 2**20


def matches(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def read(path: Path) -> Source:
    """Read a table; every line that is no proper row is reported with its number.

    Raises:
        InputError: the file is empty, has no header or is an Excel workbook, its encoding is neither UTF-8 nor
            Windows-1252, a column name occurs twice, a quote is never closed, or no line of a .jsonl file is a JSON
            object.
    """
    encoding, its_name = find_encoding(path)
    if path.suffix.lower() == ".jsonl":
        source = read_jsonl(path, encoding)
        source.found.insert(0, f"JSON lines, encoding {its_name}")
    else:
        delimiter = find_delimiter(path, encoding)
        source = read_delimited(path, encoding, delimiter)
        source.found.insert(0, f"delimiter {delimiter!r}, encoding {its_name}")
    return source


def find_encoding(path: Path) -> tuple[str, str]:
    """The encoding that a whole file can be read in, and how people call it.

    Raises:
        InputError: it is empty or an Excel workbook, its encoding is neither UTF-8 nor UTF-16 with its mark nor
            Windows-1252, or it is UTF-8 but for some bytes.
    """
    encodings = {"utf-8-sig": "UTF-8", "cp1252": "Windows-1252"}
    with path.open("rb") as file:
        start = file.read(200)
    if start.startswith(WORKBOOK_STARTS):
        raise InputError(f"{path}: an Excel workbook; save it as CSV (UTF-8)")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = {"utf-16": "UTF-16"}
    elif 4 * start.count(0) > len(start):  # every other byte of Latin letters; Windows-1252 would take them all
        raise InputError(f"{path}: looks like UTF-16 without its byte order mark; save the file as UTF-8")
    for encoding, name in encodings.items():
        try:
            with path.open(encoding=encoding, newline="") as text:
                written = sum(bool(piece.strip()) for piece in iter(partial(text.read, READ_AT_ONCE), ""))
        except UnicodeDecodeError:
            if name == "UTF-8":
                refuse_broken_utf8(path)
            continue
        if not written:
            raise InputError(f"{path}: the file is empty; expected a header line and a line a product")
        return encoding, name
    raise InputError(f"{path}: the encoding is neither UTF-8 nor Windows-1252; save the file as UTF-8")


def refuse_broken_utf8(path: Path) -> None:
    """Raise an `InputError` that names the first line which is not UTF-8, if more of the letters beyond ASCII are UTF-8
    than are not: to read such a file as Windows-1252 would spoil them all."""
    letters = wrong = lines = first = 0
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        for number, line in enumerate(text, start=1):
            if not line.isascii():
                beyond = [letter for letter in line if letter > "\x7f"]
                broken = sum("\udc80" <= letter <= "\udcff" for letter in beyond)
                letters, wrong, lines = letters + len(beyond) - broken, wrong + broken, lines + (broken > 0)
                first = first or (number if broken else 0)
    if letters > wrong:
        raise InputError(
            f"{path}, line {first}: not UTF-8, as the rest of the file is ({lines:,} such lines); "
            "correct what is written there, or save the file as UTF-8 again"
        )


def find_delimiter(path: Path, encoding: str) -> str:
    """The delimiter that the first line announces, or else the one that splits the header and the first rows into the
    same number of columns, the most."""
    with path.open(encoding=encoding, newline="") as text:
        if announced := ANNOUNCEMENT.fullmatch(text.readline()):
            return announced.group(1)
    if path.suffix.lower() == ".tsv":
        return "\t"

    def columns(delimiter: str) -> tuple[float, int]:
        # whole lines only; a quoted field may span several
        with path.open(encoding=encoding, newline="") as text:
            rows = list(islice(filled(parse(text, delimiter)), 50))
        if not rows:  # nothing but this delimiter
            return 0.0, 0
        width = len(rows[0])
        agreeing = sum(len(row) == width for row in rows) / len(rows)
        return (agreeing if width > 1 else 0.0), width

    return max(DELIMITERS, key=columns)


def parse(lines: Iterable[str], delimiter: str) -> "csv.reader":
    csv.field_size_limit(2**31 - 1)  # as long as the file may be
    # the line after the last becomes a row of its own, unless a quote is still open there
    return csv.reader(chain(lines, [END]), delimiter=delimiter)


def filled(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """The rows that hold something, the one after the last line left out."""
    return (row for row in rows if any(cell.strip() for cell in row) and row != [END])


def read_delimited(path: Path, encoding: str, delimiter: str) -> Source:
    source = Source(path, table_of([]), Lines(), path.parent)
    with path.open(encoding=encoding, newline="") as text:
        first = text.readline()
        reader = parse(chain(["\n" if ANNOUNCEMENT.fullmatch(first) else first], text), delimiter)
        header = [name.strip() for name in next(filled(reader), [])]
        if not header:
            raise InputError(f"{path}: no header line; expected one, and a line a product")
        if header[-1].endswith(END):
            raise InputError(f"{path}: the header opens a quote and never closes it; close or remove it")
        header = [name or f"column {number}" for number, name in enumerate(header, start=1)]
        if len(set(header)) != len(header):
            raise InputError(f"{path}, line {reader.line_num}: a column name occurs twice in {header}; rename one")
        source.frame = table_of(proper_rows(reader, len(header), source), header)
    return source


def proper_rows(reader: "csv.reader", columns: int, source: Source) -> Iterator[list[str]]:
    """The rows that follow the header, whose places and accounts are kept in the source on the way."""
    long, before = [], reader.line_num
    for row in reader:
        line, before = before + 1, reader.line_num
        if row == [END]:
            break
        if row and row[-1].endswith(END):
            raise InputError(
                f"{source.path}, line {line}: a quote is opened in this row and never closed; close or remove it"
            )
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != columns:
            source.unusable.append((f"{len(row)} columns instead of {columns}", f"line {line}"))
            continue
        source.places.append(line)
        if before > line:
            long.append(f"line {line}")
        yield row
    if long:  # a stray quote makes one of many
        source.found.append(f"rows that span several lines, by a quote: {len(long):,} {examples(long)}")


def as_text(value: object) -> str | list[str | None] | None:
    """A JSON value as text, or a list as texts; an object, or a list in a list, as JSON."""
    if isinstance(value, list):
        return [json.dumps(some) if isinstance(some, list) else as_text(some) for some in value]
    if isinstance(value, dict):
        return json.dumps(value)
    return None if value is None or value != value else clean(str(value))


def read_jsonl(path: Path, encoding: str) -> Source:
    source = Source(path, table_of([]), Lines(), path.parent)
    with path.open(encoding=encoding, newline="\n") as lines:
        source.frame = table_of(json_objects(lines, source))
    if not source.places:
        raise InputError(f'{path}: no line is a JSON object like {{"image": ..., "caption": ...}}')
    return source


def json_objects(lines: Iterable[str], source: Source) -> Iterator[dict[str, str | list | None]]:
    """The objects with texts for values, whose places and accounts are kept in the source on the way."""
    with_object = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # a number of thousands of digits, brackets in brackets
            row = None
        if not isinstance(row, dict):
            source.unusable.append(("not a JSON object", f"line {number}"))
            continue
        for key, value in row.items():
            if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict | list) for v in value)):
                with_object[clean(key)].append(f"line {number}")
        source.places.append(number)
        yield {clean(key): as_text(value) for key, value in row.items()}
    source.found += [
        f"objects taken as their JSON in '{name}': {len(places):,} {examples(places)}"
        for name, places in with_object.items()
    ]
