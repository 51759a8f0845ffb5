"""Captions: which contradict an attribute, which are shared, which words are rare, which rows are unusable."""

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from common.captions import fold, words
from common.contradictions import contradictions, named_share
from common.splits import SPLITS
from data.findings import MOST_CASES, Case, Finding

FEWEST_VALUES, MOST_VALUES, NAMED_SHARE = 2, 200, 0.05
"""Columns that captions are held against: so many values, named by at least this share of the captions."""
TOP = 10


def contradiction_findings(rows: pd.DataFrame, attributes: Iterable[str]) -> dict[str, Finding]:
    """A finding for each attribute whose values captions name: captions that name another value and not their own."""
    found = {}
    for name in attributes:
        values = rows[name][rows[name] != ""].nunique()
        if not FEWEST_VALUES <= values <= MOST_VALUES or named_share(rows["caption"], rows[name]) < NAMED_SHARE:
            continue
        named = pd.Series([", ".join(names) for names in contradictions(rows["caption"], rows[name])])
        kinds = (rows[name].reset_index(drop=True) + ", caption: " + named)[named != ""]
        counts = kinds.value_counts()
        # a case of each kind, then a second one of each: the first ones show what there is
        order = pd.DataFrame({"nth": kinds.groupby(kinds).cumcount(), "rare": -kinds.map(counts).astype(int)})
        cases = [
            Case(f"{name}: {kinds[row]}", [row]) for row in order.sort_values(["nth", "rare"], kind="stable").index
        ]
        found[f"contradictions_{name}"] = Finding(
            "Captions against attributes",
            f"captions that name another '{name}' than the column, and not its own",
            len(kinds),
            "One of the two is wrong, or the word means something else here. Look at the picture, mend the table.",
            cases[:MOST_CASES],
            {"most_common": {kind: int(count) for kind, count in counts.head(TOP).items()}},
        )
    return found


def title_finding(rows: pd.DataFrame) -> Finding:
    """Products that share their caption, and the most common captions."""
    folded = rows["caption"].map(fold)
    products = rows.groupby(folded)["product"].nunique().sort_values(ascending=False, kind="stable")
    shared = rows.loc[folded.map(products) > 1, "product"].nunique()
    spelling = rows["caption"].groupby(folded).first()
    return Finding(
        "Captions", "products that share a caption with another product", int(shared),
        "The caption does not tell these products apart: each of them counts as a hit for it.",
        figures={
            "share_of_the_products": shared / rows["product"].nunique(),
            "distinct_captions": len(products),
            "most_common": {spelling[caption]: int(count) for caption, count in products.head(TOP).items()},
        },
    )  # fmt: skip


def word_findings(used: pd.DataFrame) -> dict[str, Finding]:
    """Words of a single caption, and words of val and test that train lacks."""
    captions = used.drop_duplicates("folded")
    held = captions["caption"].map(words).map(set)
    row_with = {word: row for row, found in zip(captions["row"], held, strict=True) for word in found}
    counts = Counter(word for found in held for word in found)
    once = sorted(word for word, count in counts.items() if count == 1)
    train = set().union(*held[captions["split"] == "train"])
    unknown: set[str] = set()
    figures = {}
    for split in SPLITS[1:]:
        own = held[captions["split"] == split]
        lacking = set().union(*own) - train
        figures[f"words_of_{split}"] = len(lacking)
        figures[f"share_of_the_{split}_captions_with_one"] = sum(map(bool, map(lacking.intersection, own))) / max(
            1, len(own)
        )
        unknown |= lacking
    return {
        "words_once": Finding(
            "Words", "words that occur in one caption only", len(once),
            "Names, numbers and slips. min_word_count above 1 leaves out of the vocabulary what training saw once.",
            [Case(f"'{word}'", [row_with[word]]) for word in once[:MOST_CASES]],
            {"distinct_words": len(counts), "share_of_them": len(once) / max(1, len(counts))}, pictured=False,
        ),
        "words_unknown": Finding(
            "Words", "words of val and test captions that no train caption holds", len(unknown),
            "To a model with a vocabulary they are all the same unknown word.",
            [Case(f"'{word}'", [row_with[word]]) for word in sorted(unknown)[:MOST_CASES]], figures, pictured=False,
        ),
    }  # fmt: skip


def left_out_finding(unusable: dict[str, list[str]]) -> Finding:
    """Rows of the catalogue that cannot be used, by reason.

    Args:
        unusable: reason -> the places of the rows (`Report.unusable`).
    """
    cases = [Case(f"{place}: {reason}") for reason, places in unusable.items() for place in places]
    return Finding(
        "Rows", "rows that cannot be used and are left out", len(cases),
        "Mend or remove them; --strict of train.py makes each an error.", cases[:MOST_CASES],
        {"reasons": {reason: len(places) for reason, places in unusable.items()}}, pictured=False,
    )  # fmt: skip
