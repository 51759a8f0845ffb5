"""Train, validation and test splits that share no product, no image and no caption."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from common.captions import fold
from common.errors import InputError

SPLITS = ("train", "val", "test")
SHARES = (0.8, 0.1, 0.1)
SALT = "fashion-1"
LARGEST_SHARE = 0.01
SHARED_THINGS = ("product", "image", "caption")


@dataclass(frozen=True)
class Splits:
    """The split of every row of a catalogue.

    Attributes:
        of_row: "train", "val", "test", or "excluded" for a val or test row whose caption is
            also in another split (only when caption links had to be dropped).
        group: the first product id of each row's group, which stays in one split.
        report: sizes and largest group, in words.
    """

    of_row: np.ndarray
    group: np.ndarray
    report: list[str]

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split, or of the whole catalogue for "all"."""
        return np.arange(len(self.of_row)) if split == "all" else np.flatnonzero(self.of_row == split)


def split_catalogue(rows: pd.DataFrame, photographs: np.ndarray) -> Splits:
    """Split rows 80/10/10 by group; a group's split depends on nothing but the group and the salt.

    Rows that share a product id, a photograph (the same file content or a near-duplicate of it) or a
    caption (after folding) are one group. When a group holds more than 1% of the products, captions do
    not link; val and test rows whose caption stands in another split are then excluded instead.

    Args:
        rows: columns `product`, `image` (index into `photographs`) and `caption`.
        photographs: what each image shows, equal for images that must not be parted
            (`near_duplicates.photographs`).

    Raises:
        InputError: something crosses the splits all the same (a defect of this function).
    """
    things = {
        "product": rows["product"].to_numpy(),
        "image": photographs[rows["image"].to_numpy()],
        "caption": rows["caption"].map(fold).to_numpy(),
    }
    report = []
    group, largest = find_groups(things)
    products = rows["product"].nunique()
    captions_link = largest <= max(1, LARGEST_SHARE * products)
    if not captions_link:
        report.append(
            f"the largest group linked by product, image and caption holds {largest:,} of {products:,} products "
            f"(more than {LARGEST_SHARE:.0%}): captions do not link, colliding captions are excluded instead"
        )
        group, largest = find_groups({name: things[name] for name in ("product", "image")})
    group = pd.Series(things["product"]).groupby(group).transform("min").to_numpy()
    of_row = assign(group)
    if not captions_link:
        of_row = exclude_colliding(of_row, things["caption"])
    check_disjoint(of_row, things)
    sizes = (f"{name} {rows.loc[of_row == name, 'product'].nunique():,}" for name in SPLITS)
    excluded = int((of_row == "excluded").sum())
    report.append(f"split: products in {', '.join(sizes)}; largest group {largest:,} (by product, image"
                  f"{' and caption' if captions_link else ''})")  # fmt: skip
    report += [f"split: {excluded:,} rows excluded for a caption that stands in another split"] if excluded else []
    report.append("split: checked, no product, image or caption is in two splits")
    return Splits(of_row, group, report)


def find_groups(things: dict[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """The group of each row as a number, and the products in the largest; shared things link rows."""
    count = len(things["product"])
    codes, offset = [], count
    for values in things.values():
        code, distinct = pd.factorize(values)
        codes.append(code + offset)
        offset += len(distinct)
    links = np.concatenate(codes)
    row = np.tile(np.arange(count), len(things))
    graph = coo_array((np.ones(len(links), dtype=np.int8), (row, links)), shape=(offset, offset))
    group = connected_components(graph, directed=False)[1][:count]
    largest = pd.Series(things["product"]).groupby(group).nunique().max()
    return group, int(largest)


def assign(group: np.ndarray) -> np.ndarray:
    """Hash each group by its name, its first product id, so that other groups cannot move it."""
    number, names = pd.factorize(group)
    position = [uniform(SALT + name) for name in names]
    split = np.searchsorted(np.cumsum(SHARES[:-1]), position, side="right")
    return np.array(SPLITS, dtype=object)[split][number]


def uniform(key: str) -> float:
    """A number in [0, 1) from a key, the same everywhere and always."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64


def exclude_colliding(of_row: np.ndarray, caption: np.ndarray) -> np.ndarray:
    """Exclude test rows whose caption is in train or val, and val rows whose caption is in train."""
    of_row = of_row.copy()
    for split, earlier in (("val", ("train",)), ("test", ("train", "val"))):
        seen = set(caption[pd.Series(of_row).isin(earlier)])
        of_row[(of_row == split) & pd.Series(caption).isin(seen).to_numpy()] = "excluded"
    return of_row


def check_disjoint(of_row: np.ndarray, things: dict[str, np.ndarray]) -> None:
    """Raise if a product, image or caption is in two splits."""
    for name, values in things.items():
        used = of_row != "excluded"
        splits = pd.Series(of_row[used]).groupby(values[used]).nunique()
        if (splits > 1).any():
            raise InputError(f"the {name} {splits.idxmax()!r} is in two splits")


def require_splits(splits: Splits, names: tuple[str, ...], path: object) -> None:
    """Raise an `InputError` when a split that is needed holds no product."""
    for name in names:
        if len(splits.rows(name)) == 0:
            sizes = {split: len(splits.rows(split)) for split in SPLITS}
            raise InputError(f"{path}: the {name} split is empty (rows: {sizes}); the catalogue is too small")
