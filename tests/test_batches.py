"""common/batches.py: what belongs together, identity labels, and galleries small enough to check by eye."""

import numpy as np
import pandas as pd
import pytest
import torch
from catalogues import drawing

from common.batches import NO_LABEL, Pairs, Texts, identity_labels, merge_equal_images, take
from common.captions import Vocabulary, fold
from common.catalogue import REPEATED, open_catalogue
from common.errors import InputError
from common.gallery import Gallery
from common.images import open_images

CPU = torch.device("cpu")
ROWS = pd.DataFrame(
    [
        # a product with two images, each with its own caption
        ("shirt", 0, "Blue Shirt", "top", "x"),
        ("shirt", 1, "A shirt,  seen from behind", "top", "x"),
        # a product with two captions on one image
        ("shoe", 2, "Red shoe", "foot", ""),
        ("shoe", 2, "Shoe in red", "foot", ""),
        # another product with the shirt's first caption, up to case and white space
        ("copy", 3, "blue  SHIRT ", "", ""),
        # another product on the shoe's image
        ("lace", 2, "Lace of a shoe", "part", ""),
    ],
    columns=["product", "image", "caption", "kind", "same"],
)  # fmt: skip
# shuffled index, as after a split
ROWS.index = [12, 3, 5, 40, 1, 7]
PIXELS = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)  # (N, H, W, 3)
FEATURES = np.arange(5 * 7, dtype=np.float32).reshape(5, 7)  # (N, F)
TOKENIZER = Vocabulary(["blue", "shirt", "red", "shoe"], max_words=4)


def test_positives_share_a_product_a_folded_caption_or_an_image():
    batch = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER).batch(np.arange(6))
    expected = torch.tensor([
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 1],
        [0, 0, 1, 1, 0, 1],
        [1, 0, 0, 0, 1, 0],
        [0, 0, 1, 1, 0, 1],
    ]).bool()  # fmt: skip
    assert torch.equal(batch.positives, expected)


def test_what_a_batch_calls_positive_is_relevant_in_the_gallery():
    """Of each image and its captions, that is: a gallery has an image once, a batch may have it in several pairs."""
    batch, gallery = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER).batch(np.arange(6)), Gallery.of(ROWS.assign(group=""))
    captions = [fold(caption) for caption in ROWS["caption"]]
    places = {fold(caption): place for place, caption in enumerate(gallery.captions)}
    image_at = {image: place for place, image in enumerate(gallery.images)}
    relevant = {tuple(pair) for pair in gallery.relevant.T.tolist()}
    for i, j in batch.positives.nonzero().tolist():
        assert (image_at[ROWS["image"].iloc[i]], places[captions[j]]) in relevant
    own = {(image_at[image], places[caption]) for image, caption in zip(ROWS["image"], captions, strict=True)}
    assert own <= relevant


def test_a_batch_holds_its_pairs_in_the_order_asked_for():
    batch = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER).batch(np.array([4, 2]))
    assert batch.pairs.tolist() == [4, 2]
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (2, 3, 2, 3)
    assert torch.equal(batch.images, torch.from_numpy(PIXELS[[3, 2]]).permute(0, 3, 1, 2))
    assert batch.tokens.tolist() == [[2, 3], [4, 5]] and batch.lengths.tolist() == [2, 2]
    assert batch.positives.tolist() == [[True, False], [False, True]]
    assert batch.labels.tolist() == [NO_LABEL, NO_LABEL]


def test_a_batch_on_another_device_leaves_its_lengths_on_the_cpu():
    batch = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER).batch(np.arange(6)).to(torch.device("meta"))
    assert batch.lengths.device.type == "cpu"
    for name in ("images", "tokens", "positives", "labels"):
        assert getattr(batch, name).device.type == "meta"


def test_padding_goes_up_to_the_longest_caption_of_the_batch():
    batch = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER).batch(np.array([0, 3]))
    assert batch.tokens.tolist() == [[2, 3, 0], [5, 1, 4]] and batch.lengths.tolist() == [2, 3]


def test_labels_count_from_zero_and_an_empty_value_has_none():
    labels, classes = identity_labels(ROWS["kind"])
    assert classes == ["foot", "part", "top"]
    assert labels.tolist() == [2, 2, 0, 0, NO_LABEL, 1]
    pairs = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER, "kind")
    assert pairs.classes == classes
    assert pairs.batch(np.array([5, 4, 0])).labels.tolist() == [1, NO_LABEL, 2]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("same", "--cmpc-column same: 1 different values in the train split; a classifier needs two"),
    ],
)
def test_a_label_column_that_cannot_be_used(column, message):
    with pytest.raises(InputError, match=message):
        Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER, column)


def test_pairs_of_some_rows_are_those_of_a_table_of_these_alone():
    """Whatever the others are: their captions and products count for nothing."""
    which = np.array([1, 4, 0])
    some = Pairs(ROWS, which, PIXELS, TOKENIZER)
    alone = Pairs(ROWS.iloc[which], np.arange(3), PIXELS, TOKENIZER)
    assert list(some.products) == list(alone.products) == ["shirt", "copy", "shirt"]
    assert list(some.captions) == list(alone.captions) == ROWS["caption"].iloc[which].tolist()
    assert list(some.distinct_products()) == ["shirt", "copy"]
    assert some.products.some(np.array([2, 1])) == ["shirt", "copy"] and some.captions[1] == "blue  SHIRT "
    assert len(some) == len(some.captions) == 3
    one, other = some.batch(np.array([2, 0, 1])), alone.batch(np.array([2, 0, 1]))
    for name in ("images", "tokens", "lengths", "positives", "labels"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_gather_keeps_colours_and_positions():
    found = take(PIXELS, np.array([1]))
    assert found[0, 2, 1, 0] == PIXELS[1, 1, 0, 2]


def test_gather_takes_features_as_they_are():
    found = take(FEATURES, np.array([3, 0, 3]))
    assert found.dtype == torch.float32 and found.tolist() == FEATURES[[3, 0, 3]].tolist()


# --- texts, and features in place of pixels and tokens -------------------------------------------------


def test_texts_are_cut_to_the_longest_of_those_asked_for():
    texts = Texts(*TOKENIZER(["blue shirt", "red", "red shoe and shirt"]))
    assert len(texts) == 3
    tokens, lengths = texts.batch(np.array([1, 0]))
    assert tokens.tolist() == [[4, 0], [2, 3]] and tokens.dtype == torch.int64
    assert lengths.tolist() == [1, 2]


def test_features_of_texts_are_never_cut():
    """Their width has nothing to do with the captions' lengths."""
    features = np.arange(3 * 6, dtype=np.float32).reshape(3, 6)
    found, lengths = Texts(features, np.array([1, 2, 4])).batch(np.array([2, 0]))
    assert found.tolist() == features[[2, 0]].tolist() and found.dtype == torch.float32
    assert lengths.tolist() == [4, 1]


@pytest.mark.parametrize("tokens", [np.array([[2, 3, 0], [4, 0, 0], [5, 6, 7]], dtype=np.int32), FEATURES[:3]])
def test_tokens_and_features_in_a_tensor_make_the_same_batches(tokens):
    """As they are in a GPU's memory."""
    lengths, which = np.array([2, 1, 3]), np.array([1, 0])
    expected, found = (Texts(texts, lengths).batch(which) for texts in (tokens, torch.from_numpy(tokens)))
    assert len(found[0]) == 2 and found[0].dtype == expected[0].dtype
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_pairs_with_features_are_the_same_pairs():
    """A pair has the features of its own image and its own caption; nothing else of it changes."""
    pairs = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER, "kind")
    texts = Texts(np.arange(6 * 3, dtype=np.float32).reshape(6, 3), pairs.texts.lengths)
    which = np.array([3, 5, 0])
    before, after = pairs.batch(which), pairs.with_inputs(FEATURES, texts).batch(which)
    assert after.images.tolist() == FEATURES[[2, 2, 0]].tolist()  # by number of the image
    assert after.tokens.tolist() == texts.tokens[[3, 5, 0]].tolist()  # by number of the pair
    for name in ("lengths", "positives", "labels"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    assert after.pairs.tolist() == before.pairs.tolist() == [3, 5, 0]
    assert torch.equal(pairs.batch(which).images, before.images), "the pairs themselves are as before"


@pytest.mark.parametrize("replaced", ["images", "texts"])
def test_either_side_alone_can_have_features(replaced):
    pairs = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER)
    texts = Texts(np.ones((6, 3), dtype=np.float32), pairs.texts.lengths)
    batch = pairs.with_inputs(**{replaced: FEATURES if replaced == "images" else texts}).batch(np.array([0, 3]))
    assert batch.images.is_floating_point() is (replaced == "images")
    assert batch.tokens.is_floating_point() is (replaced == "texts")


# --- the gallery ---------------------------------------------------------------------------------------


def related(gallery):
    """(image, caption) pairs that belong together, by name."""
    return {(int(gallery.images[image]), gallery.captions[caption]) for image, caption in gallery.relevant.T.tolist()}


def test_gallery_by_hand():
    gallery = Gallery.of(ROWS)
    assert gallery.images.tolist() == [0, 1, 2, 3]
    assert gallery.captions == [
        "Blue Shirt", "A shirt,  seen from behind", "Red shoe", "Shoe in red", "Lace of a shoe"
    ]  # fmt: skip
    assert gallery.products == 4
    assert related(gallery) == {
        (0, "Blue Shirt"), (0, "A shirt,  seen from behind"), (1, "Blue Shirt"), (1, "A shirt,  seen from behind"),
        (2, "Red shoe"), (2, "Shoe in red"), (2, "Lace of a shoe"), (3, "Blue Shirt"),
    }  # fmt: skip
    assert gallery.relevant.shape == (2, 8)


def test_gallery_pairs_are_counted_once():
    """Two products that share image and caption make one pair."""
    rows = pd.DataFrame({"product": ["a", "b"], "image": [7, 7], "caption": ["One", "one"]})
    gallery = Gallery.of(rows)
    assert (gallery.images.tolist(), gallery.captions, gallery.products) == ([7], ["One"], 2)
    assert gallery.relevant.tolist() == [[0], [0]]


def test_gallery_knows_the_images_of_each_product():
    pairs = Gallery.of(ROWS).product_images
    assert sorted(zip(pairs["product"], pairs["image"], strict=True)) == [
        ("copy", 3), ("lace", 2), ("shirt", 0), ("shirt", 1), ("shoe", 2)
    ]  # fmt: skip


def test_gallery_agrees_with_the_positives_of_a_batch():
    """Whatever is a positive in training is relevant in the gallery."""
    gallery = Gallery.of(ROWS)
    shown = {fold(caption): caption for caption in gallery.captions}
    image, text = Pairs(ROWS, np.arange(6), PIXELS, TOKENIZER).batch(np.arange(6)).positives.nonzero().T.numpy()
    captions = [shown[fold(caption)] for caption in ROWS["caption"].iloc[text]]
    assert set(zip(ROWS["image"].iloc[image], captions, strict=True)) <= related(gallery)


def test_a_photograph_repeated_for_each_caption_is_one_image_of_the_gallery(tmp_path):
    """Parquet mirrors hold the image again in every row."""
    photograph = drawing("red", "disc", "white")
    rows = [("1", "red disc", photograph), ("1", "disc in red", photograph), ("1", "red disc", photograph)]
    other = drawing("blue", "cross", "white")
    frame = pd.DataFrame([*rows, ("2", "blue cross", other)], columns=["id", "caption", "bytes"])
    frame["image"] = [{"bytes": content, "path": None} for content in frame.pop("bytes")]
    path = tmp_path / "shop.parquet"
    frame.to_parquet(path)
    catalogue = open_catalogue(path)
    merged = merge_equal_images(catalogue, open_images(catalogue, (16, 12), tmp_path / "cache"))
    gallery = Gallery.of(merged.rows)
    assert (len(gallery.images), len(gallery.captions)) == (2, 3)
    assert merged.report.unusable == {REPEATED: ["row 2"]}


def test_groups_that_share_a_caption_are_one_in_a_gallery():
    """Where captions do not link, two groups may carry one caption: their queries are not independent."""
    rows = pd.DataFrame({
        "product": list("abcd"), "image": range(4), "caption": ["Red", "red ", "blue", "green"], "group": list("abcc"),
    })  # fmt: skip
    gallery = Gallery.of(rows)
    assert gallery.image_group.tolist() == ["a", "a", "c", "c"]
    assert gallery.caption_group.tolist() == ["a", "c", "c"]
    assert gallery.sizes["groups"] == 2
