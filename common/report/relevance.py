"""Relevance files: queries of one's own, with the products that answer them, measured as BEIR does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.embedding import Embedded
from common.errors import InputError
from common.recall import beir_ceiling, beir_scores
from common.report.intervals import LEVEL, rate_interval


def read(file: Path) -> dict[str, list[str]]:
    """Query text -> relevant product ids, from {query: {product id: 1}}; ids with 0 are not relevant.

    Raises:
        InputError: the file is missing or not of that form.
    """
    expected = 'expected {"query text": {"product id": 1, ...}, ...}'
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--relevance {file}: cannot be read ({error.strerror}); {expected}") from None
    except ValueError as error:
        raise InputError(f"--relevance {file}: not JSON ({error}); {expected}") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"--relevance {file}: {expected}")
    queries = {}
    for query, judged in content.items():
        if not isinstance(judged, dict) or not all(isinstance(grade, int | float) for grade in judged.values()):
            raise InputError(f"--relevance {file}: query {query!r} holds {judged!r}; {expected}")
        queries[query] = [product for product, grade in judged.items() if grade > 0]
        if not queries[query]:
            raise InputError(f"--relevance {file}: query {query!r} has no relevant product; leave it out")
    return queries


def measure(embedded: Embedded, queries: dict[str, list[str]]) -> dict[str, Any]:
    """Recall@1, Recall@10 and MRR@10 in 0..1 over every image of the gallery, their intervals and their ceiling.

    Each image of a relevant product counts as one relevant item, a product that the gallery lacks as one more, which
    cannot be found ("missing" says how many). The interval draws queries, each for itself.
    """
    images_of = embedded.gallery.product_images.groupby("product")["image"].apply(list).to_dict()
    pairs = sorted(
        {  # an image may show several relevant products
            (query, image)
            for query, products in enumerate(queries.values())
            for product in products
            for image in images_of.get(product, [])
        }
    )
    relevant_items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    missing = torch.tensor([sum(product not in images_of for product in products) for products in queries.values()])
    scores = beir_scores(embedded.embed(list(queries)), embedded.image_emb, relevant_items, missing)
    ceiling = beir_ceiling(relevant_items[0].bincount(minlength=len(queries)), missing)
    alone = np.arange(len(queries))
    return {
        "queries": len(queries),
        **{name: values.mean().item() for name, values in scores.items()},
        "interval": {
            name: np.minimum(rate_interval(values.numpy(), alone), ceiling[name].mean().item()).tolist()
            for name, values in scores.items()
        },
        "ceiling": {name: values.mean().item() for name, values in ceiling.items()},
        "missing": int(missing.sum()),
        "images": len(embedded.gallery.images),
        "relevant": relevant_items.shape[1] / len(queries),
    }


def describe(found: dict[str, Any]) -> list[str]:
    names = list(found["ceiling"])
    rows = {
        "relevance file": found,
        f"  {LEVEL:.0%} from": {name: found["interval"][name][0] for name in names},
        "      to": {name: found["interval"][name][1] for name in names},
        "  ceiling": found["ceiling"],
    }
    return [
        "",
        f"relevance file: {found['queries']:,} queries against {found['images']:,} images, in 0..1 as BEIR counts: "
        "relevant images found of all relevant ones",
        f"  {found['missing']:,} relevant products are not in the gallery and count as not found",
        f"  a query has {found['relevant']:.2f} relevant images here: no ranking could pass the ceiling",
        "",
        " " * 15 + "".join(f"{name:>11}" for name in names),
        *(f"{what:15}" + "".join(f"{row[name]:11.4f}" for name in names) for what, row in rows.items()),
    ]
