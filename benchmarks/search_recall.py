"""Recall through an index, beside what eval.py found for the same run: the queries and the gallery of the test split.

    python deep_cmpl/eval.py --run RUN --json report.json
    python benchmarks/search_recall.py --index INDEX --report report.json

The index may hold other products: only those of the split are searched. As in eval.py, ties count against the model.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import tyro

from common.batches import load_data
from common.captions import fold
from common.errors import InputError, run_script
from common.gallery import Gallery
from common.options import EvalOptions, with_recorded_data
from common.recall import CUTOFFS, DIRECTIONS
from data.sample import make_sample
from search.engine import Search

LARGEST_DIFFERENCE = 0.1
"""In points of recall (per cent)."""
READ = 100
"""Results a query, so that those that share a cosine are seen."""
SAME = 1e-6
"""Cosines that differ by less are one."""


@dataclass(frozen=True)
class Options:
    index: Path
    """Folder that search/index.py wrote."""
    report: Path
    """What eval.py --json wrote for the run of the index."""
    run: Path | None = None
    """Run folder (None: the one that the index names)."""
    data: Path | None = None
    """Catalogue (None: the one that the run was trained on)."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    search = Search(options.index, options.run, options.device)
    report = json.loads(options.report.read_text(encoding="utf-8"))
    where = with_recorded_data(EvalOptions(data=options.data, device=options.device), search.encoder.config)
    data = load_data(where, search.encoder.image_size, make_sample)
    gallery = Gallery.of(data.rows("test"))
    if gallery.sizes != report["gallery"]:
        raise InputError(f"{options.report}: of another gallery, {report['gallery']}, not {gallery.sizes}")
    missing = sorted(set(gallery.pairs["product"]) - set(search.products["id"]))
    if missing:
        raise InputError(f"{options.index}: lacks {len(missing)} products of the test split, {missing[0]} is the first;"
                         " build it of the catalogue that the run was trained on")  # fmt: skip
    found = {"image_to_text": image_to_text(search, gallery), "text_to_image": text_to_image(search, gallery)}
    largest = 0.0
    for direction, words in DIRECTIONS.items():
        for cutoff in CUTOFFS:
            value, expected = found[direction][cutoff], report[direction][f"R@{cutoff}"]
            print(f"{words} R@{cutoff}: through the index {value:.2f}, eval.py {expected:.2f}")
            largest = max(largest, abs(value - expected))
    print(f"largest_difference: {largest:.3f}")
    sys.exit(0 if largest <= LARGEST_DIFFERENCE else 1)


def text_to_image(search: Search, gallery: Gallery) -> dict[int, float]:
    """Per cent of the captions with an image of their products among the first K of the split's images."""
    ids = search.products["id"].to_numpy()[search.product_of_image]  # (N,) of each image of the index
    wanted = gallery.pairs.groupby("caption")["product"].agg(set)
    allowed = np.isin(ids, gallery.pairs["product"].unique())
    scores, found = search.images.nearest(search.encoder.texts(gallery.captions), READ, allowed)
    hits = [[ids[place] in wanted[query] for place in places] for query, places in enumerate(found)]
    return recall(np.array(hits) & (found >= 0), scores)


def image_to_text(search: Search, gallery: Gallery) -> dict[int, float]:
    """Per cent of the images, as the index holds them, with a caption of theirs among the first K of the split's."""
    number = {fold(caption): number for number, caption in enumerate(gallery.captions)}
    caption_of = np.array([number.get(fold(caption), -1) for caption in search.captions])
    first = pd.Series(search.product_of_image).drop_duplicates()  # of each product
    vector_of = dict(zip(search.products["id"].iloc[first], search.image_emb[first.index], strict=True))
    shown = gallery.product_images.groupby("image")["product"].first()
    wanted = pd.DataFrame(gallery.relevant.T.numpy(), columns=["image", "caption"]).groupby("image")["caption"].agg(set)
    queries = np.stack([vector_of[shown[image]] for image in wanted.index])
    scores, found = search.texts.nearest(queries, READ, caption_of >= 0)
    hits = [[caption_of[place] in wanted[image] for place in places]
            for image, places in zip(wanted.index, found, strict=True)]  # fmt: skip
    return recall(np.array(hits) & (found >= 0), scores)


def recall(hits: np.ndarray, scores: np.ndarray) -> dict[int, float]:
    """Per cent of the queries, of results (Q, K) with their scores, with a hit among the first so many."""
    best = np.where(hits, scores, -np.inf).max(axis=1, keepdims=True)
    ranks = 1 + (~hits & (scores >= best - SAME)).sum(axis=1)
    found = hits.any(axis=1)
    return {cutoff: 100 * (found & (ranks <= cutoff)).mean() for cutoff in CUTOFFS}


if __name__ == "__main__":
    run_script(main)
