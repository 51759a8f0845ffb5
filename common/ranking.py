"""How many irrelevant items are ahead of a relevant one: exact, in bounded memory, at the speed of a float32 product.

The answer is that of float64 cosines. An item whose float32 score is farther from the limit than rounding can have
moved it is decided by that score; the few others are scored again in float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, isqrt

import torch
from torch import Tensor

TIE = 1e-6
MANY = 32  # relevant items a query: above that, one sorted search is cheaper than a comparison for each
CACHED = 2**18  # numbers made float64 at a time: larger temporaries leave the processor's cache and take far longer
FEW = 1 / 64  # of a block's scores: above that, scoring all of it again is cheaper than picking pairs


@torch.no_grad()
def count_ahead(
    query_emb: Tensor, gallery_emb: Tensor, query: Tensor, item: Tensor, counts: Tensor, max_scores: int
) -> Tensor:
    """How many irrelevant items are ahead of each relevant one, by cosine.

    query_emb: (Q, D), gallery_emb: (G, D). query, item: (R,) distinct relevant pairs, query ascending.
    counts: (Q,) relevant items of each query. max_scores: see `common.recall.rank_queries`.

    Returns (R,) long, query by query, ascending within a query.

    Raises ValueError naming the first embedding that is not finite.
    """
    with _full_precision(query_emb.device.type):
        queries = _Units.read(query_emb, "query_emb", max_scores)
        gallery = _Units.read(gallery_emb, "gallery_emb", max_scores)
        # the queries with the most relevant items first: those with more than k are the first ones of a chunk
        order = counts.argsort(descending=True, stable=True)
        row = order.argsort()[query]
        score = _score_pairs(queries, gallery, query, item)
        packed = score.argsort(descending=True)
        packed = packed[row[packed].argsort(stable=True)]  # row by row, the best relevant item of a row first
        limit = score[packed] - TIE
        ahead = _count_blocks(queries, gallery, order, counts[order], row[packed], item[packed], limit, max_scores)
        return ahead[query[packed].argsort(stable=True)]


def _count_blocks(
    queries: "_Units",
    gallery: "_Units",
    order: Tensor,
    counts: Tensor,
    row: Tensor,
    item: Tensor,
    limit: Tensor,
    max_scores: int,
) -> Tensor:
    """How many irrelevant items reach each limit (R,) of the queries in this order, packed row by row."""
    columns = min(len(gallery), max(1, max_scores // max(gallery.width, isqrt(max_scores) // 2)))
    rows = max(1, max_scores // max(columns, queries.width))
    chunks = list(zip(order.split(rows), counts.cpu().split(rows), strict=True))
    limits = limit.split([int(count.sum()) for _, count in chunks])
    aheads = torch.zeros_like(row).split([len(x) for x in limits])
    buffer = torch.empty(min(rows, len(order)) * columns, device=limit.device)
    for first in range(0, len(gallery), columns):
        items = gallery[slice(first, first + columns)]
        items_float = items.unit(torch.float32)  # (g, D)
        inside = ((item >= first) & (item < first + columns)).nonzero().flatten()
        sizes = (row[inside] // rows).bincount(minlength=len(chunks)).tolist()
        relevant = torch.stack([row[inside] % rows, item[inside] - first]).split(sizes, dim=1)
        for (which, count), bar, ahead, (r, c) in zip(chunks, limits, aheads, relevant, strict=True):
            query, found = queries[which], None
            if count[0] <= MANY:
                scores = buffer[: len(query) * len(items)].view(len(query), len(items))
                torch.mm(query.unit(torch.float32), items_float.T, out=scores)
                scores[r, c] = -inf  # relevant items are never ahead
                found = _count_quickly(scores, query, items, bar, count)
            if found is None:
                found = _count_exactly(query, items, r, c, bar, count, max_scores)
            ahead += found
    return torch.cat(aheads)


def _count_quickly(scores: Tensor, query: "_Units", items: "_Units", limit: Tensor, counts: Tensor) -> Tensor | None:
    """(r,) irrelevant items that reach each limit, by float32 scores (q, g) and, for those too close to it, by
    float64 ones; None if too many are close. The queries with most limits come first."""
    # A float32 dot product of unit vectors is off by at most D roundings of 2**-24, in whatever order it is
    # summed (Jeannerod and Rump 2013), and by a few more for rounding the vectors and the limit.
    error = (query.width + 8) * 2**-24
    start = (counts.cumsum(0) - counts).to(limit.device)
    found = torch.empty_like(limit, dtype=torch.long)
    for k in range(int(counts[0])):
        place = start[: int((counts > k).sum())] + k  # (n,) of the k-th limits, which the first n queries have
        bar = limit[place, None]
        above = scores[: len(place)] > (bar + error).float()
        close = (scores[: len(place)] >= (bar - error).float()).logical_xor_(above)
        found[place] = _row_sums(above)
        pairs = _find_few(close)
        if pairs is None:
            return None
        again = place[pairs[0]]
        found.index_add_(0, again, (_score_pairs(query, items, *pairs) >= limit[again]).long())
    return found


def _count_exactly(
    query: "_Units", items: "_Units", row: Tensor, column: Tensor, limit: Tensor, counts: Tensor, max_scores: int
) -> Tensor:
    """(r,) irrelevant items that reach each limit, by float64 scores of all pairs but the relevant ones."""
    step = max(1, max_scores // 4 // max(len(items), int(counts[0])))
    sizes = [int(count.sum()) for count in counts.split(step)]
    found = torch.empty_like(limit, dtype=torch.long)
    parts = counts.split(step), limit.split(sizes), found.split(sizes)
    item = items.unit(torch.float64).T  # (D, g)
    for number, (emb, count, bar, out) in enumerate(zip(query.unit(torch.float64).split(step), *parts, strict=True)):
        distance = (emb @ item).neg_()  # (q, g)
        inside = row // step == number
        distance[row[inside] % step, column[inside]] = inf
        padded, held = pad(-bar, count.to(bar.device))
        out.copy_(count_within(distance, padded)[held])
    return found


def count_within(distance: Tensor, limit: Tensor) -> Tensor:
    """(q, g) and (q, k) ascending -> (q, k), how many distances of the row are within each limit."""
    first = torch.searchsorted(limit, distance)  # (q, g) the first limit that each distance is within
    count = torch.zeros(len(limit), limit.shape[1] + 1, dtype=torch.long, device=limit.device)
    count.scatter_add_(1, first, torch.ones_like(first[:1, :1]).expand_as(first))
    return count.cumsum(1)[:, :-1]


def pad(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Packed (r,) -> (q, k) padded with inf; and (q, k) bool, what is not padding."""
    held = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
    padded = torch.full(held.shape, inf, dtype=values.dtype, device=values.device)
    padded[held] = values
    return padded, held


def places(counts: Tensor) -> Tensor:
    """(Q,) -> (R,) packed 1, 2, ... of each query's ranks."""
    last = counts.cumsum(0)
    return torch.arange(1, int(last[-1]) + 1, device=counts.device) - (last - counts).repeat_interleave(counts)


@dataclass(frozen=True)
class _Units:
    """Embeddings (N, D) with their norms (N, 1): some at a time are made unit vectors, all might not fit.
    step: rows whose float64 copy is small."""

    emb: Tensor
    norm: Tensor
    step: int

    @classmethod
    def read(cls, emb: Tensor, name: str, max_scores: int) -> "_Units":
        step = max(1, min(max_scores, CACHED) // max(1, emb.shape[1]))
        norm = emb.new_empty(len(emb), 1, dtype=torch.float64)
        for piece, out in zip(emb.split(step), norm.split(step), strict=True):
            out.copy_(piece.double().norm(dim=1, keepdim=True))
        if not norm.isfinite().all():
            check_finite(torch.cat([piece.isfinite().all(1) for piece in emb.split(step)]), f"{name} row")
        return cls(emb, norm.where(norm > 0, 1), step)  # zero vectors stay zero

    def __len__(self) -> int:
        return len(self.emb)

    def __getitem__(self, rows: Tensor | slice) -> "_Units":
        return _Units(self.emb[rows], self.norm[rows], self.step)

    @property
    def width(self) -> int:
        return max(1, self.emb.shape[1])

    def unit(self, dtype: torch.dtype) -> Tensor:
        """(N, D) of length 1 or 0, divided in float64."""
        unit = torch.empty_like(self.emb, dtype=dtype)
        for emb, norm, out in zip(*(x.split(self.step) for x in (self.emb, self.norm, unit)), strict=True):
            torch.div(emb, norm, out=out)
        return unit


def _score_pairs(queries: _Units, gallery: _Units, query: Tensor, item: Tensor) -> Tensor:
    """(r,) float64 cosines of pairs."""
    score = torch.empty_like(query, dtype=torch.float64)
    # in place: a list of small results, allocated between large temporaries, would leave holes in the memory
    for q, i, out in zip(*(x.split(queries.step) for x in (query, item, score)), strict=True):
        torch.sum(queries[q].unit(torch.float64) * gallery[i].unit(torch.float64), dim=1, out=out)
    return score


def _find_few(mask: Tensor) -> tuple[Tensor, Tensor] | None:
    """Rows and columns of the True elements of a mask (q, g); None if more than `FEW` of it are True."""
    most = FEW * mask.numel()
    if mask.is_cuda or mask.numel() % 8:
        return mask.nonzero(as_tuple=True) if int(_row_sums(mask).sum()) <= most else None
    word = mask.view(-1).view(torch.int64).nonzero().flatten()  # eight elements at a time: much faster on the CPU
    if len(word) > most:
        return None
    inside, byte = mask.view(-1, 8)[word].nonzero(as_tuple=True)
    place = word[inside] * 8 + byte
    return (place // mask.shape[1], place % mask.shape[1]) if len(place) <= most else None


def _row_sums(mask: Tensor) -> Tensor:
    return mask.view(torch.uint8).sum(1, dtype=torch.int32).long()  # far faster than summing a bool


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """float32 products without TF32 or bfloat16, whatever autocast and the global settings say."""
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def check_finite(finite: Tensor, name: str) -> None:
    """Raises ValueError that names the first of the rows (N,) bool that are not finite."""
    bad = (~finite).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"{name} {int(bad[0])} is not finite (nor are {len(bad) - 1} other of {len(finite)} "
            "rows): has the training diverged?"
        )
