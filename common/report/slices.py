"""`--by COLUMN`: recall for the queries of each value of a column, worst first, as a table and as a chart.

Only the queries are sliced: each is still ranked against the full gallery.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from common.attributes import named_column
from common.captions import words
from common.catalogue import Catalogue
from common.embedding import Embedded
from common.files import replacing
from common.gallery import Gallery, called
from common.recall import CUTOFFS, DIRECTIONS
from common.report.intervals import LEVEL, query_values, rate_interval

RECALLS = [f"R@{k}" for k in CUTOFFS]
CAPTION_LENGTH = "caption length"
NONE = "(none)"
ENOUGH = 10
"""Groups of linked products that a value needs: fewer independent ones say next to nothing."""
DRAWN = 40
LONGEST = 40
"""Letters of a value that are shown."""


def find_slicing(column: str, catalogue: Catalogue) -> str:
    """The attribute that is meant, or `CAPTION_LENGTH`.

    Raises:
        InputError: there is none of that name.
    """
    return named_column(column, [*catalogue.attributes, CAPTION_LENGTH], "--by", catalogue.path)


def measure(embedded: Embedded, column: str) -> dict[str, Any]:
    """R@1, R@5 and R@10 in per cent of each slice in both directions, with the interval of R@10; worst first.

    Values with fewer than `ENOUGH` groups of linked products are put together, so that noise does not top the table.

    Raises:
        InputError: the catalogue has no such column.
    """
    gallery = embedded.gallery
    name = find_slicing(column, embedded.data.catalogue)
    found = {direction: query_values(embedded.ranks[direction]) for direction in DIRECTIONS}
    groups = gallery.groups
    members = length_members(gallery) if name == CAPTION_LENGTH else attribute_members(gallery, name)
    queries_of = {direction: pairs.groupby("value")["query"].unique() for direction, pairs in members.items()}

    def figures(queries: dict[str, np.ndarray]) -> dict[str, Any]:
        return {d: recall({key: found[d][key][which] for key in RECALLS}, groups[d][which])
                for d, which in queries.items()}  # fmt: skip

    few, slices = [], []
    for value in queries_of["image_to_text"].index:
        queries = {direction: queries_of[direction][value] for direction in DIRECTIONS}
        if min(len(set(groups[direction][which])) for direction, which in queries.items()) < ENOUGH:
            few.append(value)
        else:
            slices.append({"value": value, **figures(queries)})
    together = {d: np.unique(np.concatenate([queries_of[d][value] for value in few])) for d in DIRECTIONS if few}
    return {
        "column": name,
        "split": embedded.split,
        "all": figures({direction: np.arange(len(group)) for direction, group in groups.items()}),
        "slices": sorted(slices, key=mean_recall),
        "few": {"values": few, **figures(together)},
        "in_several": {d: int((pairs["query"].value_counts() > 1).sum()) for d, pairs in members.items()},
    }


def recall(values: dict[str, np.ndarray], group: np.ndarray) -> dict[str, Any]:
    """The figures of one slice in one direction."""
    return {
        "queries": len(group),
        **{key: float(value.mean()) for key, value in values.items()},
        "interval": rate_interval(values["R@10"], group, 100.0),
    }


def mean_recall(figures: dict[str, Any]) -> float:
    return sum(figures[direction]["R@10"] for direction in DIRECTIONS) / len(DIRECTIONS)


def attribute_members(gallery: Gallery, name: str) -> dict[str, pd.DataFrame]:
    """direction -> distinct (query, value): an image has the values of the products it shows, a caption those of all
    products that carry it."""
    rows = gallery.pairs
    of_product = pd.DataFrame({"product": rows["product"], "value": rows[name].replace("", NONE)}).drop_duplicates()
    return {
        direction: rows[[side, "product"]]
        .merge(of_product, on="product")
        .rename(columns={side: "query"})[["query", "value"]]
        .drop_duplicates()
        for direction, side in (("image_to_text", "image"), ("text_to_image", "caption"))
    }


def length_members(gallery: Gallery) -> dict[str, pd.DataFrame]:
    """direction -> distinct (query, range of words): of a caption its own, of an image those of its captions."""
    of_caption = length_ranges(np.array([len(words(caption)) for caption in gallery.captions]))
    image, caption = gallery.relevant.numpy()
    return {
        "image_to_text": pd.DataFrame({"query": image, "value": of_caption[caption]}).drop_duplicates(),
        "text_to_image": pd.DataFrame({"query": np.arange(len(of_caption)), "value": of_caption}),
    }


def length_ranges(lengths: np.ndarray) -> np.ndarray:
    """(M,) numbers of words -> (M,) the quarter that each is in, like "4 to 5 words"; equal ones stay together."""
    last = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75, 1], method="lower"))  # (K,) of each range
    first = np.array([lengths.min(), *(last[:-1] + 1)])
    names = [f"{low} to {high} words" if low < high else "1 word" if low == 1 else f"{low} words"
             for low, high in zip(first, last, strict=True)]  # fmt: skip
    return np.array(names)[np.searchsorted(last, lengths)]


def clearly_below(result: dict[str, Any], direction: str) -> list[str]:
    """The values whose interval of R@10 lies entirely below the R@10 of all queries."""
    whole = result["all"][direction]["R@10"]
    return [row["value"] for row in result["slices"] if row[direction]["interval"][1] < whole]


def few_line(result: dict[str, Any]) -> str:
    count = len(result["few"]["values"])
    return f"({count:,} value{'s'[: count != 1]} with fewer than {ENOUGH} groups)"


def describe(result: dict[str, Any]) -> list[str]:
    """The table, as lines for the terminal."""
    where = called(result["split"])
    rows = [("all", result["all"]), *((shorten(row["value"]), row) for row in result["slices"])]
    if result["few"]["values"]:
        rows.append((few_line(result), result["few"]))
    width = max(len(name) for name, _ in [*rows, (result["column"], None)])
    lines = ["", f"recall by {result['column']}: queries of {where} against its full gallery, worst mean R@10 first"]
    for direction, sort in (("image_to_text", "images"), ("text_to_image", "captions")):
        if result["in_several"][direction]:
            lines.append(f"  {sort} with several values, which count for each: {result['in_several'][direction]:,}")
    if result["few"]["values"]:
        lines.append(f"  values with fewer than {ENOUGH} groups of linked products are put together, in the last line")
    columns = f"{'queries':>9}{''.join(f'{key:>7}' for key in RECALLS)}  {f'{LEVEL:.0%} of R@10':14}"
    lines += ["", " " * width + "".join(f"  {words:44}" for words in DIRECTIONS.values()).rstrip()]
    lines.append((f"{result['column']:{width}}" + columns * len(DIRECTIONS)).rstrip())
    lines += [f"{name:{width}}" + "".join(cells(row[direction]) for direction in DIRECTIONS) for name, row in rows]
    return [line.rstrip() for line in lines] + below_lines(result)


def cells(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    recalls = "".join(f"{row[key]:7.1f}" for key in RECALLS)
    return f"{row['queries']:9,}{recalls}  {f'{low:.1f} to {high:.1f}':14}"


def below_lines(result: dict[str, Any]) -> list[str]:
    """Which slices are worse than chance explains: the order alone invites to read noise."""
    count = len(result["slices"])
    if count < 2:
        return [
            f"nothing to compare: {count} value{'s'[: count != 1]} with at least {ENOUGH} groups of linked products"
        ]
    lines = ["clearly below the whole, the interval of R@10 ends below the figure of all queries:"]
    for direction, name in DIRECTIONS.items():
        below = clearly_below(result, direction)
        lines.append(f"  {name}: {len(below)} of {count} ({', '.join(below) or 'none'})")
    expected = count * (1 - LEVEL) / 2
    return [
        *lines,
        f"  by chance alone, expect about {expected:.1f} of {count} in each direction, more among small values",
    ]


def draw(result: dict[str, Any], file: Path) -> None:
    """R@10 of the worst slices with its interval in both directions, beside that of all queries, as a picture."""
    rows = [(shorten(row["value"]), row) for row in result["slices"][:DRAWN]]
    total = len(result["slices"])
    if result["few"]["values"]:
        rows.append((few_line(result), result["few"]))
    figure, axes = plt.subplots(figsize=(9, 1.8 + 0.3 * len(rows)), layout="constrained")
    for number, (direction, label) in enumerate(DIRECTIONS.items()):
        values = np.array([row[direction]["R@10"] for _, row in rows])
        low, high = np.array([row[direction]["interval"] for _, row in rows]).reshape(-1, 2).T
        bars = np.maximum([values - low, high - values], 0)  # an interval of percentiles may leave out the figure
        place = np.arange(len(rows)) + (number - 0.5) * 0.3
        axes.errorbar(values, place, xerr=bars, fmt="os"[number], markersize=4, color=f"C{number}", label=label)
        whole = result["all"][direction]["R@10"]
        axes.axvline(whole, linestyle="--", linewidth=1, color=f"C{number}", label=f"{label}, all queries")
    axes.set_yticks(np.arange(len(rows)), [tick(name, row) for name, row in rows], fontsize=8)
    axes.set(xlim=(-1, 101), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel(f"R@10 in per cent, {LEVEL:.0%} interval; in brackets the queries, images / captions")
    shown = f"the worst {DRAWN} of {total:,} values" if total > DRAWN else "worst first"
    axes.set_title(plain_text(f"R@10 by {result['column']}, {shown}"))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    with replacing(file) as part:
        figure.savefig(part, dpi=110)
    plt.close(figure)


def shorten(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def tick(name: str, row: dict[str, Any]) -> str:
    queries = " / ".join(f"{row[direction]['queries']:,}" for direction in DIRECTIONS)
    return plain_text(f"{name}  ({queries})")


def plain_text(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would read formulas
