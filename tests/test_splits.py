"""common/splits.py: nothing crosses the splits, and a group's split depends on the group alone."""

from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import splits
from common.captions import fold
from common.catalogue import open_catalogue
from common.errors import InputError
from common.images import open_images
from common.splits import SPLITS, Splits, require_splits, split_catalogue


def table(*rows: tuple[str, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["product", "image", "caption"])


def distinct(count: int, start: int = 0) -> pd.DataFrame:
    """Products that share nothing."""
    return table(*((f"p{n}", n - start, f"title {n}") for n in range(start, start + count)))


def digests(count: int) -> np.ndarray:
    return np.array([f"digest {n}" for n in range(count)], dtype=object)


def split(rows: pd.DataFrame, image_digests: np.ndarray | None = None) -> Splits:
    return split_catalogue(rows, digests(int(rows["image"].max()) + 1) if image_digests is None else image_digests)


def split_of_products(rows: pd.DataFrame) -> dict[str, str]:
    return dict(zip(rows["product"], split(rows).of_row, strict=True))


def crossing(of_row: np.ndarray, rows: pd.DataFrame, image_digests: np.ndarray) -> list[tuple[str, str]]:
    """What stands in two splits, found by looking at every pair of splits."""
    things = {
        (kind, value): {
            part for part, other in zip(of_row, values, strict=True) if other == value and part != "excluded"
        }
        for kind, values in [
            ("product", list(rows["product"])),
            ("image", [image_digests[image] for image in rows["image"]]),
            ("caption", [fold(caption) for caption in rows["caption"]]),
        ]
        for value in set(values)
    }
    return [thing for thing, parts in things.items() if len(parts) > 1]


ROWS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.sampled_from(["{}", " {} ", "{}\n"])),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize("largest_share", [0.01, 1.0])
@given(rows=ROWS)
@settings(max_examples=60, deadline=None)
def test_nothing_crosses(largest_share, rows):
    frame = table(*((f"p{p}", image, style.format(f"Title {c}")) for p, image, c, style in rows))
    image_digests = np.array([f"digest {image // 2}" for image in range(31)], dtype=object)
    with patch.object(splits, "LARGEST_SHARE", largest_share):
        result = split_catalogue(frame, image_digests)
    assert crossing(result.of_row, frame, image_digests) == []
    assert set(result.of_row) <= {*SPLITS, "excluded"}
    if largest_share == 1.0:
        assert "excluded" not in result.of_row


def test_shares_of_5000_products():
    result = split(distinct(5000))
    sizes = {name: len(result.rows(name)) for name in SPLITS}
    assert sum(sizes.values()) == 5000
    # five standard deviations of a binomial count
    assert abs(sizes["train"] - 4000) < 142 and abs(sizes["val"] - 500) < 107 and abs(sizes["test"] - 500) < 107
    assert result.report[0] == (
        f"split: products in train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}; "
        "largest group 1 (by product, image and caption)"
    )


def test_other_products_move_nothing():
    before = split_of_products(distinct(300))
    after = split_of_products(distinct(900))
    assert {product: after[product] for product in before} == before


def test_order_and_image_numbers_move_nothing():
    rows = pd.concat([distinct(300), table(*((f"p{n}", 300 + n, f"title {n + 1}") for n in range(0, 200, 2)))])
    shuffled = rows.sample(frac=1, random_state=0).reset_index(drop=True)
    shuffled["image"] = pd.factorize(shuffled["image"])[0]
    with patch.object(splits, "LARGEST_SHARE", 1.0):
        assert split_of_products(shuffled) == split_of_products(rows)


def test_split_stays_the_same_from_version_to_version():
    # runs that were trained before must not find their training products in the test split
    parts = split_of_products(distinct(30))
    assert [product for product, part in parts.items() if part != "train"] == ["p3", "p11", "p12", "p16", "p21", "p23"]


@pytest.mark.parametrize(
    "second",
    [
        lambda n: (f"a{n}", 2 * n + 1, f"other {n}"),
        lambda n: (f"b{n}", 2 * n, f"other {n}"),
        lambda n: (f"b{n}", 2 * n + 1, f" TITLE\n{n} "),
    ],
    ids=["product", "image", "caption"],
)
def test_each_shared_thing_links(second):
    rows = table(*(row for n in range(300) for row in ((f"a{n}", 2 * n, f"title {n}"), second(n))))
    of_row = np.reshape(split(rows).of_row, (-1, 2))
    assert (of_row[:, 0] == of_row[:, 1]).all() and set(of_row[:, 0]) == set(SPLITS)


def test_same_bytes_under_two_names_link(tmp_path, tiny_catalogue):
    path = tiny_catalogue(tmp_path, products=180)
    for number in range(1000, 1090):  # product 1090 + n gets a copy of the picture of product 1000 + n
        (tmp_path / "images" / f"{number + 90}.jpg").write_bytes((tmp_path / "images" / f"{number}.jpg").read_bytes())
    catalogue = open_catalogue(path)
    images = open_images(catalogue, (16, 12), tmp_path / "cache")
    of_row = split_catalogue(catalogue.rows, images.digests).of_row
    assert len(catalogue.images) == 180 and set(of_row) == set(SPLITS)
    assert (of_row[:90] == of_row[90:]).all()


# --- a group of more than 1% of the products ----------------------------------------------------------------


def common_title(carriers: int, products: int = 400) -> pd.DataFrame:
    rows = distinct(products)
    rows.loc[: carriers - 1, "caption"] = ["Common title", "common  TITLE"] * (carriers // 2)
    return rows


def test_a_group_of_one_per_cent_is_kept_together():
    result = split(common_title(4))
    assert len(set(result.of_row[:4])) == 1 and "excluded" not in result.of_row
    assert result.report[0].endswith("largest group 4 (by product, image and caption)")


def test_a_larger_group_loses_its_caption_links():
    rows = common_title(60)
    alone, result = split(distinct(400)).of_row, split(rows)
    expected = alone.copy()
    expected[:60][alone[:60] != "train"] = "excluded"  # the caption is in train
    assert result.of_row.tolist() == expected.tolist()
    excluded = int((result.of_row == "excluded").sum())
    assert excluded == (alone[:60] != "train").sum() > 0
    train, test = (set(rows["caption"].iloc[result.rows(name)].map(fold)) for name in ("train", "test"))
    assert "common title" in train and not train & test
    assert result.report == [
        "the largest group linked by product, image and caption holds 60 of 400 products (more than 1%): "
        "captions do not link, colliding captions are excluded instead",
        f"split: products in {', '.join(f'{s} {(expected == s).sum()}' for s in SPLITS)}; "
        "largest group 1 (by product, image)",
        f"split: {excluded} rows excluded for a caption that stands in another split",
        "split: checked, no product, image or caption is in two splits",
    ]


def test_val_keeps_a_caption_that_test_then_lacks():
    parts = split_of_products(distinct(400))
    val, test = ([p for p, part in parts.items() if part == name] for name in ("val", "test"))
    carriers = {*val[:3], *test[:3]}
    rows = distinct(400)
    rows.loc[rows["product"].isin(carriers), "caption"] = "common title"
    of_row = dict(zip(rows["product"], split(rows).of_row, strict=True))
    assert {of_row[p] for p in val} == {"val"} and {of_row[p] for p in test[:3]} == {"excluded"}
    assert {of_row[p] for p in test[3:]} == {"test"}


def test_products_and_images_link_whatever_the_size_of_the_group():
    rows = distinct(200)
    rows.loc[:49, "image"] = 0
    of_row = split(rows).of_row
    assert len(set(of_row[:50])) == 1 and "excluded" not in of_row


# --- use of the splits ---------------------------------------------------------------------------------------


def test_rows_of_a_split():
    result = Splits(np.array(["train", "test", "excluded", "train", "val"], dtype=object), np.array(list("abcde")), [])
    assert [result.rows(name).tolist() for name in (*SPLITS, "all")] == [[0, 3], [4], [1], [0, 1, 2, 3, 4]]


def test_an_empty_split_is_refused():
    result = Splits(np.array(["train", "train", "test"], dtype=object), np.array(list("abc")), [])
    require_splits(result, ("train", "test"), "shop.csv")
    found = r"^shop.csv: the val split is empty \(rows: train 2, val 0, test 1\)"
    with pytest.raises(InputError, match=f"{found}; the catalogue is too small, or too few rows differ"):
        require_splits(result, SPLITS, "shop.csv")
    result.of_row[1] = "excluded"
    with pytest.raises(InputError, match="; the captions of 1 rows are also in another split"):
        require_splits(result, SPLITS, "shop.csv")


def test_the_check_would_notice_a_crossing():
    things = {"product": np.array(["p", "p"]), "image": np.array(["a", "b"])}
    splits.check_disjoint(np.array(["train", "excluded"]), things)
    with pytest.raises(InputError, match="the product of row 1 is in two splits"):
        splits.check_disjoint(np.array(["train", "test"]), things)


# --- real data -----------------------------------------------------------------------------------------------


def test_real_split(fashion_data, tmp_path_factory):
    catalogue = open_catalogue(fashion_data / "fashion-product-images-small.parquet")
    images = open_images(catalogue, (16, 12), tmp_path_factory.mktemp("cache"))
    assert images.pixels.shape == (41_323, 16, 12, 3) and images.errors == {}
    result = split_catalogue(catalogue.rows, images.digests)
    things = {
        "product": catalogue.rows["product"],
        "image": pd.Series(images.digests),
        "caption": catalogue.rows["caption"].map(fold),
    }
    for values in things.values():
        parts = [set(values.iloc[result.rows(name)]) for name in SPLITS]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert images.remarks == ["images are 80x60 (height x width), 20 of them are not"]
    assert result.report[0] == (
        "split: products in train 33,075, val 4,215, test 4,033; largest group 82 (by product, image and caption)"
    )


def test_excluding_captions_of_a_large_catalogue_is_not_quadratic():
    """Comparing each of 40,000 captions (their hashes) with each other one would take many minutes."""
    caption = (np.arange(40_000) % 30_000).astype(np.uint64)
    of_row = pd.Categorical((["train"] * 8 + ["val", "test"]) * 4_000, [*SPLITS, "excluded"])
    excluded = splits.exclude_colliding(of_row, caption)
    seen = set(caption[of_row == "train"])
    expected = [c in seen for c in caption[of_row == "val"]]
    assert (excluded[of_row == "val"] == "excluded").tolist() == expected
