"""Fashion-Gen's protocol: each query against its one match and 100 other products of the same category.

As FashionBERT (Gao et al. 2020) and Kaleido-BERT (Zhuge et al. 2021) report it, with lists that are drawn by a seed
and kept in a file, so that another model meets the very same candidates. Its recall is far above that of the full
gallery, and the two cannot be compared.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from common.attributes import named_column
from common.catalogue import Catalogue
from common.embedding import Embedded
from common.errors import InputError
from common.gallery import called
from common.options import EvalOptions
from common.recall import DIRECTIONS, TIE, Ranks, chance, metrics
from common.report.candidates import SIZE, Categories, draw_lists, read_lists, write_lists

FIGURES = ("R@1", "R@5", "R@10", "mean_rank", "MRR")
HELD = 2**20
"""Numbers held at once."""


def check(options: EvalOptions) -> None:
    """Raise an `InputError` if an option is given that only --protocol reads."""
    if options.protocol is None:
        for name in ("category", "candidates"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} {getattr(options, name)}: only read with --protocol fg101; give both")


def category_column(catalogue: Catalogue, category: str | None) -> str:
    """The attribute column that --category names.

    Raises:
        InputError: none is named, or the catalogue has no such column.
    """
    columns = catalogue.attributes
    if not columns:
        raise InputError(f"--protocol fg101: {catalogue.path} has no column besides id, image and caption")
    if category is None:
        raise InputError(f"--protocol fg101 needs --category COLUMN; the columns of {catalogue.path} are {columns}")
    return named_column(category, columns, "--category", catalogue.path)


def measure(embedded: Embedded, category: str | None, file: Path) -> dict[str, Any]:
    """Recall@K in per cent, mean rank among 101 and MRR, in both directions: mean and spread over the draws.

    A product's first image and first caption in the gallery stand for it. One list of products serves both
    directions: the query's image against their captions, and its caption against their images. Ties count against.

    Args:
        embedded: the gallery.
        category: name of the column whose value the candidates share.
        file: parquet file of candidate lists, read if it exists, else drawn and written.

    Raises:
        InputError: there is no such column, no product can be asked, or the file cannot be used.
    """
    gallery, catalogue = embedded.gallery, embedded.data.catalogue
    column = category_column(catalogue, category)
    categories = Categories(gallery.pairs, column)
    products, members = categories.products, categories.members
    if file.exists():
        lists = read_lists(file, products, column)
    else:
        if len(categories.askable) == 0:
            raise none_askable(embedded, column, members)
        lists = draw_lists(categories)
        write_lists(file, lists, products.index)
    with_category = sum(map(len, members.values()))
    image_emb = F.normalize(embedded.image_emb.double(), dim=1)[products["image"].tolist()]  # (P, D)
    text_emb = F.normalize(embedded.text_emb.double(), dim=1)[products["caption"].tolist()]
    return {
        "protocol": "fg101",
        "catalogue": catalogue.path.name,
        "split": embedded.split,
        "category": column,
        "candidates": str(file),
        "queries": [len(drawn) for drawn in lists],
        "products": {
            "all": len(products),
            "askable": len(categories.askable),
            "without_category": len(products) - with_category,
            "too_few_others": with_category - len(categories.askable),
        },
        "relevant_negatives": sum(
            len(categories.relevant_to(query) & set(others)) for drawn in lists for query, *others in drawn.tolist()
        ),
        "image_to_text": over_draws([list_ranks(image_emb, text_emb, drawn) for drawn in lists]),
        "text_to_image": over_draws([list_ranks(text_emb, image_emb, drawn) for drawn in lists]),
        "chance": {name: chance(torch.ones(1), SIZE)[name] for name in FIGURES},
    }


def none_askable(embedded: Embedded, column: str, members: dict[str, np.ndarray]) -> InputError:
    catalogue = embedded.data.catalogue
    where = called(embedded.split)
    name, numbers = max(members.items(), key=lambda item: len(item[1]), default=("", []))
    largest = f"its largest, '{name}', holds {len(numbers):,} products" if members else "the column is empty"
    remedy = f"name a coarser column of {catalogue.attributes}" + ("" if embedded.split == "all" else " or --split all")
    return InputError(
        f"--category {column}: no product of {where} has {SIZE - 1} others of its category that are not relevant to "
        f"it; {largest}; {remedy}"
    )


def list_ranks(query_emb: Tensor, item_emb: Tensor, lists: np.ndarray) -> Tensor:
    """(Q,) the rank of each list's first product among the 101: 1 + the others that score at least as high.

    query_emb, item_emb: (P, D) unit vectors of all products. lists: (Q, 101).
    """
    ranks = []
    for some in torch.from_numpy(lists).to(query_emb.device).split(max(1, HELD // (SIZE * query_emb.shape[1]))):
        scores = (item_emb[some] @ query_emb[some[:, 0]][:, :, None])[:, :, 0]  # (q, 101)
        ranks.append(1 + (scores[:, 1:] >= scores[:, :1] - TIE).sum(1))
    return torch.cat(ranks).cpu()


def over_draws(ranks: list[Tensor]) -> dict[str, dict[str, float | None]]:
    """Mean and sample standard deviation (None of one draw) of each figure over the draws."""
    found = pd.DataFrame([metrics(Ranks(rank, torch.ones_like(rank))) for rank in ranks])[list(FIGURES)]
    spread = found.std() if len(found) > 1 else pd.Series(dict.fromkeys(FIGURES), dtype=object)
    return {"mean": found.mean().to_dict(), "std": spread.to_dict()}


def describe(result: dict[str, Any]) -> list[str]:
    """The protocol and the table, as eval.py prints them."""
    products, queries, column = result["products"], result["queries"], result["category"]
    where = called(result["split"])
    asked = " or ".join(f"{count:,}" for count in sorted(set(queries)))
    lines = [
        "",
        f"protocol: fg101 (Fashion-Gen's), {where} of {result['catalogue']}, {len(queries)} draws of {asked} queries",
        f"  each query against {SIZE} candidates of one '{column}', 1 right and {SIZE - 1} wrong: "
        "not comparable with the full gallery",
        "  a product's first image and first caption stand for it; ties count against",
        f"  {products['askable']:,} of {products['all']:,} products can be asked; {products['without_category']:,} have"
        f" no '{column}', {products['too_few_others']:,} fewer than {SIZE - 1} others of theirs",
        f"  candidate lists: {result['candidates']}",
    ]
    if result["relevant_negatives"]:
        lines.append(f"  {result['relevant_negatives']:,} negatives in that file share a caption, an image or a group "
                     "with their query, and count as wrong all the same")  # fmt: skip
    lines += ["", f"{'':15}{'R@1':>8}{'R@5':>8}{'R@10':>8}{'mean':>9}{'MRR':>8}"]
    for direction, words in DIRECTIONS.items():
        lines.append(table_line(words, result[direction]["mean"]))
        if len(queries) > 1:
            lines.append(table_line("  ± over draws", result[direction]["std"]))
    return [*lines, table_line("chance", result["chance"])]


def table_line(name: str, row: dict[str, float]) -> str:
    return f"{name:15}{row['R@1']:8.2f}{row['R@5']:8.2f}{row['R@10']:8.2f}{row['mean_rank']:9.1f}{row['MRR']:8.4f}"
