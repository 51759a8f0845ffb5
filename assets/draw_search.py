"""Draw the README's picture: captions of the sample's test split and the images that a run finds for them."""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import numpy as np
import tyro

from common.errors import run_script
from common.evaluation import embed_split
from common.options import ROOT, EvalOptions, read_config
from data.sample import make_sample

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from torch.nn import functional as F

COLUMNS = 6


@dataclass(frozen=True)
class Options:
    run: Path = ROOT / "runs" / "deep_cmpl"
    """Run folder, trained on the sample catalogue."""
    output: Path = ROOT / "assets" / "search.png"
    """Picture to write."""
    queries: int = 4
    """Captions, drawn at random."""
    seed: int = 0
    """Of the draw."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    config = read_config(options.run, "deep_cmpl")
    embedded = embed_split(EvalOptions(run=options.run), config, make_sample)
    gallery = embedded.gallery
    sim = F.normalize(embedded.text_emb, dim=1) @ F.normalize(embedded.image_emb, dim=1).T  # (M, N)
    relevant = {tuple(pair) for pair in gallery.relevant.flip(0).T.tolist()}

    chosen = np.random.default_rng(options.seed).choice(len(gallery.captions), options.queries, replace=False)
    figure, grid = plt.subplots(options.queries, COLUMNS, figsize=(9, 1.95 * options.queries), squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.96, bottom=0.04, wspace=0.05, hspace=0.3)
    for axes, query in zip(grid, chosen.tolist(), strict=True):
        for place, (cell, image) in enumerate(zip(axes, sim[query].topk(COLUMNS).indices.tolist(), strict=True)):
            path = embedded.data.catalogue.images[gallery.images[image]]
            cell.imshow(plt.imread(path))
            cell.set(xticks=[], yticks=[])
            hit = (query, image) in relevant
            for side in cell.spines.values():
                side.set(color="tab:green" if hit else "lightgrey", linewidth=4 if hit else 1)
            cell.set_xlabel(f"{place + 1}", fontsize=8, labelpad=2)
        axes[0].set_title(gallery.captions[query], loc="left", fontsize=10)
    figure.savefig(options.output, dpi=100)
    print(f"written: {options.output}")


if __name__ == "__main__":
    run_script(main)
