"""common/report/comparison.py and kept_ranks.py: paired differences by hand, and how often noise is told apart."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.errors import InputError
from common.report import comparison, intervals
from common.report.comparison import compare, describe, draw_curves
from common.report.intervals import interval, resampled_means
from common.report.kept_ranks import Compared, names, read

DIRECTIONS = ("image_to_text", "text_to_image")
FIGURES = ["R@1", "R@5", "R@10", "MRR", "mAP"]


def ranks_of(to_text, to_image=None, group=None, precision=None) -> pd.DataFrame:
    """What eval.py leaves in a run: these ranks, in the second direction the same ones where none are given."""
    both = [np.asarray(to_text), np.asarray(to_text if to_image is None else to_image)]
    frames = []
    for direction, rank in zip(DIRECTIONS, both, strict=True):
        frames.append(pd.DataFrame({
            "direction": direction, "query": [f"q{n}" for n in range(len(rank))],
            "group": [f"g{n}" for n in (range(len(rank)) if group is None else group)],
            "rank": rank, "reciprocal_rank": 1 / rank,
            "average_precision": 1 / rank if precision is None else precision,
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def run_of(name: str, *args, model: str = "siamese", seed: int = 0, data: str = "f", **kwargs) -> Compared:
    settings = {"margin": 0.5, "seed": seed}
    config = {"model": model, "hyperparameters": settings, "data": {"fingerprint": data, "path": f"/{data}.csv"}}
    return Compared(Path("/runs") / name, "test", config, ranks_of(*args, **kwargs))


def write_run(folder: Path, ranks: pd.DataFrame | None, split: str = "test") -> Path:
    folder.mkdir(parents=True)
    settings, data = {"seed": 0, "image_size": [80, 60]}, {"fingerprint": "f", "options": {}}
    config = {"model": "siamese", "hyperparameters": settings, "data": data, "precision": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    if ranks is not None:
        ranks.to_parquet(folder / f"ranks-{split}.parquet")
    return folder


def recall_ranks(generator: np.random.Generator, hits: np.ndarray) -> np.ndarray:
    """Rank 1 where a query is found, else any rank beyond 10."""
    return np.where(hits, 1, generator.integers(11, 100, len(hits)))


# --- the figures ---------------------------------------------------------------------------------------


def test_figures_by_hand():
    a = run_of("a", [1, 2, 6, 20], [1, 1, 1, 11], precision=[1, 0.5, 0.25, 0.25])
    b = run_of("b", [1, 1, 11, 3], [2, 1, 6, 5], precision=[1, 1, 0.1, 0.3])
    found = compare([a, b])
    assert (found["split"], found["level"], found["groups"]) == ("test", 0.95, 4)
    assert found["queries"] == dict.fromkeys(DIRECTIONS, 4)
    assert found["baseline"] == {"name": "a", "run": "/runs/a"}
    (pair,) = found["pairs"]
    assert (pair["name"], pair["run"]) == ("b", "/runs/b")
    to_text, to_image = (pair[direction] for direction in DIRECTIONS)
    expected = {
        "R@1": (25, 50), "R@5": (50, 75), "R@10": (75, 75), "mAP": (0.5, 0.6),
        "MRR": ((1 + 1 / 2 + 1 / 6 + 1 / 20) / 4, (1 + 1 + 1 / 11 + 1 / 3) / 4),
    }  # fmt: skip
    assert set(to_text) == {*FIGURES, "better", "worse", "equal"}
    for name, (before, after) in expected.items():
        assert [to_text[name][key] for key in ("baseline", "run", "difference")] == pytest.approx(
            [before, after, after - before]
        )
    assert [to_text[name] for name in ("better", "worse", "equal")] == [2, 1, 1]
    assert [to_image[name]["difference"] for name in FIGURES[:3]] == pytest.approx([-50, 0, 25])
    assert [to_image[name] for name in ("better", "worse", "equal")] == [1, 2, 1]
    assert pair["rsum"]["baseline"] == pytest.approx(25 + 50 + 75 + 75 * 3)
    assert pair["rsum"]["run"] == pytest.approx(50 + 75 + 75 + 25 + 75 + 100)
    assert pair["rsum"]["difference"] == pytest.approx(50 - 25)
    # of the groups, the first adds -25 to rSum, the second 25, the third -25 - 25, the last 50 + 25
    assert pair["groups_that_differ"] == 4


def test_intervals_are_those_of_the_differences_and_rsum_adds_up():
    generator = np.random.default_rng(0)
    group = generator.integers(40, size=100)
    a, b = (run_of(name, generator.integers(1, 30, 100), generator.integers(1, 30, 100), group=group) for name in "ab")
    (pair,) = compare([a, b])["pairs"]
    total = 0
    for direction in DIRECTIONS:
        before, after = (run.ranks[run.ranks["direction"] == direction] for run in (a, b))
        for name, of in {
            "R@5": lambda ranks: 100.0 * (ranks["rank"] <= 5),
            "MRR": lambda ranks: ranks["reciprocal_rank"],
        }.items():
            difference = (of(after).to_numpy() - of(before).to_numpy())[:, None]
            expected = interval(resampled_means(difference, before["group"].to_numpy())[:, 0])
            assert pair[direction][name]["interval"] == pytest.approx(expected)
        recalls = [sum(100.0 * (ranks["rank"] <= k) for k in (1, 5, 10)).to_numpy() for ranks in (before, after)]
        total += resampled_means((recalls[1] - recalls[0])[:, None], before["group"].to_numpy())[:, 0]
    assert pair["rsum"]["interval"] == pytest.approx(interval(total))


def test_the_other_way_round():
    generator = np.random.default_rng(1)
    a, b = (run_of(name, generator.integers(1, 30, 80)) for name in "ab")
    (there,), (back,) = compare([a, b])["pairs"], compare([b, a])["pairs"]
    for direction in DIRECTIONS:
        assert back[direction]["better"] == there[direction]["worse"]
    assert back["rsum"]["difference"] == pytest.approx(-there["rsum"]["difference"])
    assert back["rsum"]["interval"] == pytest.approx([-bound for bound in there["rsum"]["interval"][::-1]])


def test_pairing_narrows_the_interval():
    """Both runs find the same easy queries, but for one in ten."""
    generator = np.random.default_rng(2)
    hits = generator.random(400) < 0.5
    other = hits ^ (generator.random(400) < 0.1)
    a, b = run_of("a", recall_ranks(generator, hits)), run_of("b", recall_ranks(generator, other))
    shuffled = generator.permutation(400)
    unrelated = run_of("b", recall_ranks(generator, other[shuffled]))

    def width(run):
        low, high = compare([a, run])["pairs"][0]["image_to_text"]["R@1"]["interval"]
        return high - low

    # per query the variance of the difference is 0.1, of two independent runs 0.25 + 0.25
    assert width(b) / width(unrelated) == pytest.approx((0.1 / 0.5) ** 0.5, rel=0.2)


# --- what the data can tell ----------------------------------------------------------------------------


def told_apart(draw, repeats: int = 300) -> float:
    """The share of comparisons, each of two runs that `draw` makes, in which the two are told apart."""
    generator = np.random.default_rng(3)
    return np.mean([compare(draw(generator))["pairs"][0]["told_apart"] for _ in range(repeats)])


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)


def noise(generator, of_group=None):
    """Two runs that find each query, or each group of queries, with a chance of 0.4."""

    def hits():
        return generator.random(80) < 0.4 if of_group is None else (generator.random(20) < 0.4)[of_group]

    return [
        run_of(name, recall_ranks(generator, hits()), recall_ranks(generator, hits()), group=of_group) for name in "ab"
    ]


def test_noise_is_told_apart_in_one_of_twenty_comparisons(few_resamples):
    assert 0.02 < told_apart(noise) < 0.09


@pytest.mark.slow
def test_queries_of_a_group_are_one_observation(few_resamples):
    """Four queries of each of 20 groups are found or missed together; taken one by one they look like more."""
    of_group = np.repeat(np.arange(20), 4)
    assert told_apart(lambda generator: noise(generator, of_group), 200) < 0.12

    def ungrouped(generator):
        return [run_of(run.run.name, *(run.of(d)["rank"].to_numpy() for d in DIRECTIONS))
                for run in noise(generator, of_group)]  # fmt: skip

    assert told_apart(ungrouped, 200) > 0.2


def test_a_planted_difference_is_found(few_resamples):
    def better(generator):
        hits = generator.random(300) < 0.4
        return [run_of("a", recall_ranks(generator, hits)),
                run_of("b", recall_ranks(generator, hits | (generator.random(300) < 0.1)))]  # fmt: skip

    assert told_apart(better, 50) == 1


def test_the_verdict_on_a_difference():
    generator = np.random.default_rng(4)
    hits = generator.random(300) < 0.4
    worse, better = run_of("worse", recall_ranks(generator, hits)), run_of("better", np.ones(300, dtype=int))
    for runs, words in (([worse, better], "better finds more than worse: rSum +"),
                        ([better, worse], "worse finds less than better: rSum -")):  # fmt: skip
        found = compare(runs)
        rsum = found["pairs"][0]["rsum"]
        low, high = rsum["interval"]
        told = f"({low:+.1f} to {high:+.1f}); the data can tell the two apart"
        last = describe(found)[-3]
        assert last.startswith(words) and last.endswith(told)
        assert f"{rsum['difference']:+.1f}" in last


def test_the_verdict_without_a_difference():
    """Of 200 queries b finds 22 that a misses and misses 18 that a finds: 4 +- 12 or so."""
    a = np.where(np.arange(200) < 100, 1, 50)
    b = a.copy()
    b[:18], b[-22:] = 50, 1
    found = compare([run_of("a", a), run_of("b", b)])
    rsum = found["pairs"][0]["rsum"]
    assert rsum["difference"] == pytest.approx(6 * 2)
    low, high = rsum["interval"]
    times = ((high - low) / 2 / 12) ** 2
    assert 7 < times < 12  # 1.96^2 * (40 - 16 / 200) / 16 = 9.6
    last = describe(found)[-3]
    assert "b against a: rSum +12.0" in last
    assert "the data cannot tell the two apart: the interval of the difference includes 0" in last
    assert f"(about {times:.2g} times as many products would be needed to tell such a difference)" in last


def test_a_difference_that_no_catalogue_would_tell():
    a = np.where(np.arange(400) < 200, 1, 50)
    b = a.copy()
    b[:100], b[-101:] = 50, 1
    last = describe(compare([run_of("a", a), run_of("b", b)]))[-3]
    assert "(more than 100 times as many products" in last


def test_equal_runs_cannot_be_told_apart():
    ranks = np.arange(1, 60)
    (pair,) = compare([run_of("a", ranks), run_of("b", ranks)])["pairs"]
    assert pair["rsum"] == {"baseline": pair["rsum"]["run"], "run": pair["rsum"]["run"], "difference": 0,
                            "interval": [0, 0]}  # fmt: skip
    assert not pair["told_apart"]
    assert [pair["image_to_text"][name] for name in ("better", "worse", "equal")] == [0, 0, 59]
    told = "\n".join(describe(compare([run_of("a", ranks), run_of("b", ranks)])))
    assert "b and a have the same rSum on every group of products" in told


@pytest.mark.parametrize(("differ", "apart"), [(4, False), (5, False), (6, True)])
def test_a_handful_of_groups_is_too_few(differ, apart):
    """Six groups that all favour one run: 2 / 64 by the sign test; five could do so by chance in 2 of 32 cases."""
    a = np.full(100, 50)
    b = a.copy()
    b[:differ] = 1
    found = compare([run_of("a", a), run_of("b", b)])
    (pair,) = found["pairs"]
    assert pair["groups_that_differ"] == differ
    assert pair["rsum"]["interval"][0] > 0
    assert pair["told_apart"] is apart
    assert (f"differ in {differ} groups of products, too few to judge by" in "\n".join(describe(found))) is not apart


def test_several_runs_share_the_error_by_bonferroni():
    generator = np.random.default_rng(5)
    a, b, c, d, e = (run_of(name, generator.integers(1, 30, 200)) for name in "abcde")
    alone, together = compare([a, b]), compare([a, b, c, d, e])
    assert (alone["level"], together["level"]) == (0.95, pytest.approx(0.9875))
    assert [pair["name"] for pair in together["pairs"]] == ["b", "c", "d", "e"]
    one, four = alone["pairs"][0]["rsum"], together["pairs"][0]["rsum"]
    assert four["difference"] == one["difference"]
    widths = [found["interval"][1] - found["interval"][0] for found in (one, four)]
    assert widths[1] / widths[0] == pytest.approx(2.498 / 1.960, rel=0.05)  # quantiles of the normal distribution
    assert (
        "98.75% for each of 4 differences is 95% for all runs together, one figure at a time (Bonferroni)"
        in "\n".join(describe(together))
    )
    assert "Bonferroni" not in "\n".join(describe(alone))
    differences = [pair["rsum"]["run"] - pair["rsum"]["baseline"] for pair in together["pairs"]]
    assert differences == pytest.approx([pair["rsum"]["difference"] for pair in together["pairs"]])


def test_six_groups_are_not_enough_for_two_comparisons():
    a = np.full(100, 50)
    b = a.copy()
    b[:6] = 1
    pairs = compare([run_of("a", a), run_of("b", b), run_of("c", b)])["pairs"]
    assert [pair["told_apart"] for pair in pairs] == [False, False]


# --- what is told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "remark"),
    [
        ({"seed": 1}, "these differ in the seed only"),
        ({"seed": 0}, "the two have the same model, hyperparameters and seed"),
        ({"seed": 1, "model": "correlational"}, None),
    ],
)
def test_remarks(other, remark):
    found = compare([run_of("a", [1, 2, 3]), run_of("b", [1, 2, 4], **other)])
    assert found["pairs"][0]["remarks"] == ([remark] if remark else [])
    assert (f"  warning: {remark}" in describe(found)) is (remark is not None)


def test_the_same_folder_twice():
    found = compare([run_of("a", [1, 2, 3]), run_of("b/../a", [1, 2, 3])])
    assert found["pairs"][0]["remarks"] == ["both are the same folder"]
    assert found["pairs"][0]["name"] == found["baseline"]["name"] == "a"


def test_what_is_printed():
    generator = np.random.default_rng(6)
    group = np.arange(50) // 2
    a, b = (run_of(name, generator.integers(1, 30, 50), group=group) for name in ("x/seed-0", "y/seed-0"))
    found = compare([a, b])
    lines = describe(found)
    assert lines[0] == ""
    assert lines[1] == (
        "comparison on the test split with x/seed-0: 50 image -> text and 50 text -> image queries, "
        "the same for all runs"
    )
    assert "95% intervals of the difference: 10,000 bootstrap resamples of the 25 groups" in lines[2]
    assert "y/seed-0 against x/seed-0" in lines
    rows = {line[:21].strip(): [float(word) for word in line[21:].split()] for line in lines
            if re.match(r"(image|text|rSum).* [+-]?[\d.]+$", line)}  # fmt: skip
    assert len(rows) == 11
    for title, figure in (
        ("image -> text R@5", found["pairs"][0]["image_to_text"]["R@5"]),
        ("text -> image mAP", found["pairs"][0]["text_to_image"]["mAP"]),
        ("rSum", found["pairs"][0]["rsum"]),
    ):
        expected = [figure["baseline"], figure["run"], figure["difference"], *figure["interval"]]
        assert rows[title] == pytest.approx(expected, abs=0.0051)
    counts = found["pairs"][0]["image_to_text"]
    assert (
        f"image -> text: of the queries it ranks {counts['better']} better, {counts['worse']} worse and "
        f"{counts['equal']} the same"
    ) in lines
    assert lines[-1].endswith("these trained runs and these test products, not about the methods with other seeds")
    json.dumps(found)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/r/siamese", "/r/deep_cmpl"], ["siamese", "deep_cmpl"]),
        (["/r/siamese/seed-0", "/r/corr/seed-0", "/r/corr/seed-1"], ["siamese/seed-0", "corr/seed-0", "corr/seed-1"]),
        (["/a/x/run", "/b/x/run"], ["a/x/run", "b/x/run"]),
        (["/a/run", "/run"], ["a/run", "/run"]),
        (["/r/a", "/r/a", "/r/b"], ["a", "a", "b"]),
    ],
)
def test_names_are_the_shortest_distinct_ends(paths, expected):
    assert names([Compared(Path(path), "test", {}, pd.DataFrame()) for path in paths]) == expected


def test_curves(tmp_path, monkeypatch):
    """What is drawn is recall@K: 25% at 1, 50% from 2, 75% from 40, and a rank beyond 100 is nowhere."""
    drawn = []
    monkeypatch.setattr(comparison.plt, "close", drawn.append)
    file = tmp_path / "new" / "curves.png"
    draw_curves([run_of("a", [1, 2, 40, 2000]), run_of("b", [1, 1, 1, 1])], file)
    assert [path.name for path in file.parent.iterdir()] == ["curves.png"]
    assert Image.open(file).size[0] > 900
    panels = drawn[0].axes
    monkeypatch.undo()
    comparison.plt.close(drawn[0])
    assert [axes.get_title() for axes in panels] == ["image -> text", "text -> image"]
    for axes in panels:
        a, b = axes.get_lines()
        assert [a.get_label(), b.get_label()] == ["a", "b"]
        recall = dict(zip(a.get_xdata(), a.get_ydata(), strict=True))
        assert [recall[k] for k in (1, 2, 39, 40, 100)] == [25, 50, 50, 75, 75]
        assert set(b.get_ydata()) == {100}


# --- runs that cannot be compared ----------------------------------------------------------------------


def test_kept_ranks_are_read(tmp_path):
    ranks = ranks_of([1, 2, 3])
    run = read(write_run(tmp_path / "run", ranks, "val"), "val")
    pd.testing.assert_frame_equal(run.ranks, ranks)
    assert (run.run, run.split, run.config["model"]) == (tmp_path / "run", "val", "siamese")
    assert run.of("text_to_image")["rank"].tolist() == [1, 2, 3]


def test_one_run_is_not_enough():
    with pytest.raises(InputError, match="one run alone"):
        compare([run_of("a", [1, 2])])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run_of("b", [1, 2, 3], data="g"), r"of different data \(/f\.csv, fingerprint f, and /g\.csv, g\)"),
        (run_of("b", [1, 2]), "3 and 2 image -> text queries were asked"),
        (run_of("b", [1, 2, 3], [1, 2]), "3 and 2 text -> image queries were asked"),
        (run_of("b", [1, 2, 3], group=[0, 1, 1]), "the group of 1 of 3 image -> text .* 'g2' and 'g1' in place 2"),
    ],
)
def test_other_queries_are_refused(other, message):
    a = run_of("a", [1, 2, 3])
    with pytest.raises(InputError, match=f"a and b cannot be compared query by query: .*{message}"):
        compare([a, other])


def test_another_order_of_the_queries_is_refused():
    a, b = run_of("a", [1, 2, 3]), run_of("b", [1, 2, 3])
    b.ranks.loc[[3, 4], "query"] = ["q1", "q0"]
    with pytest.raises(InputError, match="query of 2 of 3 text -> image queries differs, first 'q0' and 'q1' in place"):
        compare([a, a, b])


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match=r"gone: no run there \(it has no config\.json\)"):
        read(tmp_path / "gone", "test")


@pytest.mark.parametrize("content", [b"{}", b"[1]", b"{", b"\xff", b'{"model": "siamese", "data": {}}'])
def test_a_config_that_cannot_be_used(content, tmp_path):
    run = write_run(tmp_path / "run", None)
    (run / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json: not the configuration of a run"):
        read(run, "test")


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        (None, "no ranks of the test split there; make them with"),
        (
            ranks_of([1, 2]).drop(columns="group"),
            r"has no column \['group'\], an older version wrote it; evaluate again",
        ),
        (ranks_of([1, 2]).head(2), "lacks a direction; evaluate again"),
        (b"no parquet", "not a readable parquet file"),
    ],
)
def test_ranks_that_cannot_be_used(ranks, message, tmp_path):
    run = write_run(tmp_path / "run", ranks if isinstance(ranks, pd.DataFrame) else None)
    if isinstance(ranks, bytes):
        (run / "ranks-test.parquet").write_bytes(ranks)
    with pytest.raises(InputError, match=f"{message}.*python siamese/eval.py --run {run} --split test"):
        read(run, "test")
