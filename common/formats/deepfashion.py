"""DeepFashion In-Shop and DeepFashion-MultiModal, whose images have one naming and whose items are the same.

In-Shop: `Anno/list_description_inshop.json` (a list of {item, color, description: [lines]}) and
`Eval/list_eval_partition.txt` (the count, a header, then image, item and train, query or gallery). MultiModal:
`captions.json` (file name -> caption) and `images/`; its file names are the paths of In-Shop, flattened.
"""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from common.columns import table_of
from common.errors import InputError
from common.formats import table
from common.formats.source import Source

DESCRIPTIONS, PARTITION = Path("Anno/list_description_inshop.json"), Path("Eval/list_eval_partition.txt")
CAPTIONS = "captions.json"
NAME = re.compile(
    r"(?P<gender>MEN|WOMEN)[/-](?P<category>[^/-]+)[/-](?P<item>id_\d+)[/-](?P<variant>\d+)_\d+_(?P<pose>\w+)\.\w+$"
)
"""WOMEN/Dresses/id_00000002/02_1_front.jpg of In-Shop, WOMEN-Dresses-id_00000002-02_1_front.jpg of MultiModal."""
COLUMNS = {"image": "image", "caption": "caption", "id": "item"}
NOT_A_NAME = "the image's name is not like WOMEN/Dresses/id_00000002/02_1_front.jpg"


def matches(path: Path) -> bool:
    return (path / DESCRIPTIONS).is_file() or (path / CAPTIONS).is_file()


def read(path: Path) -> Source:
    """Read either of the two folders.

    Raises:
        InputError: a file is missing or is not as described above.
    """
    return read_in_shop(path) if (path / DESCRIPTIONS).is_file() else read_multimodal(path)


def read_in_shop(path: Path) -> Source:
    """An image has the descriptions of its item; `partition` is the data set's own, our splits do not follow it."""
    described: dict[str, list[tuple[str, str]]] = {}
    for entry in read_json(path / DESCRIPTIONS, list):
        try:
            lines = entry["description"]
            text = lines if isinstance(lines, str) else " ".join(lines)
            described.setdefault(entry["item"], []).append((entry["color"], text))
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path / DESCRIPTIONS}: expected {{item, color, description: [lines]}}, found {entry} ({error!r})"
            ) from None
    file = path / PARTITION
    if not file.is_file():
        raise InputError(f"{file}: no such file; it names the images of In-Shop")
    lines = file.read_text(encoding=table.find_encoding(file)[0]).splitlines()
    if len(lines) < 3:
        raise InputError(f"{file}: {len(lines)} lines; expected the count, a header and a line an image")
    rows, places, unusable = [], [], []
    for number, line in enumerate(lines[2:], start=3):
        words, place = line.split(), f"line {number}"
        if not words:
            continue
        if len(words) != 3:
            unusable.append((f"{len(words)} columns instead of 3", place))
            continue
        image, item, partition = words
        facts = NAME.search(image)
        if facts is None or facts["item"] != item:
            unusable.append((NOT_A_NAME if facts is None else "the image's name is of another item", place))
            continue
        for colour, caption in described.get(item, [("", "")]):
            rows.append(
                {"image": image, "caption": caption, "color": colour, **facts.groupdict(), "partition": partition}
            )
            places.append(place)
    folder = path / "Img" if (path / "Img").is_dir() else path
    found = ["DeepFashion In-Shop, descriptions of items"]
    names = ["image", "caption", "color", *NAME.groupindex, "partition"]
    if lines[0].strip() != str(len(lines) - 2):
        found.append(f"{PARTITION}: line 1 says {lines[0].strip()!r} images, {len(lines) - 2} lines follow the header")
    return Source(path, pd.DataFrame(rows, columns=names, dtype=str), places, folder, unusable, found, COLUMNS)


def read_multimodal(path: Path) -> Source:
    """Each image has its own caption; images without one are reported."""
    captions = read_json(path / CAPTIONS, dict)
    folder = path / "images"
    if not folder.is_dir():
        raise InputError(f"{path}: {CAPTIONS} is there but the folder images/ is not; put the photographs into it")
    rows, places, unusable = [], [], []
    for name, caption in captions.items():
        facts = NAME.search(name)
        if facts is None:
            unusable.append((NOT_A_NAME, name))
            continue
        if not isinstance(caption, str | list | None):
            unusable.append((f"the caption is a {type(caption).__name__}, not a text", name))
            continue
        row = {"image": name, "caption": caption, **facts.groupdict()}
        rows.append({column: table.as_text(value) for column, value in row.items()})
        places.append(name)
    without = sorted({file.name for file in folder.iterdir()} - captions.keys())
    unusable += [(f"the image is not in {CAPTIONS}", name) for name in without]
    found = ["DeepFashion-MultiModal, captions of images"]
    names = ["image", "caption", *NAME.groupindex]
    return Source(path, table_of(rows, names), places, folder, unusable, found, COLUMNS)


def read_json(file: Path, kind: type) -> Any:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({error})") from None
    if not isinstance(content, kind) or not content:
        raise InputError(f"{file}: expected a {kind.__name__} with entries, found {str(content)[:40]!r}")
    return content
