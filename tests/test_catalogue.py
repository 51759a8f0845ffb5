"""common/catalogue.py and common/formats: what is read from good files, and what is said about bad ones."""

import csv
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogues import KAGGLE_HEADER, drawing, write_parquet

from common.batches import load_data
from common.catalogue import Catalogue, open_catalogue
from common.errors import InputError
from common.images import open_images
from common.options import CatalogueOptions
from common.splits import split_catalogue

PICTURE = drawing("red", "disc", "white")
PAIRS = [("a.jpg", "red shoe"), ("b.jpg", "blue hat"), ("c.jpg", "grey bag")]


def put(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    """Write a table beside the images a.jpg, b.jpg and c.jpg."""
    for image in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / image).write_bytes(PICTURE)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def put_kaggle(folder: Path, *lines: str, images: tuple[str, ...] = ("1", "2"), encoding: str = "utf-8") -> Path:
    (folder / "images").mkdir()
    for image in images:
        (folder / "images" / f"{image}.jpg").write_bytes(PICTURE)
    (folder / "styles.csv").write_text("\n".join([KAGGLE_HEADER, *lines]) + "\n", encoding=encoding)
    return folder


def style(product: str, title: str, colour: str = "Red", season: str = "Fall") -> str:
    return f"{product},Men,Apparel,Topwear,Shirts,{colour},{season},2011,Casual,{title}"


def places(catalogue: Catalogue) -> list[str]:
    return [catalogue.places[number] for number in catalogue.rows["place"]]


def pairs(catalogue: Catalogue) -> list[tuple[str, str]]:
    """(file name, caption) of each row"""
    return [
        (catalogue.images[i].name, caption)
        for i, caption in catalogue.rows[["image", "caption"]].itertuples(index=False)
    ]


def left_out(catalogue: Catalogue) -> dict[str, list[str]]:
    return dict(catalogue.report.unusable)


# --- the three kinds of path ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "kaggle", "parquet"])
def test_three_kinds_hold_the_same_products(tmp_path, tiny_catalogue, kind):
    catalogue = open_catalogue(tiny_catalogue(tmp_path, products=12, kind=kind))
    reference = open_catalogue(tiny_catalogue(tmp_path / "reference", products=12))
    columns = ["product", "image", "caption"]
    pd.testing.assert_frame_equal(catalogue.rows[columns], reference.rows[columns])
    assert len(catalogue.images) == 12 and not catalogue.report.unusable
    contents = [source if isinstance(source, bytes) else source.read_bytes() for source in catalogue.images]
    assert contents == [path.read_bytes() for path in reference.images]


def test_kaggle_attributes_and_line_numbers(tmp_path):
    catalogue = open_catalogue(put_kaggle(tmp_path, style("1", "One"), "", style("2", "Two", "Blue")))
    assert catalogue.attributes == KAGGLE_HEADER.split(",")[1:-1]
    assert places(catalogue) == ["line 2", "line 4"]
    assert list(catalogue.rows["baseColour"]) == ["Red", "Blue"]
    assert list(catalogue.rows["product"]) == ["1", "2"]


def test_kaggle_with_byte_order_mark_and_separators_in_titles(tmp_path):
    lines = style("1", "One\u2028and a half"), style("2", "Two")
    catalogue = open_catalogue(put_kaggle(tmp_path, *lines, encoding="utf-8-sig"))
    assert pairs(catalogue) == [("1.jpg", "One and a half"), ("2.jpg", "Two")]
    assert places(catalogue) == ["line 2", "line 3"]


def test_column_names_of_marqo_kagl(tmp_path):
    image = {"bytes": PICTURE, "path": "7.jpg"}
    row = {"image": image, "text": "Puma Men Grey T-shirt", "item_ID": "7", "category1": "Apparel",
           "category2": "Topwear", "category3": "Tshirts"}  # fmt: skip
    catalogue = open_catalogue(write_parquet(tmp_path / "kagl.parquet", [row]))
    assert catalogue.attributes == ["category1", "category2", "category3"]
    assert catalogue.rows.to_dict("records") == [
        {"product": "7", "image": 0, "caption": "Puma Men Grey T-shirt", "place": 0,
         "category1": "Apparel", "category2": "Topwear", "category3": "Tshirts"}
    ]  # fmt: skip


def test_folder_of_shards_is_read_in_the_order_of_names(tmp_path):
    images = [drawing(colour, "disc", "white") for colour in ("red", "green", "blue")]
    rows = [{"id": n, "text": f"title {n}", "image": {"bytes": images[n], "path": None}} for n in range(3)]
    write_parquet(tmp_path / "data-00001.parquet", rows[2:])
    write_parquet(tmp_path / "data-00000.parquet", rows[:2])
    catalogue = open_catalogue(tmp_path)
    assert list(catalogue.rows["product"]) == ["0", "1", "2"]
    assert list(catalogue.images) == images
    expected = ["data-00000.parquet, row 0", "data-00000.parquet, row 1", "data-00001.parquet, row 0"]
    assert places(catalogue) == expected and len(catalogue.places) == 3


def test_parquet_years_and_missing_values(tmp_path):
    image = {"bytes": PICTURE, "path": None}
    rows = [{"id": n, "text": f"t{n}", "year": year, "usage": usage, "image": image}
            for n, (year, usage) in enumerate([(2011.0, None), (None, "Casual")])]  # fmt: skip
    catalogue = open_catalogue(write_parquet(tmp_path / "years.parquet", rows))
    assert list(catalogue.rows["year"]) == ["2011", ""] and list(catalogue.rows["usage"]) == ["", "Casual"]


def test_parquet_row_without_image_keeps_its_place_among_the_images(tmp_path):
    image = {"bytes": PICTURE, "path": None}
    rows = [{"id": n, "text": f"t{n}", "image": None if n == 0 else image} for n in range(2)]
    catalogue = open_catalogue(write_parquet(tmp_path / "gap.parquet", rows))
    assert list(catalogue.images) == [None, PICTURE]


def test_stored_images_without_an_id_are_called_by_what_they_hold(tmp_path):
    """So that a row more or less moves no other product to another split."""
    images = [drawing(colour, "disc", "white") for colour in ("red", "green", "blue", "red", "pink")]
    rows = [{"text": f"title {n}", "image": {"bytes": image, "path": None}} for n, image in enumerate(images)]
    whole, part = (
        load_data(CatalogueOptions(data=write_parquet(tmp_path / name, some)), (8, 8), sample=None).catalogue.rows
        for name, some in (("whole.parquet", rows), ("part.parquet", rows[1:]))
    )
    product = dict(zip(whole["caption"], whole["product"], strict=True))
    assert product["title 0"] == product["title 3"] and len(set(product.values())) == 4  # one photograph, one product
    assert dict(zip(part["caption"], part["product"], strict=True)) == {
        caption: name for caption, name in product.items() if caption != "title 0"
    }


def test_parquet_takes_the_name_of_its_image_column(tmp_path, tiny_catalogue):
    path = tiny_catalogue(tmp_path, products=3, kind="parquet")
    assert len(open_catalogue(path, image_column="image").rows) == 3


def test_a_parquet_file_of_two_image_columns_is_two_catalogues(tmp_path):
    """Neither the cache nor the fingerprint takes the one for the other."""
    colours = {"image": "red", "back": "blue"}
    stored = {name: [{"bytes": drawing(colour, "disc", "white"), "path": "0"}] for name, colour in colours.items()}
    path = tmp_path / "shop.parquet"
    pq.write_table(pa.table({"id": ["1"], "caption": ["a disc"], **stored}), path)
    both = {name: open_catalogue(path, image_column=name) for name in colours}
    assert open_catalogue(path).fingerprint == both["image"].fingerprint != both["back"].fingerprint
    pixels = {name: open_images(one, (32, 24), tmp_path / "cache").pixels[0, 16, 12] for name, one in both.items()}
    assert pixels["image"].argmax() == 0 and pixels["back"].argmax() == 2


# --- tables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiters_with_quoted_fields(tmp_path, delimiter):
    captions = ['a "red", big; shoe | left\tright', "two\nlines", "plain"]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([("image", "caption"), *zip(("a.jpg", "b.jpg", "c.jpg"), captions, strict=True)])
    catalogue = open_catalogue(put(tmp_path, "shop.csv", file.getvalue()))
    assert [caption for _, caption in pairs(catalogue)] == ['a "red", big; shoe | left right', "two lines", "plain"]
    assert places(catalogue) == ["line 2", "line 3", "line 5"]
    assert catalogue.report.lines()[:2] == [
        f"delimiter {delimiter!r}, encoding UTF-8", "rows that span several lines, by a quote: 1 (line 3)",
    ]  # fmt: skip


@pytest.mark.parametrize("before", ["\n" * 60, " \n", ";;\n;\n"])
def test_empty_lines_before_the_header(tmp_path, before):
    text = before + "image;caption\na.jpg;a red shoe\n"
    catalogue = open_catalogue(put(tmp_path, "shop.csv", text))
    assert pairs(catalogue) == [("a.jpg", "a red shoe")]
    assert places(catalogue) == [f"line {before.count(chr(10)) + 2}"]


@pytest.mark.parametrize("nothing", [",,\n", ",,\n,\n", ";\n", "sep=;\n", "sep=;\n;;\n", '"sep=,"\n\n'])
def test_a_table_of_delimiters_has_no_columns(tmp_path, nothing):
    with pytest.raises(InputError, match=r"shop\.csv: no (image column found|header line)"):
        open_catalogue(put(tmp_path, "shop.csv", nothing))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends(tmp_path, end, last):
    text = end.join(["image,caption", *map(",".join, PAIRS)]) + end * last
    assert pairs(open_catalogue(put(tmp_path, "shop.csv", text))) == PAIRS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shop.TSV", "image\tcaption\n" + "".join(f"{a}\t{b}\n" for a, b in PAIRS)),
        ("shop.jsonl", "".join(json.dumps({"caption": b, "image": a}) + "\n" for a, b in PAIRS)),
        ("shop.csv", "\n\nimage , caption\n" + "".join(f"{a},{b}\n\n" for a, b in PAIRS)),
    ],
)
def test_other_tables(tmp_path, name, text):
    assert pairs(open_catalogue(put(tmp_path, name, text))) == PAIRS


@pytest.mark.parametrize(("encoding", "said"), [("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"), ("cp1252", "Windows-1252")])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_encodings(tmp_path, encoding, said, kind):
    text = "image,caption\na.jpg,Blüse 10 €\n" if kind == "csv" else '{"image": "a.jpg", "caption": "Blüse 10 €"}\n'
    catalogue = open_catalogue(put(tmp_path, f"shop.{kind}", text, encoding))
    assert pairs(catalogue) == [("a.jpg", "Blüse 10 €")]
    assert catalogue.report.lines()[0].endswith(f"encoding {said}")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_utf_16_without_its_mark_is_refused(tmp_path, encoding, kind):
    text = "image,caption\na.jpg,Blüse\n" if kind == "csv" else '{"image": "a.jpg", "caption": "Blüse"}\n'
    with pytest.raises(InputError, match=r"looks like UTF-16 without its byte order mark; save the file as UTF-8"):
        open_catalogue(put(tmp_path, f"shop.{kind}", text, encoding))
    catalogue = open_catalogue(put(tmp_path, f"shop.{kind}", "\ufeff" + text, encoding))
    assert pairs(catalogue) == [("a.jpg", "Blüse")], "with its mark it is read"


@pytest.mark.parametrize("start", [b"PK\x03\x04\x14\x00\x06\x00", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
@pytest.mark.parametrize("name", ["shop.xlsx", "shop.xls", "shop.csv", "shop.jsonl"])
def test_a_workbook_is_to_be_saved_as_csv(tmp_path, name, start):
    path = put(tmp_path, name, start + bytes(500))
    with pytest.raises(InputError) as error:
        open_catalogue(path)
    assert str(error.value) == f"{path}: an Excel workbook; save it as CSV (UTF-8)"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("name", ["shop.csv", "shop.tsv"])
def test_a_first_line_that_names_the_delimiter(tmp_path, delimiter, quote, name):
    """Excel's; it is counted as a line."""
    rows = [("image", "caption"), ("a.jpg", "one"), ("b.jpg", "sep=;")]
    lines = [f"{quote}sep={delimiter}{quote}", *(f'{image}{delimiter}"{caption}"' for image, caption in rows)]
    catalogue = open_catalogue(put(tmp_path, name, "\r\n".join(lines) + "\r\n"))
    assert pairs(catalogue) == rows[1:] and places(catalogue) == ["line 3", "line 4"]
    assert catalogue.report.lines()[0] == f"delimiter {delimiter!r}, encoding UTF-8"


def test_only_the_first_line_names_the_delimiter(tmp_path):
    text = 'image,caption\na.jpg,"two\nsep=;\nlines"\n'
    assert pairs(open_catalogue(put(tmp_path, "shop.csv", text))) == [("a.jpg", "two sep=; lines")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_whole_numbers_written_beside_missing_ones(tmp_path, kind):
    """As pandas writes them; a column with one that is not whole stays as it is."""
    frame = pd.DataFrame({
        "image": ["a.jpg", "b.jpg", "c.jpg"], "caption": ["one", "two", "three"], "id": [1163.0, None, 1165.0],
        "year": [None, -5.0, 2011.0], "price": [19.0, 19.5, None], "size": ["7.0", "", "M"],
    })  # fmt: skip
    path = put(tmp_path, f"shop.{kind}", "")
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    rows = open_catalogue(path).rows.astype(str)
    assert rows["product"].tolist() == ["1163", "image b.jpg", "1165"]
    assert rows["year"].tolist() == ["", "-5", "2011"] and rows["price"].tolist() == ["19.0", "19.5", ""]
    assert rows["size"].tolist() == ["7.0", "", "M"]


def test_image_paths_of_windows(tmp_path):
    (tmp_path / "img" / "new").mkdir(parents=True)
    names = {"img\\1.jpg": "img/1.jpg", ".\\img\\new\\2.jpg": "img/new/2.jpg", "odd\\3.jpg": "odd\\3.jpg"}
    for file in names.values():
        (tmp_path / file).write_bytes(PICTURE)
    (tmp_path.parent / "outside.jpg").write_bytes(PICTURE)
    asked = [*names, "..\\outside.jpg", "img\\none.jpg", "C:\\shop\\1.jpg"]
    text = "image,caption\n" + "".join(f"{name},caption {number}\n" for number, name in enumerate(asked))
    catalogue = open_catalogue(put(tmp_path, "shop.csv", text))
    assert [catalogue.images[image] for image in catalogue.rows["image"]] == [
        tmp_path / file for file in names.values()
    ]
    assert left_out(catalogue) == {
        f"the image lies outside {tmp_path}; --image-root DIR names another folder": ["line 5"],
        "the image file does not exist": ["line 6", "line 7"],
    }


@pytest.mark.parametrize(
    "names",
    [("image", "caption", "id"), ("Image_Path", "Title", "SKU"), ("file_name", "text", "item_ID"),
     ("filename", "description", "article_id"), ("img", "productDisplayName", "product_id")],
)  # fmt: skip
def test_common_column_names_are_guessed(tmp_path, names):
    catalogue = open_catalogue(put(tmp_path, "shop.csv", f"{','.join(names)},season\na.jpg,red shoe,7,Fall\n"))
    row = {"product": "7", "image": 0, "caption": "red shoe", "place": 0, "season": "Fall"}
    assert catalogue.rows.to_dict("records") == [row]
    assert catalogue.report.lines()[1] == f"columns: image = {names[0]}, caption = {names[1]}, id = {names[2]}"


def test_columns_and_folder_asked_for_win(tmp_path):
    put(tmp_path, "unused.csv", "")
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "shop.csv"
    path.write_text("image,caption,id,picture,words,number\nx.jpg,wrong,0,a.jpg,right,9\n")
    catalogue = open_catalogue(path, "picture", "words", "number", image_root=tmp_path)
    assert pairs(catalogue) == [("a.jpg", "right")] and list(catalogue.rows["product"]) == ["9"]


@pytest.mark.parametrize("column", ["image", "caption"])
def test_a_column_may_be_asked_for_twice(tmp_path, column):
    path = put(tmp_path, "shop.csv", "image,caption\na.jpg,red shoe\nb.jpg,blue hat\n")
    rows = open_catalogue(path, id_column=column).rows
    assert rows["product"].tolist() == (["a.jpg", "b.jpg"] if column == "image" else ["red shoe", "blue hat"])
    assert rows["caption"].tolist() == ["red shoe", "blue hat"] and rows["image"].tolist() == [0, 1]


def test_images_and_captions_of_one_product(tmp_path):
    text = "id,image,caption\n1,a.jpg,red\n1,a.jpg,scarlet\n1,b.jpg,red\n2,c.jpg,blue\n"
    catalogue = open_catalogue(put(tmp_path, "shop.csv", text))
    assert list(catalogue.rows["product"]) == ["1", "1", "1", "2"]
    assert list(catalogue.rows["image"]) == [0, 0, 1, 2] and len(catalogue.images) == 3


@pytest.mark.parametrize("text", ["image,caption\na.jpg,x\na.jpg,y\nb.jpg,x\n",
                                  "id,image,caption\n,a.jpg,x\n,a.jpg,y\n,b.jpg,x\n"])  # fmt: skip
def test_without_id_an_image_is_a_product(tmp_path, text):
    catalogue = open_catalogue(put(tmp_path, "shop.csv", text))
    assert list(catalogue.rows["product"]) == ["image a.jpg", "image a.jpg", "image b.jpg"]


def test_file_names_keep_their_spaces(tmp_path):
    for name in ("red  shoe.jpg", "blue\u00a0hat.jpg"):
        (tmp_path / name).write_bytes(PICTURE)
    catalogue = open_catalogue(put(tmp_path, "shop.csv", "image,caption\n red  shoe.jpg ,x\nblue\u00a0hat.jpg,y\n"))
    assert pairs(catalogue) == [("red  shoe.jpg", "x"), ("blue\u00a0hat.jpg", "y")]


def test_fingerprint_moves_with_the_data_and_not_with_its_place(tmp_path):
    text = "id,image,caption,colour\n1,a.jpg,red,Red\n2,b.jpg,blue,Blue\n"
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    first, second = (put(folder, "shop.csv", text) for folder in folders)
    original = open_catalogue(first).fingerprint
    os.utime(second.parent / "a.jpg", (1, 1))
    assert open_catalogue(second).fingerprint == original
    changed = {original}
    for old, new in [("1,a", "3,a"), ("red", "rot"), ("Red", "Rot"), ("b.jpg", "c.jpg")]:
        second.write_text(text.replace(old, new, 1))
        changed.add(open_catalogue(second).fingerprint)
    second.write_text(text)
    (second.parent / "a.jpg").write_bytes(PICTURE + b"more")
    changed.add(open_catalogue(second).fingerprint)
    assert len(changed) == 6


# --- rows that are left out, and rows that are kept with a remark ------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("shop.csv", "image,caption\na.jpg,x\nz.jpg,y\n", {"the image file does not exist": ["line 3"]}),
        ("shop.csv", "image,caption\n,x\na.jpg,y\n", {"no image named": ["line 2"]}),
        ("shop.csv", f"image,caption\n{'n' * 300}.jpg,x\na.jpg,y\n", {"the image file does not exist": ["line 2"]}),
        ("shop.csv", "image,caption\na.jpg, \n\nb.jpg,x\nc.jpg,\n", {"no caption": ["line 2", "line 5"]}),
        ("shop.csv", 'image,caption\na.jpg,"x\n\ny"\nb.jpg,"x\nz",y\nc.jpg\n',
         {"3 columns instead of 2": ["line 5"], "1 columns instead of 2": ["line 7"]}),
        ("shop.csv", 'image,caption\nhttps://x.org/a.jpg,x\nHTTP://x.org/b.jpg,"y\nz"\na.jpg,x\n',
         {"the image is a URL; data/prepare.py urls downloads it": ["line 2", "line 3"]}),
        ("shop.csv", "image,caption\na.jpg,x\na.jpg,x\na.jpg,y\n",
         {"the same product, image and caption as an earlier row": ["line 3"]}),
        ("shop.jsonl", '{"image": "a.jpg", "caption": "x"}\n{broken\n[1]\n{"image": "b.jpg"}\n{"caption": null}\n',
         {"not a JSON object": ["line 2", "line 3"], "no caption": ["line 4", "line 5"]}),
    ],
)  # fmt: skip
def test_unusable_rows_are_named(tmp_path, name, text, expected):
    path = put(tmp_path, name, text)
    assert left_out(open_catalogue(path)) == expected
    with pytest.raises(InputError) as strict:
        open_catalogue(path, strict=True)
    count = sum(map(len, expected.values()))
    rows = "1 row" if count == 1 else f"{count} rows"
    lines = str(strict.value).split("\n  ")
    assert lines[0] == f"{path}: {rows} cannot be used, and --strict is given:"
    for line, (reason, places) in zip(lines[1:], expected.items(), strict=True):
        assert line == f"left out {len(places)} row{'s' * (len(places) > 1)}: {reason} ({'; '.join(places)})"


def test_strict_accepts_a_clean_catalogue(tmp_path, tiny_catalogue):
    assert len(open_catalogue(tiny_catalogue(tmp_path, products=5), strict=True).rows) == 5


def test_report_shows_three_examples(tmp_path):
    text = "image,caption\na.jpg,x\n" + "z.jpg,y\n" * 5
    line = "left out 5 rows: the image file does not exist (line 3; line 4; line 5; ...)"
    assert line in open_catalogue(put(tmp_path, "shop.csv", text)).report.lines()


def test_defects_of_the_public_catalogue(tmp_path):
    lines = [
        style("1", "Nike Red Shirt, Pack of 2, Large"),
        style("2", "White Shirt", colour="White"),
        style("3", "white  SHIRT", colour="Navy Blue"),  # shares its title with 2 and contradicts its colour
        style("4", "", colour="Blue"),
        style("5", "Plain Shirt", season=""),
        style("6", "No Image"),
        style("7", '"Quoted, with ""marks"""'),
        "8,Men,Apparel",
    ]
    catalogue = open_catalogue(put_kaggle(tmp_path, *lines, images=("1", "2", "3", "4", "5", "7")))
    assert catalogue.rows["caption"].tolist() == [
        "Nike Red Shirt, Pack of 2, Large", "White Shirt", "white SHIRT", "Plain Shirt", 'Quoted, with "marks"',
    ]  # fmt: skip
    assert left_out(catalogue) == {
        "3 columns instead of 10": ["line 9"],
        "no caption": ["line 5"],
        "the image file does not exist": ["line 7"],
    }
    assert catalogue.report.lines()[:6] == [
        "Kaggle folder, styles.csv and images/",
        "titles with an unescaped comma, read whole: 1",
        "columns: image = image, caption = productDisplayName, id = id",
        "kept 2 rows share their caption with another product",
        "kept 1 row whose caption names another 'baseColour' only",
        "kept 1 row without a value for 'season'",
    ]


@pytest.mark.parametrize(
    ("caption", "colour", "count"),
    [("Navy shirt", "Navy Blue", 0), ("Navy Blue shirt", "Blue", 0), ("Red and Blue shirt", "Blue", 0),
     ("Red shirt", "Blue", 1), ("Redden shirt", "Blue", 0), ("Red shirt", "", 0), ("shirt", "Blue", 0)],
)  # fmt: skip
def test_titles_that_contradict_the_colour(tmp_path, caption, colour, count):
    text = f"image,caption,colour\na.jpg,{caption},{colour}\nb.jpg,x,Red\nc.jpg,y,Navy Blue\n"
    report = open_catalogue(put(tmp_path, "shop.csv", text)).report.lines()
    assert report.count("kept 1 row whose caption names another 'colour' only") == count


# --- what is no catalogue: one message that names the file ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("shop.txt", "image,caption\na.jpg,x\n", "not a catalogue; expected a folder with styles.csv"),
        ("shop.csv", "", "the file is empty"),
        ("shop.tsv", b"\xef\xbb\xbf\n \n", "the file is empty"),
        ("shop.csv", "image,caption\n", "an empty catalogue, no row can be used"),
        ("shop.csv", "image,caption\na.jpg,\n", r"no row can be used(.|\n)*left out 1 row: no caption \(line 2\)"),
        ("shop.csv", "image,caption\nhttp://x.org/a.jpg,x\n", r"no row can be used(.|\n)*the image is a URL"),
        ("shop.csv", "image,colour\na.jpg,x\n", r"no caption column found among \['image', 'colour'\]; .* --caption"),
        ("shop.csv", "caption,colour\na.jpg,x\n", r"no image column found among .*--image-column NAME"),
        ("shop.csv", "just some text\n", "no image column found"),
        ("shop.csv", "image,caption\ny.jpg,x\nz.jpg,x\n", r"none of its images exists \(looked for 2\).*y\.jpg.*-root"),
        ("shop.csv", b"image,caption\na.jpg,\x81\xff\n", "neither UTF-8 nor Windows-1252"),
        ("shop.csv", "image,caption,caption\na.jpg,x,y\n", "line 1: a column name occurs twice"),
        ("shop.csv", 'image,caption\na.jpg,x\nb.jpg,"y\nc.jpg,z\n', "line 3: a quote is opened .* never closed"),
        ("shop.csv", 'image,"caption\na.jpg,x\n', "header opens a quote and never closes it"),
        ("shop.jsonl", "{broken\n", "no line is a JSON object"),
        ("shop.parquet", "no parquet", "not a readable parquet file"),
        ("shop.parquet", b"", "not a readable parquet file"),
    ],
)  # fmt: skip
def test_unusable_tables(tmp_path, name, content, message):
    path = put(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as error:
        open_catalogue(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("option", ["image", "caption", "id"])
def test_unknown_column_is_named_with_its_option(tmp_path, option):
    path = put(tmp_path, "shop.csv", "image,caption\na.jpg,x\n")
    expected = rf"shop.csv: no column 'nope' \(--{option}-column\); its columns are \['image', 'caption'\]"
    with pytest.raises(InputError, match=expected):
        open_catalogue(path, **{f"{option}_column": "nope"})


def test_missing_path(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder; give --data"):
        open_catalogue(tmp_path / "nowhere")


def test_folder_that_is_no_catalogue(tmp_path):
    put(tmp_path, "shop.csv", "image,caption\na.jpg,x\n")
    with pytest.raises(InputError, match=f"{tmp_path}: not a catalogue"):
        open_catalogue(tmp_path)


def test_kaggle_without_images_folder(tmp_path):
    put_kaggle(tmp_path, style("1", "One")).joinpath("images").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{tmp_path}: styles.csv is there but the folder images/ is not"):
        open_catalogue(tmp_path)


@pytest.mark.parametrize("header", ["", "productDisplayName,id", "id,title"])
def test_kaggle_with_another_header(tmp_path, header):
    put_kaggle(tmp_path).joinpath("styles.csv").write_text(header)
    message = r"styles.csv(, line 1: expected columns from 'id' to 'productDisplayName'|: the file is empty)"
    with pytest.raises(InputError, match=message):
        open_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("column", "image", "message"),
    [
        ("image", "a.jpg", "none of its images exists .looked for 1.; the first would be .*a.jpg"),
        (
            "image",
            {"file": b"", "path": None},
            r"no image column(.|\n)*column 'image' is not read, it holds struct<",
        ),
        (
            "image",
            "https://shop.example/a.jpg",
            "left out 1 row: the image is a URL; data/prepare.py urls downloads it",
        ),
        ("photo", "a.jpg", r"no image column found among \['id', 'text', 'photo'\]; name it with --image-column"),
    ],
)
def test_parquet_without_images(tmp_path, column, image, message):
    pd.DataFrame({"id": [1], "text": ["x"], column: [image]}).to_parquet(tmp_path / "shop.parquet")
    with pytest.raises(InputError, match=message) as raised:
        open_catalogue(tmp_path / "shop.parquet")
    assert "shop.parquet" in str(raised.value)


@pytest.mark.parametrize("kind", ["names", "bytes", "other struct"])
def test_parquet_with_images_by_name_by_bytes_or_under_another_name(tmp_path, kind):
    """The third image is missing; the captions are lists, the years have gaps."""
    contents = [drawing("red", "disc", "white"), drawing("blue", "disc", "white"), None]
    images = {
        "names": ["images/0.jpg", "images/1.jpg", None],
        "bytes": contents,
        "other struct": [content and {"bytes": content, "path": None} for content in contents],
    }[kind]
    (tmp_path / "images").mkdir()
    for number, content in enumerate(contents[:2]):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(content)
    rows = {"caption": [["red disc", "a disc"], ["blue disc"], ["none"]], "tags": [["a", "b"], [], None],
            "year": [2011.0, None, 2012.0]}  # fmt: skip
    column = "picture" if kind == "other struct" else "image"
    (tmp_path / "shards").mkdir()
    for number in range(2):
        part = {name: values[2 * number : 2 * number + 2] for name, values in (rows | {column: images}).items()}
        kinds = {"caption": pa.list_(pa.string()), "tags": pa.list_(pa.string()), "year": pa.float64()}
        stored = {"names": pa.string(), "bytes": pa.binary()}.get(
            kind, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        )
        table = pa.table(part, schema=pa.schema(kinds | {column: stored}))
        pq.write_table(table, tmp_path / "shards" / f"{number}.parquet")
    catalogue = open_catalogue(tmp_path / "shards", image_root=tmp_path if kind == "names" else None)
    images = open_images(catalogue, (32, 24), tmp_path / "cache")
    kept = catalogue.rows[catalogue.rows["caption"] != "none"]
    assert kept["caption"].tolist() == ["red disc", "a disc", "blue disc"] and kept["image"].tolist() == [0, 0, 1]
    assert kept["tags"].tolist() == ["a, b", "a, b", ""] and kept["year"].astype(str).tolist() == ["2011", "2011", ""]
    assert [catalogue.places[place] for place in kept["place"]] == [
        "0.parquet, row 0", "0.parquet, row 0", "0.parquet, row 1",
    ]  # fmt: skip
    assert catalogue.images[1] == (tmp_path / "images" / "1.jpg" if kind == "names" else contents[1])
    red, blue = images.pixels[:2].reshape(2, -1, 3).mean(axis=1)
    assert red[0] > blue[0] and blue[2] > red[2]


def test_lists_of_images_and_captions_are_all_their_pairs(tmp_path):
    rows = [
        {"id": 7, "image": ["a.jpg", "b.jpg"], "caption": ["red shoe", "shoe"], "colours": ["red", None, "blue"]},
        {"id": 8, "image": "c.jpg", "caption": [None, "hat", ["odd"]], "colours": []},
        {"id": 9, "image": [], "caption": "grey bag"},
        {"id": 10, "image": ["none.jpg", "a.jpg"], "caption": "belt", "colours": "tan"},
    ]
    path = put(tmp_path, "shop.jsonl", "\n".join(map(json.dumps, rows)))
    catalogue = open_catalogue(path)
    found = catalogue.rows.assign(file=[catalogue.images[image].name for image in catalogue.rows["image"]])
    assert found[["product", "file", "caption", "colours"]].astype(str).to_numpy().tolist() == [
        ["7", "a.jpg", "red shoe", "red, blue"], ["7", "a.jpg", "shoe", "red, blue"],
        ["7", "b.jpg", "red shoe", "red, blue"], ["7", "b.jpg", "shoe", "red, blue"],
        ["8", "c.jpg", "hat", ""], ["8", "c.jpg", '["odd"]', ""], ["10", "a.jpg", "belt", "tan"],
    ]  # fmt: skip
    assert places(catalogue) == ["line 1"] * 4 + ["line 2"] * 2 + ["line 4"]
    assert "objects taken as their JSON in 'caption': 1 (line 2)" in catalogue.report.lines()
    assert catalogue.report.unusable == {
        "no caption": ["line 2"], "no image named": ["line 3"], "the image file does not exist": ["line 4"],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["{bytes, path}", "{bytes}", "bytes"])
def test_lists_of_stored_images_and_of_captions_are_all_their_pairs(kind, tmp_path):
    """In two shards; a list and an image of a list are missing, a list is empty, and a shard has none at all."""
    red, blue, green, grey = (drawing(colour, "disc", "white") for colour in ("red", "blue", "green", "pink"))
    shards = {
        "a": {
            "id": [7, 8, 9],
            "caption": [["shoe", "red shoe"], ["hat"], ["belt"]],
            "image": [[red, blue], [], [grey]],
        },
        "b": {"id": [10, 11], "caption": [["bag"], ["tie"]], "image": [None, [None, green]]},
        "c": {"id": [12], "caption": [["sock"]], "image": [None]},
    }
    names = ["bytes", "path"] if kind == "{bytes, path}" else ["bytes"]
    one = pa.struct([(name, pa.string() if name == "path" else pa.binary()) for name in names])
    if kind == "bytes":
        one = pa.binary()
    for shard, columns in shards.items():
        if kind != "bytes":
            columns["image"] = [lists and [image and {"bytes": image} for image in lists] for lists in columns["image"]]
        images = pa.array(columns["image"], pa.null() if shard == "c" else pa.list_(one))
        texts = {"id": pa.array(columns["id"]), "caption": pa.array(columns["caption"])}
        pq.write_table(pa.table(texts | {"image": images}), tmp_path / f"{shard}.parquet")
    catalogue = open_catalogue(tmp_path)
    expected = [red, blue, None, grey, None, None, green, None]
    assert list(catalogue.images) == expected and len(catalogue.images) == len(expected)
    assert [catalogue.images[number] for number in range(len(expected))] == expected
    with pytest.raises(IndexError):
        catalogue.images[len(expected)]
    columns = catalogue.rows[["product", "image", "caption"]]
    assert columns.to_numpy().tolist() == [
        ["7", 0, "shoe"], ["7", 0, "red shoe"], ["7", 1, "shoe"], ["7", 1, "red shoe"], ["8", 2, "hat"],
        ["9", 3, "belt"], ["10", 4, "bag"], ["11", 5, "tie"], ["11", 6, "tie"], ["12", 7, "sock"],
    ]  # fmt: skip
    assert places(catalogue)[-4:] == ["b.parquet, row 0", "b.parquet, row 1", "b.parquet, row 1", "c.parquet, row 0"]
    images = open_images(catalogue, (32, 24), tmp_path / "cache")
    assert images.errors == dict.fromkeys((2, 4, 5, 7), "no image bytes")
    assert len(open_catalogue(tmp_path, image_column="image").rows) == len(columns)


def test_an_archive_is_to_be_unpacked(tmp_path):
    path = put(tmp_path, "shop.tar.gz", b"whatever")
    with pytest.raises(InputError, match=r"shop\.tar\.gz: an archive; unpack it first: python data/prepare.py unpack"):
        open_catalogue(path)


def test_shards_with_other_columns(tmp_path):
    image = {"bytes": PICTURE, "path": None}
    write_parquet(tmp_path / "a.parquet", [{"id": 1, "text": "x", "image": image}])
    write_parquet(tmp_path / "b.parquet", [{"id": 1, "title": "x", "image": image}])
    with pytest.raises(InputError, match=r"b.parquet: its columns differ from those of .*a.parquet"):
        open_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([["x", "y"], [7, 8]], ["x, y", "7, 8"]),
        ([None, ["x", "y"]], ["", "x, y"]),
        ([["x", "y"], None], ["x, y", ""]),
        ([["x"], "abc"], None),
        ([7, ["x"]], None),
    ],
)
def test_lists_in_some_shards(tags, expected, tmp_path):
    for name, value in zip("ab", tags, strict=True):
        row = {"id": name, "text": name, "tags": value, "image": {"bytes": PICTURE, "path": None}}
        write_parquet(tmp_path / f"{name}.parquet", [row])
    if expected is None:
        with pytest.raises(InputError, match=r"b.parquet: its columns differ from those of .*a.parquet"):
            open_catalogue(tmp_path)
    else:
        assert open_catalogue(tmp_path).rows["tags"].tolist() == expected


# --- real data -----------------------------------------------------------------------------------------------


def test_real_parquet(fashion_data):
    catalogue = open_catalogue(fashion_data / "fashion-product-images-small.parquet", strict=True)
    assert len(catalogue.rows) == catalogue.rows["product"].nunique() == len(catalogue.images) == 41_323
    assert (catalogue.rows[catalogue.attributes] != "").all(axis=None) and catalogue.rows["year"].str.len().eq(4).all()
    assert catalogue.report.lines()[2:] == [
        "kept 17,519 rows share their caption with another product",
        "kept 1,161 rows whose caption names another 'baseColour' only",
    ]


@pytest.fixture(scope="module")
def real_folder(fashion_data, tmp_path_factory):
    unpacked = tmp_path_factory.mktemp("real")
    with tarfile.open(fashion_data / "fashion-product-images-224.tar") as archive:
        archive.extractall(unpacked, filter="data")
    return unpacked / "fashion-product-images-224"


def test_the_same_products_from_a_folder_and_from_parquet(fashion_data, real_folder):
    """Equal captions and attributes, and the same groups and splits of them, in whatever order they come."""
    found = {}
    for path in (real_folder, fashion_data / "fashion-product-images-small.parquet"):
        catalogue = open_catalogue(path)
        rows = catalogue.rows.astype(dict.fromkeys(catalogue.attributes, str)).drop(columns=["image", "place"])
        found[path] = rows.set_index("product")
    folder, parquet = found.values()
    both = folder.index.intersection(parquet.index)
    assert len(folder) == 9_003 and len(both) == 8_993
    pd.testing.assert_frame_equal(folder.loc[both], parquet.loc[both], check_like=True)
    splits = []
    for rows in (folder.loc[both], parquet.loc[parquet.index.isin(both)]):
        rows = rows.reset_index().assign(image=range(len(both)))
        split = split_catalogue(rows, np.arange(len(rows)))
        names = rows["product"].iloc[split.group].to_numpy()
        splits.append(pd.DataFrame({"split": list(split.of_row), "group": names}, index=rows["product"]))
    pd.testing.assert_frame_equal(splits[0], splits[1].loc[both])


def test_real_kaggle_folder(real_folder):
    folder = real_folder
    catalogue = open_catalogue(folder)
    assert len(catalogue.rows) == len(catalogue.images) == 9_003
    assert left_out(catalogue) == {"the image file does not exist": [f"line {line}" for line in range(9005, 9011)]}
    (folder / "images" / "3428.jpg").write_bytes(PICTURE)
    row = open_catalogue(folder).rows.iloc[-1]
    assert row["caption"] == "Myntra Mens Be Reasonable,Do It My Way T-shirt" and row["product"] == "3428"


def test_an_id_that_pandas_keeps_as_the_index_is_still_the_id(tmp_path):
    frame = pd.DataFrame({"id": [7, 20, 9], "caption": ["a", "b", "c"], "image": [{"bytes": b"x", "path": None}] * 3})
    frame.set_index("id").to_parquet(tmp_path / "shop.parquet")
    assert open_catalogue(tmp_path / "shop.parquet").rows["product"].tolist() == ["7", "20", "9"]


def test_half_of_a_surrogate_pair_does_not_stop_the_reading(tmp_path):
    (tmp_path / "a.jpg").write_bytes(drawing("red", "disc", "white"))
    table = tmp_path / "shop.jsonl"
    table.write_text(json.dumps({"image": "a.jpg", "caption": "red \ud83d shoe"}) + "\n")
    assert open_catalogue(table).rows["caption"].tolist() == ["red ? shoe"]
