"""Graded relevance beside exact hits: a jacket of the right type and colour is a better miss than a shoe.

Grades, as steps that an item takes or not: of the same type 1, also of the same colour 2, the same product (or
caption) 3. Scored by nDCG@10 with the gain 2^grade - 1 (Burges et al. 2005, "Learning to rank using gradient descent")
and the discount 1 / log2(rank + 1) (Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques").
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional as F

from common.attributes import COLUMNS, find_column
from common.captions import fold
from common.embedding import Embedded
from common.gallery import called
from common.recall import DIRECTIONS, TIE, metrics
from common.report.intervals import LEVEL, rate_interval

CUTOFF = 10
GRADES = (3, 2, 1)
"""Same product or caption, same type and colour, same type."""
HELD = 2**20
"""Scores held at once."""


@torch.no_grad()
def ndcg(sim: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
    """nDCG@10 of each query (Q,), and what the gallery in random order gives on average (Q,), exactly.

    The gain 2^g - 1 is the sum of 2^(s-1) over the steps s = 1..g, so the DCG is a weighted sum of three with yes and
    no only. In each of these ties count against the model as they do in `recall`: an item that has not made the
    step and scores up to `TIE` below one that has is ahead of it.

    Args:
        sim: (Q, G) float64, higher is more similar.
        grade: (Q, G) integers 0 to 3, at least one above 0 in a row.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a query has no item of a grade above 0.
    """
    if sim.ndim != 2 or sim.shape != grade.shape:
        raise ValueError(f"expected sim and grade of one shape (Q, G), found {tuple(sim.shape)} {tuple(grade.shape)}")
    if not sim.isfinite().all():
        raise ValueError("expected finite scores, found one that is not: has the training diverged?")
    without = (grade == 0).all(1).nonzero().flatten()
    if len(without):
        raise ValueError(f"query {int(without[0])} has no item of a grade above 0: leave such queries out")
    items = sim.shape[1]
    place = torch.arange(min(CUTOFF, items), device=sim.device)
    discount = 1 / torch.log2(place.double() + 2)  # (K,)
    dcg, ideal, gain = torch.zeros(3, len(sim), dtype=torch.float64, device=sim.device)
    for step in sorted(GRADES):
        made = grade >= step  # (Q, G)
        count = made.sum(1, keepdim=True)  # (Q, 1)
        # the next smaller number, so that a score of exactly TIE less is ahead as well
        pessimistic = torch.where(made, torch.nextafter(sim - TIE, sim - 1), sim)
        first = pessimistic.topk(len(place)).indices  # (Q, K)
        worth = 2 ** (step - 1)
        dcg += worth * (made.gather(1, first) * discount).sum(1)
        ideal += worth * ((place < count) * discount).sum(1)
        gain += worth * count[:, 0] / items
    return dcg / ideal, gain * discount.sum() / ideal


def measure(embedded: Embedded) -> dict[str, Any]:
    """nDCG@10 in 0..1 in both directions over the full gallery, its interval and what a random order gives.

    Returns {"left_out": why} for a catalogue without a column of types. Without one of colours, or where a product
    has none, no item is of grade 2.
    """
    gallery = embedded.gallery
    attributes = embedded.data.catalogue.attributes
    columns = {what: find_column(attributes, what) for what in ("type", "colour")}
    if columns["type"] is None:
        return {"left_out": f"no column with the type of a product; looked for {', '.join(COLUMNS['type'])}"}
    rows = gallery.pairs
    labels = step_labels(rows, columns["type"], columns["colour"])
    result: dict[str, Any] = {
        **columns,
        "split": embedded.split,
        "products": gallery.products,
        "without": {
            name: int((rows[name] == "").groupby(rows["product"]).all().sum()) for name in columns.values() if name
        },
    }
    sides = {"image": (embedded.image_emb, gallery.image_group), "caption": (embedded.text_emb, gallery.caption_group)}
    for direction, query, item in (("image_to_text", "image", "caption"), ("text_to_image", "caption", "image")):
        query_labels, item_labels = ([incidence(rows, side, label) for label in labels]
                                     for side in (query, item))  # fmt: skip
        score, random, counts = score_queries(sides[query][0], sides[item][0], query_labels, item_labels)
        result[direction] = {
            "queries": len(score),
            "R@10": metrics(embedded.ranks[direction])["R@10"],
            "nDCG@10": score.mean().item(),
            "interval": rate_interval(score.numpy(), sides[query][1]),
            "random": random.mean().item(),
            "items": {str(grade): counts[:, grade].mean().item() for grade in GRADES},
        }
    return result


def step_labels(rows: pd.DataFrame, kind: str, colour: str | None) -> list[pd.Series]:
    """For each step (rows,) the label that two products share if they make it; "" shares nothing.

    The last is the product: an image shows one that carries the caption just where `Gallery.relevant` says so.
    """
    kinds = rows[kind].map(fold)
    colours = rows[colour].map(fold) if colour else pd.Series("", index=rows.index)
    both = (kinds + "\n" + colours).where((kinds != "") & (colours != ""), "")
    return [kinds, both, rows["product"]]


def incidence(rows: pd.DataFrame, side: str, label: pd.Series) -> csr_array:
    """(N, L) above 0 where a product of the image, or of the caption (`side`), has the label."""
    product, products = pd.factorize(rows["product"])
    number, names = pd.factorize(label.where(label != ""))
    has = number >= 0
    ones = np.ones(len(rows), dtype=np.float32)
    item_products = csr_array((ones, (rows[side], product)), shape=(rows[side].max() + 1, len(products)))
    return item_products @ csr_array((ones[has], (product[has], number[has])), shape=(len(products), len(names)))


def score_queries(
    query_emb: Tensor, item_emb: Tensor, query_labels: list[csr_array], item_labels: list[csr_array]
) -> tuple[Tensor, Tensor, Tensor]:
    """nDCG@10 (Q,), that of a random order (Q,), and how many items have grade 0 to 3 (Q, 4), on the CPU.

    Args:
        query_emb: (Q, D) of any length.
        item_emb: (G, D) of any length.
        query_labels: for each step (Q, L), above 0 where a query has the label.
        item_labels: for each step (G, L).
    """
    unit_items = F.normalize(item_emb.double(), dim=1)
    found = []
    step = max(1, HELD // len(item_emb))
    for start in range(0, len(query_emb), step):
        chunk = slice(start, start + step)
        sim = F.normalize(query_emb[chunk].double(), dim=1) @ unit_items.T  # (q, G)
        grade = grades([labels[chunk] for labels in query_labels], item_labels).to(sim.device)
        counts = torch.stack([(grade == value).sum(1) for value in range(len(GRADES) + 1)], dim=1)
        found.append([x.cpu() for x in (*ndcg(sim, grade), counts.double())])
    score, random, counts = (torch.cat(parts) for parts in zip(*found, strict=True))
    return score, random, counts


def grades(query_labels: list[csr_array], item_labels: list[csr_array]) -> Tensor:
    """(q, G) uint8: the last step whose label a query (q, L) and an item (G, L) share, 0 for none."""
    shape = query_labels[0].shape[0], item_labels[0].shape[0]
    grade = torch.zeros(shape, dtype=torch.uint8)
    for step, (of_query, of_item) in enumerate(zip(query_labels, item_labels, strict=True), start=1):
        query, item = (of_query @ of_item.T).nonzero()
        grade[torch.from_numpy(query).long(), torch.from_numpy(item).long()] = step
    return grade


def describe(result: dict[str, Any]) -> list[str]:
    """The table beside R@10, as lines for the terminal."""
    if "left_out" in result:
        return ["", f"graded relevance: left out, {result['left_out']}"]
    kind, colour = result["type"], result["colour"]
    meanings = {3: "same product or caption", 2: f"same {kind} and {colour}", 1: f"same {kind}"}
    if not colour:
        del meanings[2]
    where = called(result["split"])
    gains = ", ".join(f"{2**grade - 1} for {meaning}" for grade, meaning in meanings.items())
    lines = [
        "",
        f"graded relevance: nDCG@{CUTOFF} (0 to 1) over the full gallery of {where}",
        f"  gain {gains}",
        "  ties count against the model; on the right how many items of each gain a query has",
    ]
    if not colour:
        lines.append(f"  colour does not count: no column {', '.join(COLUMNS['colour'])}")
    for name, count in result["without"].items():
        if count:
            lines.append(f"  {count:,} of {result['products']:,} products have no {name}: it matches no other there")
    heads = "".join(f"{f'gain {2**grade - 1}':>9}" for grade in meanings)
    lines += ["", f"{'':15}{'R@10':>8}{'nDCG@10':>9}  {f'{LEVEL:.0%} interval':16}{'random':>8}{heads}"]
    for direction, words in DIRECTIONS.items():
        row = result[direction]
        low, high = row["interval"]
        lines.append(
            f"{words:15}{row['R@10']:8.2f}{row['nDCG@10']:9.4f}  {f'{low:.4f} to {high:.4f}':16}{row['random']:8.4f}"
            + "".join(f"{row['items'][str(grade)]:9,.1f}" for grade in meanings)
        )
    return lines
