"""common/attributes.py: the columns by what they are called, and where captions name their values."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.attributes import Names, find_column, forms, word_spans
from common.captions import fold, words

COLOURS = ["Blue", "Navy Blue", "White", "Off White", "Red", "Rosé", "红色"]
TYPES = ["Tshirts", "Shirts", "Sweatshirts", "Dresses", "Watches", "Bra", "Sports Shoes", "Shorts", "Flip Flops"]
GENDERS = ["Men", "Women", "Boys", "Unisex"]


def named(values, what, caption):
    return [(mention.value, caption[mention.start : mention.end]) for mention in Names(values, what).find(caption)]


@pytest.mark.parametrize(
    ("attributes", "what", "column"),
    [
        (["season", "baseColour"], "colour", "baseColour"),
        (["COLOR"], "colour", "COLOR"),
        (["category", "articleType"], "type", "articleType"),
        (["brand_name", "gender"], "brand", "brand_name"),
        (["season"], "gender", None),
        ([], "type", None),
    ],
)
def test_columns_by_common_names(attributes, what, column):
    assert find_column(attributes, what) == column


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Lee Men Navy Blue Jeans", [("navy blue", "Navy Blue")]),
        ("Lee NAVY-BLUE Jeans", [("navy blue", "NAVY-BLUE")]),
        ("navyblue", [("navy blue", "navyblue")]),
        ("Navy, Blue", [("blue", "Blue")]),
        ("Blue and off white", [("blue", "Blue"), ("off white", "off white")]),
        ("Blue Blue", [("blue", "Blue"), ("blue", "Blue")]),
        ("navy navy blue blue", [("navy blue", "navy blue"), ("blue", "blue")]),
        ("Off Red", [("red", "Red")]),
        ("Blues, Bluetooth, reddish and infrared", []),
        ("🔥Red🔥 Blue👟", [("red", "Red"), ("blue", "Blue")]),
        ("Black/Red", [("red", "Red")]),
        (unicodedata.normalize("NFD", "ROSÉ dress"), [("rosé", unicodedata.normalize("NFD", "ROSÉ"))]),
        ("连衣裙红色", [("红色", "红色")]),
        ("", []),
    ],
)
def test_colours(caption, expected):
    assert named(COLOURS, "colour", caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Puma Tshirt", [("tshirts", "Tshirt")]),
        ("Puma T-Shirts", [("tshirts", "T-Shirts")]),
        ("Puma t shirt", [("tshirts", "t shirt")]),
        ("Puma Shirt", [("shirts", "Shirt")]),
        ("Sweat-shirt", [("sweatshirts", "Sweat-shirt")]),
        ("a dress, two dresses", [("dresses", "dress"), ("dresses", "dresses")]),
        ("Watch", [("watches", "Watch")]),
        ("Bras", [("bra", "Bras")]),
        ("Brass watch", [("watches", "watch")]),
        ("Sports Shoe", [("sports shoes", "Sports Shoe")]),
        ("Shoes", []),
        ("flip-flops", [("flip flops", "flip-flops")]),
    ],
)
def test_types_in_singular_and_plural(caption, expected):
    assert named(TYPES, "type", caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Nike Men's Shoe", [("men", "Men")]),
        ("Nike men’s Shoe", [("men", "men")]),
        ("Nike MENS Shoe", [("men", "MENS")]),
        ("Nike Women Shoe", [("women", "Women")]),
        ("Womens", [("women", "Womens")]),
        ("Boy's", [("boys", "Boy")]),
        ("Mention of garments", []),
    ],
)
def test_genders_with_their_possessives(caption, expected):
    assert named(GENDERS, "gender", caption) == expected


def test_a_column_of_possessives():
    assert named(["Men's", "Women's"], "gender", "Men's shoe for men") == [("men's", "Men"), ("men's", "men")]


def test_a_value_goes_before_the_plural_of_another():
    assert named(["Kurta", "Kurtas"], "type", "kurtas, kurta") == [("kurtas", "kurtas"), ("kurta", "kurta")]


@pytest.mark.parametrize(
    ("value", "what", "expected"),
    [
        ("Dresses", "type", ["dress", "dresses"]),
        ("Dress", "type", ["dress", "dresses"]),
        ("Scarf", "type", ["scarf", "scarfs"]),
        ("Jeans", "type", ["jean", "jeans"]),
        ("Men", "gender", ["men", "men", "mens"]),
        ("Women's", "gender", ["women", "women", "womens"]),
        ("Boys", "gender", ["boys", "boy", "boys"]),
        ("Brass", "colour", ["brass"]),
    ],
)
def test_forms(value, what, expected):
    assert forms(value, what) == expected


@given(
    st.text() | st.lists(st.sampled_from(["Red", "T-shirt", "कुर्ता", "红色", "é", "👟", "_a", "'s", " "])).map("".join)
)
def test_words_are_those_of_the_vocabulary(text):
    text = unicodedata.normalize("NFC", text)
    assert " ".join(fold(text[start:end]) for start, end in word_spans(text)) == " ".join(words(text))
