"""What bfloat16 costs in recall: a trained run evaluated on validation in both precisions, the same weights."""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import tyro

from common.batches import Texts, load_data
from common.checkpoints import MODELS, load_model
from common.devices import choose_device
from common.embedding import embed_images, embed_texts
from common.errors import run_script
from common.gallery import Gallery
from common.options import EvalOptions, read_config, with_recorded_data
from common.recall import CUTOFFS, DIRECTIONS
from common.validation import both_ranks, figures
from data.sample import make_sample

LARGEST_DIFFERENCE = 0.3
"""In points of recall (per cent)."""


@dataclass(frozen=True)
class Options:
    model: str
    """Name of the model: deep_cmpl, siamese or correlational."""
    run: Path
    """Run folder that its train.py wrote."""
    data: Path | None = None
    """Catalogue to evaluate on (None: the one the run was trained on)."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""


def main() -> None:
    options = tyro.cli(Options, description=f"{__doc__} Models: {', '.join(MODELS)}.")
    config, device = read_config(options.run, options.model), choose_device(options.device)
    where = with_recorded_data(EvalOptions(data=options.data, device=options.device), config)
    data = load_data(where, tuple(config["hyperparameters"]["image_size"]), make_sample)
    gallery = Gallery.of(data.rows("val"))
    found = {}
    for precision in (torch.float32, torch.bfloat16):
        model, tokenizer = load_model(options.run, config, device, precision)
        image_emb = embed_images(model, data.images.pixels, gallery.images, device, show=True)
        text_emb = embed_texts(model, Texts(*tokenizer(gallery.captions)), device, show=True)
        found[precision] = figures(both_ranks(image_emb, text_emb, gallery))
    largest = 0.0
    for direction, words in DIRECTIONS.items():
        for cutoff in CUTOFFS:
            one, other = (found[precision][direction][f"R@{cutoff}"] for precision in found)
            print(f"{words} R@{cutoff}: float32 {one:.2f}, bfloat16 {other:.2f}")
            largest = max(largest, abs(one - other))
    print(f"largest_difference: {largest:.3f}")
    sys.exit(0 if largest <= LARGEST_DIFFERENCE else 1)


if __name__ == "__main__":
    run_script(main)
