"""Attribute probes: is it the colour, the gender or the type that a caption names by which its image is found?

Of a caption that names the value of its product's column, the word is swapped for another value. The caption should
be closer to its own image than to one with that value, and the swapped caption the other way round. A model that
ignores the word never gets both right; both are Winoground's image score (Thrush et al. 2022).
"""

import re
from collections import Counter, defaultdict
from random import Random
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from common.attributes import Mention, Names, find_column, forms
from common.captions import Vocabulary, fold, words
from common.embedding import Embedded
from common.gallery import Gallery
from common.recall import TIE
from common.report.intervals import LEVEL, bounded, interval, resampled_means

ATTRIBUTES = ("colour", "gender", "type")
CHANCE = {"as_written": 50.0, "swapped": 50.0, "both": 25.0, "own_caption": 50.0}
REASONS = {
    "none": "name no value",
    "several": "several",
    "not_its_own": "that of no product of theirs",
    "no_image": "have no image to compare with",
}
HELD = 4096
"""Pairs of embeddings compared at once."""


class Probe(NamedTuple):
    """Positions of a caption, of its own image and of the one to be told apart; the caption swapped; its new words."""

    caption: int
    own: int
    other: int
    swapped: str
    new: str


def measure(embedded: Embedded) -> dict[str, Any]:
    """For each attribute its column (None: there is none), which captions were probed, and the figures in per cent."""
    columns = {what: find_column(embedded.data.catalogue.attributes, what) for what in ATTRIBUTES}
    result: dict[str, Any] = {what: {"column": None} for what in ATTRIBUTES}
    found = {what: column for what, column in columns.items() if column is not None}
    looks = image_values(embedded.gallery, found)
    for what, column in found.items():
        names = Names(embedded.data.catalogue.rows[column].unique(), what)
        probes, left_out = choose(embedded.gallery, looks, names, what)
        result[what] = {
            "column": column,
            "captions": len(embedded.gallery.captions),
            "probed": len(probes),
            "left_out": {reason: left_out[reason] for reason in REASONS},
        }
        if probes:
            result[what] |= score(embedded, probes)
    return result


def image_values(gallery: Gallery, columns: dict[str, str]) -> pd.DataFrame:
    """(N, attributes) folded value of each image, "" where it has none or its products have different ones."""
    values = pd.DataFrame({what: gallery.pairs[column].map(fold) for what, column in columns.items()})
    by_image = values.groupby(gallery.pairs["image"])
    return by_image.first().where(by_image.nunique() == 1, "")


def choose(gallery: Gallery, looks: pd.DataFrame, names: Names, what: str) -> tuple[list[Probe], Counter]:
    """The probes of an attribute, and how many captions are not probed for which of the `REASONS`."""
    shown: list[set[int]] = [set() for _ in gallery.captions]
    for image, caption in gallery.relevant.T.tolist():
        shown[caption].add(image)
    value = looks[what].tolist()
    others = list(zip(*(looks[other] for other in looks if other != what), strict=True)) or [()] * len(looks)
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for image, same in enumerate(others):
        if all(same):
            alike[same].append(image)
    contrast = {a: {b for b in names.values if apart(a, b, what)} for a in names.values}
    usable, left_out = name_their_own(gallery.captions, shown, value, names)
    used = spellings(gallery.captions, usable)
    probes = []
    for caption, (mention, own) in usable.items():
        near = alike.get(others[own], [])
        wrong = [image for image in near if value[image] in contrast[mention.value] and image not in shown[caption]]
        if not wrong:
            left_out["no_image"] += 1
            continue
        text = gallery.captions[caption]
        other = Random(fold(text)).choice(wrong)
        new = spelling(value[other], mention.form, used) or forms(value[other], what)[mention.form]
        probes.append(Probe(caption, own, other, swap(text, mention, new), new))
    return probes, left_out


def name_their_own(
    captions: list[str], shown: list[set[int]], value: list[str], names: Names
) -> tuple[dict[int, tuple[Mention, int]], Counter]:
    """Of the captions that name one value, an image's that they belong to: the mention and the image; and the rest."""
    usable, left_out = {}, Counter()
    for caption, text in enumerate(captions):
        named = names.find(text)
        own = min((image for image in shown[caption] if named and value[image] == named[0].value), default=None)
        if len(named) == 1 and own is not None:
            usable[caption] = named[0], own
        else:
            left_out["several" if len(named) > 1 else "not_its_own" if named else "none"] += 1
    return usable, left_out


def spellings(captions: list[str], usable: dict[int, tuple[Mention, int]]) -> dict[str, dict[int, Counter]]:
    """How the captions write each value in each of its forms, and how often."""
    used: dict[str, dict[int, Counter]] = defaultdict(lambda: defaultdict(Counter))
    for caption, (mention, _) in usable.items():
        used[mention.value][mention.form][fold(captions[caption][mention.start : mention.end])] += 1
    return used


def spelling(value: str, form: int, used: dict[str, dict[int, Counter]]) -> str | None:
    """How captions mostly write a value in this form, or in any ("sunglasses"), if they do."""
    texts = used[value][form] or sum(used[value].values(), Counter())
    return texts.most_common(1)[0][0] if texts else None


def swap(caption: str, mention: Mention, new: str) -> str:
    """The caption with other words, in the same case, in place of the mention."""
    old, rest = caption[mention.start : mention.end], caption[mention.end :]
    if old.isupper():
        new = new.upper()
    elif old[0].isupper():
        new = " ".join(word.capitalize() for word in new.split())
    if new[-1] in "sS":
        rest = re.sub("^(['’])[sS]\\b", r"\1", rest)  # "men's" becomes "boys'"
    return caption[: mention.start] + new + rest


def apart(one: str, other: str, what: str) -> bool:
    """Whether neither value contains the other: a "navy blue" image is not wrong for "blue"."""
    first, second = f" {forms(one, what)[0]} ", f" {forms(other, what)[0]} "
    return first not in second and second not in first


def score(embedded: Embedded, probes: list[Probe]) -> dict[str, Any]:
    """The figures of some probes, ties counted against, with their intervals over groups."""
    caption, own, other = (torch.tensor([probe[k] for probe in probes]) for k in range(3))
    text, swapped = embedded.text_emb[caption], embedded.embed([probe.swapped for probe in probes])
    own_image, other_image = embedded.image_emb[own], embedded.image_emb[other]
    kept = cosine(text, own_image)
    as_written = kept - cosine(text, other_image) > TIE
    turned = cosine(swapped, other_image) - cosine(swapped, own_image) > TIE
    own_caption = kept - cosine(swapped, own_image) > TIE
    values = 100.0 * torch.stack([as_written, turned, as_written & turned, own_caption], 1).numpy()
    group = embedded.gallery.caption_group[caption.numpy()]
    means = resampled_means(values, group)
    result: dict[str, Any] = {name: float(values[:, k].mean()) for k, name in enumerate(CHANCE)}
    result["interval"] = {
        name: bounded(values[:, k], group, 100.0, interval(means[:, k])) for k, name in enumerate(CHANCE)
    }
    result["unknown_words"] = None
    if isinstance(embedded.tokenizer, Vocabulary):
        known = embedded.tokenizer.number.keys()
        result["unknown_words"] = sum(not known >= set(words(probe.new)) for probe in probes)
    result["example"] = [embedded.gallery.captions[probes[0].caption], probes[0].swapped]
    return result


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """(P,) float64 on the CPU, of the rows of two (P, D)."""
    pieces = zip(one.split(HELD), other.split(HELD), strict=True)
    return torch.cat([F.cosine_similarity(a.double(), b.double()) for a, b in pieces]).cpu()


def describe(result: dict[str, Any]) -> list[str]:
    """The table, what was left out, and an example an attribute, as lines for the terminal."""
    probed = {what: found for what, found in result.items() if found.get("probed")}
    lines = [
        "",
        "attribute probes: does the word count by which a caption names an attribute of its product? (per cent)",
        "  the wrong image has another value of the attribute and the same ones of the others; it is drawn by chance",
        "  as written: the caption is closer to its own image; swapped: with the wrong image's word, to that one",
        "  (it has to outweigh the other words); both: the two; own caption: the image is closer to it than swapped;",
        "  a model that ignores the word has at most 100 - as written in swapped, and 0 in the last two",
    ]
    if probed:
        lines += ["", f"{'':15}{'captions':>10}" + "".join(f"{name.replace('_', ' '):>13}" for name in CHANCE)]
        for what, found in probed.items():
            low, high = ({name: bound[end] for name, bound in found["interval"].items()} for end in (0, 1))
            lines.append(table_line(what, found, f"{found['probed']:,}"))
            lines.append(table_line(f"  {LEVEL:.0%} from", low))
            lines.append(table_line("      to", high))
        lines.append(table_line("chance", CHANCE))
    for what, found in result.items():
        lines += describe_attribute(what, found)
    return lines


def table_line(name: str, row: dict[str, float], captions: str = "") -> str:
    return f"{name:15}{captions:>10}" + "".join(f"{row[figure]:13.2f}" for figure in CHANCE)


def describe_attribute(what: str, found: dict[str, Any]) -> list[str]:
    if found["column"] is None:
        return [f"{what}: left out, the catalogue has no column for it"]
    reasons = ", ".join(f"{count:,} {REASONS[reason]}" for reason, count in found["left_out"].items())
    lines = [f"{what} ({found['column']}): {found['probed']:,} of {found['captions']:,} captions probed, {reasons}"]
    if found["probed"]:
        lines.append("  such as: {} -> {}".format(*found["example"]))
        if found["unknown_words"] is not None:
            lines.append(f"  {found['unknown_words']:,} swapped captions got a word that the vocabulary lacks")
    return lines
