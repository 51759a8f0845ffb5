"""The Kaggle layout of Fashion Product Images: `styles.csv`, `images/<id>.jpg`, and in the large one `styles/`."""

import json
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

from common.columns import table_of
from common.containment import inside
from common.errors import InputError
from common.formats import table
from common.formats.source import Lines, Source

CAPTION, ID = "productDisplayName", "id"
NO_TEXT = ("style", "script")
"""Elements of HTML whose content is not shown."""


def matches(path: Path) -> bool:
    return (path / "styles.csv").is_file()


def read(path: Path, caption: str = "title") -> Source:
    """Read the folder. Titles hold unescaped commas, so a line is split at the first nine only.

    Args:
        path: of the folder.
        caption: "title", "description" (rows without one have no caption) or "both" (two captions an image).

    Raises:
        InputError: styles.csv has no header with `id` first and `productDisplayName` last, there is no images/
            folder, or descriptions are asked for and there is no styles/ folder.
    """
    styles = path / "styles.csv"
    if not (path / "images").is_dir():
        raise InputError(f"{path}: styles.csv is there but the folder images/ is not; put the photographs into it")
    encoding, its_name = table.find_encoding(styles)
    source = Source(path, table_of([]), Lines(), path / "images", columns=columns())
    source.found.append(f"Kaggle folder, styles.csv{f' ({its_name})' * (its_name != 'UTF-8')} and images/")
    with styles.open(encoding=encoding) as text:
        lines = (line.removesuffix("\n") for line in text)
        header = next(lines).split(",")
        if header[0] != ID or header[-1] != CAPTION:
            raise InputError(f"{styles}, line 1: expected columns from '{ID}' to '{CAPTION}', found {header}")
        if len({*header, "image"}) <= len(header):
            raise InputError(f"{styles}, line 1: a column name occurs twice, or is 'image', in {header}; rename it")
        source.frame = table_of(proper_rows(lines, len(header), source), header)
    source.frame["image"] = source.frame[ID] + ".jpg"
    if caption != "title":
        source.frame, source.places = described(path / "styles", source.frame, source.places, caption == "both")
    return source


def proper_rows(lines: Iterator[str], columns: int, source: Source) -> Iterator[list[str]]:
    """The rows that follow the header, whose places and accounts are kept in the source on the way."""
    with_comma = 0
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        row = line.split(",", columns - 1)
        if len(row) != columns:
            source.unusable.append((f"{len(row)} columns instead of {columns}", f"line {number}"))
            continue
        # some copies of the file quote the titles that hold a comma
        quoted = len(row[-1]) > 1 and row[-1][0] == row[-1][-1] == '"'
        row[-1] = row[-1][1:-1].replace('""', '"') if quoted else row[-1]
        with_comma += "," in row[-1] and not quoted
        source.places.append(number)
        yield row
    if with_comma:
        source.found.append(f"titles with an unescaped comma, read whole: {with_comma}")


def described(
    folder: Path, frame: pd.DataFrame, places: Sequence[str], both: bool
) -> tuple[pd.DataFrame, Sequence[str]]:
    """The rows with their descriptions in place of their titles, or with both, one below the other."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; descriptions stand in styles/<id>.json of the large data set")
    # an id that is no name of a file has none, nor has one whose file lies elsewhere
    is_inside = inside(folder.parent)
    files = {name: folder / f"{name}.json" for name in frame[ID] if re.fullmatch(r"[\w-]{1,99}", name)}
    texts = [description(files[name]) if name in files and is_inside(files[name]) else "" for name in frame[ID]]
    other = frame.assign(**{CAPTION: texts})
    if not both:
        return other, places
    numbers = [number for number, text in enumerate(texts) if text]
    whole = pd.concat([frame, other.iloc[numbers]], ignore_index=True)
    return whole, [*places, *(f"{places[number]}, description" for number in numbers)]


def description(file: Path) -> str:
    """The text of a product's description, "" where it has none.

    Raises:
        InputError: the file is not JSON.
    """
    if not file.is_file():
        return ""
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
        for key in ("data", "productDescriptors", "description", "value"):
            value = value.get(key) if isinstance(value, dict) else None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({error})") from None
    return shown_text(value) if isinstance(value, str) else ""


def shown_text(html: str) -> str:
    """What a browser would show of HTML, on one line."""
    parser = ShownText()
    try:
        parser.feed(html)
        parser.close()
    except AssertionError:  # of HTMLParser, for "<![" and what is no declaration
        return re.sub(r"<[^>]*>|\s+", " ", html).strip()
    return re.sub(r"\s+", " ", "".join(parser.found)).strip()


class ShownText(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.hidden += tag in NO_TEXT
        self.found.append(" ")  # elements part words; hardly one is inside a word

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in NO_TEXT))
        self.found.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.found.append(data)


def columns() -> dict[str, str]:
    return {"image": "image", "caption": CAPTION, "id": ID}
