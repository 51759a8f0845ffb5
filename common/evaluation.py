"""Embed a catalogue with a model, measure recall in both directions, and report it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from common.batches import Data, Gallery, Texts, gather, load_data
from common.captions import describe_unknown
from common.checkpoints import TRAIN_PRODUCTS, load_model
from common.devices import choose_device, describe
from common.errors import InputError, TrainingStopped
from common.files import write_atomically
from common.monitoring import DIRECTIONS
from common.options import EvalOptions, read_config, with_recorded_data
from common.recall import CUTOFFS, Ranks, beir_metrics, chance, metrics, rank_queries
from common.splits import require_splits

EMBEDDED_AT_ONCE = 256


@torch.inference_mode()
def embed_images(
    model: nn.Module, images: np.ndarray, which: np.ndarray, device: torch.device, show: bool = False
) -> Tensor:
    """image_emb (N, D) float32 of the images, decoded or as features, with these indices."""
    pieces = np.array_split(which, range(EMBEDDED_AT_ONCE, len(which), EMBEDDED_AT_ONCE))
    bar = tqdm(pieces, desc="embedding images", unit="batch", disable=not show)
    return torch.cat([model.encode_image(gather(images, piece, device)).float() for piece in bar])


@torch.inference_mode()
def embed_texts(model: nn.Module, texts: Texts, device: torch.device, show: bool = False) -> Tensor:
    """text_emb (M, D) float32 of captions."""
    pieces = np.array_split(np.arange(len(texts)), range(EMBEDDED_AT_ONCE, len(texts), EMBEDDED_AT_ONCE))
    bar = tqdm(pieces, desc="embedding texts", unit="batch", disable=not show)
    return torch.cat([model.encode_text(*texts.batch(piece, device)).float() for piece in bar])


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
    device = choose_device(options.device)
    model, tokenizer = load_model(options.run, config, device)
    with_data = with_recorded_data(options, config)
    data = load_data(with_data, tuple(config["hyperparameters"]["image_size"]), sample)
    warn_if_trained_on(data, options, config)
    if options.split != "all":
        require_splits(data.splits, (options.split,), data.catalogue.path)
    gallery = Gallery.of(data.rows(options.split))
    print(f"run: {options.run}, device: {describe(device)}, {config['precision']}")
    print(describe_unknown(tokenizer, {options.split: gallery.captions}))
    image_emb = embed_images(model, data.images.pixels, gallery.images, device, show=True)
    text_emb = embed_texts(model, Texts(*tokenizer(gallery.captions)), device, show=True)
    ranks = both_ranks(image_emb, text_emb, gallery)
    report = {
        "model": model_name,
        "run": str(options.run),
        "split": options.split,
        "gallery": {"images": len(gallery.images), "texts": len(gallery.captions), "products": gallery.products},
        **figures(ranks),
        "chance": chance_figures(ranks, gallery),
    }
    if options.relevance is not None:
        queries = read_relevance(options.relevance)
        query_emb = embed_texts(model, Texts(*tokenizer(list(queries))), device)
        report["relevance"], missing = relevance_figures(query_emb, image_emb, list(queries.values()), gallery)
        print(f"relevance file: {missing:,} relevant products are not in the gallery and count as not found")
    print(describe_report(report, gallery, data))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.json, json.dumps(report, indent=2))
        print(f"figures written to {options.json}")
    if data.catalogue.fingerprint == config["data"]["fingerprint"]:
        save_ranks(options.run / f"ranks-{options.split}.parquet", ranks, gallery, data)
    else:
        print("the ranks are not kept in the run, because this is not the data it was trained on")


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


def describe_report(report: dict[str, Any], gallery: Gallery, data: Data) -> str:
    """The protocol and the table, as eval.py prints them."""
    images, texts, products = (report["gallery"][key] for key in ("images", "texts", "products"))
    where = "the whole catalogue" if report["split"] == "all" else f"the {report['split']} split"
    pairs = len(data.rows(report["split"]))
    lines = [
        "",
        f"protocol: {where} of {data.catalogue.path.name}, {products:,} products",
        f"  image -> text: {images:,} queries in a gallery of {texts:,} distinct captions",
        f"  text -> image: {texts:,} queries in a gallery of {images:,} images",
        f"  {pairs / images:.2f} captions an image, {gallery.relevant.shape[1] / texts:.2f} relevant images a caption",
        "  a hit at K: an item of the same product (or with the same caption) is among the first K; ties count against",
        "",
        f"{'':15}{'R@1':>8}{'R@5':>8}{'R@10':>8}{'median':>9}{'mean':>9}{'MRR':>8}{'mAP':>8}",
    ]
    for direction in DIRECTIONS:
        lines.append(table_line(DIRECTIONS[direction], report[direction]))
        lines.append(table_line("  chance", report["chance"][direction]))
    lines.append(f"rSum {report['rsum']:.1f}")
    if "relevance" in report:
        found = report["relevance"]
        lines.append(
            f"relevance file: {found['queries']:,} queries against {images:,} images: "
            f"Recall@1 {found['Recall@1']:.4f}, Recall@10 {found['Recall@10']:.4f}, MRR@10 {found['MRR@10']:.4f}"
        )
    return "\n".join(lines)


def table_line(name: str, row: dict[str, float]) -> str:
    recalls = "".join(f"{row[f'R@{cutoff}']:8.2f}" for cutoff in CUTOFFS)
    median = f"{row['median_rank']:9.1f}" if "median_rank" in row else f"{'':9}"
    return f"{name:15}{recalls}{median}{row['mean_rank']:9.1f}{row['MRR']:8.4f}{row['mAP']:8.4f}"


def save_ranks(file: Path, ranks: dict[str, Ranks], gallery: Gallery, data: Data) -> None:
    """Leave the rank of every query in the run, so that runs can be compared without their models."""
    product_of_image = gallery.product_images.groupby("image")["product"].first()
    frames = [
        pd.DataFrame({
            "direction": direction,
            "query": queries,
            "rank": ranks[direction].best.numpy(),
            "reciprocal_rank": 1 / ranks[direction].best.numpy(),
            "average_precision": ranks[direction].average_precision.numpy(),
        })
        for direction, queries in (
            ("image_to_text", product_of_image.loc[range(len(gallery.images))].to_numpy()),
            ("text_to_image", gallery.captions),
        )
    ]  # fmt: skip
    part = file.with_suffix(".part")
    pd.concat(frames, ignore_index=True).to_parquet(part)
    part.replace(file)


def read_relevance(file: Path) -> dict[str, list[str]]:
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


def relevance_figures(
    query_emb: Tensor, image_emb: Tensor, relevant: list[list[str]], gallery: Gallery
) -> tuple[dict[str, float], int]:
    """Recall@1, Recall@10 and MRR@10 in 0..1 over every image of the gallery, BEIR style.

    Each image of a relevant product counts as one relevant item, a product that the gallery lacks as one more;
    how many are lacking is returned beside the figures.
    """
    images_of = gallery.product_images.groupby("product")["image"].apply(list).to_dict()
    pairs = [
        (query, image)
        for query, products in enumerate(relevant)
        for product in products
        for image in images_of.get(product, [])
    ]
    missing = [sum(product not in images_of for product in products) for products in relevant]
    relevant_items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    scores = beir_metrics(query_emb, image_emb, relevant_items, torch.tensor(missing))
    return scores, sum(missing)
