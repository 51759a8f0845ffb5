"""Draw what search/README.md shows: what ten queries of a shopper find, and the web page on a laptop and a phone.

    python assets/draw_queries.py runs/index

The page is drawn by Chromium, which playwright drives (requirements-dev.txt).
"""

import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import tyro

from common.errors import InputError, run_script
from common.options import ROOT
from search.app import Options as PageOptions
from search.app import shown
from search.engine import Search
from search.opening import SearchOptions, open_search
from search.question import Question

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image

QUERIES = (
    "women navy striped kurta", "red handbag", "men brown leather belt", "blue jeans", "pink flip flops",
    "white sports shoes", "green checked shirt", "aviator sunglasses", "gold watch for women", "floral dress",
)  # fmt: skip
COLUMNS = 6
SIZES = {"page": (1280, 860), "page_phone": (390, 780)}


@dataclass(frozen=True)
class Options(SearchOptions):
    output: Path = ROOT / "assets"
    """Folder of the pictures."""
    titles: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the title of each query's best result, as rows of a table, in place of drawing."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    search = open_search(options)
    if options.titles:
        for query in QUERIES:
            found = search.by_text(query, 3).results
            print(f"| {query} | {'; '.join(result.title for result in found)} |")
        return
    draw_grids(search, options.output / "queries.png")
    draw_page(options)


def draw_grids(search: Search, file: Path) -> None:
    """A row a query: the first products, the best one on the left."""
    figure, grid = plt.subplots(len(QUERIES), COLUMNS, figsize=(9, 1.95 * len(QUERIES)))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.985, bottom=0.015, wspace=0.05, hspace=0.3)
    for axes, query in zip(grid, QUERIES, strict=True):
        for cell, result in zip(axes, search.by_text(query, COLUMNS).results, strict=True):
            cell.imshow(Image.open(io.BytesIO(search.thumbnail(result.id))))
            cell.set(xticks=[], yticks=[])
            cell.set_xlabel(f"{result.score:.2f}", fontsize=8, labelpad=2)
            for side in cell.spines.values():
                side.set(color="lightgrey")
        axes[0].set_title(query, loc="left", fontsize=10)
    figure.savefig(file, dpi=90)
    plt.close(figure)
    print(f"written: {file}")


def draw_page(options: Options) -> None:
    """The page with one of the queries, on each screen."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise InputError("no browser here: the page is drawn by chromium, chromium-browser or google-chrome")
    of_search = {name: getattr(options, name) for name in ("index", "run", "qdrant", "collection", "onnx", "device")}
    with shown(PageOptions(**of_search, browser=False)) as page, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            view = browser.new_page(viewport={"width": width, "height": height})
            view.goto(page.local_url + Question(QUERIES[1]).address())
            view.wait_for_selector(".card")
            view.wait_for_timeout(1000)
            file = options.output / f"{name}.png"
            view.screenshot(path=file)
            print(f"written: {file}")
        browser.close()


if __name__ == "__main__":
    run_script(main)
