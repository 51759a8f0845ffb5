"""What a catalogue may hold, by mistake or on purpose, and the message that each of it gets."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogues import drawing, encoded, tiny_catalogue, tiny_products, write_parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_runs import train, use_patches

from common.batches import load_data
from common.catalogue import open_catalogue
from common.errors import InputError
from common.options import CatalogueOptions
from common.splits import SPLITS, split_catalogue

PICTURE = drawing("red", "disc", "white")
ROOT = Path(__file__).resolve().parents[1]
COUNT = 12


@dataclass(frozen=True)
class Case:
    """A catalogue and what is said about it.

    Attributes:
        build: writes it into a folder and returns what --data gets.
        left_out: the line of the report about the rows that are left out, or "" if all are used.
        error: of the whole catalogue; nothing else is looked at.
        found: a part of another line of the report.
        options: of the command line.
    """

    build: Callable[[Path], Path]
    left_out: str = ""
    error: str = ""
    found: str = ""
    options: Callable[[Path], dict] = lambda folder: {}


def shop(
    folder: Path, captions: dict[int, str] | None = None, images: dict[int, str | bytes] | None = None, **columns: str
) -> Path:
    """A table of 12 products; some with another caption, another image file's content (bytes) or name (str)."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = [",".join(["id", "image", "caption", *columns])]
    for number, row in enumerate(tiny_products(COUNT)):
        image = (images or {}).get(number, drawing(row["colour"], row["shape"], row["ground"]))
        name = f"images/{number}.jpg"
        if isinstance(image, bytes):
            (folder / name).write_bytes(image)
        else:
            name = image
        caption = (captions or {}).get(number, row["title"])
        lines.append(",".join([str(number), quoted(name), quoted(caption), *columns.values()]))
    (folder / "shop.csv").write_bytes("\n".join([*lines, ""]).encode())
    return folder / "shop.csv"


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def third_image(content: bytes) -> Callable[[Path], Path]:
    return lambda folder: shop(folder, images={3: content})


def third_name(name: str) -> Callable[[Path], Path]:
    return lambda folder: shop(folder, images={3: name.format(outside=folder.parent / "outside.jpg", folder=folder)})


def third_caption(text: str) -> Callable[[Path], Path]:
    return lambda folder: shop(folder, captions={3: text})


def text(content: str | bytes, name: str = "shop.csv") -> Callable[[Path], Path]:
    """A table with exactly this content, and the images 0 to 11."""

    def build(folder: Path) -> Path:
        shop(folder).unlink()
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return build


def rows_text(header: str = "id,image,caption", extra: str = "", count: int = COUNT) -> str:
    lines = [f"{n},images/{n}.jpg,{row['title']}" for n, row in enumerate(tiny_products(COUNT)[:count])]
    return "\n".join([header, *lines, extra, ""])


def link(target: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    """A symbolic link in the folder of images, which the fourth row names."""

    def build(folder: Path) -> Path:
        path = shop(folder, images={3: name})
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target(folder))
        return path

    return build


def linked_folder(folder: Path) -> Path:
    path = shop(folder, images={3: "elsewhere/outside.jpg"})
    (folder / "elsewhere").symlink_to(folder.parent)
    return path


def jsonl(*rows: object) -> Callable[[Path], Path]:
    good = [{"image": f"images/{n}.jpg", "caption": row["title"]} for n, row in enumerate(tiny_products(COUNT))]
    lines = [row if isinstance(row, str) else json.dumps(row) for row in [*good[: COUNT - len(rows)], *rows]]
    return text("\n".join(lines), "shop.jsonl")


def parquet(change: Callable[[list[dict]], object]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {"id": n, "caption": row["title"], "image": {"bytes": drawing(row["colour"], row["shape"], row["ground"]),
                                                         "path": None}}
            for n, row in enumerate(tiny_products(COUNT))
        ]  # fmt: skip
        change(rows)
        return write_parquet(folder / "shop.parquet", rows)

    return build


def kaggle(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        tiny_catalogue(folder, COUNT, kind="kaggle")
        change(folder)
        return folder

    return build


def twice_in_parquet(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    column = pa.array(["x"])
    pq.write_table(pa.Table.from_arrays([column, column, column], ["image", "a", "a"]), folder / "shop.parquet")
    return folder / "shop.parquet"


def in_columns(columns: Callable[[list[bytes]], dict[str, list]]) -> Callable[[Path], Path]:
    """A parquet file with captions and these columns, their types as pyarrow infers them."""

    def build(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rows = tiny_products(COUNT)
        pictures = [drawing(row["colour"], row["shape"], row["ground"]) for row in rows]
        table = pa.table({"caption": [row["title"] for row in rows]} | columns(pictures))
        pq.write_table(table, folder / "shop.parquet")
        return folder / "shop.parquet"

    return build


def replace_in(file: Path, old: bytes, new: bytes) -> None:
    file.write_bytes(file.read_bytes().replace(old, new, 1))


def linked(folder: Path, away: Path) -> None:
    """Move a folder away and put a link in its place."""
    folder.rename(away)
    folder.symlink_to(away)


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def bomb(side: int) -> bytes:
    """A small PNG of many pixels."""
    return encoded(Image.new("1", (side, side)), "PNG", optimize=True)


def animated() -> bytes:
    frames = [Image.new("RGB", (24, 32), colour) for colour in ("red", "green")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def transparent_palette() -> bytes:
    image = Image.new("P", (24, 32))
    image.putpalette([255, 0, 0, 0, 255, 0])
    return encoded(image, "PNG", transparency=0)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (24, 32), "blue"), exif=exif)


def empty_parquet(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(
        pa.table({"caption": pa.array([], pa.string()), "image": pa.array([], kind)}), folder / "shop.parquet"
    )
    return folder / "shop.parquet"


def undecodable(reason: str) -> str:
    return rf"left out 1 row: image cannot be decoded: {reason} \(line 5\)"


OUTSIDE = r"left out 1 row: the image lies outside \S+; --image-root DIR names another folder \(line 5\)"
GONE = r"left out 1 row: the image file does not exist \(line 5\)"
NO_CAPTION = r"left out 1 row: no caption \(line 5\)"
SQUARES = Image.effect_noise((64, 64), 50)
CASES = {
    # images
    "image of no bytes": Case(third_image(b""), undecodable("cannot identify image file")),
    "JPEG cut off": Case(third_image(PICTURE[:-100]), undecodable("image file is truncated")),
    "PNG cut off": Case(third_image(encoded(SQUARES, "PNG")[:900]), undecodable("image file is truncated")),
    "web page as an image": Case(third_image(b"<!DOCTYPE html><p>404"), undecodable("cannot identify image file")),
    "text as an image": Case(third_image(b"red disc\n" * 99), undecodable("cannot identify image file")),
    "SVG": Case(third_image(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), undecodable("cannot identify image file")),
    "decompression bomb": Case(
        lambda folder: third_image(bomb(20_000))(folder),
        undecodable(r"Image size .*400000000 pixels.* exceeds limit.*"),
    ),
    "header of an image alone": Case(third_image(PICTURE[:20]), undecodable("cannot identify image file")),
    "CMYK": Case(third_image(encoded(Image.new("CMYK", (24, 32), (0, 99, 99, 0))))),
    "16 bits": Case(third_image(encoded(Image.fromarray(np.full((32, 24), 30_000, np.uint16)), "PNG"))),
    "grey": Case(third_image(encoded(SQUARES))),
    "one bit": Case(third_image(encoded(Image.new("1", (24, 32)), "PNG"))),
    "palette with transparency": Case(third_image(transparent_palette())),
    "grey with transparency": Case(third_image(encoded(Image.new("LA", (24, 32), (9, 99)), "PNG"))),
    "turned by EXIF": Case(third_image(rotated())),
    "animated": Case(third_image(animated())),
    "WebP under the name of a JPEG": Case(third_image(encoded(Image.new("RGB", (24, 32), "red"), "WEBP"))),
    "TIFF under the name of a JPEG": Case(third_image(encoded(Image.new("RGB", (24, 32), "red"), "TIFF"))),
    "one pixel": Case(third_image(encoded(Image.new("RGB", (1, 1), "red"), "PNG"))),
    "one pixel wide": Case(third_image(encoded(Image.new("RGB", (1, 4000), "red"), "PNG"))),
    "one pixel high": Case(third_image(encoded(Image.new("RGB", (4000, 1), "red"), "PNG"))),
    # where images are
    "no such image": Case(third_name("images/none.jpg"), GONE),
    "a folder as the image": Case(third_name("images"), GONE),
    "the folder itself": Case(third_name("."), GONE),
    "no image named": Case(third_name(" "), r"left out 1 row: no image named \(line 5\)"),
    "a name too long for a file": Case(third_name("images/" + 5000 * "a" + ".jpg"), GONE),
    "a zero byte in the name": Case(third_name("images/a\0b.jpg"), GONE),
    "URL": Case(
        third_name("https://shop.example/3.jpg"),
        "left out 1 row: the image is a URL; data/prepare.py urls",
    ),
    "up and out of the folder": Case(third_name("../outside.jpg"), OUTSIDE),
    "up, out and by another way": Case(third_name("images/../../outside.jpg"), OUTSIDE),
    "absolute, outside": Case(third_name("{outside}"), OUTSIDE),
    "absolute, a device": Case(third_name("/dev/zero"), OUTSIDE),
    "absolute, inside": Case(third_name("{folder}/images/3.jpg"), GONE),
    "up and back in": Case(third_name("images/../images/0.jpg")),
    "link out of the folder": Case(link(lambda folder: folder.parent / "outside.jpg", "images/out.jpg"), OUTSIDE),
    "link inside the folder": Case(link(lambda folder: folder / "images" / "0.jpg", "images/in.jpg")),
    "link to itself": Case(link(lambda folder: folder / "images" / "circle.jpg", "images/circle.jpg"), GONE),
    "linked folder": Case(linked_folder, OUTSIDE),
    "outside, but allowed": Case(
        third_name("{outside}"),
        options=lambda folder: {"image_root": folder.parent},
        left_out=r"left out 11 rows: the image file does not exist",
    ),
    "all of them outside": Case(
        text("image,caption\n" + "".join(f"../{n}.jpg,title {n}\n" for n in range(9))),
        error=r"all of its images lie outside \S+, the first is .*\.\./0\.jpg; if they may be read.*--image-root",
    ),
    "none of them there": Case(
        text("image,caption\n" + "".join(f"img/{n}.jpg,title {n}\n" for n in range(9))),
        error=r"none of its images exists \(looked for 9\); the first would be .*--image-root",
    ),
    # tables
    "Windows-1252": Case(
        text(rows_text().replace("disc", "caf\u00e9").encode("cp1252")), found="encoding Windows-1252"
    ),
    "byte order mark": Case(text(rows_text().encode("utf-8-sig")), found="encoding UTF-8"),
    "UTF-16": Case(text(rows_text().encode("utf-16")), found="encoding UTF-16"),
    "not text": Case(text(bytes(range(256)) * 9), error="the encoding is neither UTF-8 nor Windows-1252"),
    "nothing": Case(text(""), error="the file is empty; expected a header line and a line a product"),
    "white space alone": Case(text(" \n \n"), error="the file is empty"),
    "a header alone": Case(text("id,image,caption\n"), error="an empty catalogue, no row can be used"),
    "semicolons": Case(text(rows_text().replace(",", ";")), found="delimiter ';'"),
    "line break in a caption": Case(third_caption("red disc\non white")),
    "quotes in a caption": Case(third_caption('a 6" disc, "red"')),
    "a quote that is never closed": Case(
        text(rows_text(extra='12,images/0.jpg,"red')), error="line 14: a quote is opened in this row and never closed"
    ),
    "rows too short": Case(
        text(rows_text(extra="12,images/0.jpg")), r"left out 1 row: 2 columns instead of 3 \(line 14\)"
    ),
    "rows too long": Case(text(rows_text(extra="12,images/0.jpg,red, disc")), "left out 1 row: 4 columns instead of 3"),
    "two columns of one name": Case(text(rows_text("id,caption,caption")), error="a column name occurs twice in"),
    "a header with a column more": Case(text(rows_text("id,image,caption,")), error="3 columns instead of 4"),
    "no image column": Case(
        text(rows_text("id,photo,caption")), error="no image column found among .*--image-column NAME"
    ),
    "no caption column": Case(
        text(rows_text("id,image,words")), error="no caption column found among .*--caption-column"
    ),
    "another column asked for": Case(
        text(rows_text()), error="no column 'sku' \\(--id-column\\)", options=lambda folder: {"id_column": "sku"}
    ),
    "zero bytes": Case(text(rows_text().replace("images/3.jpg", "images/\0.jpg")), GONE),
    # captions and ids
    "no caption": Case(third_caption(""), NO_CAPTION),
    "a caption of white space": Case(third_caption(" \t\u00a0\u2003 "), NO_CAPTION),
    "the title NA": Case(third_caption("NA")),
    "the title null": Case(third_caption("null")),
    "emoji": Case(third_caption("\U0001f457 dress \U0001f1ee\U0001f1f3")),
    "right to left": Case(third_caption("\u0641\u0633\u062a\u0627\u0646 \u0623\u062d\u0645\u0631")),
    "a caption of 100,000 letters": Case(third_caption("very " * 20_000)),
    "a caption without letters": Case(third_caption("!!! ...")),
    "a formula": Case(third_caption("=HYPERLINK(1)")),
    "control characters": Case(third_caption("red \x1b[31m disc\x07")),
    "the same row twice": Case(
        text(rows_text(extra="3,images/3.jpg," + tiny_products(4)[3]["title"])),
        r"left out 1 row: the same product, image and caption as an earlier row \(line 14\)",
    ),
    "one id for different products": Case(text(rows_text(extra="3,images/4.jpg,another title"))),
    "no id": Case(text(rows_text().replace("\n3,", "\n,"))),
    # JSON lines, parquet, Kaggle
    "a line that is no JSON": Case(jsonl("{'image': 1}"), r"left out 1 row: not a JSON object \(line 12\)"),
    "a line that is a list": Case(jsonl("[1, 2]"), "left out 1 row: not a JSON object"),
    "NaN as a caption": Case(jsonl('{"image": "images/11.jpg", "caption": NaN}'), "left out 1 row: no caption"),
    "null as an image": Case(jsonl({"image": None, "caption": "red"}), "left out 1 row: no image named"),
    "half of a surrogate pair": Case(jsonl('{"image": "images/11.jpg", "caption": "red \\ud83d"}')),
    "a number as a caption": Case(jsonl({"image": "images/11.jpg", "caption": 7})),
    "no line of JSON": Case(text("red\n", "shop.jsonl"), error="no line is a JSON object like"),
    "parquet that is none": Case(text(b"PAR1 not really", "shop.parquet"), error="not a readable parquet file"),
    "parquet without bytes": Case(
        parquet(lambda rows: rows[3].update(image=None)),
        r"left out 1 row: image cannot be decoded: no image bytes \(row 3\)",
    ),
    "parquet without a caption": Case(
        parquet(lambda rows: rows[3].update(caption=None)), r"left out 1 row: no caption \(row 3\)"
    ),
    "parquet of no rows": Case(empty_parquet, error="an empty catalogue, no row can be used"),
    "Kaggle without images": Case(
        kaggle(lambda folder: (folder / "images").rename(folder / "photos")), error="the folder images/ is not"
    ),
    "Kaggle with another header": Case(
        kaggle(lambda folder: (folder / "styles.csv").write_text("a,b\n1,2\n")),
        error="line 1: expected columns from 'id'",
    ),
    "Kaggle ids that climb out": Case(
        kaggle(lambda folder: append(folder / "styles.csv", "../../outside" + 9 * ",x" + "\n")),
        "left out 1 row: the image lies outside",
    ),
    "ids too large for a float": Case(
        parquet(lambda rows: [row.update(id=None if n == 0 else 2**53 + n) for n, row in enumerate(rows)]),
        found="12 products",
    ),
    "whole numbers too large for an integer": Case(parquet(lambda rows: [row.update(price=1e20) for row in rows])),
    "bytes beside the images": Case(
        parquet(lambda rows: [row.update(sha=bytes([200, n])) for n, row in enumerate(rows)]),
        found="column 'sha' is not read, it holds binary",
    ),
    "captions as bytes": Case(
        parquet(lambda rows: [row.update(caption=row["caption"].encode()) for row in rows]), found="caption = caption"
    ),
    "a second column of images": Case(
        parquet(lambda rows: [row.update(back=row["image"]) for row in rows]),
        found="column 'back' is not read, it holds struct<bytes: binary",
    ),
    "the second column of images asked for": Case(
        in_columns(lambda pictures: {"image": ["x"] * COUNT, "back": [{"bytes": p, "path": None} for p in pictures]}),
        options=lambda folder: {"image_column": "back"},
    ),
    "images as lists of numbers": Case(
        in_columns(lambda pictures: {"image": [{"bytes": [1, 2], "path": None} for _ in pictures]}),
        error=r"no image column found(.|\n)*column 'image' is not read, it holds struct<bytes: list<",
    ),
    "values in values": Case(
        parquet(lambda rows: [row.update(facts=[{"a": 1}], more={"a": 1}) for row in rows]),
        found="column 'facts' is not read, it holds list<",
    ),
    "parquet with two columns of one name": Case(twice_in_parquet, error="a column name occurs twice in"),
    "parquet that names paths it does not hold": Case(
        parquet(lambda rows: [row.update(image={"bytes": None, "path": "a.jpg"}) for row in rows]),
        error=r"none of its images can be decoded\n(.|\n)*left out 12 rows: image cannot be decoded: no image bytes",
    ),
    "half of a surrogate pair in a key": Case(jsonl('{"image": "images/11.jpg", "caption": "red", "a\\ud83d": 1}')),
    "an object as a caption": Case(
        jsonl({"image": "images/11.jpg", "caption": {"en": "red"}}),
        found="objects taken as their JSON in 'caption': 1 (line 12)",
    ),
    "a mark of UTF-16 alone": Case(text(b"\xff\xfe"), error="the file is empty"),
    "attributes of our own names": Case(
        lambda folder: shop(folder, **{"place": "a", "place (attribute)": "b", "group": "c"}), found="12 products"
    ),
    "Kaggle in Windows-1252": Case(
        kaggle(lambda folder: replace_in(folder / "styles.csv", b" on ", " \u00e0 ".encode("cp1252"))),
        found="styles.csv (Windows-1252)",
    ),
    "Kaggle with a column twice": Case(
        kaggle(lambda folder: replace_in(folder / "styles.csv", b"gender", b"season")),
        error="line 1: a column name occurs twice, or is 'image'",
    ),
    "Kaggle whose images are a link": Case(
        kaggle(lambda folder: linked(folder / "images", folder.parent / "away")),
        error=r"images: a link out of the catalogue; if its images may be read, say so: --image-root \S+away",
    ),
    "the same, allowed": Case(
        kaggle(lambda folder: linked(folder / "images", folder.parent / "away")),
        options=lambda folder: {"image_root": folder.parent / "away"},
    ),
    "a folder of nothing": Case(lambda folder: folder.mkdir() or folder, error="not a catalogue; expected"),
    "nowhere": Case(lambda folder: folder / "none.csv", error="no such file or folder"),
}


def test_there_are_enough_cases():
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("error")
def test_case(case, tmp_path, capsys, monkeypatch):
    (tmp_path / "outside.jpg").write_bytes(PICTURE)
    path = case.build(tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if not file.is_symlink()}
    options = CatalogueOptions(path, **case.options(tmp_path / "shop"))
    if case.error:
        with pytest.raises(InputError, match=case.error) as raised:
            load_data(options, (16, 12), lambda: None)
        assert str(tmp_path) in str(raised.value), "the message names the file"
        return
    data = load_data(options, (16, 12), lambda: None)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "left out" in line]
    assert len(lines) == bool(case.left_out), lines
    if case.left_out:
        assert re.search(case.left_out, lines[0]), lines
    assert case.found in out
    assert len(data.catalogue.rows) + sum(map(len, data.catalogue.report.unusable.values())) in (COUNT, COUNT + 1)
    after = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if not file.is_symlink()}
    assert after == before, "nothing in the folder was touched"


@pytest.mark.parametrize(("products", "message"), [(1, "split is empty"), (2, "split is empty"), (5, "split is empty")])
def test_too_few_products(products, message, tmp_path, monkeypatch):
    use_patches(monkeypatch)
    with pytest.raises(InputError, match=message):
        train(monkeypatch, tiny_catalogue(tmp_path / "tiny", products), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fewer_products_than_the_batch(tmp_path, monkeypatch, capsys):
    use_patches(monkeypatch)
    train(monkeypatch, tiny_catalogue(tmp_path / "tiny", 40), tmp_path / "run", epochs=1, batch_size=512)
    assert "instead of 512, there are no more training pairs" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder(tmp_path, monkeypatch):
    path = shop(tmp_path / "shop")
    (tmp_path / "shop").chmod(0o500)
    open_catalogue(path)


def test_two_trainings_build_the_same_cache_at_once(tmp_path):
    """Both start where there is no cache; both end, with the same numbers."""
    path = tiny_catalogue(tmp_path / "shop", 90)
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from pathlib import Path\n"
        "from common.catalogue import open_catalogue\n"
        "from common.images import open_images\n"
        "for size in range(16, 28):\n"
        "    images = open_images(open_catalogue(Path(sys.argv[3])), (size, size), Path(sys.argv[4]))\n"
        "    print(int(images.pixels.sum()), int(images.digests.sum()), images.errors)\n"
    )
    command = [sys.executable, "-c", code, ROOT, ROOT / "tests", path, tmp_path / "cache"]
    both = [
        subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] and len(outputs[0][0].splitlines()) == 12
    assert not list((tmp_path / "cache").glob("*.part*"))


# --- any table -----------------------------------------------------------------------------------------

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TABLE = st.lists(
    st.tuples(
        st.sampled_from(["0", "1", "2", "a", "", " "]),
        st.sampled_from([f"images/{n}.jpg" for n in range(4)] + ["images/none.jpg", "../x.jpg", ""]),
        st.one_of(CELL, st.sampled_from(["red", "Red ", "blue"])),
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def four_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    (folder / "images").mkdir()
    for number in range(4):
        (folder / "images" / f"{number}.jpg").write_bytes(PICTURE + bytes([number]))
    return folder


@given(table=TABLE)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_is_used_and_rejected_and_no_group_crosses(table, four_images):
    path = four_images / "any.csv"
    lines = ["id,image,caption", *(",".join(map(quoted, row)) for row in table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    try:
        catalogue = open_catalogue(path)
    except InputError as error:
        assert (
            "no row can be used" in str(error) or "none of its images exists" in str(error) or "outside" in str(error)
        )
        return
    rejected = [place for places in catalogue.report.unusable.values() for place in places]
    used = [catalogue.places[place] for place in catalogue.rows["place"]]
    assert not set(used) & set(rejected)
    blank = sum(not any(cell.strip() for cell in row) for row in table)  # as an empty line is
    assert len(used) + len(rejected) == len(table) - blank == len(set(used)) + len(set(rejected))
    rows = catalogue.rows
    splits = split_catalogue(rows, np.arange(len(catalogue.images)))
    assert sum(len(splits.rows(name)) for name in (*SPLITS, "excluded")) == len(rows)
    used = rows.assign(split=list(splits.of_row)).query("split != 'excluded'")
    for thing in ("product", "image", "caption"):
        assert used.groupby(thing)["split"].nunique().max() == 1
