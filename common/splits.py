"""Train, validation and test splits that share no product, no image and no caption."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from common.captions import fold
from common.columns import distinct, first_equal, hashes, pieces
from common.errors import InputError

SPLITS = ("train", "val", "test")
SHARES = (0.8, 0.1, 0.1)
SALT = "fashion-1"
LARGEST_SHARE = 0.01


@dataclass(frozen=True)
class Splits:
    """The split of every row of a catalogue.

    Attributes:
        of_row: (N,) "train", "val", "test", or "excluded" for a val or test row whose caption is
            also in another split (only when caption links had to be dropped).
        group: (N,) int32, a row of the group that each row belongs to, whose product id names it.
        report: sizes and largest group, in words.
    """

    of_row: pd.Categorical
    group: np.ndarray
    report: list[str]

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split, or of the whole catalogue for "all"."""
        return np.arange(len(self.of_row)) if split == "all" else np.flatnonzero(self.of_row == split)


def split_catalogue(rows: pd.DataFrame, photographs: np.ndarray) -> Splits:
    """Split rows 80/10/10 by group; a group's split depends on nothing but the group and the salt.

    Rows that share a product id, a photograph (the same file content or a near-duplicate of it) or a
    caption (after folding) are one group. When a group holds more than 1% of the products, captions link no
    rows at all, so that many groups are others; val and test rows whose caption stands in another split are then
    excluded instead.

    Args:
        rows: columns `product`, `image` (index into `photographs`) and `caption`.
        photographs: what each image shows, equal for images that must not be parted
            (`near_duplicates.photographs`).

    Raises:
        InputError: something crosses the splits all the same (a defect of this function).
    """
    things = {
        "product": rows["product"],
        "image": photographs[rows["image"].to_numpy()],
        "caption": hashes(rows["caption"], fold),
    }
    things = {name: first_equal(values) for name, values in things.items()}
    report = []
    group, largest = find_groups(things)
    products = distinct(things["product"])
    captions_link = largest <= max(1, LARGEST_SHARE * products)
    if not captions_link:
        report.append(
            f"the largest group linked by product, image and caption holds {largest:,} of {products:,} products "
            f"(more than {LARGEST_SHARE:.0%}): captions do not link, colliding captions are excluded instead"
        )
        group, largest = find_groups({name: things[name] for name in ("product", "image")})
    group = first_product(rows["product"], group)
    of_row = assign(rows["product"], group)
    if not captions_link:
        of_row = exclude_colliding(of_row, things["caption"])
    check_disjoint(of_row, things)
    sizes = (f"{name} {distinct_in(things['product'], of_row == name):,}" for name in SPLITS)
    excluded = int((of_row == "excluded").sum())
    report.append(f"split: products in {', '.join(sizes)}; largest group {largest:,} (by product, image"
                  f"{' and caption' if captions_link else ''})")  # fmt: skip
    report += [f"split: {excluded:,} rows excluded for a caption that stands in another split"] if excluded else []
    report.append("split: checked, no product, image or caption is in two splits")
    return Splits(of_row, group, report)


def find_groups(things: dict[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """The group of each row as a number, and the products in the largest; shared things link rows."""
    count = len(things["product"])
    row, links = [], []
    for values in things.values():
        first = first_equal(values)
        row.append(np.flatnonzero(first != np.arange(count)).astype(np.int32))
        links.append(first[row[-1]])
    row, links = np.concatenate(row), np.concatenate(links)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, links)), shape=(count, count))
    del row, links
    group = connected_components(graph, directed=False)[1]
    is_first = first_equal(things["product"]) == np.arange(count)
    return group, int(np.bincount(group[is_first]).max())


def first_product(products: pd.Series, group: np.ndarray) -> np.ndarray:
    """(N,) int32, the row of each row's group whose product id comes first in the order of the alphabet."""
    order = pc.sort_indices(pa.array(products)).to_numpy()[::-1]
    row = np.empty(group.max() + 1, dtype=np.int32)
    row[group[order]] = order  # of several rows of a group the last one stays
    return row[group]


def assign(products: pd.Series, group: np.ndarray) -> pd.Categorical:
    """Hash each group by its name, its first product id, so that other groups cannot move it."""
    split = np.empty(len(group), dtype=np.int8)
    for piece in pieces(len(group)):
        position = [uniform(SALT + name) for name in products.iloc[group[piece]].tolist()]
        split[piece] = np.searchsorted(np.cumsum(SHARES[:-1]), position, side="right")
    return pd.Categorical.from_codes(split, [*SPLITS, "excluded"])


def uniform(key: str) -> float:
    """A number in [0, 1) from a key, the same everywhere and always."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64


def exclude_colliding(of_row: pd.Categorical, caption: np.ndarray) -> pd.Categorical:
    """Exclude test rows whose caption is in train or val, and val rows whose caption is in train."""
    of_row = of_row.copy()
    for split, earlier in (("val", ("train",)), ("test", ("train", "val"))):
        seen = caption[of_row.isin(earlier)]
        of_row[(of_row == split) & np.isin(caption, seen)] = "excluded"
    return of_row


def check_disjoint(of_row: pd.Categorical, things: dict[str, np.ndarray]) -> None:
    """Raise if a product, image or caption is in two splits."""
    used = np.flatnonzero(of_row != "excluded")
    for name, values in things.items():
        crossing = of_row[used] != of_row[used[first_equal(values[used])]]
        if crossing.any():
            raise InputError(f"the {name} of row {used[crossing.argmax()]} is in two splits")


def distinct_in(same: np.ndarray, which: np.ndarray) -> int:
    """How many different values rows have, from what `first_equal` gave and a mask of the rows."""
    seen = np.zeros(len(same), dtype=bool)
    seen[same[which]] = True
    return int(seen.sum())


def fewer_products(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """The rows of at most so many products (0: of all), chosen by a hash of their ids, whatever the rows' order."""
    products = rows["product"].unique()
    if most == 0 or len(products) <= most:
        return rows
    chosen = sorted(products, key=lambda product: uniform("fewer " + product))[:most]
    return rows[rows["product"].isin(chosen)]


def require_splits(splits: Splits, names: tuple[str, ...], path: object) -> None:
    """Raise an `InputError` when a split that is needed holds no product."""
    for name in names:
        if len(splits.rows(name)) == 0:
            sizes = ", ".join(f"{split} {len(splits.rows(split)):,}" for split in SPLITS)
            excluded = int((splits.of_row == "excluded").sum())
            why = "the catalogue is too small, or too few rows differ in all of product id, image and caption"
            if excluded:
                why = f"the captions of {excluded:,} rows are also in another split; they have to tell products apart"
            raise InputError(f"{path}: the {name} split is empty (rows: {sizes}); {why}")
