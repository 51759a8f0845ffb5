"""Relevance files: queries of one's own, with the products that answer them, measured as BEIR does."""

import json
from pathlib import Path
from typing import Any

import torch

from common.embedding import Embedded
from common.errors import InputError
from common.recall import beir_metrics


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
    """Recall@1, Recall@10 and MRR@10 in 0..1 over every image of the gallery.

    Each image of a relevant product counts as one relevant item, a product that the gallery lacks as one more, which
    cannot be found ("missing" says how many).
    """
    images_of = embedded.gallery.product_images.groupby("product")["image"].apply(list).to_dict()
    pairs = [
        (query, image)
        for query, products in enumerate(queries.values())
        for product in products
        for image in images_of.get(product, [])
    ]
    missing = [sum(product not in images_of for product in products) for products in queries.values()]
    relevant_items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    query_emb = embedded.embed(list(queries))
    scores = beir_metrics(query_emb, embedded.image_emb, relevant_items, torch.tensor(missing))
    return {**scores, "missing": sum(missing), "images": len(embedded.gallery.images)}


def describe(found: dict[str, Any]) -> list[str]:
    return [
        f"relevance file: {found['missing']:,} relevant products are not in the gallery and count as not found",
        f"relevance file: {found['queries']:,} queries against {found['images']:,} images: "
        f"Recall@1 {found['Recall@1']:.4f}, Recall@10 {found['Recall@10']:.4f}, MRR@10 {found['MRR@10']:.4f}",
    ]
