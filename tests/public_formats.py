"""Tiny catalogues in the layouts of public data sets: their true names, headers, types and defects.

Each holds the products of `catalogues.tiny_products`, and says which rows of it cannot be used and why.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from catalogues import KAGGLE_HEADER, drawing, tiny_products
from PIL import Image

Unusable = dict[str, int]
"""reason -> how many rows"""

STORED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
HM_HEADER = [
    "article_id", "product_code", "prod_name", "product_type_no", "product_type_name", "product_group_name",
    "graphical_appearance_no", "graphical_appearance_name", "colour_group_code", "colour_group_name",
    "perceived_colour_value_id", "perceived_colour_value_name", "perceived_colour_master_id",
    "perceived_colour_master_name", "department_no", "department_name", "index_code", "index_name", "index_group_no",
    "index_group_name", "section_no", "section_name", "garment_group_no", "garment_group_name", "detail_desc",
]  # fmt: skip


def picture(row: dict[str, str], size: tuple[int, int] = (24, 32)) -> bytes:
    return drawing(row["colour"], row["shape"], row["ground"], size)


def write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def hm(folder: Path, products: int = 60) -> Unusable:
    """Article ids begin with zeros; two articles have no photograph, one has no description."""
    rows = []
    for number, row in enumerate(tiny_products(products)):
        article = f"0{108775 + number}{15 + number % 3:03}"
        values = dict.fromkeys(HM_HEADER, "1") | {
            "article_id": article, "product_code": article[:-3], "prod_name": row["shape"].title(),
            "product_type_name": row["shape"], "colour_group_name": row["colour"],
            "detail_desc": "" if number == 2 else f"{row['title']}, with a hem, and \"pockets\".",
        }  # fmt: skip
        rows.append(values)
        if number > 1:
            write(folder / "images" / article[:3] / f"{article}.jpg", picture(row))
    with (folder / "articles.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HM_HEADER)
        writer.writeheader()
        writer.writerows(rows)
    return {"the image file does not exist": 2}


def in_shop_name(number: int, row: dict[str, str], view: str = "1_front") -> str:
    """A path of In-Shop, below Img/."""
    gender = "WOMEN" if number % 2 else "MEN"
    return f"img/{gender}/{row['shape'].title()}s_Shapes/id_{number + 1:08}/01_{view}.jpg"


def in_shop(folder: Path, products: int = 60) -> Unusable:
    """Two views an item, parted as train, query and gallery; one item has no description, one image is missing."""
    described, lines = [], []
    for number, row in enumerate(tiny_products(products)):
        item = f"id_{number + 1:08}"
        if number > 0:
            words = [f"{row['title']}.", "Model is 5'9\" \u00b7 machine wash"]
            described.append({"item": item, "color": row["colour"].title(), "description": words})
        part = ("query", "gallery") if number % 2 else ("train", "train")
        for view, name, size in zip(("1_front", "7_additional"), part, ((24, 32), (20, 32)), strict=True):
            image = in_shop_name(number, row, view)
            lines.append(f"{image:<72} {item} {name}")
            if (number, view) != (3, "7_additional"):
                write(folder / "Img" / image, picture(row, size))
    (folder / "Anno").mkdir()
    (folder / "Anno" / "list_description_inshop.json").write_text(json.dumps(described))
    (folder / "Eval").mkdir()
    partition = [str(len(lines)), "image_name item_id evaluation_status", *lines]
    (folder / "Eval" / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return {"no caption": 2, "the image file does not exist": 1}


def multimodal(folder: Path, products: int = 60) -> Unusable:
    """Flattened names of In-Shop; each image has its own caption, two have none."""
    captions = {}
    for number, row in enumerate(tiny_products(products)):
        for view, size in (("1_front", (24, 32)), ("7_additional", (20, 32))):
            name = in_shop_name(number, row, view).removeprefix("img/").replace("/", "-")
            write(folder / "images" / name, picture(row, size))
            if number > 0:
                captions[name] = f"The lady wears a {row['title'].lower()}, {view[2:]} view."
    (folder / "captions.json").write_text(json.dumps(captions))
    return {"the image is not in captions.json": 2}


def fashion_gen(folder: Path, products: int = 60) -> Unusable:
    """Two contiguous views a product of 16 x 16 pixels; texts are bytes (N, 1) in latin-1, one is empty."""
    rows = tiny_products(products)
    first = int(0.8 * products)
    for name, some in (("train", rows[:first]), ("validation", rows[first:])):
        pixels = [np.asarray(Image.new("RGB", (16, 16))).copy() for _ in range(2 * len(some))]
        for number, row in enumerate(some):
            for view in range(2):
                file = folder / "picture.jpg"
                write(file, picture(row, (16, 16)))
                pixels[2 * number + view] = np.asarray(Image.open(file)) // (view + 1)
                file.unlink()
        columns = {
            "input_description": [f"{row['title']} caf\u00e9 style." for row in some],
            "input_name": [row["title"].upper() for row in some],
            "input_category": ["SHAPES"] * len(some),
            "input_subcategory": [row["shape"].upper() for row in some],
        }
        if name == "train":
            columns["input_description"][0] = ""
        with h5py.File(folder / f"fashiongen_256_256_{name}.h5", "w") as file:
            file["input_image"] = np.stack(pixels)
            ids = np.array([int(row["id"]) for row in some], dtype=np.int32)
            file["input_productID"] = ids.repeat(2).reshape(-1, 1)
            file["index"] = np.arange(2 * len(some)).reshape(-1, 1)
            for key, values in columns.items():
                encoded = np.array([value.encode("latin-1") for value in values], dtype="S60")
                file[key] = encoded.repeat(2).reshape(-1, 1)
    return {"no caption": 2}


def captioned_folder(folder: Path, products: int = 60) -> Unusable:
    """Half of the products have a folder with two views, one of them has two captions; one image has no text."""
    for number, row in enumerate(tiny_products(products)):
        names = [f"{row['id']}/front", f"{row['id']}/side"] if number % 2 else [row["id"]]
        for name, size in zip(names, ((24, 32), (20, 32)), strict=False):
            write(folder / f"{name}.jpg", picture(row, size))
            text = row["title"] + (f"\nthe {row['title'].lower()} again\n" if name.endswith("side") else "")
            if number > 0:
                write(folder / f"{name}.txt", text.encode())
    return {"no text file beside the image": 1}


def kaggle_large(folder: Path, products: int = 60) -> Unusable:
    """A title with a comma that is not escaped, an empty season, two rows without a photograph, one without a title;
    descriptions in HTML, which one product lacks and one has no file for."""
    lines = [KAGGLE_HEADER]
    for number, row in enumerate(tiny_products(products)):
        title = {2: "", 3: row["title"].replace(" on", ", on")}.get(number, row["title"])
        season = "" if number == 4 else "Fall"
        lines.append(f"{row['id']},Women,Apparel,Shapes,{row['shape']},{row['colour']},{season},2011,Casual,{title}")
        if number > 1:
            write(folder / "images" / f"{row['id']}.jpg", picture(row))
        html = f"<p>A <b>{row['colour']}</b> {row['shape']}<br />with&nbsp;{row['ground']} &amp; more</p>"
        descriptors = {"description": {"descriptorType": "description", "value": html}} if number != 5 else {}
        content = {"meta": {"code": 200}, "data": {"id": int(row["id"]), "productDescriptors": descriptors}}
        if number != 6:
            write(folder / "styles" / f"{row['id']}.json", json.dumps(content).encode())
    write(folder / "styles.csv", ("\n".join(lines) + "\n").encode())
    return {"no caption": 1, "the image file does not exist": 2}


def mirror(folder: Path, products: int = 60) -> Unusable:
    """One parquet file; ids are int64, years floats with gaps, one title is missing."""
    rows = tiny_products(products)
    columns = {
        "id": pa.array([int(row["id"]) for row in rows], pa.int64()),
        "gender": pa.array(["Women"] * products), "articleType": pa.array([row["shape"] for row in rows]),
        "baseColour": pa.array([row["colour"] for row in rows]),
        "year": pa.array([None if number % 7 == 0 else 2011.0 for number in range(products)], pa.float64()),
        "productDisplayName": pa.array([None, *(row["title"] for row in rows[1:])]),
        "image": pa.array([{"bytes": picture(row), "path": None} for row in rows], STORED),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "fashion-product-images-small.parquet")
    return {"no caption": 1}


def kagl(folder: Path, products: int = 60) -> Unusable:
    """Shards of 25 rows: text, item_ID and three categories, of which the last is often missing."""
    rows = tiny_products(products)
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, products, 25)):
        some = rows[start : start + 25]
        columns = {
            "image": pa.array([{"bytes": picture(row), "path": f"{row['id']}.jpg"} for row in some], STORED),
            "category1": pa.array(["Shapes"] * len(some)), "category2": pa.array([row["shape"] for row in some]),
            "category3": pa.array([row["ground"] if int(row["id"]) % 3 else None for row in some]),
            "text": pa.array([row["title"] for row in some]), "item_ID": pa.array([row["id"] for row in some]),
        }  # fmt: skip
        pq.write_table(pa.table(columns), folder / f"data-{number:05}-of-{-(-products // 25):05}.parquet")
    return {}


FORMATS: dict[str, Callable[..., Unusable]] = {
    "kaggle_large": kaggle_large,
    "mirror": mirror,
    "kagl": kagl,
    "hm": hm,
    "in_shop": in_shop,
    "multimodal": multimodal,
    "fashion_gen": fashion_gen,
    "captioned_folder": captioned_folder,
}
