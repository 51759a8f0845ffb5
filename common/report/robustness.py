"""Recall when captions are changed: with a typo, with their words shuffled, without their brand."""

import string
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any

import pandas as pd
import torch

from common.attributes import find_column, forms, word_spans
from common.captions import Vocabulary, fold, words
from common.embedding import Embedded
from common.recall import rank_queries
from common.report.intervals import LEVEL, interval, resampled_means

CUTOFFS = (1, 10)
CHANGES = {"typo": "typo", "shuffled": "words shuffled", "brand_removed": "brand removed"}
SHORTEST = 4
"""Letters of the words that may get a typo."""
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
ENOUGH = 5
"""Captions that a word must open to be taken for a brand."""
NEARLY_ALWAYS = 0.9
"""How often a word must follow a brand's to be taken for a part of it."""
LONGEST = 4
"""Words of a brand, as in "united colors of benetton"."""

Brand = tuple[str, ...]
"""The words of a brand, as `bare` gives them."""


def measure(embedded: Embedded) -> dict[str, Any]:
    """Text-to-image recall over all images, in per cent, of the captions that a change really changes.

    Relevance stays that of the caption as it was. Each change is drawn from the caption alone.
    """
    captions, data = embedded.gallery.captions, embedded.data.catalogue
    column = find_column(data.attributes, "brand")
    if column is None:
        learned = opening_brands(data.rows, data.attributes)
        brands = [learned.keys()] * len(captions)
        told = {"column": None, "brands": len(learned)}
        told["examples"] = [[" ".join(brand), count] for brand, count in learned.most_common(8)]
    else:
        rows = embedded.gallery.pairs
        brands = rows[column].map(as_brand).groupby(rows["caption"]).agg(set).tolist()
        told = {"column": column, "brands": len({as_brand(value) for value in data.rows[column].unique()} - {()})}
    changed = {
        "typo": [with_typo(caption) for caption in captions],
        "shuffled": [shuffled(caption) for caption in captions],
        "brand_removed": [without_brands(caption, own) for caption, own in zip(captions, brands, strict=True)],
    }
    changes = {change: compare(embedded, texts) for change, texts in changed.items()}
    return {"captions": len(captions), "images": len(embedded.gallery.images), "brand": told, "changes": changes}


def compare(embedded: Embedded, changed: list[str]) -> dict[str, Any]:
    """Recall of captions as written and as changed (M), of those that differ and still have a word."""
    captions = embedded.gallery.captions
    which = [m for m, text in enumerate(changed) if words(text) and fold(text) != fold(captions[m])]
    if not which:
        return {"captions": 0}
    before, after = [captions[m] for m in which], [changed[m] for m in which]
    number = torch.full((len(captions),), -1)
    number[which] = torch.arange(len(which))
    image, caption = embedded.gallery.relevant
    relevant = torch.stack([number[caption], image])[:, number[caption] >= 0]
    ranks = rank_queries(embedded.embed(after), embedded.image_emb, relevant)
    hits = [
        100.0 * torch.stack([best <= k for k in CUTOFFS], 1).numpy()  # (C, cutoffs)
        for best in (embedded.ranks["text_to_image"].best[which], ranks.best)
    ]
    replicates = resampled_means(hits[1] - hits[0], embedded.gallery.caption_group[which])
    known = embedded.tokenizer if isinstance(embedded.tokenizer, Vocabulary) else None
    return {
        "captions": len(which),
        "as_written": recalls(hits[0].mean(0)),
        "changed": recalls(hits[1].mean(0)),
        "difference": recalls((hits[1] - hits[0]).mean(0)),
        "interval": {f"R@{k}": interval(replicates[:, place]) for place, k in enumerate(CUTOFFS)},
        "unknown_words": known and [100 * known.unknown_share(texts) for texts in (before, after)],
        "example": [before[0], after[0]],
    }


def recalls(values: Iterable[float]) -> dict[str, float]:
    return {f"R@{k}": float(value) for k, value in zip(CUTOFFS, values, strict=True)}


def with_typo(caption: str) -> str:
    """The caption with one mistake in one of its words of at least four letters, if it has any."""
    random = Random(f"typo: {fold(caption)}")
    long = [(a, b) for a, b in word_spans(caption) if b - a >= SHORTEST and caption[a:b].isalpha()]
    if not long:
        return caption
    start, end = random.choice(long)
    mistakes = random.choice([kind for kind in misspellings(caption[start:end]) if kind])
    return caption[:start] + random.choice(mistakes) + caption[end:]


def misspellings(word: str) -> list[list[str]]:
    """What a word becomes with two neighbours swapped, a letter dropped, doubled, or replaced by one beside its key."""
    cuts = [(word[:place], word[place], word[place + 1 :]) for place in range(len(word))]
    kinds = [
        [left + right[0] + letter + right[1:] for left, letter, right in cuts if right],
        [left + right for left, _, right in cuts],
        [left + letter + letter + right for left, letter, right in cuts],
        [left + other + right for left, letter, right in cuts for other in keys_beside(letter)],
    ]
    return [[wrong for wrong in kind if fold(wrong) != fold(word)] for kind in kinds]


def keys_beside(letter: str) -> list[str]:
    """The letters around one on a QWERTY keyboard, in its case."""
    for y, row in enumerate(KEYBOARD):
        x = row.find(letter.lower())
        if x >= 0:
            around = [(y, x - 1), (y, x + 1), (y - 1, x), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x)]
            inside = [KEYBOARD[b][a] for b, a in around if 0 <= b < len(KEYBOARD) and 0 <= a < len(KEYBOARD[b])]
            return [key.upper() if letter.isupper() else key for key in inside]
    return []


def shuffled(caption: str) -> str:
    """The caption's words, parted by spaces, in another order, if there is another."""
    random = Random(f"shuffled: {fold(caption)}")
    pieces = caption.split()
    order = [fold(piece) for piece in pieces]
    if len(set(order)) < 2:
        return caption
    while [fold(piece) for piece in pieces] == order:
        random.shuffle(pieces)
    return " ".join(pieces)


def bare(piece: str) -> str:
    """A piece between spaces without case and without the punctuation around it."""
    return fold(piece).strip(string.punctuation) or fold(piece)


def as_brand(text: str) -> Brand:
    return tuple(bare(piece) for piece in text.split())


def without_brands(caption: str, brands: Iterable[Brand]) -> str:
    """The caption without the brands, the longest first, and without the "by" before one."""
    pieces, brands = caption.split(), {brand for brand in brands if brand}
    bared = as_brand(caption)
    lengths = sorted({len(brand) for brand in brands}, reverse=True)
    kept: list[str] = []
    place = 0
    while place < len(pieces):
        length = next((n for n in lengths if bared[place : place + n] in brands), 0)
        if not length:
            kept.append(pieces[place])
        elif kept and bare(kept[-1]) == "by":
            kept.pop()
        place += length or 1
    return " ".join(kept)


def opening_brands(rows: pd.DataFrame, attributes: list[str]) -> Counter:
    """Brand -> captions that it opens: what is taken for a brand in a catalogue that has no column of brands.

    A word that stands first, or behind "by", in at least half of the captions that hold it, and in at least `ENOUGH`,
    and is no word of the attributes; with the words behind it that nearly always follow.
    """
    captions = [as_brand(caption) for caption in rows["caption"].map(fold).unique()]
    openings = [caption[place:] for caption in captions for place in starts(caption)]
    holds = Counter(piece for caption in captions for piece in set(caption))
    ordinary = attribute_words(rows, attributes)
    openings_of: dict[str, list[Brand]] = {}
    for opening in openings:
        openings_of.setdefault(opening[0], []).append(opening)
    return Counter({
        extended(opened, ordinary): len(opened)
        for first, opened in openings_of.items()
        if len(opened) >= max(ENOUGH, holds[first] / 2) and may_name_a_brand(first, ordinary)
    })  # fmt: skip


def starts(caption: Brand) -> list[int]:
    return [place for place in range(len(caption)) if place == 0 or caption[place - 1] == "by"]


def may_name_a_brand(piece: str, ordinary: set[str]) -> bool:
    return bool(words(piece)) and ordinary.isdisjoint(words(piece))


def extended(openings: list[Brand], ordinary: set[str]) -> Brand:
    """The first word of these openings and those that nearly always follow it."""
    brand, of = openings[0][:1], openings
    for place in range(1, LONGEST):
        following = Counter(opening[place] for opening in of if len(opening) > place)
        word, count = following.most_common(1)[0] if following else ("", 0)
        if count < NEARLY_ALWAYS * len(openings) or not ordinary.isdisjoint(words(word)):
            break
        brand, of = (*brand, word), [opening for opening in of if opening[place : place + 1] == (word,)]
    while not words(brand[-1]):
        brand = brand[:-1]  # no "&" at the end
    return brand


def attribute_words(rows: pd.DataFrame, attributes: list[str]) -> set[str]:
    """The words of the attributes' values, also in singular and plural.

    A column whose values hardly repeat is no attribute but a text, and may well name the brands.
    """
    columns = [name for name in attributes if 2 * rows[name].nunique() <= len(rows)]
    values = {value for name in columns for value in rows[name].unique()}
    spelled = {form for value in values for what in ("type", "gender") for form in forms(value, what)}
    return {word for form in spelled for word in words(form) if len(word) > 1}


def describe(result: dict[str, Any]) -> list[str]:
    """The table, an example a change and how brands were found, as lines for the terminal."""
    lines = [
        "",
        f"changed captions: text -> image among {result['images']:,} images, of those of the {result['captions']:,} "
        "captions that the change changes",
        "  relevance stays as it was; the difference and its paired interval over groups are those of R@10",
        "",
        f"{'':15}{'captions':>9}{'R@1':>8}{'changed':>9}{'R@10':>8}{'changed':>9}{'difference':>12}"
        f"{f'{LEVEL:.0%} interval':>18}{'unknown words':>22}",
    ]
    changes = {change: found for change, found in result["changes"].items() if found["captions"]}
    names = CHANGES if result["brand"]["column"] else CHANGES | {"brand_removed": "opening removed"}
    for change, found in changes.items():
        written, changed = found["as_written"], found["changed"]
        bounds = "{:+.2f} to {:+.2f}".format(*found["interval"]["R@10"])
        unknown = "{:.1f} % -> {:.1f} %".format(*found["unknown_words"]) if found["unknown_words"] else "-"
        lines.append(
            f"{names[change]:15}{found['captions']:9,}{written['R@1']:8.2f}{changed['R@1']:9.2f}"
            f"{written['R@10']:8.2f}{changed['R@10']:9.2f}{found['difference']['R@10']:+12.2f}{bounds:>18}{unknown:>22}"
        )
    lines += [f"{names[change]}, such as: {' -> '.join(found['example'])}" for change, found in changes.items()]
    lines += [f"{names[change]}: changes no caption" for change in result["changes"] if change not in changes]
    return lines + describe_brands(result["brand"])


def describe_brands(brand: dict[str, Any]) -> list[str]:
    told = f"brands: the {brand['brands']:,} values of the column '{brand['column']}'"
    if brand["column"] is None:
        examples = ", ".join(f"{name} ({count:,})" for name, count in brand["examples"])
        told = f"brands: no column for them; {brand['brands']:,} words or phrases that open captions are taken for them"
        told += f", most often {examples}" if examples else ""
    return [
        told,
        "  a brand is also information: without it a caption may fit several products, whatever the model does",
    ]
