"""common/report/robustness.py: each change by its properties, brands from openings, recall against a model of bags."""

import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from bags import bag_of_words
from hypothesis import assume, given
from hypothesis import strategies as st

from common.captions import fold, words
from common.catalogue import open_catalogue
from common.recall import rank_queries
from common.report.intervals import RESAMPLES
from common.report.robustness import (
    as_brand,
    describe,
    keys_beside,
    measure,
    misspellings,
    opening_brands,
    shuffled,
    with_typo,
    without_brands,
)

WORD = st.text("abcdefghijkLMNOPQéß", min_size=1, max_size=8)
CAPTION = st.lists(
    WORD | st.sampled_from(["red", "T-shirt", "&", "(xl)", "👟", "红色", "by", "1478SM01"]), max_size=7
).map(" ".join)
BRANDS = ("Puma", "Peter England", "Oak & Ember", "United Colors of Benetton")


def edits(one, other):
    """Edit distance with transpositions of neighbours (optimal string alignment)."""
    table = np.add.outer(np.arange(len(one) + 1), np.arange(len(other) + 1))
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            same = one[i - 1] == other[j - 1]
            ways = [table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (not same)]
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                ways.append(table[i - 2, j - 2] + 1)
            table[i, j] = min(ways)
    return int(table[-1, -1])


# --- typos ---------------------------------------------------------------------------------------------


@given(CAPTION)
def test_a_typo_is_one_edit_in_one_word_of_at_least_four_letters(caption):
    changed = with_typo(caption)
    long = [word for word in caption.replace("-", " ").split() if word.isalpha() and len(word) >= 4]
    if not long:
        assert changed == caption
        return
    before, after = caption.split(), changed.split()
    assert len(before) == len(after)
    different = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(different) == 1
    (old, new) = different[0]
    assert edits(old, new) == 1 and fold(old) != fold(new)
    assert old in long or old == "T-shirt"


def test_the_typos_of_a_word():
    swapped, dropped, doubled, beside = misspellings("Noon")
    assert swapped == ["oNon", "Nono"]
    assert dropped == ["oon", "Non", "Non", "Noo"]
    assert doubled == ["NNoon", "Nooon", "Nooon", "Noonn"]
    assert set(beside) == {f"{key}oon" for key in "BMHJ"} | {f"Noo{key}" for key in "bmhj"} | {
        f"N{pair}n" for key in "ipkl" for pair in (f"{key}o", f"o{key}")
    }


@pytest.mark.parametrize(
    ("letter", "around"), [("q", "wa"), ("G", "FHTYVB"), ("m", "njk"), ("p", "ol"), ("é", ""), ("1", "")]
)
def test_keys_beside_a_letter(letter, around):
    assert sorted(keys_beside(letter)) == sorted(around)


def test_all_kinds_of_typos_are_made():
    kinds = Counter()
    for number in range(400):
        caption = f"Blouse {number}"
        wrong = with_typo(caption).split()[0]
        kinds[next(place for place, made in enumerate(misspellings("Blouse")) if wrong in made)] += 1
    assert set(kinds) == {0, 1, 2, 3} and min(kinds.values()) > 60


@pytest.mark.parametrize("caption", ["", "red tee", "1478SM01 a-b", "红色连衣裙", "👟👟👟👟"])
def test_no_typo_without_a_long_word(caption):
    assert with_typo(caption) == caption


# --- shuffled ------------------------------------------------------------------------------------------


@given(CAPTION)
def test_shuffling_keeps_the_words_and_changes_their_order(caption):
    changed = shuffled(caption)
    assert Counter(changed.split()) == Counter(caption.split())
    others = len({fold(word) for word in caption.split()}) > 1
    assert (fold(changed) != fold(caption)) is others
    if not others:
        assert changed == caption


def test_two_words_that_differ_in_case_alone_have_no_other_order():
    assert shuffled("Red RED") == "Red RED"
    assert shuffled("Red tee") == "tee Red"


# --- brands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("PUMA Men Red Shoes", "Men Red Shoes"),
        ("Men Red Shoes by Puma", "Men Red Shoes"),
        ("Men shoes by Peter England in Red", "Men shoes in Red"),
        ("United Colors Of Benetton  Tee", "Tee"),
        ("Oak & Ember tee, (Puma)", "tee,"),
        ("Peter Pan Tee", "Peter Pan Tee"),
        ("Pumas by the sea", "Pumas by the sea"),
        ("Puma", ""),
        ("", ""),
    ],
)
def test_brands_are_cut(caption, expected):
    assert without_brands(caption, map(as_brand, BRANDS)) == expected


def test_the_longest_brand_is_cut():
    assert without_brands("Sweet Dreams tee", [("sweet",), ("sweet", "dreams")]) == "tee"


@given(st.lists(WORD, max_size=6), st.sampled_from(BRANDS), st.integers(0, 6))
def test_cutting_a_brand_keeps_the_rest_in_order(rest, brand, place):
    assume("by" not in map(fold, rest))
    caption = " ".join([*rest[:place], brand, *rest[place:]])
    assert without_brands(caption, map(as_brand, BRANDS)) == " ".join(rest)
    assert without_brands(caption, [()]) == caption


def planted() -> pd.DataFrame:
    """Twelve captions a brand, which open with it or end with "by" it; and words that open without being brands."""
    rows = [
        {"caption": f"{caption} {number}", "colour": colour, "gender": "Men", "story": f"Puma {caption} {number}"}
        for number in range(4)
        for colour in ("Red", "Blue", "Navy Blue")
        for brand in BRANDS
        for caption in (f"{brand} Men {colour} Tee", f"{colour} Tee Men by {brand}")
    ]
    rows += [{"caption": f"Red Tape tee {number}", "colour": "Red", "gender": "", "story": ""} for number in range(20)]
    rows += [{"caption": f"Mens tee {number}", "colour": "", "gender": "Men", "story": ""} for number in range(40)]
    rows += [{"caption": f"Rare {number}", "colour": "", "gender": "", "story": ""} for number in range(4)]
    rows += [{"caption": f"Soft tee {number}", "colour": "", "gender": "", "story": ""} for number in range(9)]
    rows += [{"caption": f"A soft tee {n}", "colour": "", "gender": "", "story": ""} for n in range(10)]
    return pd.DataFrame(rows)


def test_brands_are_learned_from_what_captions_open_with():
    """Colours and genders open captions too, in any form; "soft" stands inside more often; four captions are too few.

    A column of texts that hardly repeat ("story") names a brand without making it an attribute.
    """
    found = opening_brands(planted(), ["colour", "gender", "story"])
    expected = {as_brand(brand): 24 for brand in BRANDS} | {("a", "soft", "tee"): 10}
    assert found == expected


def test_half_of_the_captions_with_a_word_and_five_make_a_brand():
    def found(opening, inside):
        captions = [f"Lumo {n}" for n in range(opening)] + [f"Tee {n} Lumo" for n in range(inside)]
        return ("lumo",) in opening_brands(pd.DataFrame({"caption": captions}), [])

    assert found(5, 5) and found(5, 0)
    assert not found(5, 6) and not found(4, 0)


def test_a_word_that_nearly_always_follows_belongs_to_the_brand():
    def found(together, apart):
        captions = [f"Peter England {n}" for n in range(together)] + [f"Peter {n} Pan" for n in range(apart)]
        return set(opening_brands(pd.DataFrame({"caption": captions}), []))

    assert found(18, 2) == {("peter", "england")}
    assert found(17, 2) == {("peter",)}
    captions = [f"Oak & {n}" for n in range(9)]
    assert set(opening_brands(pd.DataFrame({"caption": captions}), [])) == {("oak",)}


def test_the_same_caption_counts_once():
    captions = ["Puma tee", "PUMA  tee"] * 5
    assert not opening_brands(pd.DataFrame({"caption": captions}), [])


def test_real_brands_are_found(fashion_data):
    catalogue = open_catalogue(fashion_data / "fashion-product-images-small.parquet")
    found = opening_brands(catalogue.rows, catalogue.attributes)
    known = ("puma", "nike", "peter england", "united colors of benetton", "fabindia", "reid & taylor", "fastrack")
    assert {as_brand(brand) for brand in known} <= found.keys()
    first = {brand[0] for brand in found}
    assert first.isdisjoint({"men", "men's", "women", "mens", "blue", "black", "printed", "the", "shirt", "watch"})
    assert 200 < len(found) < 500
    cut = sum(without_brands(caption, found) != caption for caption in catalogue.rows["caption"][:4000])
    assert cut > 3600


# --- recall --------------------------------------------------------------------------------------------


def catalogue(brand=True):
    """An image shows its caption's words: two brands, six colours, three types."""
    return [
        {"caption": f"{maker} {colour} {kind}", "colour": colour, "type": kind} | ({"brand": maker} if brand else {})
        for maker in ("Puma", "Peter England")
        for colour in ("Red", "Blue", "Green", "Black", "White", "Grey")
        for kind in ("Sandal", "Shirt", "Cap")
    ]


@pytest.mark.parametrize("brand", [True, False])
def test_a_model_of_bags_loses_nothing_when_words_are_shuffled(brand):
    result = measure(bag_of_words(catalogue(brand)))
    found = result["changes"]["shuffled"]
    assert found["captions"] == result["captions"] == result["images"] == 36
    assert found["as_written"] == found["changed"] == {"R@1": 100.0, "R@10": 100.0}
    assert found["difference"] == {"R@1": 0.0, "R@10": 0.0}
    assert found["interval"] == {"R@1": [0.0, 0.0], "R@10": [0.0, 0.0]}
    assert found["unknown_words"] == [0.0, 0.0]


@pytest.mark.parametrize("brand", [True, False])
def test_without_the_brand_two_products_fit_and_the_tie_counts_against(brand):
    """By the column or by the words that open captions: what is left fits one product of either brand.

    "Peter England" makes its images' bags longer than Puma's, so that the left words are closer to Puma's images.
    """
    result = measure(bag_of_words(catalogue(brand)))
    found = result["changes"]["brand_removed"]
    assert found["captions"] == 36
    assert found["as_written"] == {"R@1": 100.0, "R@10": 100.0}
    assert found["changed"] == {"R@1": 50.0, "R@10": 100.0}
    assert found["difference"] == {"R@1": -50.0, "R@10": 0.0}
    low, high = found["interval"]["R@1"]
    assert -70 < low < -50 < high < -30
    assert found["example"] == ["Puma Red Sandal", "Red Sandal"]
    expected = {"column": "brand", "brands": 2} if brand else {
        "column": None, "brands": 2, "examples": [["puma", 18], ["peter england", 18]]
    }  # fmt: skip
    assert result["brand"] == expected


def test_an_unknown_word_is_all_that_a_typo_changes_in_a_bag():
    result = measure(bag_of_words(catalogue()))
    found = result["changes"]["typo"]
    before, after = found["unknown_words"]
    texts = [one["caption"] for one in catalogue()]
    total = sum(len(words(text)) for text in texts)
    assert before == 0 and after == pytest.approx(100 * len(texts) / total)
    assert found["changed"]["R@1"] < 100


def test_figures_equal_those_of_each_query_alone():
    """Captions of several products, images of several captions; the model has random weights for its words."""
    generator = np.random.default_rng(0)
    pool = ["alpha", "bravo", "cargo", "delta", "echoes", "a", "b"]
    drawn = [[" ".join(generator.choice(pool, size)) for size in (generator.integers(1, 4), 2)] for _ in range(60)]
    rows = [
        {"caption": caption, "looks": looks, "product": str(n // 2), "photo": str(n % 30), "brand": "alpha"}
        for n, (caption, looks) in enumerate(drawn)
    ]
    embedded = bag_of_words(rows)
    result = measure(embedded)
    gallery = embedded.gallery
    relevant = set(map(tuple, gallery.relevant.T.tolist()))

    def best(text, caption):
        query = embedded.embed([text])
        pairs = [(0, image) for image in range(len(gallery.images)) if (image, caption) in relevant]
        return rank_queries(query, embedded.image_emb, torch.tensor(pairs).T).best.item()

    changes = {
        "typo": with_typo,
        "shuffled": shuffled,
        "brand_removed": lambda text: without_brands(text, [("alpha",)]),
    }
    for name, change in changes.items():
        texts = {m: change(text) for m, text in enumerate(gallery.captions)}
        texts = {m: text for m, text in texts.items() if text and fold(text) != fold(gallery.captions[m])}
        found = result["changes"][name]
        assert 0 < found["captions"] == len(texts) < len(gallery.captions)
        for k in (1, 10):
            written = 100 * np.mean([best(gallery.captions[m], m) <= k for m in texts])
            changed = 100 * np.mean([best(text, m) <= k for m, text in texts.items()])
            assert found["as_written"][f"R@{k}"] == pytest.approx(written)
            assert found["changed"][f"R@{k}"] == pytest.approx(changed)
            assert found["difference"][f"R@{k}"] == pytest.approx(changed - written)
            low, high = found["interval"][f"R@{k}"]
            assert low <= changed - written <= high


def test_the_interval_is_of_paired_differences_over_groups():
    """Half of the queries lose: 18 products, each its own group, so the standard error is 50 / sqrt(36)."""
    low, high = measure(bag_of_words(catalogue()))["changes"]["brand_removed"]["interval"]["R@1"]
    assert (high - low) / (2 * 1.96) == pytest.approx(50 / 6, rel=0.1) and RESAMPLES >= 1000


def test_a_caption_that_would_become_empty_is_not_changed():
    rows = [{"caption": caption, "brand": "Puma"} for caption in ("Puma", "Puma!", "- Puma -", "Puma tee", "tee")]
    found = measure(bag_of_words(rows))["changes"]["brand_removed"]
    assert found["captions"] == 1 and found["example"] == ["Puma tee", "tee"]


def test_a_caption_of_several_brands_loses_each():
    rows = [{"caption": "Puma tee for Nike", "brand": brand} for brand in ("Puma", "Nike", "")]
    found = measure(bag_of_words([*rows, {"caption": "Fila by Puma", "brand": "Fila"}]))["changes"]["brand_removed"]
    assert found["captions"] == 2 and found["example"][1] == "tee for"


def test_changes_of_a_caption_do_not_depend_on_the_others_nor_on_the_state_of_random():
    captions = [f"Some Fine Words {number}" for number in range(30)]
    random.seed(3)
    expected = {caption: (with_typo(caption), shuffled(caption)) for caption in captions}
    random.seed(4)
    assert {caption: (with_typo(caption), shuffled(caption)) for caption in captions[::-2]} == {
        caption: expected[caption] for caption in captions[::-2]
    }
    assert len({typo.replace(caption[-2:], "") for caption, (typo, _) in expected.items()}) > 10


def test_it_can_be_written_as_json_and_is_the_same_again():
    for brand in (True, False):
        result = measure(bag_of_words(catalogue(brand)))
        assert json.loads(json.dumps(result)) == result == measure(bag_of_words(catalogue(brand)))


# --- what is printed -----------------------------------------------------------------------------------


def test_what_is_printed():
    result = measure(bag_of_words(catalogue(brand=False)))
    lines = describe(result)
    assert lines[0] == "" and "36 images" in lines[1]
    row = next(line for line in lines if line.startswith("opening removed ")).split()
    assert row[2:9] == ["36", "100.00", "50.00", "100.00", "100.00", "+0.00", "+0.00"]
    assert row[-5:] == ["0.0", "%", "->", "0.0", "%"]
    told = "\n".join(lines)
    assert "2 words or phrases that open captions are taken for them, most often puma (18), peter england (18)" in told
    assert "a brand is also information" in told
    assert "the 2 values of the column 'brand'" in "\n".join(describe(measure(bag_of_words(catalogue()))))


def test_changes_that_change_nothing_and_tokenizers_of_pieces():
    embedded = bag_of_words([{"caption": "tee"}, {"caption": "cap"}])
    result = measure(embedded)
    assert [found["captions"] for found in result["changes"].values()] == [0, 0, 0]
    assert "typo: changes no caption" in describe(result)
    embedded = bag_of_words(catalogue())
    result = measure(replace(embedded, tokenizer=embedded.tokenizer.__call__))
    assert result["changes"]["typo"]["unknown_words"] is None
    assert next(line for line in describe(result) if line.startswith("typo ")).endswith(" -")
