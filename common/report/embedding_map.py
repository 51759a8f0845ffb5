"""A two-dimensional map of a gallery's image embeddings, drawn with its pictures."""

from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

from common.attributes import find_column
from common.embedding import Embedded

FEWEST, MOST = 10, 2000
"""Images on the map: fewer make none, more are drawn from at random."""
SIDE = 3200
"""Pixels of the picture at most, in width and height."""
LARGEST_CELL = 128
CELLS_AN_IMAGE = 1.8
"""Empty cells keep the groups apart."""
COMPONENTS, PERPLEXITY = 50, 30
NAMES, FEWEST_NAMED = 24, 5
"""Types that are named at most, and the fewest images that one needs."""
SEED = 0


@dataclass(frozen=True)
class Map:
    """Where the images stand.

    Attributes:
        image: (n,) positions in the gallery.
        column, row: (n,) the cell of each, no two the same.
        columns, rows: how many cells there are.
        cell: (width, height) of a cell in pixels.
    """

    image: np.ndarray
    column: np.ndarray
    row: np.ndarray
    columns: int
    rows: int
    cell: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture in pixels."""
        return self.columns * self.cell[0], self.rows * self.cell[1]


def lay_out(embedded: Embedded) -> Map:
    """The map of at most `MOST` images of the gallery, which has at least `FEWEST`."""
    image = np.sort(np.random.default_rng(SEED).permutation(len(embedded.gallery.images))[:MOST])
    points = two_dimensions(F.normalize(embedded.image_emb.cpu()[image].double(), dim=1).numpy())
    height, width = embedded.data.images.pixels.shape[1:3]
    cells = CELLS_AN_IMAGE * len(image)
    columns, rows = ceil(sqrt(cells * height / width)), ceil(sqrt(cells * width / height))
    column, row = to_cells(points, columns, rows)
    scale = min(SIDE / (columns * width), SIDE / (rows * height), LARGEST_CELL / max(height, width))
    return Map(image, column, row, columns, rows, (max(1, int(scale * width)), max(1, int(scale * height))))


def two_dimensions(emb: np.ndarray) -> np.ndarray:
    """(n, 2) t-SNE of unit vectors (n, D), after a PCA (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE  # takes a second to import

    directions, scales, _ = np.linalg.svd(emb - emb.mean(0), full_matrices=False)
    emb = (directions * scales)[:, :COMPONENTS]  # the principal components
    start = np.zeros((len(emb), 2), dtype=np.float32)
    start[:, : emb.shape[1]] = 1e-4 * emb[:, :2] / max(emb[:, 0].std(), 1e-9)  # as large as sklearn's own start
    perplexity = min(PERPLEXITY, (len(emb) - 1) / 3)
    return TSNE(perplexity=perplexity, init=start, learning_rate="auto", random_state=SEED).fit_transform(emb)


def to_cells(points: np.ndarray, columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) column and row of a cell for each point (n, 2): the nearest that is free, from the centre outwards."""
    low, high = points.min(0), points.max(0)
    place = (points - low) / np.maximum(high - low, 1e-9) * [columns - 1, rows - 1]
    cell = np.stack(np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij"), axis=-1).reshape(-1, 2)
    free = np.ones(len(cell), dtype=bool)
    taken = np.empty(len(points), dtype=int)
    for point in np.argsort(np.square(points - np.median(points, axis=0)).sum(1), kind="stable"):
        distance = np.square(cell - place[point]).sum(1)
        taken[point] = np.where(free, distance, np.inf).argmin()
        free[taken[point]] = False
    return cell[taken].T


def draw(found: Map, embedded: Embedded, names: list[tuple[str, int, int]], file: Path) -> None:
    """Draw the images in their cells, and names over the cells of a column and row."""
    width, height = found.cell
    picture = Image.new("RGB", found.size, "white")
    pixels = embedded.data.images.pixels[embedded.gallery.images[found.image]]
    for image, column, row in zip(pixels, found.column, found.row, strict=True):
        small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        picture.paste(small, (int(column) * width, int(row) * height))
    write_names(picture, [(name, (column + 0.5) * width, (row + 0.5) * height) for name, column, row in names])
    picture.save(file, quality=88)


def type_names(found: Map, embedded: Embedded) -> list[tuple[str, int, int]]:
    """The most common types of the catalogue's type column, each with the column and row of its most central image."""
    attribute = find_column(embedded.data.catalogue.attributes, "type")
    if attribute is None:
        return []
    kind = embedded.gallery.pairs.groupby("image")[attribute].first().loc[found.image].to_numpy()
    cells = pd.DataFrame({"kind": kind, "column": found.column, "row": found.row})
    cells = cells[cells["kind"] != ""]
    counts = cells["kind"].value_counts()
    common = sorted(counts.index[counts >= FEWEST_NAMED], key=lambda name: (-counts[name], name))[:NAMES]
    names = []
    for name in common:
        own = cells.loc[cells["kind"] == name, ["column", "row"]].to_numpy()
        central = own[np.square(own - np.median(own, axis=0)).sum(1).argmin()]  # the median may lie among other types
        names.append((name, *central.tolist()))
    return names


def write_names(picture: Image.Image, names: list[tuple[str, float, float]]) -> None:
    """Write names centred on (x, y) in pixels; one that would cover an earlier one moves down."""
    import matplotlib

    size = max(12, picture.width // 72)
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf", size)
    pen = ImageDraw.Draw(picture, "RGBA")
    boxes: list[tuple[float, ...]] = []
    for name, x, y in names:
        left, top, right, bottom = pen.textbbox((x, y), name, font, anchor="mm")
        margin = size // 3
        x += max(0, margin - left) - max(0, right + margin - picture.width)
        while any(meet(box, pen.textbbox((x, y), name, font, anchor="mm")) for box in boxes):
            y += size / 2
        left, top, right, bottom = pen.textbbox((x, y), name, font, anchor="mm")
        box = (left - margin, top - margin, right + margin, bottom + margin)
        boxes.append(box)
        pen.rounded_rectangle(box, margin, fill=(255, 255, 255, 225), outline=(60, 60, 60, 255), width=2)
        pen.text((x, y), name, (20, 20, 20), font, anchor="mm")


def meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
