"""Lists of 101 candidates of one category: drawn, written and read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from common.errors import InputError
from common.files import replacing

SIZE = 101
QUERIES = 1_000
SEEDS = range(5)
COLUMNS = ["draw", "query", "candidates"]


class Categories:
    """The products of a gallery by the value of a column: which can be asked, and against whom.

    Attributes:
        products: by id: number 0..P-1, position of the first image and of the first caption, category (NaN if empty).
        members: category -> the numbers of its products.
        askable: the numbers, ascending, of the products with 100 others of their category that are not relevant to
            them.
    """

    def __init__(self, pairs: pd.DataFrame, column: str) -> None:
        rows = pairs.assign(category=pairs[column].replace("", None))
        products = rows.groupby("product", sort=False)[["image", "caption", "category"]].first()
        self.products = products.assign(number=np.arange(len(products)))
        self.members = {name: part.to_numpy() for name, part in self.products.groupby("category")["number"]}
        number = self.products["number"].loc[pairs["product"]].to_numpy()
        links = pd.concat([
            pd.DataFrame({"number": number, "thing": f"{kind} " + pairs[kind].astype(str).to_numpy()})
            for kind in ("caption", "image", "group")
        ])  # fmt: skip
        self._things = links.groupby("number")["thing"].unique().tolist()
        self._owners = links.groupby("thing")["number"].agg(set).to_dict()
        self.askable = np.array(sorted(self._find_askable()), dtype=np.int64)

    def relevant_to(self, product: int) -> set[int]:
        """The products that share a caption, an image or a group with one; itself is among them."""
        return set().union(*(self._owners[thing] for thing in self._things[product]))

    def _find_askable(self) -> list[int]:
        found: list[int] = []
        for numbers in self.members.values():
            same = set(numbers.tolist())
            if len(same) >= SIZE:
                found += [product for product in same if len(same) - len(same & self.relevant_to(product)) >= SIZE - 1]
        return found


def draw_lists(categories: Categories) -> list[np.ndarray]:
    """For each seed (Q, 101) numbers of products: the query, and 100 that are not relevant to it, all distinct."""
    category = categories.products["category"].to_numpy()
    lists = []
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        queries = generator.choice(categories.askable, min(QUERIES, len(categories.askable)), replace=False)
        drawn = []
        for query in queries.tolist():
            members, relevant = categories.members[category[query]], categories.relevant_to(query)
            # so many that 100 are left even if all relevant ones are among them
            some = generator.choice(members, min(len(members), SIZE - 1 + len(relevant)), replace=False).tolist()
            drawn.append([query, *[product for product in some if product not in relevant][: SIZE - 1]])
        lists.append(np.array(drawn))
    return lists


def write_lists(file: Path, lists: list[np.ndarray], ids: pd.Index) -> None:
    frames = [
        pd.DataFrame({"draw": draw, "query": ids[drawn[:, 0]], "candidates": ids.to_numpy()[drawn].tolist()})
        for draw, drawn in enumerate(lists)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        pd.concat(frames, ignore_index=True).to_parquet(part)


def read_lists(file: Path, products: pd.DataFrame, column: str) -> list[np.ndarray]:
    """For each draw in the file (Q, 101) numbers of products.

    Raises:
        InputError: the file is no such table, names a product that the gallery lacks, or holds a list that is not of
            101 distinct products of one category, the query first.
    """
    again = "remove the file to draw new lists, or name another with --candidates"
    try:
        table = pd.read_parquet(file)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{file}: not a readable parquet file of candidate lists ({error}); {again}") from None
    if not set(COLUMNS) <= set(table) or table.empty or table[COLUMNS].isna().any(axis=None):
        raise InputError(f"{file}: expected rows with {COLUMNS}, found {len(table)} with {list(table)}; {again}")
    number, category = products["number"].to_dict(), products["category"].fillna("").to_dict()
    lists = []
    for place, (query, cell) in enumerate(zip(table["query"], table["candidates"], strict=True)):
        ids = [str(product) for product in np.atleast_1d(cell)]
        wrong = fault(str(query), ids, category, column)
        if wrong:
            raise InputError(f"{file}: the list in row {place} (query {query}) {wrong}; {again}")
        lists.append([number[product] for product in ids])
    return [np.array(lists)[rows] for rows in table.groupby("draw").indices.values()]


def fault(query: str, ids: list[str], category: dict[str, str], column: str) -> str:
    """What is wrong with a list of candidates, "" for nothing."""
    if len(ids) != SIZE or len(set(ids)) != SIZE or ids[0] != query:
        return (
            f"holds {len(ids)} products, {len(set(ids))} of them distinct, {ids[0] if ids else 'none'} first; expected "
            f"{SIZE} distinct ones, the query first"
        )
    missing = next((product for product in ids if product not in category), None)
    if missing is not None:
        return f"names product {missing}, which is not in the gallery: was it made for this split of this catalogue?"
    values = {category[product] for product in ids}
    if len(values) > 1 or values == {""}:
        return f"does not hold products of one '{column}': give --category the column that the lists were made with"
    return ""
