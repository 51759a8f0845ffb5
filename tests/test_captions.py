"""common/captions.py: folding, the vocabulary, and the numbers that captions become."""

import numpy as np
import pytest

from common.captions import PADDING, UNKNOWN, Vocabulary, describe_unknown, fold, pad, words

CAPTIONS = ["Red shoe", "red SHOE, red", "blue hat"]


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary.from_captions(CAPTIONS, min_count=1, max_words=4)


@pytest.mark.parametrize(
    ("caption", "folded"),
    [("Nike  Men\tShoe\n", "nike men shoe"), ("STRASSE Straße", "strasse strasse"), (" \n", ""), ("a-B, c", "a-b, c")],
)
def test_fold(caption, folded):
    assert fold(caption) == folded == fold(folded)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Men's T-Shirt, 2 pack", ["men", "s", "t", "shirt", "2", "pack"]),
        ("Blüse É", ["blüse", "é"]),
        ("-- !", []),
        ("लाल कुर्ता", ["लाल", "कुर्ता"]),
        ("红裙 dress", ["红", "裙", "dress"]),
        ("cafe\u0301", ["caf\u00e9"]),
    ],
)
def test_words(caption, expected):
    assert words(caption) == expected


def test_most_frequent_word_first_then_by_alphabet(vocabulary):
    # red 3, shoe 2, blue 1, hat 1
    assert vocabulary.known == ["red", "shoe", "blue", "hat"]
    assert vocabulary.number == {"red": 2, "shoe": 3, "blue": 4, "hat": 5}
    assert len(vocabulary) == 6


@pytest.mark.parametrize(("min_count", "known"), [(2, ["red", "shoe"]), (3, ["red"]), (4, [])])
def test_rare_words_are_left_out(min_count, known):
    assert Vocabulary.from_captions(CAPTIONS, min_count, 4).known == known


def test_only_the_given_captions_count(vocabulary):
    vocabulary(["green scarf"])
    assert "green" not in vocabulary.number and len(vocabulary) == 6


def test_encoding(vocabulary):
    tokens, lengths = vocabulary(["RED hat", "green shoe", "", "?!", "red red red red red red"])
    assert (PADDING, UNKNOWN) == (0, 1)
    assert tokens.tolist() == [
        [2, 5, 0, 0],
        [1, 3, 0, 0],
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [2, 2, 2, 2],  # cut at max_words
    ]
    assert lengths.tolist() == [2, 2, 1, 1, 4]
    assert (tokens.dtype, lengths.dtype) == ("int32", "int64")


def test_no_captions_give_an_empty_batch(vocabulary):
    tokens, lengths = vocabulary([])
    assert tokens.shape == (0, 1) and lengths.shape == (0,)


def test_unknown_share(vocabulary):
    # red, green, hat, green, scarf: three of five are unknown
    assert vocabulary.unknown_share(["Red green hat", "GREEN scarf"]) == 3 / 5
    assert vocabulary.unknown_share(["", "?"]) == 0


def told(vocabulary, **captions):
    return describe_unknown(vocabulary, {split: vocabulary(of)[0] for split, of in captions.items()})


def test_what_is_unknown_in_words(vocabulary):
    """train: red shoe red, blue hat, blue scarf; val: red green hat, green scarf, and a caption without a word."""
    train, val = ["red SHOE, red", "blue hat", "blue scarf"], ["Red green hat", "GREEN scarf", "?"]
    assert told(vocabulary, train=train, val=val) == (
        "vocabulary: 4 words of the train captions; "
        "in train 14.3% of the words are unknown, 0 of 3 captions have no known word; "
        "in val 66.7% of the words are unknown, 2 of 3 captions have no known word"  # "?" becomes an unknown word
    )
    assert "in val 0.0% of the words are unknown, 0 of 0 captions" in told(vocabulary, val=[])


def test_thousands_are_separated():
    captions = [f"word{number}" for number in range(1200)]
    assert told(Vocabulary(captions, max_words=4), test=["other"] * 1100) == (
        "vocabulary: 1,200 words of the train captions; "
        "in test 100.0% of the words are unknown, 1,100 of 1,100 captions have no known word"
    )


def test_no_word_is_unknown_to_a_transformer():
    assert (
        describe_unknown(object(), {"train": np.ones((1, 1))})
        == "words: cut into the pieces that the text encoder knows"
    )


def test_save_and_load(tmp_path):
    saved = Vocabulary.from_captions(["Blüse rot", "靴 rot"], 1, 7)
    saved.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert (loaded.known, loaded.max_words, loaded.number) == (saved.known, 7, saved.number)


def test_pad():
    tokens, lengths = pad([[5], [6, 7, 8]])
    assert tokens.tolist() == [[5, 0, 0], [6, 7, 8]] and lengths.tolist() == [1, 3]


def test_a_known_word_behind_the_cut_does_not_count():
    vocabulary = Vocabulary(["red"], max_words=3)
    assert told(vocabulary, val=["a b c red", "a b red"]).endswith("1 of 2 captions have no known word")
