"""common/near_duplicates.py: which images show the same photograph, and the search for close hashes."""

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from catalogues import drawing, encoded, tiny_products, write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from common import near_duplicates as module
from common.catalogue import open_catalogue
from common.files import CACHE_FOLDER
from common.hashing import digest
from common.images import THUMBNAIL, decode, open_images
from common.near_duplicates import close_hashes, colour_distance, near_duplicates, photographs, similar_outlines

SIZE = (60, 80)
"""width, height"""


@pytest.fixture
def catalogue_of(tmp_path):
    """The function `catalogue_of(pictures, name)`: a catalogue of image files, one a product."""
    paths = []

    def write(pictures: list[bytes], name: str = "some"):
        images = [{"bytes": picture, "path": None} for picture in pictures]
        rows = [{"id": number, "text": "x", "image": image} for number, image in enumerate(images)]
        paths.append(write_parquet(tmp_path / f"{name}.parquet", rows))
        return open_catalogue(paths[-1])

    yield write
    for path in paths:
        for kept in kept_files(path):
            kept.unlink()


def kept_files(path: Path, what: str = "") -> list[Path]:
    return list(CACHE_FOLDER.glob(f"{path.name}-{digest(str(path.resolve()))}-{what}*"))


def found(catalogue, size: tuple[int, int] = (16, 12)) -> list[tuple[int, int]]:
    return [tuple(pair) for pair in near_duplicates(catalogue, open_images(catalogue, size)).tolist()]


def shown(catalogue, size: tuple[int, int] = (16, 12)) -> list[int]:
    return photographs(catalogue, open_images(catalogue, size)).tolist()


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture))


def photograph(seed: int) -> Image.Image:
    """Soft spots of colour on white."""
    spots = np.random.default_rng(seed).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    image = Image.new("RGB", SIZE, (255, 255, 255))
    image.paste(Image.fromarray(spots).resize((40, 60), Image.Resampling.BICUBIC), (10, 10))
    return image


def disc(colour: tuple[int, int, int]) -> bytes:
    image = Image.new("RGB", SIZE, (255, 255, 255))
    ImageDraw.Draw(image).ellipse((10, 15, 50, 65), colour)
    return encoded(image, "PNG")


# --- what is a near-duplicate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("original", [photograph(0), opened(drawing("red", "triangle", "white", SIZE))])
@pytest.mark.parametrize(
    "copy",
    [
        lambda image: encoded(image, quality=90),
        lambda image: encoded(image, quality=60),
        lambda image: encoded(image, "WEBP", quality=80),
        lambda image: encoded(image.resize((48, 64), Image.Resampling.LANCZOS), "PNG"),
        lambda image: encoded(image.resize((240, 320), Image.Resampling.BICUBIC), quality=85),
    ],
    ids=["quality 90", "quality 60", "webp", "four fifths", "four times"],
)
def test_saved_again_and_resized_copies_are_found(catalogue_of, original, copy):
    others = [encoded(photograph(seed), "PNG") for seed in (1, 2)]
    assert found(catalogue_of([encoded(original, "PNG"), *others, copy(original)])) == [(0, 3)]


def test_so_are_98_of_100_copies_of_real_products(fashion_data):
    photographs = open_catalogue(fashion_data / "fashion-product-images-small.parquet").images
    originals = [opened(photographs[number]).convert("RGB") for number in range(0, len(photographs), 80)]
    thumbnails = np.stack([decode(encoded(image, "PNG"), THUMBNAIL)[0] for image in originals])
    smaller = [image.resize((round(0.8 * image.width), round(0.8 * image.height))) for image in originals]
    for copies in ([encoded(image, quality=60) for image in originals], [encoded(image, "PNG") for image in smaller]):
        saved = np.stack([decode(copy, THUMBNAIL)[0] for copy in copies])
        bits = np.bitwise_count(module.perceptual_hashes(thumbnails) ^ module.perceptual_hashes(saved))
        close = (bits <= module.HASH_DISTANCE) & (colour_distance(thumbnails, saved) <= module.COLOUR_DISTANCE)
        assert len(close) == 517 and close.mean() >= 0.98


def test_other_products_are_not(catalogue_of):
    drawings = [drawing(row["colour"], row["shape"], row["ground"], SIZE) for row in tiny_products(180)]
    photos = [encoded(photograph(seed)) for seed in range(60)]
    assert found(catalogue_of(drawings + photos)) == []


def test_another_colour_has_the_same_outline_and_is_another_product(catalogue_of):
    catalogue = catalogue_of([disc((200, 30, 40)), disc((30, 60, 200)), disc((230, 120, 30))])
    pairs, colour = similar_outlines(catalogue, open_images(catalogue, (16, 12)))
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]] and (colour > 20).all()
    assert found(catalogue) == []


def test_colour_counts_where_one_of_the_two_is_not_white():
    white = np.full((1, 32, 32, 3), 255, dtype=np.uint8)
    a, b = white.copy(), white.copy()
    a[:, :16, :16] = 100
    b[:, :16, :16] = (100, 100, 130)
    assert colour_distance(a, b) == pytest.approx([10.0])  # 30 in one of three channels, in that quarter
    assert colour_distance(a, white) == pytest.approx([155.0])
    assert colour_distance(white, white) == [0.0]


def test_equal_files_and_unreadable_images_are_in_no_pair(catalogue_of):
    image = photograph(0)
    first, copy, broken = encoded(image, "PNG"), encoded(image, quality=85), b"no image"
    other = broken + b" either"  # both stand as white pictures among the decoded ones
    assert found(catalogue_of([broken, first, first, copy, other, copy])) == [(1, 3)]


def test_one_image_and_none_readable(catalogue_of):
    assert found(catalogue_of([disc((9, 9, 9))], "one")) == []
    assert found(catalogue_of([b"x", b"y"], "broken")) == []


# --- photographs -------------------------------------------------------------------------------------------------


def test_chains_and_equal_files_are_one_photograph(catalogue_of):
    a, b, c = (disc((grey, grey, grey)) for grey in (100, 103, 106))
    catalogue = catalogue_of([a, disc((200, 0, 0)), c, b, a])
    assert found(catalogue) == [(0, 3), (2, 3)], "the ends of the chain are too far apart to be a pair"
    first, other, third, fourth, fifth = shown(catalogue)
    assert first == third == fourth == fifth != other


def test_unreadable_images_are_photographs_of_their_own(catalogue_of):
    assert len(set(shown(catalogue_of([b"x", b"y", disc((9, 9, 9))])))) == 3


def test_the_size_that_a_model_is_trained_at_changes_nothing(catalogue_of):
    pictures = [encoded(photograph(seed), quality=quality) for seed in range(5) for quality in (95, 70)]
    at_one, at_another = (catalogue_of(pictures, name) for name in ("one", "another"))
    assert shown(at_one, (8, 8)) == shown(at_another, (80, 60)) and len(set(shown(at_one))) == 5


def test_computed_once_and_again_when_an_image_changes(catalogue_of, monkeypatch):
    computed = []
    compute = module.near_duplicates
    monkeypatch.setattr(module, "near_duplicates", lambda *given: computed.append(1) or compute(*given))
    same, other = disc((100, 100, 100)), disc((200, 0, 0))
    catalogue = catalogue_of([same, disc((102, 102, 102))])
    assert shown(catalogue) == shown(catalogue) == [0, 0] and len(computed) == 1
    changed = catalogue_of([same, other])
    assert changed.path == catalogue.path and shown(changed) == [0, 1] and len(computed) == 2
    assert len(kept_files(changed.path, "photographs")) == 1, "the older one is removed"


# --- close hashes ------------------------------------------------------------------------------------------------

BITS = st.sets(st.integers(0, 63), max_size=7)


def flipped(value: int, bits) -> int:
    return value ^ sum(1 << bit for bit in bits)


def oracle(hashes: list[int], distance: int) -> list[list[int]]:
    pairs = combinations(range(len(hashes)), 2)
    return [[i, j] for i, j in pairs if (hashes[i] ^ hashes[j]).bit_count() <= distance]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]), BITS), max_size=25), st.integers(0, 6))
def test_close_hashes_are_those_of_the_oracle(made, distance):
    hashes = [flipped(*one) for one in made]
    pairs = close_hashes(np.array(hashes, dtype=np.uint64), distance)
    assert pairs.dtype == np.int64 and pairs.shape[1:] == (2,)
    assert pairs.tolist() == oracle(hashes, distance)


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), min_size=5, max_size=5))
def test_four_bits_are_close_and_five_are_not(value, bits):
    at_five, at_four = flipped(value, bits), flipped(value, sorted(bits)[:4])
    assert close_hashes(np.array([value, at_four], dtype=np.uint64)).tolist() == [[0, 1]]
    assert close_hashes(np.array([value, at_five], dtype=np.uint64)).tolist() == []


def test_a_block_of_equal_hashes_is_all_pairs_once():
    pairs = close_hashes(np.zeros(600, dtype=np.uint64))
    assert len(pairs) == 600 * 599 / 2 and pairs[0].tolist() == [0, 1] and pairs[-1].tolist() == [598, 599]


def test_many_blank_images_are_one_photograph(catalogue_of):
    blank = [encoded(Image.new("RGB", (20 + number % 20, 20 + number // 20), "white"), "PNG") for number in range(300)]
    assert len(set(blank)) == 300 and set(shown(catalogue_of([*blank, disc((9, 9, 9))]))) == {0, 1}
