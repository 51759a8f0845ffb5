"""Retrieval metrics: pure functions of scores (or embeddings) and relevance.

Ties count against the model: a relevant item ranks behind every irrelevant one that scores at least as high,
where a score up to `TIE` below its own counts as equal. A tower that maps everything to one point, up to
rounding, therefore has recall 0 and not 100.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from common.ranking import TIE, check_finite, count_ahead, count_within, pad, places

CUTOFFS = (1, 5, 10)
DIRECTIONS = {"image_to_text": "image -> text", "text_to_image": "text -> image"}
"""Of queries and gallery, and how tables and pictures call them."""
BEIR_CUTOFFS = (1, 10)


@dataclass(frozen=True)
class Ranks:
    """The rank of every relevant item: packed query by query, ascending within a query, on the CPU.

    rank: (R,) long, counted from 1; a query's k-th relevant item has rank k + irrelevant items ahead of it.
    counts: (Q,) long, how many of the R ranks each query has; at least one.
    """

    rank: Tensor
    counts: Tensor

    @property
    def query(self) -> Tensor:
        """(R,) the query that each rank belongs to."""
        return torch.arange(len(self.counts)).repeat_interleave(self.counts)

    @property
    def best(self) -> Tensor:
        """(Q,) rank of the best relevant item: 1 + irrelevant items that score at least as high."""
        return self.rank[self.counts.cumsum(0) - self.counts]

    @property
    def average_precision(self) -> Tensor:
        """(Q,) float64 in (0, 1]: the mean over a query's relevant items of k / rank of the k-th."""
        total = torch.zeros(len(self.counts), dtype=torch.float64)
        return total.index_add(0, self.query, places(self.counts) / self.rank.double()) / self.counts


@torch.no_grad()
def relevant_ranks(sim: Tensor, relevant: Tensor) -> Ranks:
    """Ranks from a whole score matrix.

    sim: (Q, G), higher is more similar. relevant: (Q, G) bool, at least one True a row.

    Raises ValueError for shapes that do not fit, and naming the first query with a non-finite score or
    without a relevant item.
    """
    if sim.ndim != 2 or sim.shape != relevant.shape or relevant.dtype != torch.bool:
        raise ValueError(
            f"expected sim (Q, G) and a bool relevant of the same shape, found "
            f"{tuple(sim.shape)} and {tuple(relevant.shape)} {relevant.dtype}"
        )
    check_finite(sim.isfinite().all(1), "sim of query")
    counts = relevant.sum(1)  # (Q,)
    _check_counts(counts)
    distance = -sim.double()
    limit, held = pad(distance[relevant], counts)
    limit = limit.sort(1).values + TIE
    ahead = count_within(distance.masked_fill_(relevant, inf), limit)[held]
    return Ranks((ahead + places(counts)).cpu(), counts.cpu())


@torch.no_grad()
def rank_queries(
    query_emb: Tensor, gallery_emb: Tensor, relevant_items: Tensor, max_scores: int | None = None
) -> Ranks:
    """Exact ranks by cosine similarity, without ever holding the whole score matrix.

    query_emb: (Q, D), gallery_emb: (G, D), of any length: normalised here, zero vectors stay zero.
    relevant_items: (2, R) long, query index over gallery index, in any order; repeated pairs count once.
    max_scores: the most scores, or numbers of embeddings, held at once (some 30 bytes each); None: 2**22 on
    the CPU, 2**24 elsewhere. Beside them there are some 100 bytes a query, gallery item and relevant pair.

    Scores are defined in float64, which keeps TF32, autocast and the chunking out of the result.

    Raises ValueError for shapes and indices that do not fit, and naming the first embedding that is not
    finite or the first query without a relevant item.
    """
    if query_emb.ndim != 2 or gallery_emb.ndim != 2 or query_emb.shape[1] != gallery_emb.shape[1]:
        raise ValueError(
            f"expected query_emb (Q, D) and gallery_emb (G, D), found {tuple(query_emb.shape)} "
            f"and {tuple(gallery_emb.shape)}"
        )
    if max_scores is None:
        max_scores = 2**22 if query_emb.device.type == "cpu" else 2**24
    if max_scores < 1:
        raise ValueError(f"expected max_scores of at least 1, found {max_scores}")
    query, item, counts = _read_pairs(relevant_items.to(query_emb.device), len(query_emb), len(gallery_emb))
    _check_counts(counts)
    ahead = count_ahead(query_emb, gallery_emb, query, item, counts, max_scores)
    return Ranks((ahead + places(counts)).cpu(), counts.cpu())


def metrics(ranks: Ranks) -> dict[str, float]:
    """R@K in per cent (hit: any relevant item in the first K), rank of the best item, MRR and mAP in 0..1."""
    best = ranks.best.double()
    return {
        **{f"R@{k}": 100 * (best <= k).double().mean().item() for k in CUTOFFS},
        "median_rank": best.quantile(0.5).item(),
        "mean_rank": best.mean().item(),
        "MRR": best.reciprocal().mean().item(),
        "mAP": ranks.average_precision.mean().item(),
    }


def chance(relevant_counts: Tensor, gallery_size: int) -> dict[str, float]:
    """What `metrics` gives on average when the gallery is in random order, exactly.

    relevant_counts: (Q,) relevant items of each query, each in 1..G. For r of them among G, with H harmonic
    numbers: R@K = 1 - C(G-r, K) / C(G, K), mean rank = (G+1) / (r+1), MRR = r (H_G - H_{r-1}) / (G-r+1) and
    mAP = (H_G + (r-1) (G-H_G) / (G-1)) / G (Bestgen 2015, "Exact Expected Average Precision of the Random
    Baseline for System Evaluation"). The median rank has no such form and is left out.

    Raises ValueError for a count outside 1..G.
    """
    r, size = relevant_counts.double().cpu(), torch.tensor(gallery_size, dtype=torch.float64)
    if len(r) == 0 or r.min() < 1 or r.max() > size:
        raise ValueError(f"expected relevant_counts in 1..{gallery_size}, found {r.unique().tolist()}")
    h = torch.digamma(size + 1) - torch.digamma(torch.ones_like(size))  # H_G
    left = size - torch.arange(min(max(CUTOFFS), gallery_size))  # (K,) items left before each draw
    miss = torch.log1p(-(r[:, None] / left).clamp(max=1)).cumsum(1)  # (Q, K) log probability of no hit so far
    expected = {
        **{f"R@{k}": -100 * torch.expm1(miss[:, min(k, gallery_size) - 1]) for k in CUTOFFS},
        "mean_rank": (size + 1) / (r + 1),
        "MRR": r * (torch.digamma(size + 1) - torch.digamma(r)) / (size - r + 1),
        "mAP": (h + (r - 1) * (size - h) / (size - 1).clamp(min=1)) / size,
    }
    return {name: value.mean().item() for name, value in expected.items()}


def beir_metrics(
    query_emb: Tensor,
    gallery_emb: Tensor,
    relevant_items: Tensor,
    missing: Tensor | int = 0,
    max_scores: int | None = None,
) -> dict[str, float]:
    """The number of queries, and the means of `beir_scores` over them."""
    scores = beir_scores(query_emb, gallery_emb, relevant_items, missing, max_scores)
    return {"queries": len(query_emb), **{name: values.mean().item() for name, values in scores.items()}}


def beir_scores(
    query_emb: Tensor,
    gallery_emb: Tensor,
    relevant_items: Tensor,
    missing: Tensor | int = 0,
    max_scores: int | None = None,
) -> dict[str, Tensor]:
    """Recall@K (relevant items among the first K / all relevant items) and MRR@10 of each query, as in BEIR.

    missing: (Q,), or one number for all: relevant items that the gallery lacks; they count as not found, and
    a query with no others scores 0. The rest, ties included: see `rank_queries`.

    Returns (Q,) float64 in 0..1 for each of Recall@1, Recall@10 and MRR@10, on the CPU.

    Raises ValueError as `rank_queries` does, for want of relevant items only if there are no missing ones.
    """
    query, item, counts = (x.cpu() for x in _read_pairs(relevant_items, len(query_emb), len(gallery_emb)))
    total = counts + torch.as_tensor(missing).cpu()  # (Q,)
    _check_counts(total)
    scores = {name: torch.zeros(len(counts), dtype=torch.float64) for name in ("Recall@1", "Recall@10", "MRR@10")}
    ranked = counts > 0  # (Q,) the other queries score 0
    if ranked.any():
        pairs = torch.stack([(ranked.cumsum(0) - 1)[query], item])
        ranks = rank_queries(query_emb[ranked.to(query_emb.device)], gallery_emb, pairs, max_scores)
        found = ranked.nonzero().flatten()
        for k in BEIR_CUTOFFS:
            scores[f"Recall@{k}"].index_add_(0, found[ranks.query], (ranks.rank <= k).double()).div_(total)
        scores["MRR@10"][found] = ranks.best.double().reciprocal().where(ranks.best <= 10, 0)
    return scores


def beir_ceiling(found: Tensor, missing: Tensor | int = 0) -> dict[str, Tensor]:
    """The most that any ranking could reach in `beir_scores`.

    found: (Q,) relevant items of each query that are in the gallery; missing: (Q,), or one number for all:
    those that it lacks.

    Returns (Q,) float64 in 0..1 for each of Recall@1, Recall@10 and MRR@10, on the CPU.

    Raises ValueError naming the first query without a relevant item, found or missing.
    """
    found = found.cpu()
    total = found + torch.as_tensor(missing).cpu()
    _check_counts(total)
    return {
        **{f"Recall@{k}": found.clamp(max=k).double() / total for k in BEIR_CUTOFFS},
        "MRR@10": (found > 0).double(),
    }


def _read_pairs(relevant_items: Tensor, queries: int, items: int) -> tuple[Tensor, Tensor, Tensor]:
    """(2, R) -> distinct pairs as query (R,) ascending and item (R,); the number of items a query (Q,).

    Raises ValueError for another shape or type, and for an index out of range.
    """
    if relevant_items.ndim != 2 or len(relevant_items) != 2 or relevant_items.is_floating_point():
        raise ValueError(
            f"expected relevant_items (2, R) of integers, found {tuple(relevant_items.shape)} {relevant_items.dtype}"
        )
    query, item = relevant_items.long()
    outside = (query < 0) | (query >= queries) | (item < 0) | (item >= items)
    if outside.any():
        raise ValueError(
            f"relevant_items pairs query {int(query[outside][0])} with item "
            f"{int(item[outside][0])}, found {queries} queries and {items} items in the gallery"
        )
    pair = (query * items + item).unique()
    query, item = pair // items, pair % items
    return query, item, query.bincount(minlength=queries)


def _check_counts(counts: Tensor) -> None:
    """Raises ValueError for no queries, and for one without a relevant item."""
    if len(counts) == 0:
        raise ValueError("expected at least one query, found none")
    empty = (counts < 1).nonzero().flatten()
    if len(empty):
        raise ValueError(
            f"query {int(empty[0])} has no relevant item (nor have {len(empty) - 1} other of "
            f"{len(counts)} queries): leave such queries out"
        )
