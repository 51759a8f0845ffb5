"""common/report/probes.py: which captions are probed with what, and the figures of models that see or ignore a word."""

import json
import random
from dataclasses import replace
from itertools import product

import pandas as pd
import pytest
import torch
from bags import bag_of_words

from common.attributes import Mention, Names
from common.captions import fold, words
from common.catalogue import open_catalogue
from common.gallery import Gallery
from common.report import probes
from common.report.probes import apart, choose, describe, image_values, measure, swap

COLOURS = ("red", "green", "navy blue", "black")
GENDERS = ("Men", "Women")
TYPES = {"Dresses": "Dress", "Tshirts": "Tshirt", "Watches": "Watch"}
SHARES = ("as_written", "swapped", "both", "own_caption")
COLUMNS = {"colour": "baseColour", "gender": "gender", "type": "articleType"}


def row(colour, gender, kind, caption, **more):
    return {"baseColour": colour, "gender": gender, "articleType": kind, "caption": caption, **more}


def title(number, colour, gender, kind):
    return f"Brand{number} {gender.title()} {colour.title()} {TYPES[kind.title()]}"


def catalogue():
    """All combinations, each of another brand; the images show the attributes alone."""
    rows = []
    for number, (colour, gender, kind) in enumerate(product(COLOURS, GENDERS, TYPES)):
        caption = title(number, colour, gender, kind)
        rows.append(row(colour, gender, kind, caption, looks=caption.split(" ", 1)[1]))
    return rows


def probes_of(embedded, what):
    column = COLUMNS[what]
    names = Names(embedded.data.catalogue.rows[column].unique(), what)
    return choose(embedded.gallery, image_values(embedded.gallery, COLUMNS), names, what)


# --- the figures ---------------------------------------------------------------------------------------


def test_a_model_that_sees_every_word_gets_everything_right():
    result = measure(bag_of_words(catalogue()))
    for what in COLUMNS:
        assert result[what]["probed"] == result[what]["captions"] == 24
        assert [result[what][share] for share in SHARES] == [100.0] * 4
        assert result[what]["interval"]["both"][1] == 100 and 80 < result[what]["interval"]["both"][0] < 100


def test_a_model_that_ignores_colours_ties_and_gets_none_right():
    """Own and wrong image are alike but for the colour: both are equally close, and ties count against."""
    result = measure(bag_of_words(catalogue(), blind_to={"red", "green", "navy", "blue", "black"}))
    assert [result["colour"][share] for share in SHARES] == [0.0] * 4
    assert [result["gender"][share] for share in SHARES] == [100.0] * 4
    assert [result["type"][share] for share in SHARES] == [100.0] * 4


def test_a_model_that_knows_the_product_by_other_words_gets_the_swapped_caption_wrong():
    """The images show the brand too: "as written" is right without the colour, "swapped" wrong."""
    rows = [one | {"looks": one["caption"]} for one in catalogue()]
    result = measure(bag_of_words(rows, blind_to={"red", "green", "navy", "blue", "black"}))["colour"]
    assert [result[share] for share in SHARES] == [100.0, 0.0, 0.0, 0.0]


def test_figures_equal_those_of_single_cosines():
    """Random embeddings of images and captions; each probe worked out alone."""
    embedded = bag_of_words(catalogue())
    noise = torch.rand(embedded.image_emb.shape, generator=torch.Generator().manual_seed(0))
    embedded = replace(embedded, image_emb=embedded.image_emb + 2 * noise)
    result = measure(embedded)
    for what in COLUMNS:
        rights = []
        for probe in probes_of(embedded, what)[0]:
            text, swapped = embedded.text_emb[probe.caption], embedded.embed([probe.swapped])[0]
            own, other = embedded.image_emb[probe.own], embedded.image_emb[probe.other]
            sim = {(c, i): float(t @ v / t.norm() / v.norm())
                   for c, t in (("c", text), ("s", swapped)) for i, v in (("own", own), ("other", other))}  # fmt: skip
            first, second = sim["c", "own"] > sim["c", "other"], sim["s", "other"] > sim["s", "own"]
            rights.append([first, second, first and second, sim["c", "own"] > sim["s", "own"]])
        expected = [100 * sum(column) / len(rights) for column in zip(*rights, strict=True)]
        assert [result[what][share] for share in SHARES] == pytest.approx(expected)
        assert 0 < result[what]["both"] < 100
        low, high = result[what]["interval"]["both"]
        assert low < result[what]["both"] < high


def test_words_that_the_vocabulary_lacks_are_counted():
    known = sorted({word for one in catalogue() for word in words(one["caption"])} - {"navy"})
    embedded = bag_of_words(catalogue(), known=known)
    result = measure(embedded)
    new = [probe.new for probe in probes_of(embedded, "colour")[0]]
    assert result["colour"]["unknown_words"] == new.count("navy blue") > 0
    assert result["gender"]["unknown_words"] == 0


# --- which captions, which images ----------------------------------------------------------------------


def test_the_wrong_image_differs_in_the_attribute_alone_and_the_caption_in_its_word_alone():
    embedded = bag_of_words(catalogue())
    looks = image_values(embedded.gallery, COLUMNS)
    for what in COLUMNS:
        found, left_out = probes_of(embedded, what)
        assert len(found) == 24 and not left_out
        assert len({probe.other for probe in found}) > 5  # drawn, not always the first
        for probe in found:
            own, other = looks.loc[probe.own], looks.loc[probe.other]
            assert [name for name in looks if own[name] != other[name]] == [what]
            assert embedded.gallery.captions[probe.caption] == title(probe.own, **as_arguments(own))
            assert probe.swapped == title(probe.own, **as_arguments(other))


def as_arguments(looks):
    return {"colour": looks["colour"], "gender": looks["gender"], "kind": looks["type"]}


def test_captions_that_cannot_be_probed_are_counted_by_reason():
    rows = [
        row("Red", "Men", "Shirts", "Plain red shirt"),
        row("Blue", "Men", "Shirts", "Plain shirt"),
        row("Blue", "Men", "Shirts", "Red and blue shirt"),
        row("Blue", "Men", "Shirts", "blue shirt, very blue"),
        row("Blue", "Men", "Shirts", "Infrared red shirt"),
        row("Red", "Women", "Shirts", "Red blouse"),
        row("Red", "", "Shirts", "Red tee"),
    ]
    result = measure(bag_of_words(rows))["colour"]
    assert result["probed"] == 1 and result["captions"] == 7
    assert result["left_out"] == {"none": 1, "several": 2, "not_its_own": 1, "no_image": 2}
    assert result["example"] == ["Plain red shirt", "Plain blue shirt"]


def test_a_relevant_image_is_never_the_wrong_one():
    """Both products carry the caption: the blue one's image answers it as well."""
    rows = [row(colour, "Men", "Shirts", "Red shirt") for colour in ("Red", "Blue")]
    embedded = bag_of_words(rows)
    assert probes_of(embedded, "colour") == ([], {"no_image": 1})
    rows.append(row("Blue", "Men", "Shirts", "Another"))
    (probe,), _ = probes_of(bag_of_words(rows), "colour")
    assert (probe.own, probe.other, probe.swapped) == (0, 2, "Blue shirt")


def test_of_products_with_one_caption_the_image_is_that_of_the_named_value():
    rows = [row(colour, "Men", "Shirts", "Red shirt") for colour in ("Blue", "Red")]
    (probe,), _ = probes_of(bag_of_words([*rows, row("Blue", "Men", "Shirts", "Another")]), "colour")
    assert (probe.own, probe.other) == (1, 2)


def test_an_image_of_products_with_different_values_has_none():
    rows = [
        row("Red", "Men", "Shirts", "Red shirt", photo="a"),
        row("Blue", "Men", "Shirts", "Both in one", photo="b"),
        row("Red", "Men", "Shirts", "Both in one", photo="b"),
    ]
    embedded = bag_of_words(rows)
    assert image_values(embedded.gallery, COLUMNS)["colour"].tolist() == ["red", ""]
    assert measure(embedded)["colour"]["left_out"]["no_image"] == 1


@pytest.mark.parametrize(
    ("one", "other", "what", "expected"),
    [
        ("blue", "navy blue", "colour", False),
        ("blue", "red", "colour", True),
        ("blue", "blue", "colour", False),
        ("men", "women", "gender", True),
        ("kurta sets", "kurtas", "type", False),
        ("tshirts", "shirts", "type", True),
    ],
)
def test_values_that_contain_each_other_are_no_contrast(one, other, what, expected):
    assert apart(one, other, what) is apart(other, one, what) is expected


@pytest.mark.parametrize(
    ("caption", "old", "new", "expected"),
    [
        ("Puma  Navy Blue, tee 🔥", "Navy Blue", "off white", "Puma  Off White, tee 🔥"),
        ("PUMA RED TEE", "RED", "navy blue", "PUMA NAVY BLUE TEE"),
        ("puma red tee", "red", "navy blue", "puma navy blue tee"),
        ("Nike Men's Tee", "Men", "women", "Nike Women's Tee"),
        ("Nike Men's Tee", "Men", "boys", "Nike Boys' Tee"),
        ("Nike MEN’S TEE", "MEN", "boys", "Nike BOYS’ TEE"),
        ("A Shirt", "Shirt", "t-shirt", "A T-shirt"),
    ],
)
def test_the_rest_of_the_caption_stays(caption, old, new, expected):
    start = caption.index(old)
    assert swap(caption, Mention("", 0, start, start + len(old)), new) == expected


def test_the_new_word_is_written_as_the_captions_write_it():
    """In the same form if they have it, "sunglasses" where they have no singular, by the rule if they never do."""
    rows = [
        row("Red", "Men", "Tshirts", "Red T-shirt"),
        row("Red", "Men", "Sunglasses", "Red sunglasses"),
        row("Blue", "Men", "Tshirts", "Blue t-shirts"),
        row("Blue", "Men", "Watches", "Unnamed"),
    ]
    embedded = bag_of_words(rows)
    swapped = [probe.swapped for probe in probes_of(embedded, "type")[0]]
    assert swapped == ["Red Sunglasses", "Red t-shirts", "Blue watches"]


# --- the rest ------------------------------------------------------------------------------------------


def test_the_same_again_and_as_json():
    embedded = bag_of_words(catalogue())
    random.seed(1)
    first = measure(embedded)
    random.seed(2)
    assert measure(embedded) == first
    assert json.loads(json.dumps(first)) == first


def test_attributes_without_a_column_are_named():
    rows = [{"colour": colour, "caption": f"{colour} thing {n}"} for n, colour in enumerate(["red", "blue", "red"])]
    result = measure(bag_of_words(rows))
    assert result["gender"] == result["type"] == {"column": None}
    assert result["colour"]["probed"] == 3
    told = "\n".join(describe(result))
    assert "gender: left out, the catalogue has no column for it" in told
    assert "colour (colour): 3 of 3 captions probed" in told


def test_no_attributes_and_nothing_to_probe():
    assert set(map(str, measure(bag_of_words([{"caption": "red"}, {"caption": "blue"}])).values())) == {
        "{'column': None}"
    }
    result = measure(bag_of_words([{"caption": "a red", "color": ""}, {"caption": "a blue", "color": ""}]))
    assert result["colour"]["probed"] == 0
    assert not any(line.startswith("chance") for line in describe(result))


def test_what_is_printed():
    result = measure(bag_of_words(catalogue()))
    lines = describe(result)
    assert lines[0] == ""
    table = [line.split() for line in lines]
    assert ["captions", "as", "written", "swapped", "both", "own", "caption"] in table
    assert ["colour", "24", "100.00", "100.00", "100.00", "100.00"] in table
    assert ["chance", "50.00", "50.00", "25.00", "50.00"] in table
    assert "  such as: {} -> {}".format(*result["type"]["example"]) in lines
    assert all(len(line) <= 160 for line in lines)


def test_a_tokenizer_of_pieces_has_no_unknown_words():
    embedded = bag_of_words(catalogue())
    result = measure(replace(embedded, tokenizer=embedded.tokenizer.__call__))
    assert result["colour"]["unknown_words"] is None
    assert "vocabulary lacks" not in "\n".join(describe(result))


def test_real_captions_name_their_attributes(fashion_data):
    """Most titles name colour, gender and type; what is probed is told apart by its column, not by its spelling."""
    rows = open_catalogue(fashion_data / "fashion-product-images-small.parquet").rows.sample(4000, random_state=0)
    gallery = Gallery.of(rows.assign(group=rows["product"]))
    for what, least, several in (("colour", 0.70, 0.12), ("gender", 0.50, 0.01), ("type", 0.70, 0.03)):
        names = Names(rows[COLUMNS[what]].unique(), what)
        found, left_out = choose(gallery, image_values(gallery, COLUMNS), names, what)
        assert len(found) + sum(left_out.values()) == len(gallery.captions)
        assert least < len(found) / len(gallery.captions)
        assert left_out["several"] < several * len(gallery.captions)
        assert set(left_out) <= set(probes.REASONS)
        assert all(fold(probe.swapped) != fold(gallery.captions[probe.caption]) for probe in found)


def test_galleries_without_columns_have_images():
    assert isinstance(image_values(bag_of_words([{"caption": "red"}]).gallery, {}), pd.DataFrame)
