"""How long one query takes, the model loaded: encoding and searching apart, for words and for pictures.

    python benchmarks/search_latency.py --index runs/index

The pictures are the index's own thumbnails, the words its captions. With --copies N the images are compared in two
ways, exactly and through a graph, N times as many by copies with noise: above how many a graph pays.
"""

import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import tyro

from common.errors import run_script
from search.engine import Search
from search.neighbours import Neighbours

WARM_UP = 10
"""Queries that are not counted."""


@dataclass(frozen=True)
class Options:
    index: Path
    """Folder that search/index.py wrote."""
    run: Path | None = None
    """Run folder (None: the one that the index names)."""
    queries: int = 200
    """Of each kind, after some to warm up."""
    copies: int | None = None
    """Compare exact search with a graph among so many copies of the vectors, in place of the above."""
    top: int = 10
    """Results a query."""
    onnx: Path | None = None
    """Folder that search/export.py wrote: onnxruntime encodes the queries, in place of the run."""
    device: str = "auto"
    """Where queries are encoded: auto, cpu, cuda or cuda:N."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    search = Search(options.index, options.run, options.device, options.onnx)
    if options.copies is not None:
        compare_engines(search, options)
        return
    rng, times = np.random.default_rng(0), defaultdict(list)
    count = options.queries + WARM_UP
    texts = [search.captions[number] for number in rng.integers(0, len(search.captions), count)]
    pictures = [search.thumbnails.iloc[number] for number in rng.integers(0, len(search.thumbnails), count)]
    for number in range(count):
        for kind, encode, ask, query in (
            ("text", lambda text: search.encoder.texts([text])[0], search.by_text, texts[number]),
            ("image", search.encoder.picture, search.by_image, pictures[number]),
        ):
            _, whole = timed(lambda: ask(query, top=options.top))  # noqa: B023
            emb, encoding = timed(lambda: encode(query))  # noqa: B023
            _, searching = timed(lambda: search.images.nearest(emb[None], options.top))  # noqa: B023
            if number >= WARM_UP:
                times[kind].append(whole), times[f"{kind} encoding"].append(encoding), times["search"].append(searching)
    print(f"{len(search.products):,} products, {search.images.count:,} images, {search.image_emb.shape[1]} dimensions, "
          f"{search.images.kind} search, {torch.get_num_threads()} threads, {search.encoder.device}")  # fmt: skip
    print("| milliseconds | p50 | p95 | p99 |\n| --- | --- | --- | --- |")
    for name, found in times.items():
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in np.percentile(found, (50, 95, 99)))} |")
    for name, found in times.items():
        print(f"{name.replace(' ', '_')}_p50_ms: {np.percentile(found, 50):.2f}")


def compare_engines(search: Search, options: Options) -> None:
    """Print what exact search and a graph take, and what the graph finds, with the index's captions as queries."""
    rng, emb = np.random.default_rng(0), search.image_emb
    noise = 0.5 / emb.shape[1] ** 0.5
    copies = [emb, *(emb + noise * rng.standard_normal(emb.shape, np.float32) for _ in range(options.copies - 1))]
    vectors = np.concatenate(copies)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = search.encoder.texts(rng.choice(search.captions, options.queries).tolist())
    exact = Neighbours(vectors)
    graph, built = timed(lambda: Neighbours(vectors, "hnsw"))
    print(f"images: {len(vectors)}")
    for engine in (exact, graph):
        times = [timed(lambda: engine.nearest(query[None], options.top))[1] for query in queries]  # noqa: B023
        print(f"{engine.kind}_p50_ms: {np.median(times):.2f}")
    print(f"graph_build_seconds: {built / 1000:.1f}")
    print(f"graph_recall: {graph.recall(queries, exact, options.top):.4f}")


def timed(call) -> tuple[object, float]:
    """What a call gives, and the milliseconds it took."""
    started = time.perf_counter()
    found = call()
    return found, 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    run_script(main)
