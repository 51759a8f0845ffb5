"""Tiny catalogues for the tests: a coloured shape a product, named in its title, so that a model can learn it."""

import csv
import io
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 32, 40), "green": (28, 140, 60), "blue": (36, 72, 200), "yellow": (245, 215, 40),
    "purple": (130, 50, 150), "orange": (245, 130, 30), "pink": (250, 150, 190), "brown": (120, 75, 40),
    "cyan": (60, 200, 215), "navy": (15, 25, 80),
}  # fmt: skip
GROUNDS = {"white": (255, 255, 255), "grey": (150, 150, 150), "black": (10, 10, 10)}
SHAPES = {
    "disc": lambda draw, w, h, fill: draw.ellipse((0.25 * w, 0.2 * h, 0.75 * w, 0.8 * h), fill),
    "square": lambda draw, w, h, fill: draw.rectangle((0.2 * w, 0.2 * h, 0.8 * w, 0.8 * h), fill),
    "bar": lambda draw, w, h, fill: draw.rectangle((0, 0.4 * h, w, 0.6 * h), fill),
    "pole": lambda draw, w, h, fill: draw.rectangle((0.4 * w, 0, 0.6 * w, h), fill),
    "triangle": lambda draw, w, h, fill: draw.polygon((0.5 * w, 0.1 * h, 0.9 * w, 0.9 * h, 0.1 * w, 0.9 * h), fill),
    "cross": lambda draw, w, h, fill: (
        draw.line((0, 0, w, h), fill, width=int(w / 5)),
        draw.line((0, h, w, 0), fill, width=int(w / 5)),
    ),
}  # fmt: skip
KAGGLE_HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
MOST_PRODUCTS = len(COLOURS) * len(SHAPES) * len(GROUNDS)


def drawing(colour: str, shape: str, ground: str, size: tuple[int, int] = (24, 32)) -> bytes:
    """The JPEG of one product; size is (width, height)."""
    image = Image.new("RGB", size, GROUNDS[ground])
    SHAPES[shape](ImageDraw.Draw(image), *size, COLOURS[colour])
    return encoded(image)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiny_products(products: int) -> list[dict[str, str]]:
    """The products as rows: id, colour, shape, ground, title. Ids, titles and images are all distinct."""
    if products > MOST_PRODUCTS:
        raise ValueError(f"at most {MOST_PRODUCTS} products differ from each other, {products} were asked for")
    every = sorted(product(COLOURS, SHAPES, GROUNDS), key=lambda looks: hash_of(*looks))
    return [
        {"id": str(1000 + number), "colour": colour, "shape": shape, "ground": ground,
         "title": f"{colour.title()} {shape} on {ground}"}
        for number, (colour, shape, ground) in enumerate(every[:products])
    ]  # fmt: skip


def hash_of(*words: str) -> int:
    """A number that mixes the order, the same in every process."""
    return pow(int.from_bytes(" ".join(words).encode()), 5, 1_000_003)


def tiny_catalogue(folder: Path, products: int = 60, kind: str = "csv") -> Path:
    """Draw a catalogue of distinct products into a folder and return what --data takes.

    kind "csv": `folder/tiny.csv` (id, image, caption, colour, shape) and `folder/images/<id>.jpg`;
    "kaggle": `folder/styles.csv` and `folder/images/<id>.jpg`; "parquet": `folder/tiny.parquet`.
    """
    rows = tiny_products(products)
    pictures = {row["id"]: drawing(row["colour"], row["shape"], row["ground"]) for row in rows}
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        return write_parquet(folder / "tiny.parquet", [
            {"id": int(row["id"]), "baseColour": row["colour"], "articleType": row["shape"],
             "productDisplayName": row["title"], "image": {"bytes": pictures[row["id"]], "path": None}}
            for row in rows
        ])  # fmt: skip
    (folder / "images").mkdir()
    for name, content in pictures.items():
        (folder / "images" / f"{name}.jpg").write_bytes(content)
    if kind == "kaggle":
        lines = [
            f"{row['id']},Unisex,Shapes,Flat,{row['shape']},{row['colour']},Fall,2012,Casual,{row['title']}"
            for row in rows
        ]
        (folder / "styles.csv").write_text("\n".join([KAGGLE_HEADER, *lines]) + "\n")
        return folder
    if kind != "csv":
        raise ValueError(f"no catalogue of kind {kind!r}; expected csv, kaggle or parquet")
    with (folder / "tiny.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "caption", "colour", "shape"])
        writer.writerows(
            [row["id"], f"images/{row['id']}.jpg", row["title"], row["colour"], row["shape"]] for row in rows
        )
    return folder / "tiny.csv"


def write_parquet(path: Path, rows: list[dict]) -> Path:
    """Write rows as a parquet file; an image is a {bytes, path}."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = list(rows[0])
    arrays = [pa.array([row[name] for row in rows], image if name == "image" else None) for name in names]
    pq.write_table(pa.table(arrays, names), path)
    return path
