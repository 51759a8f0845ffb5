"""Search an index from the command line: with words, with a picture, with both, or for what looks like a product.

python search/query.py runs/index "women navy striped kurta" --where gender=Women
python search/query.py runs/index --image photo.jpg --text "but in red" --grid found.png
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import InputError, run_script
from search.opening import Repeatable, SearchOptions, flat, open_search

if TYPE_CHECKING:
    from search.engine import Search
    from search.results import Answer

COLUMNS = 5
"""Pictures in a row of the grid."""


@dataclass(frozen=True)
class Options(SearchOptions):
    words: tyro.conf.Positional[str] = ""
    """What you look for, in quotes."""
    image: Path | None = None
    """Picture of what you look for."""
    text: str = ""
    """With --image: what is to be different or added."""
    weight: float | None = None
    """With --image and --text: the share of the words, from 0 to 1 (None: 0.5)."""
    like: str | None = None
    """Id of a product: finds those that look like it."""
    describe: tyro.conf.FlagCreatePairsOff[bool] = False
    """With --image: the captions that describe the picture best, in place of products."""
    where: Annotated[Repeatable, tyro.conf.arg(metavar="ATTRIBUTE=VALUE|ATTRIBUTE!=VALUE")] = ()
    """Conditions on attributes that all must hold; neither names nor values mind case."""
    top: int = 10
    """How many results."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON in place of a table."""
    grid: Path | None = None
    """PNG file to draw the results to."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    check(options)
    search = open_search(options)
    if options.describe:
        print_words(search, options)
        return
    answer = ask(search, options)
    if options.json:
        print(json.dumps(answer.json(), ensure_ascii=False, indent=1))
    else:
        print_table(answer, search)
    if options.grid is not None:
        draw_grid(answer, search, options.grid)
        if not options.json:
            print(f"pictures: {options.grid}")


def check(options: Options) -> None:
    """Raise an `InputError` for options that contradict each other."""
    given = [name for name, value in (("words", options.words), ("--image", options.image), ("--like", options.like))
             if value]  # fmt: skip
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "none is given"
        swallowed = " ".join(condition for condition in flat(options.where) if "=" not in condition)
        if swallowed and not given:  # --where takes all that follows it
            found += f": --where took {swallowed!r} as a condition; put the words before the options"
        raise InputError(f"give words, --image FILE or --like ID; {found}")
    for name in ("text", "describe"):
        if getattr(options, name) and options.image is None:
            raise InputError(f"--{name} is about a picture: name it with --image")
    if options.describe:
        for name in ("where", "text", "grid"):
            if getattr(options, name):
                raise InputError(f"--{name} is about products, --describe gives captions: leave out one of the two")
    if options.weight is not None and (options.image is None or not options.text.strip()):
        raise InputError(f"--weight {options.weight}: it weighs words against a picture: name both, --image FILE and "
                         "--text WORDS, or leave it out")  # fmt: skip
    if options.image is not None and not options.image.expanduser().is_file():
        raise InputError(f"--image {options.image}: no such file")
    if options.grid is not None and options.grid.suffix.lower() != ".png":
        raise InputError(f"--grid {options.grid}: expected the name of a .png file")


def ask(search: "Search", options: Options) -> "Answer":
    where = flat(options.where)
    if options.like is not None:
        return search.similar(options.like, options.top, where)
    if options.image is not None:
        picture = options.image.expanduser()
        weight = 0.5 if options.weight is None else options.weight
        return search.by_image(picture, options.text, weight, options.top, where)
    return search.by_text(options.words, options.top, where)


def print_words(search: "Search", options: Options) -> None:
    found = search.words(options.image.expanduser(), options.top)
    if options.json:
        captions = [
            {"rank": rank, "caption": text, "score": score} for rank, (text, score) in enumerate(found, start=1)
        ]
        print(json.dumps({"query": str(options.image), "captions": captions}, ensure_ascii=False, indent=1))
        return
    for text, score in found:
        print(f"{score:.3f}  {text}")


def print_table(answer: "Answer", search: "Search") -> None:
    from rich.console import Console
    from rich.table import Table

    from common.account import printable

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    if answer.matches is False:
        console.print("Nothing in the catalogue matches well." + " The nearest are:" * bool(answer.results))
    if not answer.results:
        console.print(f"nothing was found for {printable(answer.query)!r}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rank", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("id", "title", "attributes"):  # in a narrow window the widest of these take more lines; nothing is cut
        table.add_column(name, overflow="fold")
    for result in answer.results:
        facts = printable(", ".join(result.attributes.values()))
        table.add_row(str(result.rank), f"{result.score:.3f}", printable(result.id), printable(result.title), facts)
    console.print(table)


def draw_grid(answer: "Answer", search: "Search", file: Path) -> None:
    """Draw the results with their pictures, titles and scores into a PNG."""
    import io
    import textwrap
    import warnings

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    from common.files import replacing

    rows = max(1, -(-len(answer.results) // COLUMNS))
    figure, axes = pyplot.subplots(
        rows, COLUMNS, figsize=(2.4 * COLUMNS, 3.4 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    note = " (nothing matches well)" if answer.matches is False else ""
    figure.suptitle(textwrap.shorten(answer.query + note, 100), fontsize=12, parse_math=False)
    for axis, result in zip(axes.flat, answer.results, strict=False):
        axis.imshow(Image.open(io.BytesIO(search.thumbnail(result.id))))
        title = textwrap.fill(textwrap.shorten(f"{result.rank}. {result.title}", 70, placeholder=" ..."), 26)
        axis.set_title(f"{title}\n{result.score:.3f}", fontsize=8, parse_math=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part, warnings.catch_warnings():
        # letters that the font lacks are drawn as boxes, which the picture shows; the titles stand in the table
        warnings.filterwarnings("ignore", r"Glyph \d+ |Matplotlib currently does not support \w+ natively", UserWarning)
        figure.savefig(part, dpi=110, format="png")
    pyplot.close(figure)


if __name__ == "__main__":
    run_script(main)
