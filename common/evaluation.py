"""Embed a catalogue with a model, measure recall in both directions, and report it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.batches import Data, Gallery, Texts, load_data
from common.captions import describe_unknown
from common.checkpoints import TRAIN_PRODUCTS, load_model
from common.devices import choose_device
from common.devices import describe as describe_device
from common.embedding import Embedded, embed_images, embed_texts
from common.errors import InputError, TrainingStopped
from common.files import write_atomically
from common.monitoring import DIRECTIONS
from common.options import EvalOptions, read_config, with_recorded_data
from common.recall import CUTOFFS, Ranks, chance, metrics, rank_queries
from common.report import relevance
from common.report.intervals import figure_intervals
from common.report.table import describe_recall, save_ranks
from common.splits import require_splits


def both_ranks(image_emb: Tensor, text_emb: Tensor, gallery: Gallery) -> dict[str, Ranks]:
    """The ranks of the images' captions and of the captions' images."""
    return {
        "image_to_text": rank_queries(image_emb, text_emb, gallery.relevant),
        "text_to_image": rank_queries(text_emb, image_emb, gallery.relevant.flip(0)),
    }


def figures(ranks: dict[str, Ranks]) -> dict[str, Any]:
    """Recall and ranks in both directions, and the sum of the six recalls."""
    result: dict[str, Any] = {direction: metrics(ranks[direction]) for direction in DIRECTIONS}
    result["rsum"] = sum(result[direction][f"R@{cutoff}"] for direction in DIRECTIONS for cutoff in CUTOFFS)
    return result


def spread(emb: Tensor) -> float:
    """1 - |mean of the unit vectors|^2: 1 for embeddings in all directions, 0 for a collapsed tower."""
    return 1 - F.normalize(emb, dim=1).mean(0).square().sum().item()


def validate(
    model: nn.Module, images: np.ndarray, texts: Texts, gallery: Gallery, device: torch.device
) -> dict[str, Any]:
    """The figures of a gallery (`texts` are its captions), the R@1 of chance, and the spread of each tower."""
    model.eval()
    image_emb = embed_images(model, images, gallery.images, device)
    text_emb = embed_texts(model, texts, device)
    for tower, emb in (("image", image_emb), ("text", text_emb)):
        if not emb.isfinite().all():
            raise TrainingStopped(
                f"the {tower} embeddings are not finite: the model has diverged; lower the learning rate"
            )
    ranks = both_ranks(image_emb, text_emb, gallery)
    at_chance = {direction: expected["R@1"] for direction, expected in chance_figures(ranks, gallery).items()}
    spreads = {"image_spread": spread(image_emb), "text_spread": spread(text_emb)}
    return figures(ranks) | {"R@1_at_chance": at_chance} | spreads


def evaluate_run(model_name: str, options: EvalOptions, sample: Callable[[], Path]) -> None:
    """What eval.py does: load a run, embed a split, print the report, write what was asked for.

    Raises:
        InputError: the run, the catalogue or the relevance file cannot be used.
    """
    config = read_config(options.run, model_name)
    embedded = embed_split(options, config, sample)
    report = measure(embedded, options, config)
    print("\n".join(describe(report, embedded)))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.json, json.dumps(report, indent=2))
        print(f"figures written to {options.json}")
    if embedded.data.catalogue.fingerprint == config["data"]["fingerprint"]:
        save_ranks(options.run / f"ranks-{options.split}.parquet", embedded)
    else:
        print("the ranks are not kept in the run, because this is not the data it was trained on")


def embed_split(options: EvalOptions, config: dict[str, Any], sample: Callable[[], Path]) -> Embedded:
    """Load the run's model and embed the images and captions of the split."""
    device = choose_device(options.device)
    model, tokenizer = load_model(options.run, config, device)
    with_data = with_recorded_data(options, config)
    data = load_data(with_data, tuple(config["hyperparameters"]["image_size"]), sample)
    warn_if_trained_on(data, options, config)
    if options.split != "all":
        require_splits(data.splits, (options.split,), data.catalogue.path)
    gallery = Gallery.of(data.rows(options.split))
    print(f"run: {options.run}, device: {describe_device(device)}, {config['precision']}")
    print(describe_unknown(tokenizer, {options.split: gallery.captions}))
    image_emb = embed_images(model, data.images.pixels, gallery.images, device, show=True)
    text_emb = embed_texts(model, Texts(*tokenizer(gallery.captions)), device, show=True)
    ranks = both_ranks(image_emb, text_emb, gallery)
    return Embedded(model, tokenizer, device, data, options.split, gallery, image_emb, text_emb, ranks)


def measure(embedded: Embedded, options: EvalOptions, config: dict[str, Any]) -> dict[str, Any]:
    """All figures, as --json writes them; the full gallery first."""
    gallery, ranks = embedded.gallery, embedded.ranks
    groups = {"image_to_text": gallery.image_group, "text_to_image": gallery.caption_group}
    report = {
        "model": config["model"],
        "run": str(options.run),
        "split": options.split,
        "gallery": {"images": len(gallery.images), "texts": len(gallery.captions), "products": gallery.products},
        **figures(ranks),
        "interval": figure_intervals(ranks, groups),
        "chance": chance_figures(ranks, gallery),
    }
    if options.relevance is not None:
        report["relevance"] = relevance.measure(embedded, relevance.read(options.relevance))
    return report


def describe(report: dict[str, Any], embedded: Embedded) -> list[str]:
    """The report as lines for the terminal."""
    lines = describe_recall(report, embedded)
    if "relevance" in report:
        lines += relevance.describe(report["relevance"])
    return lines


def chance_figures(ranks: dict[str, Ranks], gallery: Gallery) -> dict[str, dict[str, float]]:
    sizes = {"image_to_text": len(gallery.captions), "text_to_image": len(gallery.images)}
    return {direction: chance(ranks[direction].counts, sizes[direction]) for direction in DIRECTIONS}


def warn_if_trained_on(data: Data, options: EvalOptions, config: dict[str, Any]) -> None:
    """Say when the data is not what the run recorded, or holds products that the run was trained on."""
    changed = config["data"]["fingerprint"] != data.catalogue.fingerprint
    if changed and options.data is None:
        print("warning: the data has changed since the run was trained; products may have been trained on")
    file = options.run / TRAIN_PRODUCTS
    try:
        trained_on = set(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); without it nobody knows what was trained on") from None
    evaluated = set(data.rows(options.split)["product"])
    seen = len(evaluated & trained_on)
    if seen:
        print(
            f"warning: {seen:,} of the {len(evaluated):,} products of the {options.split} split were trained on; "
            "the figures say nothing about new products"
        )
