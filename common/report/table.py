"""The first part of the report: recall over the full gallery, and the ranks that are left in the run."""

from typing import Any

import pandas as pd

from common.embedding import Embedded
from common.gallery import called
from common.recall import CUTOFFS, DIRECTIONS
from common.report.intervals import LEVEL, RESAMPLES

FEW_GROUPS = 30


def describe_recall(report: dict[str, Any]) -> list[str]:
    """The protocol and the table, as eval.py prints them."""
    size = report["gallery"]
    images, texts, products, groups = (size[key] for key in ("images", "texts", "products", "groups"))
    where = called(report["split"])
    lines = [
        "",
        f"protocol: full gallery, {where} of {report['catalogue']}, {products:,} products",
        f"  image -> text: {images:,} queries in a gallery of {texts:,} distinct captions",
        f"  text -> image: {texts:,} queries in a gallery of {images:,} images",
        f"  {size['pairs'] / images:.2f} captions an image, {size['relevant'] / texts:.2f} relevant images a caption",
        "  a hit at K: an item of the same product (or with the same caption) is among the first K; ties count against",
        f"  {LEVEL:.0%} intervals: {RESAMPLES:,} bootstrap resamples of the {groups:,} groups of linked products; "
        "they do not cover the seed of the training",
        *(["  so few groups give intervals that are too narrow: read them as such"] if groups < FEW_GROUPS else []),
        "",
        f"{'':15}{'R@1':>8}{'R@5':>8}{'R@10':>8}{'median':>9}{'mean':>9}{'MRR':>8}{'mAP':>8}",
    ]
    for direction in DIRECTIONS:
        low, high = ({name: bound[end] for name, bound in report["interval"][direction].items()} for end in (0, 1))
        lines.append(table_line(DIRECTIONS[direction], report[direction]))
        lines.append(table_line(f"  {LEVEL:.0%} from", low))
        lines.append(table_line("      to", high))
        lines.append(table_line("  chance", report["chance"][direction]))
    low, high = report["interval"]["rsum"]
    return [*lines, f"rSum {report['rsum']:.1f} ({low:.1f} to {high:.1f})"]


def table_line(name: str, row: dict[str, float]) -> str:
    recalls = "".join(f"{row[f'R@{cutoff}']:8.2f}" for cutoff in CUTOFFS)
    median = f"{row['median_rank']:9.1f}" if "median_rank" in row else f"{'':9}"
    return f"{name:15}{recalls}{median}{row['mean_rank']:9.1f}{row['MRR']:8.4f}{row['mAP']:8.4f}"


def ranks_table(embedded: Embedded) -> pd.DataFrame:
    """The rank and the group of every query: what is left in the run, to compare runs without their models."""
    gallery, ranks = embedded.gallery, embedded.ranks
    product_of_image = gallery.product_images.groupby("image")["product"].first()
    frames = [
        pd.DataFrame({
            "direction": direction,
            "query": queries,
            "group": group,
            "rank": ranks[direction].best.numpy(),
            "reciprocal_rank": 1 / ranks[direction].best.numpy(),
            "average_precision": ranks[direction].average_precision.numpy(),
        })
        for direction, queries, group in (
            ("image_to_text", product_of_image.loc[range(len(gallery.images))].to_numpy(), gallery.image_group),
            ("text_to_image", gallery.captions, gallery.caption_group),
        )
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)
