"""Which queries a page shows, and what was found for each."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from common.embedding import Embedded
from common.recall import TIE, Ranks

QUERIES = 12
"""Queries shown of each kind: best, median and worst."""
RESULTS = 8
"""Results shown of each query."""
HELD = 2**22
"""Scores held at once."""


@dataclass(frozen=True)
class Result:
    """An item of the gallery as a query finds it: its rank, counted from 1, its cosine, and whether it is relevant."""

    item: int
    rank: int
    cosine: float
    hit: bool


@dataclass(frozen=True)
class Search:
    """A query, its first `RESULTS` results, and its best relevant item, which may be among them.

    Attributes:
        query: its position among the queries.
        right: how many items are relevant.
        margin: cosine of the best relevant item less that of the best irrelevant one; infinite if there is none.
    """

    query: int
    results: list[Result]
    best: Result
    right: int
    margin: float


class Searches:
    """All queries of one direction.

    Args:
        embedded: the gallery.
        direction: "image_to_text" or "text_to_image".
    """

    def __init__(self, embedded: Embedded, direction: str) -> None:
        gallery = embedded.gallery
        from_images = direction == "image_to_text"
        towers = (embedded.image_emb, embedded.text_emb)
        query_emb, item_emb = towers if from_images else towers[::-1]
        self.query_emb, self.item_emb = (F.normalize(emb.double(), dim=1) for emb in (query_emb, item_emb))
        relevant = gallery.relevant if from_images else gallery.relevant.flip(0)
        self.relevant = relevant.to(query_emb.device)  # (2, R) query over item
        self.ranks: Ranks = embedded.ranks[direction]
        self.group = gallery.image_group if from_images else gallery.caption_group
        self.margins = self._margins()

    def chosen(self) -> dict[str, list[Search]]:
        """The best, the median and the worst queries, each of another group (see `choose`)."""
        order = np.lexsort((-self.margins, self.ranks.best.numpy()))  # stable: equal ones as in the gallery
        return {kind: [self.search(query) for query in queries] for kind, queries in choose(order, self.group).items()}

    def search(self, query: int) -> Search:
        """The results of a query, ties against the model: the ranks are those of `Embedded.ranks`."""
        cosine = (self.item_emb @ self.query_emb[query]).cpu().numpy()  # (G,)
        hit = np.zeros(len(cosine), dtype=bool)
        hit[self.relevant[1, self.relevant[0] == query].cpu().numpy()] = True
        order = np.lexsort((hit, TIE * hit - cosine))

        def result(place: int) -> Result:
            item = int(order[place])
            return Result(item, place + 1, float(cosine[item]), bool(hit[item]))

        results = [result(place) for place in range(min(RESULTS, len(order)))]
        best = result(int(self.ranks.best[query]) - 1)
        return Search(query, results, best, int(hit.sum()), float(self.margins[query]))

    def _margins(self) -> np.ndarray:
        """(Q,) cosine of the best relevant item less that of the best irrelevant one, in chunks of queries."""
        rows = max(1, HELD // len(self.item_emb))
        query, item = self.relevant
        margins = []
        for start in range(0, len(self.query_emb), rows):
            cosine = self.query_emb[start : start + rows] @ self.item_emb.T  # (q, G)
            inside = (query >= start) & (query < start + rows)
            row, column = query[inside] - start, item[inside]
            best = torch.full_like(cosine[:, 0], -torch.inf).scatter_reduce(0, row, cosine[row, column], "amax")
            cosine[row, column] = -torch.inf
            margins.append(best - cosine.amax(1))
        return torch.cat(margins).cpu().numpy()


def choose(order: np.ndarray, group: np.ndarray, most: int = QUERIES) -> dict[str, list[int]]:
    """The best, the median and the worst queries, each of another group.

    Args:
        order: (Q,) queries from the best to the worst.
        group: (Q,) the group of each query: one product in many variants must not fill a page.
        most: queries of each kind; a third of the groups if there are fewer than three times as many.
    """
    share = min(most, max(1, len(set(group)) // 3))
    taken = set()

    def take(candidates: np.ndarray) -> list[int]:
        chosen = []
        for query in candidates:
            if len(chosen) == share:
                break
            if group[query] not in taken:
                taken.add(group[query])
                chosen.append(int(query))
        return chosen

    best, worst = take(order), take(order[::-1])
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    from_the_middle = order[np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind="stable")]
    median = sorted(take(from_the_middle), key=lambda query: place[query])
    return {"best": best, "median": median, "worst": worst}
