"""common/report/slices.py: slices found again by loops, planted ranks, and what the table and the chart show."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from common.embedding import Embedded
from common.errors import InputError
from common.gallery import Gallery
from common.recall import Ranks
from common.report.intervals import rate_interval
from common.report.slices import describe, draw, find_slicing, length_ranges, measure

DIRECTIONS = ("image_to_text", "text_to_image")
OWN = ("product", "image", "caption", "group")


def embedded_of(rows: pd.DataFrame, image_ranks=None, caption_ranks=None) -> Embedded:
    """A gallery whose queries have these ranks of their best item, 1 for all if not given."""
    gallery = Gallery.of(rows)
    sizes = {"image_to_text": len(gallery.images), "text_to_image": len(gallery.captions)}
    given = {"image_to_text": image_ranks, "text_to_image": caption_ranks}
    ranks = {
        direction: Ranks(
            torch.tensor(given[direction] or [1] * size), torch.ones(size, dtype=torch.int64)
        )
        for direction, size in sizes.items()
    }  # fmt: skip
    data = SimpleNamespace(
        catalogue=SimpleNamespace(attributes=[name for name in rows if name not in OWN], path=Path("some.csv"))
    )
    return Embedded(None, None, torch.device("cpu"), data, "test", gallery, None, None, ranks)


def products(**columns) -> pd.DataFrame:
    """A product a row with an image, a caption and a group of its own, unless given."""
    count = len(next(iter(columns.values())))
    own = {
        "product": [f"p{number}" for number in range(count)],
        "image": range(count),
        "caption": [f"caption {number}" for number in range(count)],
        "group": [f"g{number}" for number in range(count)],
    }
    return pd.DataFrame(own | columns)


def by_value(found) -> dict[str, dict]:
    return {row["value"]: row for row in found["slices"]}


def text_of(found) -> str:
    return "\n".join(describe(found))


# --- which column --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("articleType", "articleType"),
        ("ARTICLETYPE", "articleType"),
        ("article type", "articleType"),
        ("article_type", "articleType"),
        ("season", "Season"),
        ("caption length", "caption length"),
        ("caption-length", "caption length"),
        ("Caption_Length", "caption length"),
        ("size", "size"),
        ("Size", "Size"),
    ],
)
def test_a_column_is_found_whatever_its_case(typed, meant):
    catalogue = SimpleNamespace(attributes=["articleType", "Season", "Size", "size"], path=Path("some.csv"))
    assert find_slicing(typed, catalogue) == meant


def test_a_catalogues_own_column_of_that_name_comes_before_the_computed_one():
    catalogue = SimpleNamespace(attributes=["caption_length"], path=Path("some.csv"))
    assert find_slicing("caption length", catalogue) == "caption length"
    assert find_slicing("Caption-Length", catalogue) == "caption_length"


@pytest.mark.parametrize(("typed", "nearest"), [("colour", "baseColour"), ("genre", "gender"), ("lenght", "length")])
def test_an_unknown_column_is_told_with_those_there_are(typed, nearest):
    embedded = embedded_of(products(gender=["Men"], baseColour=["Red"]))
    with pytest.raises(InputError) as raised:
        measure(embedded, typed)
    told = str(raised.value)
    assert told.startswith(f"--by {typed}: no such column in some.csv; the nearest is '")
    assert nearest in told.split("; the nearest is ")[1].split(",")[0]
    assert "gender, baseColour" in told
    assert told.endswith(", caption length")


# --- which queries -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared():
    """60 products that share images, captions and groups with others; and a rank of each query."""
    generator = np.random.default_rng(3)
    number = generator.integers(0, 55, 75)
    rows = pd.DataFrame({
        "product": [f"p{n}" for n in number],
        "image": number + generator.integers(0, 3, 75),
        "caption": [f"a caption {n}" for n in number // 2 + generator.integers(0, 2, 75)],
        "group": [f"g{n}" for n in number // 4],
        "colour": generator.choice(["Red", "Blue", ""], 75, p=[0.5, 0.3, 0.2]),
    })  # fmt: skip
    gallery = Gallery.of(rows)
    ranks = [generator.integers(1, 20, len(items)).tolist() for items in (gallery.images, gallery.captions)]
    return rows, embedded_of(rows, *ranks)


def test_slices_equal_those_of_a_loop(shared, monkeypatch):
    monkeypatch.setattr("common.report.slices.ENOUGH", 3)
    rows, embedded = shared
    found = measure(embedded, "Colour")
    products_of = {"Red": set(), "Blue": set(), "(none)": set()}
    for row in rows.itertuples():
        products_of[row.colour or "(none)"].add(row.product)
    assert set(by_value(found)) == set(products_of)
    counted = {direction: [] for direction in DIRECTIONS}
    for value, mine in products_of.items():
        members = {
            "image_to_text": [n for n, image in enumerate(embedded.gallery.images)
                              if mine & set(rows["product"][rows["image"] == image])],
            "text_to_image": [n for n, caption in enumerate(embedded.gallery.captions)
                              if mine & set(rows["product"][rows["caption"] == caption])],
        }  # fmt: skip
        for direction, queries in members.items():
            counted[direction] += queries
            best = embedded.ranks[direction].best.tolist()
            group = embedded.gallery.image_group if direction == "image_to_text" else embedded.gallery.caption_group
            hits = {k: np.array([100.0 * (best[query] <= k) for query in queries]) for k in (1, 5, 10)}
            figures = by_value(found)[value][direction]
            assert list(figures) == ["queries", "R@1", "R@5", "R@10", "interval"]
            assert figures["queries"] == len(queries)
            assert [figures[f"R@{k}"] for k in hits] == pytest.approx([hits[k].mean() for k in hits])
            assert sorted(figures["interval"]) == figures["interval"]
            # the order of the queries of a group does not count
            assert figures["interval"] == pytest.approx(rate_interval(hits[10], group[queries], 100.0))
    for direction, queries in counted.items():
        assert found["in_several"][direction] == sum(queries.count(query) > 1 for query in set(queries)) > 0
    for direction, sort in zip(DIRECTIONS, ("images", "captions"), strict=True):
        told = f"  {sort} with several values, which count for each: {found['in_several'][direction]}"
        assert told in describe(found)
    assert json.loads(json.dumps(found)) == found


def test_the_first_line_is_that_of_all_queries(shared):
    _, embedded = shared
    found = measure(embedded, "colour")
    for direction in DIRECTIONS:
        best = embedded.ranks[direction].best.numpy()
        assert found["all"][direction]["queries"] == len(best)
        assert found["all"][direction]["R@5"] == pytest.approx(100 * (best <= 5).mean())
    lines = describe(found)
    header = next(number for number, line in enumerate(lines) if line.startswith("colour "))
    words = lines[header + 1].split()
    numbers = [float(word) for word in words[1:] if word != "to"]
    expected = [x for direction in DIRECTIONS for key, value in found["all"][direction].items()
                for x in (value if key == "interval" else [value])]  # fmt: skip
    assert words[0] == "all"
    assert numbers == pytest.approx(expected, abs=0.051)


def test_a_caption_of_two_products_counts_for_the_values_of_both():
    rows = products(colour=["Red"] * 12 + ["Blue"] * 12, caption=[f"caption {n % 23}" for n in range(24)])
    found = measure(embedded_of(rows, None, [11] + [1] * 22), "colour")  # the first and the last product share theirs
    assert {value: row["text_to_image"]["queries"] for value, row in by_value(found).items()} == {"Red": 12, "Blue": 12}
    assert all(row["text_to_image"]["R@10"] == pytest.approx(100 * 11 / 12) for row in found["slices"])
    assert found["in_several"] == {"image_to_text": 0, "text_to_image": 1}
    assert "  captions with several values, which count for each: 1" in describe(found)


# --- the order, and what is put together ---------------------------------------------------------------


def test_worst_first_by_the_mean_of_both_directions():
    colours = ["Red"] * 10 + ["Blue"] * 10 + ["Green"] * 10
    image_ranks = [1] * 10 + [99] * 5 + [1] * 5 + [99] * 3 + [1] * 7  # R@10 100, 50, 70
    caption_ranks = [99] * 10 + [1] * 10 + [99] * 3 + [1] * 7  # R@10 0, 100, 70
    found = measure(embedded_of(products(colour=colours), image_ranks, caption_ranks), "colour")
    assert list(by_value(found)) == ["Red", "Green", "Blue"]
    lines = [line.split()[0] for line in describe(found) if line]
    start = lines.index("all")
    assert lines[start : start + 4] == ["all", "Red", "Green", "Blue"]


def test_values_with_few_groups_are_put_together_in_the_last_line():
    colours = ["Red"] * 20 + ["Blue"] * 9 + ["Green"] * 10 + ["Pink"]
    ranks = [1] * 20 + [99] * 9 + [1] * 10 + [5]
    found = measure(embedded_of(products(colour=colours), ranks, ranks), "colour")
    assert set(by_value(found)) == {"Red", "Green"}
    assert found["few"]["values"] == ["Blue", "Pink"]
    for direction in DIRECTIONS:
        assert found["few"][direction]["queries"] == 10
        assert [found["few"][direction][f"R@{k}"] for k in (1, 5, 10)] == pytest.approx([0, 10, 10])
    line = next(line for line in describe(found) if line.startswith("(2 values with fewer than 10 groups)"))
    assert line.split()[7] == "10"


def test_many_queries_of_one_group_are_few():
    """Forty photographs of linked products are one observation: their interval would have no width."""
    rows = products(colour=["Red"] * 40 + ["Blue"] * 40, group=["linked"] * 40 + [f"g{n}" for n in range(40)])
    found = measure(embedded_of(rows, [99] * 40 + [1] * 40, [99] * 40 + [1] * 40), "colour")
    assert list(by_value(found)) == ["Blue"]
    assert found["few"]["values"] == ["Red"]
    assert "(1 value with fewer than 10 groups)" in text_of(found)


def test_a_query_of_two_small_values_is_counted_once_in_their_line():
    rows = products(
        colour=["Red", "Blue"] + ["Green"] * 20, caption=["one", "One"] + [f"caption {n}" for n in range(20)]
    )
    found = measure(embedded_of(rows), "colour")
    assert found["few"]["values"] == ["Blue", "Red"]
    assert found["few"]["text_to_image"]["queries"] == 1
    assert found["few"]["image_to_text"]["queries"] == 2


def test_without_small_values_there_is_no_such_line():
    found = measure(embedded_of(products(colour=["Red"] * 20 + [""] * 20)), "colour")
    assert found["few"] == {"values": []}
    assert "fewer than" not in text_of(found)
    assert set(by_value(found)) == {"Red", "(none)"}


# --- what is clearly below -----------------------------------------------------------------------------


def test_only_what_lies_clearly_below_the_whole_is_told_to():
    """Red is far below in one direction; Blue has a lower figure than the whole, but within doubt."""
    colours = ["Red"] * 100 + ["Blue"] * 20 + ["Green"] * 200
    image_ranks = [99] * 80 + [1] * 20 + [99] * 7 + [1] * 13 + [99] * 20 + [1] * 180
    found = measure(embedded_of(products(colour=colours), image_ranks), "colour")
    blue = by_value(found)["Blue"]["image_to_text"]
    assert blue["R@10"] < found["all"]["image_to_text"]["R@10"] < blue["interval"][1]
    lines = describe(found)
    assert "  image -> text: 1 of 3 (Red)" in lines
    assert "  text -> image: 0 of 3 (none)" in lines
    assert any("by chance alone, expect about 0.1 of 3" in line for line in lines)


def test_one_value_has_nothing_to_be_compared_with():
    told = text_of(measure(embedded_of(products(colour=["Red"] * 20)), "colour"))
    assert "nothing to compare: 1 value with" in told
    told = text_of(measure(embedded_of(products(colour=list("abcdef"))), "colour"))
    assert "nothing to compare: 0 values with" in told
    assert "(6 values with fewer than 10 groups)" in told


# --- caption length ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([4, 5, 6, 7, 8, 9, 10, 30], ["4 to 5 words"] * 2 + ["6 to 7 words"] * 2 + ["8 to 9 words"] * 2
         + ["10 to 30 words"] * 2),
        ([3, 3, 3], ["3 words"] * 3),
        ([1, 1, 1, 1, 9], ["1 word"] * 4 + ["2 to 9 words"]),
        ([0, 2, 2, 2], ["0 words", "1 to 2 words", "1 to 2 words", "1 to 2 words"]),
        ([5], ["5 words"]),
    ],
)  # fmt: skip
def test_ranges_of_length_by_hand(lengths, expected):
    assert length_ranges(np.array(lengths)).tolist() == expected
    assert length_ranges(np.array(lengths[::-1])).tolist() == expected[::-1]


def test_ranges_of_length_are_quarters_where_lengths_allow():
    lengths = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 41), 5))
    names, counts = np.unique(length_ranges(lengths), return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "1 to 10 words": 50, "11 to 20 words": 50, "21 to 30 words": 50, "31 to 40 words": 50
    }  # fmt: skip


def test_slices_by_caption_length():
    """A caption has its own length, an image those of its captions: product 0 is shown with a short and a long one."""
    short, long = [f"word {n}" for n in range(20)], [f"one two three four five six-{n}" for n in range(20)]
    rows = pd.concat([products(caption=short + long), products(caption=[long[0].upper()])])
    found = measure(embedded_of(rows, [1] * 20 + [99] * 20, [99] * 20 + [1] * 20), "caption-length")
    assert found["column"] == "caption length"
    counts = {v: [row[d]["queries"] for d in DIRECTIONS] for v, row in by_value(found).items()}
    assert counts == {"2 words": [20, 20], "3 to 7 words": [21, 20]}
    assert found["in_several"] == {"image_to_text": 1, "text_to_image": 0}
    assert by_value(found)["2 words"]["image_to_text"]["R@10"] == 100
    assert by_value(found)["3 to 7 words"]["image_to_text"]["R@10"] == pytest.approx(100 / 21)
    assert by_value(found)["3 to 7 words"]["text_to_image"]["R@10"] == 100


def test_an_image_has_the_lengths_of_all_captions_of_its_product(monkeypatch):
    monkeypatch.setattr("common.report.slices.ENOUGH", 1)
    rows = products(product=["p", "p"], caption=["short", "a long caption"], group=["g", "g"])
    found = measure(embedded_of(rows), "caption length")
    counts = {v: [row[d]["queries"] for d in DIRECTIONS] for v, row in by_value(found).items()}
    assert counts == {"1 word": [2, 1], "2 to 3 words": [2, 1]}


# --- the chart -----------------------------------------------------------------------------------------


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A function: result -> the axes that were drawn, after the file was written and looked at."""

    def of(result):
        closed = []
        monkeypatch.setattr(plt, "close", closed.append)
        draw(result, tmp_path / "chart.png")
        monkeypatch.undo()
        (figure,) = closed
        with Image.open(tmp_path / "chart.png") as picture:
            assert picture.width > 600
            assert picture.height > 20 * len(figure.axes[0].get_yticks())  # room for each line
        assert [file.name for file in tmp_path.iterdir()] == ["chart.png"]
        plt.close(figure)
        return figure.axes[0]

    return of


def test_the_chart_shows_figures_and_intervals_of_both_directions(drawn):
    colours = ["Red"] * 30 + ["Blue"] * 20 + ["Pink"]
    result = measure(embedded_of(products(colour=colours), [99] * 20 + [1] * 31, [99] * 3 + [1] * 48), "colour")
    axes = drawn(result)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["Red  (30 / 30)", "Blue  (20 / 20)", "(1 value with fewer than 10 groups)  (1 / 1)"]
    assert axes.yaxis_inverted()  # the worst on top
    for direction, bars in zip(DIRECTIONS, axes.containers, strict=True):
        points, _, (spans,) = bars
        rows = [*result["slices"], result["few"]]
        assert points.get_xdata().tolist() == pytest.approx([row[direction]["R@10"] for row in rows])
        ends = [segment[:, 0].tolist() for segment in spans.get_segments()]
        assert np.array(ends) == pytest.approx(np.array([row[direction]["interval"] for row in rows]))
    wholes = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert wholes == pytest.approx([result["all"][direction]["R@10"] for direction in DIRECTIONS])
    assert axes.get_title() == "R@10 by colour, worst first"


def test_the_chart_is_cut_at_the_worst_forty(drawn):
    values = [f"value {n:02}" for n in range(45) for _ in range(10)]
    ranks = [99 if place % 10 < place // 10 % 10 else 1 for place in range(450)]
    result = measure(embedded_of(products(size=values), ranks, ranks), "size")
    axes = drawn(result)
    assert len(result["slices"]) == 45
    assert axes.get_title() == "R@10 by size, the worst 40 of 45 values"
    labels = [label.get_text().split("  (")[0] for label in axes.get_yticklabels()]
    assert labels == [row["value"] for row in result["slices"][:40]]


def test_odd_values_are_drawn_as_they_stand(drawn):
    """Dollar signs are no formulas, and a long value is cut."""
    values = ["$x_$ and $\\oops$"] * 10 + ["long " * 30] * 10
    result = measure(embedded_of(products(**{"a$b$": values})), "a$b$")
    assert drawn(result).get_title() == r"R@10 by a\$b\$, worst first"
    assert max(map(len, describe(result)[:8])) < 150


def test_a_chart_of_small_values_only(drawn):
    axes = drawn(measure(embedded_of(products(colour=list("abc"))), "colour"))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["(3 values with fewer than 10 groups)  (3 / 3)"]
