"""common/report/intervals.py: the bootstrap over groups against closed forms, a loop, and repeated sampling."""

import numpy as np
import pytest
import torch

from common.recall import Ranks, metrics
from common.report import intervals
from common.report.intervals import (
    RESAMPLES,
    bounded,
    draws,
    figure_intervals,
    interval,
    query_values,
    rate_interval,
    resampled_means,
    resampled_medians,
)


def ranks_of(best: np.ndarray) -> Ranks:
    return Ranks(torch.as_tensor(best), torch.ones(len(best), dtype=torch.long))


def alone(count: int) -> np.ndarray:
    """Every query a group of its own."""
    return np.array([f"p{number}" for number in range(count)], dtype=object)


def test_every_resample_draws_as_many_groups_as_there_are():
    chunks = list(draws(7))
    counts = np.concatenate(chunks)
    assert counts.shape == (RESAMPLES, 7) and (counts.sum(1) == 7).all()
    assert counts.mean(0) == pytest.approx(np.ones(7), abs=0.05)
    # with replacement: a group is left out with probability (6/7)^7
    assert (counts == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.01)


def test_chunks_change_nothing(monkeypatch):
    whole = np.concatenate(list(draws(50)))
    monkeypatch.setattr(intervals, "HELD", 50)
    assert len(next(iter(draws(50)))) == 1
    assert (np.concatenate(list(draws(50))) == whole).all()


def test_means_and_medians_are_those_of_the_drawn_groups():
    """A loop that repeats each drawn group's queries, for the first resamples."""
    rng = np.random.default_rng(0)
    values = rng.integers(1, 9, size=(23, 2)).astype(float)
    group = np.array(["abcdefgh"[number % 8] for number in range(23)], dtype=object)
    means, medians = resampled_means(values, group), resampled_medians(values[:, 0], group)
    for number, counts in enumerate(next(iter(draws(8)))[:200]):
        drawn = [q for name, times in zip("abcdefgh", counts, strict=True)
                 for q in np.flatnonzero(group == name).tolist() * times]  # fmt: skip
        assert means[number] == pytest.approx(values[drawn].mean(0))
        assert medians[number] == np.median(values[drawn, 0])


def test_the_interval_of_a_mean_of_independent_queries_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(10, 3, size=900)
    low, high = interval(resampled_means(values[:, None], alone(900))[:, 0])
    error = 1.96 * values.std() / 30
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.03)


def test_queries_of_one_group_count_as_one():
    """Each value repeated nine times within its group: the interval of a ninth of the queries, three times as wide."""
    values = np.random.default_rng(0).normal(0, 1, size=100)
    low, high = interval(resampled_means(np.repeat(values, 9)[:, None], np.repeat(alone(100), 9))[:, 0])
    few = interval(resampled_means(values[:, None], alone(100))[:, 0])
    many = interval(resampled_means(np.repeat(values, 9)[:, None], alone(900))[:, 0])
    assert [low, high] == pytest.approx(few)
    assert high - low == pytest.approx(3 * (many[1] - many[0]), rel=0.05)


def test_intervals_hold_the_truth_in_95_of_100_experiments(monkeypatch):
    """Groups of two to four queries that succeed or fail together, by half; the truth is 30 per cent."""
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        sizes = rng.integers(2, 5, size=120)
        group = np.repeat(np.arange(120), sizes)
        together = np.repeat(rng.random(120) < 0.3, sizes)
        hits = np.where(rng.random(len(group)) < 0.5, together, rng.random(len(group)) < 0.3)
        low, high = interval(resampled_means(hits[:, None].astype(float), group)[:, 0])
        held += low <= 0.3 <= high
    assert 270 <= held <= 297  # 95% of 300 is 285, five standard deviations to either side are 19


def test_level():
    replicates = np.arange(1001.0)
    assert interval(replicates) == pytest.approx([25, 975])
    assert interval(replicates, 0.99) == pytest.approx([5, 995])


def test_all_or_nothing_has_the_exact_bound():
    """The rule of three: no failure among n leaves room for about 3.7 / n (two-sided)."""
    group = alone(100)
    assert rate_interval(np.ones(100), group) == pytest.approx([0.025 ** (1 / 100), 1])
    assert rate_interval(np.zeros(100), group, scale=100) == pytest.approx([0, 100 - 100 * 0.025 ** (1 / 100)])
    assert rate_interval(np.ones(100), np.repeat(alone(10), 10)) == pytest.approx([0.025 ** (1 / 10), 1])
    assert bounded(np.array([1.0, 0.0]), alone(2), 1.0, [0.1, 0.2]) == [0.1, 0.2]
    assert rate_interval(np.full(100, 0.5), group) == pytest.approx([0.5, 0.5])


def test_query_values_average_to_the_metrics():
    rank = torch.tensor([1, 4, 9, 30, 2, 7])
    ranks = Ranks(rank, torch.tensor([2, 1, 3]))  # (1, 4), (9), (30, 2, 7): ascending within a query in real use
    ranks = Ranks(torch.tensor([1, 4, 9, 2, 7, 30]), ranks.counts)
    expected = metrics(ranks)
    assert {name: value.mean() for name, value in query_values(ranks).items()} == pytest.approx(
        {name: value for name, value in expected.items() if name != "median_rank"}
    )


def test_figures_of_both_directions_share_their_resamples():
    """The two directions miss in opposite groups: rSum does not vary at all, whatever each of the recalls does."""
    best = np.array([1, 500] * 200)
    group = np.repeat(alone(200), 2)
    opposite = np.array([500, 1] * 200)
    found = figure_intervals(
        {"image_to_text": ranks_of(best), "text_to_image": ranks_of(opposite)},
        {"image_to_text": alone(400), "text_to_image": alone(400)},
    )
    assert found["rsum"] == pytest.approx([300, 300])
    low, high = found["image_to_text"]["R@1"]
    assert low == pytest.approx(45, abs=1) and high == pytest.approx(55, abs=1)
    # within each group one query hits and one misses: nothing varies
    found = figure_intervals({"image_to_text": ranks_of(best)}, {"image_to_text": group})
    assert found["image_to_text"]["R@10"] == pytest.approx([50, 50])


def test_every_figure_lies_in_its_interval():
    best = np.random.default_rng(0).geometric(0.05, size=700)
    ranks = {"image_to_text": ranks_of(best), "text_to_image": ranks_of(best[::-1].copy())}
    groups = {direction: alone(700) for direction in ranks}
    found = figure_intervals(ranks, groups)
    for direction, part in ranks.items():
        figures = metrics(part)
        assert set(found[direction]) == set(figures)
        for name, value in figures.items():
            low, high = found[direction][name]
            assert low <= value <= high and low < high
    assert figure_intervals(ranks, groups) == found


def test_directions_with_other_groups_are_refused():
    ranks = {direction: ranks_of(np.array([1, 2, 3])) for direction in ("image_to_text", "text_to_image")}
    groups = {"image_to_text": alone(3), "text_to_image": np.array(["p0", "p1", "p1"], dtype=object)}
    with pytest.raises(ValueError, match="the same groups in both directions"):
        figure_intervals(ranks, groups)


def test_one_group_says_nothing():
    group = np.array(["p"] * 10, dtype=object)
    assert rate_interval(np.array([1.0, 0.0] * 5), group) == [0, 1]
    found = figure_intervals({"image_to_text": ranks_of(np.array([1, 50] * 5))}, {"image_to_text": group})
    assert found["image_to_text"]["R@1"] == [0, 100] and found["rsum"] == [0, 300]
