"""The nearest of many unit vectors, exactly or nearly so, with FAISS."""

from pathlib import Path
from typing import Literal

import faiss
import numpy as np

from common.errors import InputError
from common.files import replacing

Kind = Literal["exact", "hnsw"]
FILE = "hnsw.faiss"
LINKS, EF_BUILD, EF_SEARCH = 32, 80, 128
"""Of the HNSW graph: neighbours a node, and how many candidates are kept while building and searching."""
EXACT_UP_TO = 100_000
"""Images above which "auto" builds a graph."""


class Neighbours:
    """Vectors to search among.

    Args:
        vectors: (N, D) float32 unit vectors.
        kind: "exact" compares with all, "hnsw" follows a graph.
    """

    def __init__(self, vectors: np.ndarray, kind: Kind = "exact") -> None:
        self.kind, self.count = kind, len(vectors)
        if kind == "exact":
            self.index = faiss.IndexFlatIP(vectors.shape[1])
        else:
            self.index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
            self.index.hnsw.efConstruction = EF_BUILD
        self.index.add(np.ascontiguousarray(vectors))

    def nearest(
        self, queries: np.ndarray, top: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest vectors of each query, best first.

        Allowed ones are always compared one by one: a walk through the graph ends before it comes to those that lie far
        from the query.

        Args:
            queries: (Q, D) float32 unit vectors.
            top: how many, K.
            allowed: (N,) bool, which vectors may be found; None: all.

        Returns:
            (Q, K) float32 cosines and (Q, K) int64 positions, -1 where there are fewer.
        """
        queries = np.ascontiguousarray(queries)
        if allowed is not None:
            vectors = self.index if self.kind == "exact" else faiss.downcast_index(self.index.storage)
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
            return vectors.search(queries, top, params=faiss.SearchParameters(sel=selector))
        if self.kind == "exact":
            return self.index.search(queries, top)
        parameters = faiss.SearchParametersHNSW(efSearch=max(EF_SEARCH, 2 * top))
        return self.index.search(queries, top, params=parameters)

    def recall(self, queries: np.ndarray, exact: "Neighbours", top: int = 10) -> float:
        """The share of the exact nearest that is found, in 0..1; of fewer vectors than `top`, of all."""
        top = min(top, self.count)  # what fills the rest of an answer, -1, is nothing that was found
        found, wanted = self.nearest(queries, top)[1], exact.nearest(queries, top)[1]
        return float(np.mean([len(np.intersect1d(*pair)) / top for pair in zip(found, wanted, strict=True)]))

    def write(self, folder: Path) -> None:
        """Keep the graph in a folder."""
        with replacing(folder / FILE) as part:
            faiss.write_index(self.index, str(part))

    @classmethod
    def read(cls, folder: Path) -> "Neighbours":
        """The graph that was kept in a folder.

        Raises:
            InputError: it is missing or broken.
        """
        found = cls.__new__(cls)
        try:
            found.index = faiss.read_index(str(folder / FILE))
        except RuntimeError as error:
            first = str(error).strip().split("\n")[0]
            raise InputError(f"{folder / FILE}: cannot be read ({first}); run search/index.py again") from None
        found.kind, found.count = "hnsw", found.index.ntotal
        return found


def chosen(kind: str, images: int) -> Kind:
    """The kind of index for so many images: what was asked for, or what "auto" stands for."""
    if kind == "auto":
        return "exact" if images <= EXACT_UP_TO else "hnsw"
    return kind
