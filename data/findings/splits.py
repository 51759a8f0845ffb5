"""What crosses the splits, and which products inside a split show the same."""

from dataclasses import replace

import numpy as np
import pandas as pd

from common.captions import fold
from common.splits import SPLITS
from data.findings import MOST_CASES, Case, Finding

MOST_ROWS = 12
"""Rows that are listed of a file that many products share."""
ACROSS = "Across splits"
LEAK = "A model is measured on what it was trained on. Keep these in one split (common/splits.py)."


def used_rows(rows: pd.DataFrame, of_row: np.ndarray, digests: np.ndarray) -> pd.DataFrame:
    """The rows that a split uses: their number (row), split, product, image, file (its digest), caption and folded."""
    used = rows[["product", "image", "caption"]].assign(row=range(len(rows)), split=np.asarray(of_row))
    used["file"] = digests[rows["image"].to_numpy()]
    used["folded"] = rows["caption"].map(fold)
    return used[used["split"] != "excluded"]


def crossing(used: pd.DataFrame, column: str) -> list[Case]:
    """The values of a column that rows of more than one split share, with a row of each split."""
    several = used.groupby(column)["split"].transform("nunique") > 1
    first = used[several].drop_duplicates([column, "split"])
    shared = first.groupby(column, sort=False)
    return [Case(f"in {' and '.join(same['split'])}", same["row"].tolist()) for _, same in shared]


def image_pairs(used: pd.DataFrame, digests: np.ndarray, pairs: np.ndarray, colour: np.ndarray) -> pd.DataFrame:
    """Rows that show a pair of like images (P, 2) or files equal to them, the likest first.

    The columns are those of `used` with the endings _a and _b, and colour, the distance.
    """
    # two products of a file and a split are enough to tell, however many share it
    few = used.drop_duplicates(["file", "split", "product"])
    few = few[few.groupby(["file", "split"]).cumcount() < 2]
    listed = pd.DataFrame({"file_a": digests[pairs[:, 0]], "file_b": digests[pairs[:, 1]], "colour": colour})
    listed = listed.sort_values("colour", kind="stable")
    return listed.merge(few.add_suffix("_a"), on="file_a").merge(few.add_suffix("_b"), on="file_b")


def pair_cases(both: pd.DataFrame) -> tuple[list[Case], int]:
    """The distinct pairs of files among pairs of rows, as cases, and how many there are."""
    distinct = both.drop_duplicates(["file_a", "file_b"])
    cases = [
        Case(
            f"colour distance {pair.colour:.1f}; "
            f"{'the same caption' if pair.folded_a == pair.folded_b else 'different captions'}",
            [pair.row_a, pair.row_b],
        )
        for pair in distinct.head(MOST_CASES).itertuples()
    ]
    return cases, len(distinct)


def share_in_train(used: pd.DataFrame, both: pd.DataFrame, split: str) -> float:
    """The share of a split's images whose file, or the other file of a pair, is in train."""
    seen = set(used.loc[used["split"] == "train", "file"])
    for here, there in ("ab", "ba"):
        met = (both[f"split_{here}"] == split) & (both[f"split_{there}"] == "train")
        seen.update(both.loc[met, f"file_{here}"])
    own = used[used["split"] == split].drop_duplicates("image")
    return float(own["file"].isin(seen).mean()) if len(own) else 0.0


def crossing_findings(used: pd.DataFrame) -> dict[str, Finding]:
    """What crosses the splits by id, by file and by caption."""
    columns = {
        "products_across": ("product", "product ids in more than one split"),
        "files_across": ("file", "image files in more than one split"),
        "captions_across": ("folded", "captions in more than one split (without regard to case and white space)"),
    }
    found = {}
    for key, (column, what) in columns.items():
        cases = crossing(used, column)
        found[key] = Finding(ACROSS, what, len(cases), LEAK, cases[:MOST_CASES])
    return found


def near_duplicate_finding(used: pd.DataFrame, near: pd.DataFrame) -> Finding:
    """Near-duplicates (`image_pairs`) that cross the splits."""
    return pairs_across(used, near, ACROSS, "pairs of near-duplicate images in different splits", LEAK)


def look_alike_finding(used: pd.DataFrame, alike: pd.DataFrame) -> Finding:
    """Images that are merely alike (`image_pairs` under a looser bound) and cross the splits."""
    what = "pairs of look-alike images in different splits (near-duplicates under a looser bound on colour)"
    advice = "Most are other products of one design. Look at the page: photographs that are the same are a leak."
    return pairs_across(used, alike, ACROSS, what, advice)


def unlinked_finding(used: pd.DataFrame, near: pd.DataFrame) -> Finding:
    """Near-duplicates across a split that links equal files only: what linking near-duplicates is good for."""
    section = "If the split linked equal files only, and no near-duplicates"
    what = "pairs of near-duplicate images would be in different splits"
    finding = pairs_across(used, near, section, what, "This is why it links them: nothing to do.")
    return replace(finding, cases=[])  # of another split than the one that the report shows


def pairs_across(used: pd.DataFrame, both: pd.DataFrame, section: str, what: str, advice: str) -> Finding:
    across = both[both["split_a"] != both["split_b"]]
    cases, count = pair_cases(across)
    figures = {
        f"share_of_the_{split}_images_with_one_in_train": share_in_train(used, across, split) for split in SPLITS[1:]
    }
    return Finding(section, what, count, advice, cases, figures)


def inside_findings(used: pd.DataFrame, near: pd.DataFrame) -> dict[str, Finding]:
    """Products of one split that show the same: near-duplicates and equal files."""
    section = "Inside a split"
    inside = near[(near["split_a"] == near["split_b"]) & (near["product_a"] != near["product_b"])]
    cases, count = pair_cases(inside)
    by_split = inside.drop_duplicates(["file_a", "file_b", "split_a"])["split_a"].value_counts()
    differ = inside[inside["folded_a"] != inside["folded_b"]].drop_duplicates(["file_a", "file_b"])
    figures = {f"in_{split}": int(by_split.get(split, 0)) for split in SPLITS} | {
        "with_different_captions": len(differ)
    }
    advice = (
        "One photograph of two products, or of shades that only the words tell apart. With different captions each is "
        "wrong for the other's, and equal files tie, which counts against the model. Where it is one product, give it "
        "one id."
    )
    what = "pairs of near-duplicate images of different products in the same split"
    files = used[used.groupby("file")["product"].transform("nunique") > 1].drop_duplicates(["file", "product"])
    shown = sorted((list(same["row"]) for _, same in files.groupby("file", sort=False)), key=len, reverse=True)
    equal = [Case(f"{len(same)} products have this file", same[:MOST_ROWS]) for same in shown]
    return {
        "near_duplicates_inside": Finding(section, what, count, advice, cases, figures),
        "equal_files": Finding(
            section, "image files that several products share", len(equal), advice, equal[:MOST_CASES],
            {"products": int(files["product"].nunique())},
        ),
    }  # fmt: skip
