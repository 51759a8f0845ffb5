"""common/report/fg101.py and candidates.py: lists of 101 against a slow oracle, and figures worked out by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from common.embedding import Embedded
from common.errors import InputError
from common.gallery import Gallery
from common.options import EvalOptions
from common.report import candidates, fg101

FIGURES = ["R@1", "R@5", "R@10", "mean_rank", "MRR"]
ATTRIBUTES = ["articleType", "baseColour"]


def rows_of(products: list[str], kinds: list[str], **columns) -> pd.DataFrame:
    """A row a product, each with an image, a caption and a group of its own, unless columns say otherwise."""
    rows = pd.DataFrame({"product": products, "image": range(len(products)), "articleType": kinds, "baseColour": "red"})
    rows["caption"] = "caption " + rows["product"]
    return rows.assign(group=rows["product"]).assign(**columns)


def embedded_of(rows: pd.DataFrame, image_emb=None, text_emb=None, seed: int = 0, split: str = "test") -> Embedded:
    """The gallery of some rows with these embeddings, or with random ones in which captions are near their images."""
    gallery = Gallery.of(rows)
    generator = torch.Generator().manual_seed(seed)
    if image_emb is None:
        image_emb = torch.randn(len(gallery.images), 8, generator=generator)
        text_emb = torch.randn(len(gallery.captions), 8, generator=generator)
        image, caption = gallery.relevant
        text_emb[caption] += image_emb[image]
    data = SimpleNamespace(catalogue=SimpleNamespace(attributes=ATTRIBUTES, path=Path("/shop/shop.csv")))
    return Embedded(None, None, torch.device("cpu"), data, split, gallery, image_emb, text_emb, {})


def mixed_rows() -> pd.DataFrame:
    """Categories of 140, 101 and 60 products and ten without; some share captions, images and groups; some have more
    rows than one."""
    kinds = ["shirt"] * 140 + ["shoe"] * 101 + ["hat"] * 60 + [""] * 10
    rows = rows_of([f"p{number}" for number in range(311)], kinds)
    rows.loc[[3, 4, 5, 150], "caption"] = "the same  words"
    rows.loc[4, "caption"] = "The same words"
    rows.loc[[7, 8], "image"] = 7
    rows.loc[[20, 21, 22, 23, 160, 161], "group"] = "p20"
    second = rows.iloc[[1, 6, 141]].assign(image=[900, 3, 902], caption=["another", "a third", "caption p170"])
    return pd.concat([rows, second], ignore_index=True).sample(frac=1, random_state=0).reset_index(drop=True)


def brute_relevant(rows: pd.DataFrame) -> dict[str, set[str]]:
    """product -> the products that share a folded caption, an image or a group with it, pair by pair."""
    caption = rows["caption"].str.lower().str.split().str.join(" ")
    things = {
        product: {("caption", c) for c in caption[part.index]}
        | {("image", i) for i in part["image"]}
        | {("group", g) for g in part["group"]}
        for product, part in rows.groupby("product")
    }
    return {a: {b for b in things if things[a] & things[b]} for a in things}


def brute_figures(embedded: Embedded, rows: pd.DataFrame, file: Path, direction: str) -> pd.DataFrame:
    """The figures of each draw, query by query and candidate by candidate."""
    gallery = embedded.gallery
    first = rows.drop_duplicates("product").set_index("product")
    number_of_image = {image: place for place, image in enumerate(gallery.images)}
    number_of_caption = {" ".join(c.lower().split()): place for place, c in enumerate(gallery.captions)}
    vectors = {"image": {}, "text": {}}
    for product, row in first.iterrows():
        vectors["image"][product] = embedded.image_emb[number_of_image[row["image"]]].double().numpy()
        caption = " ".join(row["caption"].lower().split())
        vectors["text"][product] = embedded.text_emb[number_of_caption[caption]].double().numpy()
    asked, answering = direction.split("_to_")
    figures = []
    for _, part in pd.read_parquet(file).groupby("draw"):
        ranks = []
        for query, listed in zip(part["query"], part["candidates"], strict=True):
            one = vectors[asked][query]
            scores = [one @ vectors[answering][p] / np.linalg.norm(one) / np.linalg.norm(vectors[answering][p])
                      for p in listed]  # fmt: skip
            ranks.append(sum(score >= scores[0] - 1e-6 for score in scores))
        ranks = np.array(ranks)
        hits = {f"R@{k}": 100 * (ranks <= k).mean() for k in (1, 5, 10)}
        figures.append({**hits, "mean_rank": ranks.mean(), "MRR": (1 / ranks).mean()})
    return pd.DataFrame(figures)


# --- the figures ---------------------------------------------------------------------------------------


def test_figures_by_hand(tmp_path):
    """101 hats on an arc: each caption lies 1.4 steps behind its image, so that two others are nearer than its own.

    All lists hold all hats. The two shoes have the very embeddings of a hat, and are in nobody's way.
    """
    place = torch.arange(101) * 0.01
    place_of_image, place_of_text = torch.cat([place + 0.014, place[:2]]), torch.cat([place, place[:2] + 0.014])
    image_emb = torch.stack([place_of_image.cos(), place_of_image.sin()], 1) * 3
    text_emb = torch.stack([place_of_text.cos(), place_of_text.sin()], 1)
    rows = rows_of([f"p{n}" for n in range(103)], ["hat"] * 101 + ["shoe"] * 2)
    found = fg101.measure(embedded_of(rows, image_emb, text_emb), "articleType", tmp_path / "lists.parquet")
    # 99 hats of either direction have rank 3, the last but one has 2 and the last 1
    expected = {"R@1": 100 / 101, "R@5": 100, "R@10": 100, "mean_rank": (99 * 3 + 2 + 1) / 101,
                "MRR": (99 / 3 + 1 / 2 + 1) / 101}  # fmt: skip
    for direction in ("image_to_text", "text_to_image"):
        assert found[direction]["mean"] == pytest.approx(expected)
        assert found[direction]["std"] == pytest.approx(dict.fromkeys(FIGURES, 0), abs=1e-9)
    assert found["queries"] == [101] * 5
    assert found["products"] == {"all": 103, "askable": 101, "without_category": 0, "too_few_others": 2}
    assert found["chance"] == pytest.approx({
        "R@1": 100 / 101, "R@5": 500 / 101, "R@10": 1000 / 101, "mean_rank": 51,
        "MRR": sum(1 / rank for rank in range(1, 102)) / 101,
    })  # fmt: skip


@pytest.mark.parametrize("held", [1, fg101.HELD])
def test_figures_equal_those_of_a_loop(held, tmp_path, monkeypatch):
    monkeypatch.setattr(fg101, "HELD", held)
    monkeypatch.setattr(candidates, "QUERIES", 40)
    rows, file = mixed_rows(), tmp_path / "lists.parquet"
    embedded = embedded_of(rows)
    found = fg101.measure(embedded, "articleType", file)
    for direction in ("image_to_text", "text_to_image"):
        draws = brute_figures(embedded, rows, file, direction)
        assert list(found[direction]["mean"]) == FIGURES
        assert found[direction]["mean"] == pytest.approx(draws.mean().to_dict())
        assert found[direction]["std"] == pytest.approx(draws.std(ddof=1).to_dict())
        assert found[direction]["std"]["MRR"] > 0
        assert 5 < found[direction]["mean"]["R@1"] < 95


def test_ties_count_against(tmp_path):
    rows = rows_of([f"p{n}" for n in range(101)], ["hat"] * 101)
    embedded = embedded_of(rows, torch.ones(101, 7), torch.ones(101, 7) + 1e-8 * torch.randn(101, 7))
    found = fg101.measure(embedded, "articleType", tmp_path / "lists.parquet")
    for direction in ("image_to_text", "text_to_image"):
        assert found[direction]["mean"] == pytest.approx(
            {"R@1": 0, "R@5": 0, "R@10": 0, "mean_rank": 101, "MRR": 1 / 101}
        )


def test_a_perfect_model_finds_all(tmp_path):
    rows = rows_of([f"p{n}" for n in range(120)], ["hat"] * 120)
    emb = torch.randn(120, 16, generator=torch.Generator().manual_seed(0))
    found = fg101.measure(embedded_of(rows, emb, 5 * emb), "articleType", tmp_path / "lists.parquet")
    assert found["text_to_image"]["mean"] == {"R@1": 100, "R@5": 100, "R@10": 100, "mean_rank": 1, "MRR": 1}


# --- the lists -----------------------------------------------------------------------------------------


def test_lists_are_of_distinct_products_of_one_category_that_are_not_relevant(tmp_path):
    rows, file = mixed_rows(), tmp_path / "lists.parquet"
    found = fg101.measure(embedded_of(rows), "articleType", file)
    relevant = brute_relevant(rows)
    kind = rows.groupby("product")["articleType"].first().to_dict()
    members = {name: {p for p in kind if kind[p] == name} for name in ("shirt", "shoe", "hat")}
    askable = {p for p in kind if kind[p] and len(members[kind[p]] - relevant[p]) >= 100}
    assert 0 < len(askable) < 241
    lists = pd.read_parquet(file)
    assert list(lists) == ["draw", "query", "candidates"]
    assert sorted(lists["draw"].unique()) == [0, 1, 2, 3, 4]
    for _, part in lists.groupby("draw"):
        assert sorted(part["query"]) == sorted(askable)  # fewer than 1,000: all of them, once
    for query, listed in zip(lists["query"], lists["candidates"], strict=True):
        assert listed[0] == query
        assert len(listed) == len(set(listed)) == 101
        assert not relevant[query] & set(listed[1:])
        assert {kind[product] for product in listed} == {kind[query]}
    assert found["products"] == {
        "all": 311,
        "askable": len(askable),
        "without_category": 10,
        "too_few_others": 301 - len(askable),
    }
    assert found["relevant_negatives"] == 0


def test_every_product_is_a_negative_as_often_as_another(tmp_path):
    """200 products, two of which share a caption: 100 of 199 or 198 others are drawn each time."""
    rows = rows_of([f"p{n}" for n in range(200)], ["hat"] * 200)
    rows.loc[[0, 1], "caption"] = "the same"
    fg101.measure(embedded_of(rows), "articleType", tmp_path / "lists.parquet")
    listed = pd.read_parquet(tmp_path / "lists.parquet")["candidates"]
    times = pd.Series([product for one in listed for product in one[1:]]).value_counts()
    assert len(times) == 200
    assert times.between(500 - 5 * 16, 500 + 5 * 16).all()  # binomial: 1,000 lists, deviation 16


@pytest.mark.parametrize("shared", ["caption", "image", "group"])
def test_what_a_product_shares_decides_whether_it_can_be_asked(shared, tmp_path):
    """101 hats, two of which share something: for these 99 are left. 100 shoes; three without a category."""
    rows = rows_of([f"p{n}" for n in range(204)], ["hat"] * 101 + ["shoe"] * 100 + [""] * 3)
    rows.loc[1, shared] = rows.loc[0, shared]
    embedded = embedded_of(rows)
    found = fg101.measure(embedded, "articleType", tmp_path / "lists.parquet")
    assert found["products"] == {"all": 204, "askable": 99, "without_category": 3, "too_few_others": 102}
    assert found["queries"] == [99] * 5
    told = "\n".join(fg101.describe(found))
    assert "99 of 204 products can be asked; 3 have no 'articleType', 102 fewer than 100 others of theirs" in told


def test_a_draw_has_distinct_queries_and_draws_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "QUERIES", 30)
    fg101.measure(embedded_of(mixed_rows()), "articleType", tmp_path / "lists.parquet")
    draws = [part for _, part in pd.read_parquet(tmp_path / "lists.parquet").groupby("draw")]
    assert [part["query"].nunique() for part in draws] == [len(part) for part in draws] == [30] * 5
    assert len({tuple(part["query"]) for part in draws}) == 5


def test_lists_depend_on_the_catalogue_alone(tmp_path):
    rows = mixed_rows()
    for name, seed in (("a", 0), ("b", 1)):
        fg101.measure(embedded_of(rows, seed=seed), "articleType", tmp_path / f"{name}.parquet")
    a, b = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in "ab")
    pd.testing.assert_frame_equal(a, b)


def test_kept_lists_are_read_again(tmp_path, monkeypatch):
    """Lists that the seeds would not draw again: a second model meets them, and the file stays as it is."""
    rows, file = mixed_rows(), tmp_path / "deep" / "lists.parquet"
    monkeypatch.setattr(candidates, "SEEDS", range(70, 73))
    monkeypatch.setattr(candidates, "QUERIES", 25)
    first = fg101.measure(embedded_of(rows, seed=0), "articleType", file)
    before = file.read_bytes()
    monkeypatch.undo()
    assert fg101.measure(embedded_of(rows, seed=0), "articleType", file) == first
    other = embedded_of(rows, seed=1)
    found = fg101.measure(other, "articleType", file)
    assert found["queries"] == [25] * 3
    assert found["text_to_image"] != first["text_to_image"]
    assert found["text_to_image"]["mean"] == pytest.approx(
        brute_figures(other, rows, file, "text_to_image").mean().to_dict()
    )
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["lists.parquet"]


def test_one_draw_has_no_spread_and_ids_may_be_numbers(tmp_path):
    rows = rows_of([str(n) for n in range(101)], ["hat"] * 101)
    file = tmp_path / "lists.parquet"
    pd.DataFrame({"draw": [0], "query": [7], "candidates": [[7, *range(7), *range(8, 101)]]}).to_parquet(file)
    found = fg101.measure(embedded_of(rows), "articleType", file)
    assert found["queries"] == [1]
    assert found["image_to_text"]["std"] == dict.fromkeys(FIGURES)
    assert sum("±" in line for line in fg101.describe(found)) == 0


def test_relevant_negatives_of_a_file_are_told(tmp_path):
    rows = rows_of([f"p{n}" for n in range(101)], ["hat"] * 101)
    rows.loc[5, "caption"] = rows.loc[0, "caption"]
    file = tmp_path / "lists.parquet"
    pd.DataFrame({"draw": [0], "query": ["p0"], "candidates": [rows["product"].tolist()]}).to_parquet(file)
    found = fg101.measure(embedded_of(rows), "articleType", file)
    assert found["relevant_negatives"] == 1
    assert "1 negatives in that file share a caption" in "\n".join(fg101.describe(found))


HATS = [f"p{n}" for n in range(101)]


@pytest.mark.parametrize(
    ("query", "listed", "message"),
    [
        ("p0", [*HATS[:100], "gone"], "names product gone, which is not in the gallery"),
        ("p0", HATS[:100], "holds 100 products, 100 of them distinct"),
        ("p0", [*HATS[:100], "p1"], "holds 101 products, 100 of them distinct"),
        ("p1", HATS, "p0 first; expected 101 distinct ones, the query first"),
        ("p0", [], "holds 0 products"),
        ("p0", [*HATS[:100], "shoe"], "does not hold products of one 'articleType': give --category"),
        (None, HATS, "expected rows with"),
    ],
)
def test_lists_that_cannot_be_used(query, listed, message, tmp_path):
    rows = rows_of([*HATS, "shoe"], ["hat"] * 101 + ["shoe"])
    file = tmp_path / "lists.parquet"
    good = {"draw": 0, "query": "p0", "candidates": HATS}
    pd.DataFrame([good, {"draw": 0, "query": query, "candidates": listed}]).to_parquet(file)
    with pytest.raises(InputError, match=rf"lists\.parquet: .*{message}.*remove the file"):
        fg101.measure(embedded_of(rows), "articleType", file)


@pytest.mark.parametrize("content", [b"no parquet", b"", "other columns", "no rows"])
def test_a_file_that_is_no_table_of_lists(content, tmp_path):
    file = tmp_path / "lists.parquet"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        columns = ["draw", "query", "candidates"] if content == "no rows" else ["draw", "query"]
        pd.DataFrame(columns=columns).to_parquet(file)
    with pytest.raises(InputError, match=r"lists\.parquet: (not a readable parquet file|expected rows with)"):
        fg101.measure(embedded_of(rows_of(HATS, ["hat"] * 101)), "articleType", file)


# --- options -------------------------------------------------------------------------------------------


def test_a_column_is_found_in_another_case(tmp_path):
    embedded = embedded_of(rows_of(HATS, ["hat"] * 101))
    assert fg101.measure(embedded, "ARTICLEtype", tmp_path / "lists.parquet")["category"] == "articleType"
    two = SimpleNamespace(attributes=["Kind", "kind"], path=Path("shop.csv"))
    assert [fg101.category_column(two, name) for name in ("kind", "Kind", "KIND")] == ["kind", "Kind", "Kind"]


@pytest.mark.parametrize(
    ("category", "attributes", "message"),
    [
        ("artikelType", ATTRIBUTES, r"--category artikelType: .*nearest is 'articleType', there are: article"),
        (None, ATTRIBUTES, r"needs --category COLUMN; the columns of shop\.csv are \['articleType', 'baseColour'\]"),
        ("kind", [], "has no column besides"),
    ],
)
def test_columns_that_are_not_there(category, attributes, message):
    with pytest.raises(InputError, match=message):
        fg101.category_column(SimpleNamespace(attributes=attributes, path=Path("shop.csv")), category)


@pytest.mark.parametrize("split", ["test", "all"])
def test_no_product_can_be_asked(split, tmp_path):
    embedded = embedded_of(rows_of(HATS, ["hat"] * 60 + ["shoe"] * 41), split=split)
    with pytest.raises(InputError, match="'hat', holds 60 products; name a coarser column") as told:
        fg101.measure(embedded, "articleType", tmp_path / "lists.parquet")
    assert ("--split all" in str(told.value)) is (split == "test")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_column(tmp_path):
    with pytest.raises(InputError, match="the column is empty"):
        fg101.measure(embedded_of(rows_of(HATS, [""] * 101)), "articleType", tmp_path / "lists.parquet")


def test_options_that_only_the_protocol_reads():
    with pytest.raises(InputError, match="--category articleType: only read with --protocol fg101"):
        fg101.check(EvalOptions(category="articleType"))
    with pytest.raises(InputError, match=r"--candidates lists\.parquet: only read with --protocol"):
        fg101.check(EvalOptions(candidates=Path("lists.parquet")))
    fg101.check(EvalOptions())
    fg101.check(EvalOptions(protocol="fg101", category="articleType", candidates=Path("lists.parquet")))


def test_what_is_printed(tmp_path):
    found = fg101.measure(embedded_of(mixed_rows()), "articleType", tmp_path / "lists.parquet")
    lines = fg101.describe(found)
    count = found["queries"][0]
    assert lines[0] == ""
    assert lines[1] == f"protocol: fg101 (Fashion-Gen's), the test split of shop.csv, 5 draws of {count} queries"
    assert "101 candidates of one 'articleType'" in lines[2] and "not comparable with the full gallery" in lines[2]
    table = {line[:15].strip(): [float(word) for word in line[15:].split()] for line in lines[-5:]}
    assert table["image -> text"] == pytest.approx(list(found["image_to_text"]["mean"].values()), abs=0.051)
    assert table["text -> image"] == pytest.approx(list(found["text_to_image"]["mean"].values()), abs=0.051)
    assert table["chance"] == pytest.approx([0.99, 4.95, 9.9, 51, 0.0515], abs=0.01)
