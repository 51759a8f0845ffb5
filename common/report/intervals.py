"""95% intervals by the bootstrap over groups.

Products of one group (linked by an id, a photograph or a caption) are not independent of each other, so groups are
drawn, with replacement, and every query of a drawn group comes along. The intervals say how much a figure depends on
which products were tested; how much it depends on the seed of the training, only several trainings can say.
"""

from collections.abc import Iterator

import numpy as np

from common.recall import CUTOFFS, Ranks

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0
SCALES = {**{f"R@{k}": 100.0 for k in CUTOFFS}, "MRR": 1.0, "mAP": 1.0}
"""The largest value of the figures that have one."""
HELD = 2**20
"""Counts held at once."""


def draws(groups: int) -> Iterator[np.ndarray]:
    """`RESAMPLES` rows in chunks (r, G) of how often each of G groups is drawn; the same ones for the same G."""
    generator = np.random.default_rng(SEED)
    rows = max(1, HELD // groups)
    for start in range(0, RESAMPLES, rows):
        r = min(rows, RESAMPLES - start)
        drawn = generator.integers(groups, size=(r, groups)) + groups * np.arange(r)[:, None]
        yield np.bincount(drawn.ravel(), minlength=r * groups).reshape(r, groups)


def resampled_means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(RESAMPLES, M) means over the queries of each resample.

    Two calls with the same set of groups see the same resamples, so that their results can be added or subtracted.

    Args:
        values: (Q, M), M figures of each query.
        group: (Q,) the group that each query belongs to.
    """
    names, number = np.unique(group.astype(str), return_inverse=True)
    totals = np.zeros((len(names), values.shape[1] + 1))
    np.add.at(totals, number, np.column_stack([values, np.ones(len(values))]))
    sums = np.concatenate([counts @ totals for counts in draws(len(names))])
    return sums[:, :-1] / sums[:, -1:]


def resampled_medians(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(RESAMPLES,) medians over the queries of each resample; values and group as (Q,)."""
    order = np.argsort(values, kind="stable")
    names, number = np.unique(group.astype(str), return_inverse=True)
    ordered, number = values[order], number[order]
    medians = []
    for counts in draws(len(names)):
        reached = counts[:, number].cumsum(1, dtype=np.int32)  # (r, Q) queries up to this one
        total = reached[:, -1:]
        middle = [(reached <= place).sum(1) for place in ((total - 1) // 2, total // 2)]
        medians.append((ordered[middle[0]] + ordered[middle[1]]) / 2)
    return np.concatenate(medians)


def interval(replicates: np.ndarray, level: float = LEVEL) -> list[float]:
    """[low, high], the percentiles that leave out (1 - level) / 2 of the replicates (R,) on either side."""
    return np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2]).tolist()


def rate_interval(values: np.ndarray, group: np.ndarray, scale: float = 1.0, level: float = LEVEL) -> list[float]:
    """[low, high] of the mean of values (Q,) between 0 and `scale`."""
    return bounded(values, group, scale, interval(resampled_means(values[:, None], group)[:, 0], level), level)


def bounded(
    values: np.ndarray, group: np.ndarray, scale: float, found: list[float], level: float = LEVEL
) -> list[float]:
    """The interval `found` by resampling, unless all values (Q,) are 0 or all are `scale`, or of one group.

    Resampling sees no doubt there. The exact bound for a share of 0 or 1 among as many independent groups (Clopper and
    Pearson 1934) is taken instead; one group with anything between says nothing.
    """
    groups = len(np.unique(group.astype(str)))
    doubt = 1 - ((1 - level) / 2) ** (1 / groups)
    if (values == scale).all():
        return [scale * (1 - doubt), scale]
    if (values == 0).all():
        return [0.0, scale * doubt]
    return found if groups > 1 else [0.0, scale]


def query_values(ranks: Ranks) -> dict[str, np.ndarray]:
    """The figures of each query, whose means `recall.metrics` gives: name -> (Q,)."""
    best = ranks.best.numpy()
    return {
        **{f"R@{k}": 100.0 * (best <= k) for k in CUTOFFS},
        "mean_rank": best.astype(float),
        "MRR": 1 / best,
        "mAP": ranks.average_precision.numpy(),
    }


def figure_intervals(ranks: dict[str, Ranks], groups: dict[str, np.ndarray]) -> dict[str, object]:
    """[low, high] of every figure in both directions, and of rSum.

    Args:
        ranks: direction -> the ranks of its queries.
        groups: direction -> (Q,) the group of each query.

    Raises:
        ValueError: the directions have different sets of groups, so that their resamples would not be the same.
    """
    if len({frozenset(group) for group in groups.values()}) > 1:
        raise ValueError("expected the same groups in both directions, found different ones")
    result: dict[str, object] = {}
    rsum, certain = np.zeros(RESAMPLES), []
    for direction, found in ranks.items():
        values, group = query_values(found), groups[direction]
        means = dict(zip(values, resampled_means(np.column_stack(list(values.values())), group).T, strict=True))
        means["median_rank"] = resampled_medians(values["mean_rank"], group)
        rsum += sum(means[f"R@{k}"] for k in CUTOFFS)
        intervals = {name: interval(replicates) for name, replicates in means.items()}
        for name, scale in SCALES.items():
            intervals[name] = bounded(values[name], group, scale, intervals[name])
        certain += [intervals[f"R@{k}"] for k in CUTOFFS if intervals[f"R@{k}"] != interval(means[f"R@{k}"])]
        result[direction] = intervals
    result["rsum"] = interval(rsum)
    if len(certain) == len(ranks) * len(CUTOFFS):  # resampling sees no doubt in any of its parts
        result["rsum"] = [sum(low for low, _ in certain), sum(high for _, high in certain)]
    return result
