"""Pages of a report that a person looks at: queries with what was found, charts, a map of the embeddings.

They lie in one folder with relative links, and open from disk in any browser, without a server, a network or scripts.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from PIL import Image
from tqdm import tqdm

from common.attributes import find_column
from common.embedding import Embedded
from common.errors import InputError
from common.files import write_atomically
from common.report import embedding_map
from common.report.searches import RESULTS, Result, Search, Searches

Chart = tuple[str, str, Callable[[Path], None]]
"""A title, a caption in words, and what draws the picture to a file (.png)."""

GENERATOR = "fashion-retrieval report"
MARK = f'<meta name="generator" content="{GENERATOR}">'
DIRECTIONS = {"text_to_image": "Text to image", "image_to_text": "Image to text"}
OURS = (
    *(f"{direction}.html" for direction in DIRECTIONS),
    *("map.html", "map.jpg", "charts/chart-[0-9][0-9].png", "thumbnails/" + "[0-9]" * 7 + ".jpg"),
)
"""All that we write besides index.html; the next report in the same folder deletes it."""
LONGEST_SIDE = 256
"""Pixels of a thumbnail at most."""


def check(folder: Path) -> None:
    """See that the pages can be written to a folder, and create it.

    Raises:
        InputError: a file is in the way, or the folder cannot be written to or holds something else than our pages.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = any(folder.iterdir())
        index = folder / "index.html"
        ours = index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"--pictures {folder}: a file is in the way, expected a folder; name another") from None
    except OSError as error:
        raise InputError(f"--pictures {folder}: cannot be used ({error.strerror}); name another folder") from None
    if files and not ours:
        raise InputError(
            f"--pictures {folder}: the folder holds files that are not pages of an earlier report; "
            "name a new or an empty folder"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--pictures {folder}: cannot be written to; name another folder")


def write(
    folder: Path,
    report: dict[str, Any],
    embedded: Embedded | None,
    charts: Sequence[Chart],
    text: Sequence[str] = (),
) -> Path:
    """Write the pages, in place of those of an earlier report; other files in the folder stay.

    Args:
        folder: see `check`.
        report: the figures, as --json writes them.
        embedded: the gallery; without it there are neither queries nor a map.
        charts: pictures that other parts of the report draw.
        text: the report's lines, as the terminal shows them.

    Returns:
        the index, to be opened in a browser.

    Raises:
        InputError: as `check`.
    """
    check(folder)
    index = folder / "index.html"
    # first, so that a report that is cut off can still be told for ours and replaced
    write_atomically(index, f"<!doctype html>{MARK}<p>This report is not finished.")
    for pattern in OURS:
        for old in folder.glob(pattern):
            old.unlink()
    navigation = {"index": "Overview"}
    shared = {"generator": GENERATOR, "report": report, "navigation": navigation, "catalogue": None}
    looks = None
    if embedded is not None:
        looks = Looks(embedded, folder)
        navigation |= DIRECTIONS
        if len(embedded.gallery.images) >= embedding_map.FEWEST:
            navigation["map"] = "Map"
        shape = embedded.data.images.pixels.shape[1:3]
        catalogue = embedded.data.catalogue.path.name
        shared |= {"catalogue": catalogue, "shape": shape, "attributes": looks.attributes}
    content: dict[str, Any] = {"charts": [], "highlights": {}, "text": "\n".join(text).strip("\n")}
    with tqdm(desc="pages", total=len(charts) + len(navigation), unit="step") as bar:
        for number, chart in enumerate(charts, start=1):
            content["charts"].append(draw_chart(folder, number, *chart))
            bar.update()
        for direction in DIRECTIONS if looks else ():
            content["highlights"][direction] = write_queries(direction, looks, shared)
            bar.update()
        if "map" in navigation:
            content["map_size"] = write_map(looks, shared)
            bar.update()
        render(folder, "index", "index", shared | content)
        bar.update()
    return index


def write_queries(direction: str, looks: "Looks", shared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Write the page of a direction; returns one of the best, of the median and of the worst searches."""
    searches = looks.searches(direction)
    size = shared["report"]["gallery"]["images" if direction == "text_to_image" else "texts"]
    render(looks.folder, direction, "queries", shared | {"searches": searches, "size": size, "first": RESULTS})
    return {kind: found[0] for kind, found in searches.items() if found}


def write_map(looks: "Looks", shared: dict[str, Any]) -> tuple[int, int]:
    """Draw the map and write its page; returns the picture's (width, height)."""
    found = embedding_map.lay_out(looks.embedded)
    names = embedding_map.type_names(found, looks.embedded)
    embedding_map.draw(found, looks.embedded, names, looks.folder / "map.jpg")
    spots = [
        (column / found.columns, row / found.rows, looks.image(image))
        for image, column, row in zip(found.image, found.column, found.row, strict=True)
    ]
    render(looks.folder, "map", "map", shared | {"map": found, "spots": spots, "named": bool(names)})
    return found.size


def draw_chart(folder: Path, number: int, title: str, caption: str, draw: Callable[[Path], None]) -> dict[str, Any]:
    """Draw a chart; returns what the index says of it."""
    name = f"charts/chart-{number:02}.png"
    (folder / "charts").mkdir(exist_ok=True)
    draw(folder / name)
    with Image.open(folder / name) as picture:
        width, height = picture.size
    return {"title": title, "caption": caption, "file": name, "width": width, "height": height}


def render(folder: Path, page: str, template: str, content: dict[str, Any]) -> None:
    """Write `page`.html; whatever the catalogue holds is escaped."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    write_atomically(folder / f"{page}.html", templates.get_template(f"{template}.html").render(page=page, **content))


class Looks:
    """How the images and captions of a gallery look on a page; their thumbnails are written as they are asked for."""

    def __init__(self, embedded: Embedded, folder: Path) -> None:
        self.embedded, self.folder = embedded, folder
        pairs = embedded.gallery.pairs
        self.row_of_image, self.row_of_caption = (
            pairs.drop_duplicates(item).set_index(item) for item in ("image", "caption")
        )
        names = embedded.data.catalogue.attributes
        self.attributes = [column for what in ("type", "colour") if (column := find_column(names, what))]

    def searches(self, direction: str) -> dict[str, list[dict[str, Any]]]:
        """The best, median and worst searches of a direction, ready for the template."""
        query, item = (getattr(self, side) for side in direction.split("_to_"))

        def pictured(look: dict[str, Any]) -> dict[str, Any]:
            return look | {"picture": self.thumbnail(look["image"])}

        def card(result: Result) -> dict[str, Any]:
            return asdict(result) | pictured(item(result.item))

        def shown(search: Search) -> dict[str, Any]:
            results = [card(result) for result in search.results]
            below = [] if search.best in search.results else [card(search.best)]
            return asdict(search) | {"query": pictured(query(search.query)), "results": results, "below": below}

        chosen = Searches(self.embedded, direction).chosen()
        return {kind: [shown(search) for search in found] for kind, found in chosen.items()}

    def image(self, image: int) -> dict[str, Any]:
        """An image of the gallery with its title."""
        row = self.row_of_image.loc[image]
        return self._look(image, row["caption"], row)

    def text(self, caption: int) -> dict[str, Any]:
        """A caption of the gallery with an image of the first product that carries it."""
        row = self.row_of_caption.loc[caption]
        return self._look(row["image"], caption, row)

    def _look(self, image: int, caption: int, row: pd.Series) -> dict[str, Any]:
        details = " · ".join(row[column] for column in self.attributes if row[column])
        return {"image": image, "title": self.embedded.gallery.captions[caption], "details": details}

    def thumbnail(self, image: int) -> str:
        """The relative path of an image's file."""
        name = f"thumbnails/{image:07}.jpg"
        if not (self.folder / name).exists():
            (self.folder / "thumbnails").mkdir(exist_ok=True)
            picture = Image.fromarray(self.embedded.data.images.pixels[self.embedded.gallery.images[image]])
            picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            picture.save(self.folder / name, quality=92)
        return name
