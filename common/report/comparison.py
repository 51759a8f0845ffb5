"""Runs compared query by query, from the ranks that eval.py left in them: no model is loaded.

Two runs find easy queries easy and hard ones hard, so that the difference of a query varies less than either figure:
its interval, by the bootstrap over groups of linked products, tells apart what two separate intervals do not.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter, ScalarFormatter

from common.errors import InputError
from common.files import replacing
from common.recall import CUTOFFS, DIRECTIONS
from common.report.intervals import LEVEL, RESAMPLES, interval, resampled_means
from common.report.kept_ranks import Compared, names, read, refuse_other_queries

__all__ = ["compare", "describe", "draw_curves", "read"]

FIGURES = [*(f"R@{k}" for k in CUTOFFS), "MRR", "mAP"]
CURVE = 100
"""The largest K of the recall curves."""
ROUNDING = 1e-9
MOST_PRODUCTS = 100
"""Beyond so many times the products tested, how many more would be needed is not told exactly."""


def compare(runs: list[Compared]) -> dict[str, Any]:
    """The paired differences of each run from the first one, the baseline.

    Intervals are of `LEVEL` for one pair; for several they are wider by Bonferroni's rule, so that all of them hold
    together with that confidence.

    Raises:
        InputError: there are not two runs, or they were not asked the very same queries of the same data.
    """
    if len(runs) < 2:
        raise InputError("--compare: one run alone has nothing to be compared with; name another")
    baseline, *others = runs
    first, *labels = names(runs)
    for run, label in zip(others, labels, strict=True):
        refuse_other_queries(baseline, run, first, label)
    level = 1 - (1 - LEVEL) / len(others)
    return {
        "split": baseline.split,
        "baseline": {"name": first, "run": str(baseline.run)},
        "queries": {direction: len(baseline.of(direction)) for direction in DIRECTIONS},
        "groups": baseline.ranks["group"].nunique(),
        "level": level,
        "pairs": [
            {
                "name": label,
                "run": str(run.run),
                "remarks": remarks(baseline, run),
                **compare_pair(baseline, run, level),
            }
            for run, label in zip(others, labels, strict=True)
        ],
    }


def remarks(baseline: Compared, run: Compared) -> list[str]:
    """What a reader should know about two runs before their difference."""
    if baseline.run.resolve() == run.run.resolve():
        return ["both are the same folder"]
    before, after = ({"model": r.config["model"], **r.config["hyperparameters"]} for r in (baseline, run))
    differ = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if not differ:
        return ["the two have the same model, hyperparameters and seed"]
    return ["these differ in the seed only"] if differ == {"seed"} else []


def compare_pair(baseline: Compared, run: Compared, level: float) -> dict[str, Any]:
    """The figures of both runs with their difference and its interval, and the queries that each ranks better."""
    result: dict[str, Any] = {}
    rsums, rsum_replicates, by_group = np.zeros(2), 0.0, []
    recalls = slice(len(CUTOFFS))
    for direction in DIRECTIONS:
        before, after = baseline.of(direction), run.of(direction)
        values = [query_values(ranks) for ranks in (before, after)]
        difference = values[1] - values[0]  # (Q, 5)
        replicates = resampled_means(difference, before["group"].to_numpy())
        means = [found.mean(0) for found in values]
        result[direction] = {
            name: changed(means[0][n], means[1][n], interval(replicates[:, n], level)) for n, name in enumerate(FIGURES)
        }
        gained = np.sign(before["rank"].to_numpy() - after["rank"].to_numpy())
        for name, sign in (("better", 1), ("worse", -1), ("equal", 0)):
            result[direction][name] = int((gained == sign).sum())
        rsums += [found[recalls].sum() for found in means]
        rsum_replicates += replicates[:, recalls].sum(1)
        by_group.append(
            pd.Series(difference[:, recalls].sum(1) / len(before)).groupby(before["group"].to_numpy()).sum()
        )
    result["rsum"] = changed(*rsums, interval(rsum_replicates, level))
    result["groups_that_differ"] = int((pd.concat(by_group).groupby(level=0).sum().abs() > ROUNDING).sum())
    result["told_apart"] = excludes_zero(result["rsum"]) and enough_groups(result["groups_that_differ"], level)
    return result


def query_values(ranks: pd.DataFrame) -> np.ndarray:
    """(Q, 5) what each query adds to the means that are `FIGURES`."""
    hits = [100.0 * (ranks["rank"] <= k) for k in CUTOFFS]
    return np.column_stack([*hits, ranks["reciprocal_rank"], ranks["average_precision"]])


def changed(before: float, after: float, bounds: list[float]) -> dict[str, Any]:
    return {"baseline": float(before), "run": float(after), "difference": float(after - before), "interval": bounds}


def excludes_zero(figure: dict[str, Any]) -> bool:
    low, high = figure["interval"]
    return low > ROUNDING or high < -ROUNDING


def enough_groups(count: int, level: float) -> bool:
    """Whether so many groups, were each as likely to favour either run, all favour one of them rarely enough.

    The sign test's bound: resampling a handful of groups that happen to agree would see no doubt.
    """
    return 2.0 ** (1 - count) <= 1 - level


def verdict(pair: dict[str, Any], baseline: str, level: float) -> str:
    """Whether the data can tell a pair apart by rSum, in words."""
    rsum = pair["rsum"]
    low, high = rsum["interval"]
    difference = rsum["difference"]
    figures = f"rSum {difference:+.1f} ({low:+.1f} to {high:+.1f})"
    if pair["told_apart"]:
        found = "more" if difference > 0 else "less"
        return f"{pair['name']} finds {found} than {baseline}: {figures}; the data can tell the two apart"
    if pair["groups_that_differ"] == 0:
        return f"{pair['name']} and {baseline} have the same rSum on every group of products"
    told = f"{pair['name']} against {baseline}: {figures}; the data cannot tell the two apart: "
    if excludes_zero(rsum) or not enough_groups(pair["groups_that_differ"], level):
        return f"{told}they differ in {pair['groups_that_differ']} groups of products, too few to judge by"
    return f"{told}the interval of the difference includes 0{more_products(difference, (high - low) / 2)}"


def more_products(difference: float, half_width: float) -> str:
    """How many times as many products would make the interval as narrow as the difference, in words."""
    if abs(difference) <= ROUNDING or half_width <= abs(difference):
        return ""
    times = (half_width / difference) ** 2  # an interval narrows with the root of the products
    told = f"about {times:.2g}" if times < MOST_PRODUCTS else f"more than {MOST_PRODUCTS}"
    return f" ({told} times as many products would be needed to tell such a difference)"


def describe(result: dict[str, Any]) -> list[str]:
    """The differences and the verdicts, as eval.py prints them."""
    baseline, pairs, level = result["baseline"]["name"], result["pairs"], f"{100 * result['level']:.4g}%"
    queries = " and ".join(f"{result['queries'][direction]:,} {words}" for direction, words in DIRECTIONS.items())
    lines = [
        "",
        f"comparison on the {result['split']} split with {baseline}: {queries} queries, the same for all runs",
        f"  {level} intervals of the difference: {RESAMPLES:,} bootstrap resamples of the {result['groups']:,} groups "
        "of linked products",
    ]
    if len(pairs) > 1:
        lines.append(
            f"  {level} for each of {len(pairs)} differences is {LEVEL:.0%} for all runs together, "
            "one figure at a time (Bonferroni)"
        )
    for pair in pairs:
        lines += describe_pair(pair, baseline, result["level"])
    return [
        *lines,
        "",
        "this is about these trained runs and these test products, not about the methods with other seeds",
    ]


def describe_pair(pair: dict[str, Any], baseline: str, level: float) -> list[str]:
    lines = ["", f"{pair['name']} against {baseline}", *(f"  warning: {remark}" for remark in pair["remarks"])]
    lines.append(f"{'':21}{'baseline':>10}{'run':>10}{'difference':>13}{'from':>10}{'to':>10}")
    for direction, words in DIRECTIONS.items():
        lines += [figure_line(f"{words} {name}", name, pair[direction][name]) for name in FIGURES]
    lines.append(figure_line("rSum", "rSum", pair["rsum"]))
    for direction, words in DIRECTIONS.items():
        better, worse, equal = (f"{pair[direction][name]:,}" for name in ("better", "worse", "equal"))
        lines.append(f"{words}: of the queries it ranks {better} better, {worse} worse and {equal} the same")
    return [*lines, verdict(pair, baseline, level)]


def figure_line(title: str, name: str, figure: dict[str, Any]) -> str:
    digits = 4 if name in ("MRR", "mAP") else 2
    values = f"{figure['baseline']:10.{digits}f}{figure['run']:10.{digits}f}"
    low, high = figure["interval"]
    return f"{title:21}{values}{figure['difference']:+13.{digits}f}{low:+10.{digits}f}{high:+10.{digits}f}"


def draw_curves(runs: list[Compared], file: Path) -> None:
    """Write a picture of recall@K against K of all runs, a panel a direction."""
    cutoffs = np.arange(1, CURVE + 1)
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.8), sharey=True, layout="constrained")
    for axes, (direction, words) in zip(panels, DIRECTIONS.items(), strict=True):
        for number, (run, label) in enumerate(zip(runs, names(runs), strict=True)):
            ranks = np.sort(run.of(direction)["rank"].to_numpy())
            recall = 100 * np.searchsorted(ranks, cutoffs, side="right") / len(ranks)
            # ten colours, then the same ones dashed
            axes.plot(cutoffs, recall, "--" if number // 10 % 2 else "-", color=f"C{number % 10}", label=label)
        axes.set(title=words, xlabel="K (first K of the gallery)", xscale="log", xlim=(1, CURVE), ylim=(0, 100))
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("recall@K, per cent")
    figure.suptitle(f"recall@K on the {runs[0].split} split, full gallery")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(runs)))
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        figure.savefig(part, dpi=110)
    plt.close(figure)
