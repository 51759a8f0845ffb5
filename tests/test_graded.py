"""common/report/graded.py: orders worked out by hand, the worst of all orders, loops over products, and ranx."""

import json
import math
from itertools import permutations
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.embedding import Embedded
from common.evaluation import both_ranks
from common.gallery import Gallery
from common.report import graded
from common.report.graded import describe, grades, incidence, measure, ndcg, step_labels

DIRECTIONS = ("image_to_text", "text_to_image")


def scored(sim, grade) -> list[float]:
    return ndcg(torch.tensor(sim, dtype=torch.float64), torch.tensor(grade))[0].tolist()


def dcg(grades) -> float:
    """Of the items in the order in which they are found."""
    return sum((2**grade - 1) / math.log2(rank + 1) for rank, grade in enumerate(grades[:10], start=1))


def ratio(found) -> float:
    return dcg(found) / dcg(sorted(found, reverse=True))


# --- one query -----------------------------------------------------------------------------------------


def test_four_items_by_hand():
    # found: type only, product, nothing, type and colour
    found = 1 / 1 + 7 / math.log2(3) + 0 / 2 + 3 / math.log2(5)
    ideal = 7 / 1 + 3 / math.log2(3) + 1 / 2
    assert scored([[0.9, 0.8, 0.7, 0.6]], [[1, 3, 0, 2]]) == pytest.approx([found / ideal])
    assert scored([[0.6, 0.9, 0.8, 0.7]], [[2, 1, 3, 0]]) == pytest.approx([found / ideal])


def test_the_best_order_scores_exactly_1_and_only_ten_items_count():
    best = [3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 0, 0]
    falling = [-float(place) for place in range(len(best))]
    assert scored([falling], [best]) == [1.0]
    assert scored([falling], [[*best[:10], 0, 0, 1]]) == [1.0]
    assert scored([falling], [[0] * 10 + [3, 2, 1]]) == [0.0]


def test_items_of_one_grade_may_stand_in_any_order():
    assert scored([[0.5, 0.5, 0.5]], [[3, 3, 3]]) == [1.0]
    assert scored([[1.0, 0.5, 0.5]], [[3, 1, 1]]) == [1.0]


def test_each_query_is_scored_on_its_own():
    sim, grade = [[3.0, 2, 1], [1, 2, 3], [2, 3, 1]], [[3, 0, 1], [3, 0, 1], [0, 0, 2]]
    expected = [ratio([3, 0, 1]), ratio([1, 0, 3]), ratio([0, 0, 2])]
    assert scored(sim, grade) == pytest.approx(expected)


@pytest.mark.parametrize("gap", [0.0, 3e-7, 9e-7, 1e-6])
@pytest.mark.parametrize(("lower", "higher"), [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)])
def test_a_tie_counts_against_the_model(gap, lower, higher):
    assert scored([[0.0, -gap]], [[higher, lower]]) == pytest.approx([ratio([lower, higher])])


@pytest.mark.parametrize("gap", [1.1e-6, 2e-6])
@pytest.mark.parametrize(("lower", "higher"), [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)])
def test_what_is_no_tie_does_not(gap, lower, higher):
    assert scored([[0.5, 0.5 - gap]], [[higher, lower]]) == [1.0]


def test_constant_scores_are_the_worst_order():
    grade = [3, 2, 1, 0, 0, 0, 0, 0, 0, 0]
    assert scored([[0.7] * 10], [grade]) == pytest.approx([ratio(sorted(grade))])
    assert scored([[0.7] * 13], [[*grade, 0, 0, 0]]) == [0.0]


def test_what_cannot_be_scored():
    with pytest.raises(ValueError, match=r"found \(1, 2\) \(1, 3\)"):
        scored([[1.0, 2.0]], [[1, 2, 3]])
    with pytest.raises(ValueError, match="finite"):
        scored([[1.0, math.nan]], [[1, 2]])
    with pytest.raises(ValueError, match="query 1 has no item of a grade above 0"):
        scored([[1.0, 2.0]] * 2, [[1, 2], [0, 0]])


GRADES = st.lists(st.integers(0, 3), min_size=1, max_size=5).filter(any)


@settings(deadline=None, max_examples=60)
@given(GRADES, st.data())
def test_it_is_the_worst_of_all_orders_that_the_scores_allow(grade, data):
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.5, 0.5 - 5e-7, 1.0]), min_size=len(grade), max_size=len(grade)))
    allowed = [
        order
        for order in permutations(range(len(grade)))
        if all(scores[i] > scores[j] - 1e-6 for place, i in enumerate(order) for j in order[place + 1 :])
    ]
    worst = min(ratio([grade[i] for i in order]) for order in allowed)
    assert scored([scores], [grade]) == pytest.approx([worst])


@settings(deadline=None, max_examples=20)
@given(GRADES)
def test_a_random_order_is_the_mean_of_all_orders(grade):
    _, random = ndcg(torch.zeros(1, len(grade), dtype=torch.float64), torch.tensor([grade]))
    every = mean(ratio([grade[i] for i in order]) for order in permutations(range(len(grade))))
    assert random.tolist() == pytest.approx([every])


def test_a_random_order_of_more_than_ten_items_equals_simulation():
    grade = torch.tensor([[3, 2, 2, 1, 1, 1] + [0] * 20]).repeat(40_000, 1)
    shuffled = torch.rand(grade.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    score, random = ndcg(shuffled, grade)
    assert random.mean().item() == pytest.approx(score.mean().item(), rel=0.02)
    assert len(set(random.tolist())) == 1


@pytest.mark.filterwarnings("ignore:unsafe cast")
def test_agrees_with_ranx_where_nothing_is_tied():
    ranx = pytest.importorskip("ranx")
    generator = np.random.default_rng(0)
    sim = generator.permuted(np.tile(np.linspace(-1, 1, 60), (30, 1)), axis=1)
    grade = generator.integers(0, 4, (30, 60))
    grade[:10] *= generator.random((10, 60)) < 0.1  # some queries with few
    grade[:, 0] = 3
    run = ranx.Run({f"q{i}": {f"d{j}": score for j, score in enumerate(row)} for i, row in enumerate(sim.tolist())})
    qrels = ranx.Qrels({f"q{i}": {f"d{j}": int(g) for j, g in enumerate(row) if g} for i, row in enumerate(grade)})
    ranx.evaluate(qrels, run, "ndcg_burges@10")
    theirs = [run.scores["ndcg_burges@10"][f"q{i}"] for i in range(30)]
    assert scored(sim, grade) == pytest.approx(theirs)
    assert max(theirs) - min(theirs) > 0.1


# --- grades --------------------------------------------------------------------------------------------


@st.composite
def catalogues(draw):
    """Rows in which products share images and captions, types and colours are seldom told apart, or missing."""
    row = st.tuples(*[st.integers(0, 5)] * 3, st.sampled_from(["Shirt", "shirt", "Shoe", ""]),
                    st.sampled_from(["Red", "red", "Blue", ""]))  # fmt: skip
    rows = draw(st.lists(row, min_size=1, max_size=14))
    return pd.DataFrame(
        [
            [f"p{product}", 10 + image, f"caption {caption}", kind, colour]
            for product, image, caption, kind, colour in rows
        ],
        columns=["product", "image", "caption", "type", "colour"],
    ).assign(group="g")


def slow_grades(rows: pd.DataFrame) -> dict[tuple[int, str], int]:
    """(image, caption) -> the largest grade over the products of the one and of the other."""
    looks, products = {}, {"image": {}, "caption": {}}
    for row in rows.to_dict("records"):
        looks.setdefault(row["product"], []).append((row["type"].lower(), row["colour"].lower()))
        for side, of_item in products.items():
            of_item.setdefault(row[side], set()).add(row["product"])

    def alike(a: str, b: str) -> int:
        best = 3 if a == b else 0
        for kind, colour in looks[a]:
            for other_kind, other_colour in looks[b]:
                same_kind, same_colour = kind == other_kind != "", colour == other_colour != ""
                best = max(best, 2 if same_kind and same_colour else 1 if same_kind else 0)
        return best

    return {
        (image, caption): max(alike(a, b) for a in shows for b in carried)
        for image, shows in products["image"].items()
        for caption, carried in products["caption"].items()
    }  # fmt: skip


def fast_grades(gallery: Gallery, colour: str | None = "colour") -> torch.Tensor:
    labels = step_labels(gallery.pairs, "type", colour)
    return grades(*([incidence(gallery.pairs, side, label) for label in labels] for side in ("image", "caption")))


@settings(deadline=None, max_examples=60)
@given(catalogues())
def test_grades_are_those_of_a_loop_over_products(rows):
    gallery = Gallery.of(rows)
    slow = slow_grades(rows)
    expected = [[slow[image, caption] for caption in gallery.captions] for image in gallery.images]
    assert fast_grades(gallery).tolist() == expected
    assert sorted((fast_grades(gallery) == 3).nonzero().tolist()) == sorted(gallery.relevant.T.tolist())


def test_a_caption_has_the_types_and_colours_of_all_its_products():
    rows = pd.DataFrame(
        [["a", 0, "Polo", "Shirt", "Red"], ["b", 1, "Polo", "Shoe", "Blue"], ["c", 2, "Other", "Shirt", "Red"],
         ["d", 3, "Third", "Shoe", "Red"], ["e", 4, "Fourth", "Hat", "Red"]],
        columns=["product", "image", "caption", "type", "colour"],
    ).assign(group="g")  # fmt: skip
    # a red shoe is no red shirt and no blue shoe
    assert fast_grades(Gallery.of(rows))[:, 0].tolist() == [3, 3, 2, 1, 0]
    assert fast_grades(Gallery.of(rows), None)[:, 0].tolist() == [3, 3, 1, 1, 0]


def test_an_empty_type_or_colour_matches_nothing():
    rows = pd.DataFrame(
        [["a", 0, "A", "", "Red"], ["b", 1, "B", "", "Red"], ["c", 2, "C", "Hat", ""], ["d", 3, "D", "Hat", ""]],
        columns=["product", "image", "caption", "type", "colour"],
    ).assign(group="g")
    assert fast_grades(Gallery.of(rows)).tolist() == [[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 1], [0, 0, 1, 3]]


# --- the whole part ------------------------------------------------------------------------------------


def embedded_of(rows: pd.DataFrame, image_emb=None, text_emb=None) -> Embedded:
    gallery = Gallery.of(rows)
    generator = torch.Generator().manual_seed(1)
    if image_emb is None:
        image_emb = torch.randn(len(gallery.images), 4, generator=generator)
        text_emb = torch.randn(len(gallery.captions), 4, generator=generator)
    attributes = [name for name in rows if name not in ("product", "image", "caption", "group")]
    data = SimpleNamespace(catalogue=SimpleNamespace(attributes=attributes, path=Path("some.csv")))
    ranks = both_ranks(image_emb, text_emb, gallery)
    return Embedded(None, None, torch.device("cpu"), data, "test", gallery, image_emb, text_emb, ranks)


@pytest.fixture(scope="module")
def rows():
    """40 products; every third shares its caption with the one before."""
    generator = np.random.default_rng(2)
    return pd.DataFrame({
        "product": [f"p{number}" for number in range(40)],
        "image": range(40),
        "caption": [f"caption {number - (number % 3 == 2)}" for number in range(40)],
        "type": generator.choice(["Shirt", "Shoe", "Hat", ""], 40),
        "colour": generator.choice(["Red", "Blue", ""], 40),
        "group": [f"g{number - (number % 3 == 2)}" for number in range(40)],
    })  # fmt: skip


def slow_figures(embedded: Embedded, rows: pd.DataFrame) -> dict[str, dict]:
    slow = slow_grades(rows)
    image_emb, text_emb = ([[x / math.hypot(*row) for x in row] for row in emb.double().tolist()]
                           for emb in (embedded.image_emb, embedded.text_emb))  # fmt: skip
    gallery, found = embedded.gallery, {}
    for direction in DIRECTIONS:
        scores, items = [], []
        forth = direction == "image_to_text"
        for q, query in enumerate(image_emb if forth else text_emb):
            order = []
            for g, item in enumerate(text_emb if forth else image_emb):
                i, c = (q, g) if forth else (g, q)
                cosine = sum(x * y for x, y in zip(query, item, strict=True))
                order.append((-cosine, slow[gallery.images[i], gallery.captions[c]]))
            ranked = [grade for _, grade in sorted(order)]
            scores.append(ratio(ranked))
            items.append([ranked.count(grade) for grade in (3, 2, 1)])
        found[direction] = {"nDCG@10": mean(scores), "items": [mean(column) for column in zip(*items, strict=True)]}
    return found


@pytest.mark.parametrize("held", [1, 100, 2**20])
def test_the_figures_equal_those_of_loops_whatever_is_held_at_once(held, rows, monkeypatch):
    monkeypatch.setattr(graded, "HELD", held)
    embedded = embedded_of(rows)
    found = measure(embedded)
    expected = slow_figures(embedded, rows)
    for direction in DIRECTIONS:
        figures = found[direction]
        assert figures["nDCG@10"] == pytest.approx(expected[direction]["nDCG@10"])
        assert list(figures["items"]) == ["3", "2", "1"]
        assert list(figures["items"].values()) == pytest.approx(expected[direction]["items"])
        low, high = figures["interval"]
        assert low < figures["nDCG@10"] < high
        assert 0 < figures["random"] < 1
    assert found["image_to_text"]["queries"] == 40
    assert found["text_to_image"]["queries"] == 27
    assert json.loads(json.dumps(found)) == found


def test_a_perfect_model_scores_1_a_constant_one_less_than_a_random_order(rows):
    gallery = Gallery.of(rows)
    grade = fast_grades(gallery).double()  # (N, M)
    # cosines that rise with the grade, by as many dimensions as there are pairs
    u, s, v = torch.linalg.svd(grade)
    image_emb, text_emb = u[:, : len(s)] * s.sqrt(), v.T * s.sqrt()
    image_emb, text_emb = same_length(image_emb, text_emb)
    perfect = measure(embedded_of(rows, image_emb, text_emb))
    constant = measure(embedded_of(rows, torch.ones(len(gallery.images), 3), torch.ones(len(gallery.captions), 3)))
    for direction in DIRECTIONS:
        assert perfect[direction]["nDCG@10"] == 1.0
        assert perfect[direction]["interval"][1] == 1.0
        assert perfect[direction]["interval"][0] > 0.8
        assert constant[direction]["nDCG@10"] < constant[direction]["random"] / 2
        assert constant[direction]["random"] == pytest.approx(perfect[direction]["random"])


def same_length(image_emb, text_emb):
    """Append one dimension a tower, which the other lacks, so that all vectors of a tower are of one length."""
    padded = []
    for emb, before in ((image_emb, 0), (text_emb, 1)):
        square = emb.square().sum(1)
        rest = (square.max() - square).clamp(min=0).sqrt()
        extra = torch.zeros(len(emb), 2, dtype=emb.dtype)
        extra[:, before] = rest
        padded.append(torch.cat([emb, extra], dim=1))
    return padded


def test_without_a_type_the_part_is_left_out(rows):
    found = measure(embedded_of(rows.drop(columns="type")))
    assert list(found) == ["left_out"]
    told = "\n".join(describe(found))
    assert "graded relevance: left out" in told
    assert "articleType" in told


def test_without_a_colour_there_are_two_grades(rows):
    found = measure(embedded_of(rows.drop(columns="colour")))
    assert found["colour"] is None
    expected = slow_figures(embedded_of(rows), rows.assign(colour=""))
    for direction in DIRECTIONS:
        assert found[direction]["nDCG@10"] == pytest.approx(expected[direction]["nDCG@10"])
        assert found[direction]["items"]["2"] == 0
        assert found[direction]["items"]["1"] > 1
    told = "\n".join(describe(found))
    assert "gain 7 for same product or caption, 1 for same type\n" in told
    assert "colour does not count: no column baseColour" in told
    assert "gain 3" not in told


def test_what_is_printed(rows):
    found = measure(embedded_of(rows))
    lines = describe(found)
    assert lines[0] == ""
    assert lines[1] == "graded relevance: nDCG@10 (0 to 1) over the full gallery of the test split"
    assert "gain 7 for same product or caption, 3 for same type and colour, 1 for same type" in lines[2]
    for name in ("type", "colour"):
        assert f"  {(rows[name] == '').sum()} of 40 products have no {name}: it matches no other there" in lines
    for direction, words in (("image_to_text", "image -> text"), ("text_to_image", "text -> image")):
        row = next(line for line in lines if line.startswith(words)).split()[3:]
        figures = found[direction]
        expected = [figures["R@10"], figures["nDCG@10"], *figures["interval"], figures["random"],
                    *figures["items"].values()]  # fmt: skip
        assert [float(word) for word in row if word != "to"] == pytest.approx(expected, abs=0.051)
