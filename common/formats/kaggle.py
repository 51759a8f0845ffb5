"""The Kaggle layout of Fashion Product Images: a folder with `styles.csv` and `images/<id>.jpg`."""

from pathlib import Path

import pandas as pd

from common.errors import InputError
from common.formats.source import Source

CAPTION, ID = "productDisplayName", "id"


def matches(path: Path) -> bool:
    return (path / "styles.csv").is_file()


def read(path: Path) -> Source:
    """Read the folder. Titles hold unescaped commas, so a line is split at the first nine only.

    Raises:
        InputError: styles.csv has no header with `id` first and `productDisplayName` last, or
            there is no images/ folder.
    """
    styles = path / "styles.csv"
    if not (path / "images").is_dir():
        raise InputError(f"{path}: styles.csv is there but the folder images/ is not; put the photographs into it")
    lines = styles.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    header = lines[0].split(",")
    if header[0] != ID or header[-1] != CAPTION:
        raise InputError(f"{styles}, line 1: expected columns from '{ID}' to '{CAPTION}', found {header}")
    rows, places, unusable, with_comma = [], [], [], 0
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        row = line.split(",", len(header) - 1)
        if len(row) != len(header):
            unusable.append((f"{len(row)} columns instead of {len(header)}", f"line {number}"))
            continue
        # some copies of the file quote the titles that hold a comma
        quoted = len(row[-1]) > 1 and row[-1][0] == row[-1][-1] == '"'
        row[-1] = row[-1][1:-1].replace('""', '"') if quoted else row[-1]
        with_comma += "," in row[-1] and not quoted
        rows.append(row)
        places.append(f"line {number}")
    frame = pd.DataFrame(rows, columns=header, dtype=str)
    frame["image"] = frame[ID] + ".jpg"
    source = Source(path, frame, places, path / "images", unusable, columns=columns())
    source.found.append("Kaggle folder, styles.csv and images/")
    if with_comma:
        source.found.append(f"titles with an unescaped comma, read whole: {with_comma}")
    return source


def columns() -> dict[str, str]:
    return {"image": "image", "caption": CAPTION, "id": ID}
