"""eval.py's options that add to the report, end to end on a tiny run."""

import json
import shutil

import pandas as pd
import pytest
from PIL import Image
from tiny_runs import evaluate, remove_caches, run_main, script, train, use_patches

from common.errors import InputError


@pytest.fixture(autouse=True)
def patches(monkeypatch):
    use_patches(monkeypatch)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Two methods trained on the same data, and evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        found = {}
        for model in ("deep_cmpl", "siamese"):
            found[model] = train(monkeypatch, data, folder / model, model=model, epochs=2)
            evaluate(monkeypatch, found[model], model=model)
    return found


@pytest.fixture
def run(runs):
    return runs["deep_cmpl"]


def test_recall_by_columns(run, monkeypatch, capsys):
    report = evaluate(monkeypatch, run, "--split", "all", "--by", "colour", "caption length")
    assert [found["column"] for found in report["by"]] == ["colour", "caption length"]
    told = capsys.readouterr().out
    assert (
        told.index("protocol: full gallery") < told.index("recall by colour") < told.index("recall by caption length")
    )
    for name in ("colour", "caption-length"):
        chart = run / f"recall-by-{name}-all.png"
        assert f"chart: {chart}" in told and Image.open(chart).width > 100
        chart.unlink()


def test_an_unknown_column_fails_before_anything_is_embedded(run, monkeypatch):
    monkeypatch.setattr("common.evaluation.embed_images", lambda *_, **__: pytest.fail("embedded"))
    with pytest.raises(InputError, match=r"--by color: .* nearest is 'colour', there are: colour, shape"):
        evaluate(monkeypatch, run, "--by", "color")
    with pytest.raises(InputError, match="--protocol fg101 needs --category COLUMN"):
        evaluate(monkeypatch, run, "--protocol", "fg101")


# --- comparison ---------------------------------------------------------------------------------------------


def test_two_methods_are_compared_without_their_models(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("common.evaluation.embed_split", lambda *_: pytest.fail("a model was loaded"))
    words = ("--compare", runs["deep_cmpl"], runs["siamese"], "--json", tmp_path / "found.json")
    run_main(script("deep_cmpl", "eval"), monkeypatch, *words)
    told = capsys.readouterr().out
    assert "the data can tell the two apart" in told or "the data cannot tell the two apart: " in told
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == ["comparison"]
    (pair,) = found["comparison"]["pairs"]
    ranks = {name: pd.read_parquet(folder / "ranks-test.parquet") for name, folder in runs.items()}
    for direction in ("image_to_text", "text_to_image"):
        rate = {name: 100 * (r[r["direction"] == direction]["rank"] <= 5).mean() for name, r in ranks.items()}
        figure = pair[direction]["R@5"]
        assert (figure["baseline"], figure["run"]) == pytest.approx((rate["deep_cmpl"], rate["siamese"]))
        assert figure["difference"] == pytest.approx(rate["siamese"] - rate["deep_cmpl"])


def test_an_evaluated_run_is_the_first_of_those_compared(runs, monkeypatch):
    report = evaluate(monkeypatch, runs["siamese"], "--compare", runs["deep_cmpl"], model="siamese")
    assert report["comparison"]["baseline"]["run"] == str(runs["siamese"])
    assert report["model"] == "siamese" and len(report["comparison"]["pairs"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare", "RUN"], "--compare .*: one run; name two, or name the first one with --run"),
        (["--compare", "RUN", "RUN", "--by", "colour"], "--by is about a run: name it with --run"),
        (["--compare", "RUN", "RUN", "--record", "name"], "--record is about a run"),
        (["--compare", "RUN", "gone"], "gone: no run there"),
        (["--compare", "RUN", "RUN", "--data", "shop.csv"], "--data is about a run"),
        (["--run", "RUN", "--relevance", "gone.json"], "gone.json: cannot be read"),
        (["--run", "RUN", "--category", "colour"], "--category colour: only read with --protocol fg101"),
    ],
)
def test_options_that_contradict_each_other(words, message, run, monkeypatch):
    with pytest.raises(InputError, match=message):
        run_main(script("deep_cmpl", "eval"), monkeypatch, *[run if word == "RUN" else word for word in words])


def test_ranks_on_other_data_are_not_compared(runs, data, monkeypatch):
    few = data.with_name("few.csv")
    few.write_text("\n".join(data.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match=r"--compare: .*few\.csv is not the data that"):
        evaluate(monkeypatch, runs["deep_cmpl"], "--data", few, "--compare", runs["siamese"])
    remove_caches(few)


# --- a second protocol, pages ---------------------------------------------------------------------------------


@pytest.fixture
def one_kind(data):
    """The catalogue with a column that is the same everywhere: 119 others for every product."""
    file = data.with_name("one-kind.csv")
    frame = pd.read_csv(data, dtype=str)
    frame.assign(kind="toy").to_csv(file, index=False)
    yield file
    remove_caches(file)


def test_fashion_gens_protocol_comes_after_the_full_gallery(run, one_kind, tmp_path, monkeypatch, capsys):
    lists = tmp_path / "lists.parquet"
    words = ("--data", one_kind, "--split", "all", "--protocol", "fg101", "--category", "kind", "--candidates", lists)
    first = evaluate(monkeypatch, run, *words)
    told = capsys.readouterr().out
    assert told.index("protocol: full gallery") < told.index("protocol: fg101")
    assert len(pd.read_parquet(lists)["query"]) == 5 * 120
    before = lists.read_bytes()
    assert evaluate(monkeypatch, run, *words)["fg101"] == first["fg101"]
    assert lists.read_bytes() == before
    words = words[:-2]  # without --candidates: kept in the run, under a name of this data's own
    assert evaluate(monkeypatch, run, *words)["fg101"]["image_to_text"] == first["fg101"]["image_to_text"]
    (kept,) = run.glob("fg101-kind-all-*.parquet")
    kept.unlink()


def test_no_category_is_large_enough(run, monkeypatch):
    with pytest.raises(InputError, match="coarser column"):
        evaluate(monkeypatch, run, "--protocol", "fg101", "--category", "shape")


def test_pages_hold_the_report(runs, tmp_path, monkeypatch):
    folder = tmp_path / "pages"
    words = ("--split", "all", "--pictures", folder, "--by", "shape")
    evaluate(monkeypatch, runs["siamese"], *words, model="siamese")
    assert {"index.html", "text_to_image.html", "image_to_text.html", "map.html"} <= {p.name for p in folder.iterdir()}
    text = (folder / "index.html").read_text()
    assert "Recall by shape" in text and len(list((folder / "charts").iterdir())) == 2


def test_pages_of_compared_runs_alone(runs, tmp_path, monkeypatch):
    folder = tmp_path / "pages"
    words = ("--compare", *runs.values(), "--pictures", folder)
    run_main(script("siamese", "eval"), monkeypatch, *words)
    text = (folder / "index.html").read_text()
    assert "tell the two apart" in text and len(list((folder / "charts").iterdir())) == 1


def test_a_folder_of_something_else_is_refused_at_once(run, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    monkeypatch.setattr("common.evaluation.embed_split", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=r"--pictures .*mine"):
        evaluate(monkeypatch, run, "--pictures", tmp_path / "mine")


def test_overwrite_deletes_what_an_evaluation_left(run, data, tmp_path, monkeypatch):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    evaluate(monkeypatch, copied, "--by", "shape")
    assert list(copied.glob("recall-by-*"))
    train(monkeypatch, data, copied, "--overwrite", epochs=1)
    assert not list(copied.glob("recall-by-*"))


def test_figures_of_other_data_are_not_recorded(run, data, monkeypatch, tmp_path):
    monkeypatch.setattr("common.report.ledger.LEDGER", tmp_path / "results")
    few = data.with_name("few.csv")
    few.write_text("\n".join(data.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match=r"--record: .*few\.csv is not the data that"):
        evaluate(monkeypatch, run, "--data", few, "--record", "few")
    remove_caches(few)
    assert not (tmp_path / "results").exists()


def test_a_run_that_cannot_be_written_to_is_evaluated_all_the_same(run, monkeypatch, capsys):
    def read_only(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr("pandas.DataFrame.to_parquet", read_only)
    assert evaluate(monkeypatch, run)["rsum"] > 0
    assert "not kept in the run, it cannot be written to (read-only)" in capsys.readouterr().out


def test_charts_of_odd_column_names_do_not_overwrite_each_other(run, data, monkeypatch):
    odd = data.with_name("odd.csv")
    frame = pd.read_csv(data, dtype=str)
    frame.assign(**{"a/b": frame["colour"], "a b": frame["shape"], "颜色": frame["shape"]}).to_csv(odd, index=False)
    evaluate(monkeypatch, run, "--data", odd, "--split", "all", "--by", "a/b", "a b", "颜色")
    remove_caches(odd)
    charts = list(run.glob("recall-by-*"))
    assert len(charts) == 3
    for chart in charts:
        chart.unlink()
