"""search/: an index is what was embedded, whatever was added, removed or killed; a query finds the nearest."""

import errno
import fcntl
import io
import json
import pkgutil
import shutil
from dataclasses import replace
from pathlib import Path

import killing
import numpy as np
import pandas as pd
import pytest
from catalogues import drawing, encoded, tiny_products
from PIL import Image
from tiny_runs import evaluate, run_main, train, use_patches

from benchmarks import search_latency, search_recall
from common.batches import load_data
from common.errors import InputError
from common.options import CatalogueOptions
from search import Search, index, query
from search.encoder import decoded
from search.neighbours import Neighbours, chosen
from search.results import Answer, Result
from search.store import live_products, read_all, read_manifest, write_manifest, writing

ROOT = Path(__file__).resolve().parents[1]
PRODUCTS = 120


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """Some of the products have two images; attributes are colour, shape and, as a trap, a title of another kind."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "images").mkdir()
    rows = []
    for number, row in enumerate(tiny_products(PRODUCTS)):
        for view in range(1 + (number % 10 == 0)):
            name = f"images/{row['id']}-{view}.jpg"
            picture = drawing(row["colour"], row["shape"], row["ground"], (24 - 4 * view, 32))
            (folder / name).write_bytes(picture)
            rows.append({"id": row["id"], "image": name, "caption": row["title"], "colour": row["colour"],
                         "shape": row["shape"], "title": f"No. {number}"})  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "shop.csv", index=False)
    return folder / "shop.csv"


@pytest.fixture(scope="module")
def run(catalogue, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        return train(monkeypatch, catalogue, tmp_path_factory.mktemp("runs") / "run", epochs=12)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    use_patches(monkeypatch)
    monkeypatch.setattr(index, "SEGMENT", 32)


def build(monkeypatch, run: Path, data: Path, folder: Path, *words) -> Path:
    run_main(index.main, monkeypatch, "--run", run, "--data", data, "--output", folder, "--device", "cpu", *words)
    return folder


@pytest.fixture(scope="module")
def built(run, catalogue, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        monkeypatch.setattr(index, "SEGMENT", 32)
        return build(monkeypatch, run, catalogue, tmp_path_factory.mktemp("index") / "index")


@pytest.fixture
def search(built):
    return Search(built, device="cpu")


def table(catalogue: Path, folder: Path, change) -> Path:
    """The catalogue's table with a change, beside a link-free copy of its images."""
    shutil.copytree(catalogue.parent, folder)
    rows = change(pd.read_csv(catalogue, dtype=str))
    rows.to_csv(folder / "shop.csv", index=False)
    return folder / "shop.csv"


def contents(folder: Path) -> dict:
    """Product -> what the index knows of it, whatever the segments."""
    everything = read_all(folder, read_manifest(folder))
    found = {}
    for _, row in everything.products.iterrows():
        images, texts = (table["product"] == row["id"] for table in (everything.images, everything.texts))
        known = (
            row.to_dict(),
            everything.images["thumbnail"][images].tolist(),
            everything.texts["caption"][texts].tolist(),
        )
        found[row["id"]] = known, everything.image_emb[images], everything.text_emb[texts]
    return found


def assert_same(found: dict, expected: dict) -> None:
    """The same products; their vectors depend on what they were embedded with by rounding alone."""
    assert found.keys() == expected.keys()
    for product, (known, *vectors) in expected.items():
        assert found[product][0] == known
        for vector, other in zip(found[product][1:], vectors, strict=True):
            np.testing.assert_allclose(vector, other, atol=1e-5)


# --- the index -----------------------------------------------------------------------------------------


def test_everything_is_in_the_index(built):
    found = contents(built)
    assert list(found) == [row["id"] for row in tiny_products(PRODUCTS)]
    (product, images, texts), image_emb, _ = found["1010"]
    row = tiny_products(PRODUCTS)[10]
    assert product["title"] == row["title"] and product["attribute title"] == "No. 10"
    assert (product["attribute colour"], product["attribute shape"]) == (row["colour"], row["shape"])
    assert len(images) == 2 and texts == [row["title"]] and images[0][:2] == b"\xff\xd8"
    np.testing.assert_allclose(np.linalg.norm(image_emb, axis=1), 1, atol=1e-6)
    assert len(read_manifest(built).segments) == 4, "120 products, 32 a segment"


def test_an_index_up_to_date_embeds_nothing(built, run, catalogue, monkeypatch, capsys):
    before = {file: file.stat().st_mtime_ns for file in built.rglob("*.npy")}
    build(monkeypatch, run, catalogue, built)
    assert "120 products before; 0 new, 0 changed, 0 gone" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in built.rglob("*.npy")} == before


def test_new_changed_and_gone_products(built, run, catalogue, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "index"
    shutil.copytree(built, folder)

    def change(rows):
        rows.loc[rows["id"] == "1003", "colour"] = "mauve"
        rows.loc[rows["id"] == "1004", "caption"] = "Mauve disc on white"
        new = rows.iloc[[5]].assign(id="2000")
        return pd.concat([rows[~rows["id"].isin(["1001", "1002"])], new])

    data = table(catalogue, tmp_path / "new", change)
    build(monkeypatch, run, data, folder)
    assert "120 products before; 1 new, 2 changed, 2 gone" in capsys.readouterr().out
    fresh = build(monkeypatch, run, data, tmp_path / "fresh")
    updated = contents(folder)
    assert "1001" not in updated and updated["1003"][0][0]["attribute colour"] == "mauve" and "2000" in updated
    assert_same(updated, contents(fresh))


def test_without_a_name_the_catalogue_of_last_time_is_meant(built, run, catalogue, tmp_path, monkeypatch, capsys):
    """Not that of the run: its products would take the place of all there are."""
    few = table(catalogue, tmp_path / "few", lambda rows: rows.head(40).rename(columns={"caption": "words"}))
    folder = build(monkeypatch, run, few, tmp_path / "index", "--caption-column", "words", "--engine", "hnsw")
    known = contents(folder)
    run_main(index.main, monkeypatch, "--output", folder, "--device", "cpu")
    out = capsys.readouterr().out
    assert f"{len(known)} products before; 0 new, 0 changed, 0 gone" in out and out.count("engine: hnsw") == 2
    threshold = read_manifest(folder).threshold
    build(monkeypatch, run, catalogue, folder, "--add")
    assert len(contents(folder)) == PRODUCTS and read_manifest(folder).threshold == threshold
    assert read_manifest(folder).data["path"] == str(few)


def test_without_a_name_what_was_added_stays(built, run, catalogue, tmp_path, monkeypatch, capsys):
    """Whatever else the call is for; the index's own catalogue is brought up to date."""
    folder = tmp_path / "index"
    shutil.copytree(built, folder)

    def change(rows):  # 1003 as another shop tells it, and two that are new
        known = rows[rows["id"] == "1003"].assign(caption="Mauve disc on white")
        return pd.concat([known, rows.iloc[[4, 5]].assign(id=["3000", "3001"])])

    build(monkeypatch, run, table(catalogue, tmp_path / "next", change), folder, "--add")
    before = contents(folder)
    assert before["1003"][0][0]["title"] == "Mauve disc on white" and len(before) == PRODUCTS + 2
    bare = ("--output", folder, "--device", "cpu")
    capsys.readouterr()
    run_main(index.main, monkeypatch, *bare, "--engine", "hnsw")
    out = capsys.readouterr().out
    assert "122 products before; 0 new, 0 changed, 0 gone; 3 that --add brought stay as they are" in out
    assert_same(contents(folder), before)
    run_main(index.main, monkeypatch, "--output", folder, "--remove", "3000")
    run_main(index.main, monkeypatch, *bare, "--add")
    assert "0 gone; 2 that --add brought stay" in capsys.readouterr().out
    fewer = table(catalogue, tmp_path / "fewer", lambda rows: rows[~rows["id"].isin(["1001", "1003"])])
    manifest = read_manifest(folder)
    options = manifest.data["options"] | {"data": str(fewer)}  # as if it had been edited in its place
    write_manifest(folder, replace(manifest, data=manifest.data | {"options": options}))
    run_main(index.main, monkeypatch, *bare)
    assert "121 products before; 0 new, 0 changed, 1 gone; 2 that --add" in capsys.readouterr().out
    assert_same(contents(folder), {key: before[key] for key in before.keys() - {"1001", "3000"}})
    build(monkeypatch, run, fewer, folder, "--add")
    assert read_manifest(folder).added == ["1003", "3001"], "its own catalogue is no addition"
    own = pd.read_csv(catalogue, dtype=str)
    own[own["id"] != "1001"].to_csv(fewer, index=False)
    build(monkeypatch, run, fewer, folder, "--add")
    assert read_manifest(folder).added == ["3001"], "what it holds again is its own again"
    build(monkeypatch, run, catalogue, folder)
    assert "--add brought" not in capsys.readouterr().out and contents(folder).keys() == contents(built).keys()
    assert read_manifest(folder).added == []


def test_an_addition_keeps_the_rest_and_products_come_and_go(built, run, catalogue, tmp_path, monkeypatch):
    folder = tmp_path / "index"
    shutil.copytree(built, folder)
    few = table(catalogue, tmp_path / "few", lambda rows: rows.head(3).assign(id=["3000", "3000", "3001"]))
    build(monkeypatch, run, few, folder, "--add")
    assert len(contents(folder)) == PRODUCTS + 2
    before = contents(folder)
    run_main(index.main, monkeypatch, "--output", folder, "--remove", "1000", "1002", "--remove", "3000")
    assert_same(contents(folder), {key: value for key, value in before.items() if key not in ("1000", "1002", "3000")})
    build(monkeypatch, run, few, folder, "--add")
    assert "3000" in contents(folder) and "1000" not in contents(folder)
    with pytest.raises(InputError, match="--remove: 1 of these products are not in the index, 1000 is the first"):
        run_main(index.main, monkeypatch, "--output", folder, "--remove", "1000", "1001")


def test_many_segments_are_made_one_without_embedding(built, tmp_path, monkeypatch):
    folder = tmp_path / "index"
    shutil.copytree(built, folder)
    before = contents(folder)
    gone = [f"{1000 + number}" for number in range(40)]
    run_main(index.main, monkeypatch, "--output", folder, "--remove", *gone)
    manifest = read_manifest(folder)
    assert len(manifest.segments) == 1 and manifest.removed == {}
    assert [path.name for path in (folder / "segments").iterdir()] == manifest.segments
    assert_same(contents(folder), {key: value for key, value in before.items() if key not in gone})


MOMENTS = ("replace:index.json 1", "replace:index.json 3", "replace:000001 1", "replace:000002 1")


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_it_writes_it_goes_on(moment, built, run, catalogue, tmp_path):
    folder = tmp_path / "index"
    words = ["--run", run, "--data", catalogue, "--output", folder, "--device", "cpu"]
    killing.run(moment, "search_in_pieces:main", *words, log=tmp_path / "log")
    if (folder / "index.json").is_file():
        known = live_products(folder, read_manifest(folder))
        assert len(known) < PRODUCTS and known.items() <= live_products(built, read_manifest(built)).items()
    killing.run("never", "search_in_pieces:main", *words, log=tmp_path / "log")
    assert_same(contents(folder), contents(built))
    assert not list(folder.rglob("*.part*")) and len(list((folder / "segments").iterdir())) == 4


def test_a_folder_of_something_else_stays(run, catalogue, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and no index, so it stays as it is"):
        build(monkeypatch, run, catalogue, tmp_path)


def test_one_process_writes_an_index_at_a_time(built, run, catalogue, tmp_path, monkeypatch, capsys):
    """A second one would read the manifest before the first has written its products into it."""
    folder = tmp_path / "index"
    for _ in ("a new one", "one that is there"):
        with writing(folder), pytest.raises(InputError, match=r"another search/index\.py writes this index; wait"):
            build(monkeypatch, run, catalogue, folder)
        shutil.copytree(built, folder, dirs_exist_ok=True)

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    build(monkeypatch, run, catalogue, folder)
    assert "cannot be locked (No locks available); start no other" in capsys.readouterr().out


def test_an_index_of_another_run_is_refused(built, run, catalogue, tmp_path, monkeypatch):
    other = train(monkeypatch, catalogue, tmp_path / "other", epochs=1, seed=5)
    with pytest.raises(InputError, match=r"not an index of .*other: built with deep_cmpl with weights \w+"):
        Search(built, run=other, device="cpu")
    with pytest.raises(InputError, match="an index of another run or of other weights than"):
        build(monkeypatch, other, catalogue, built)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "index.json").unlink(), "no index there; build one with search/index.py"),
        (lambda folder: (folder / "index.json").write_text("{"), "a broken index, it cannot be read"),
        (lambda folder: (folder / "index.json").write_text('{"version": 9}'), "of version 9, this is 1"),
        (lambda folder: (folder / "segments" / "000001" / "image_emb.npy").write_bytes(b"x"), "000001: a broken index"),
        (lambda folder: (folder / "segments" / "000001" / "texts.parquet").unlink(), "000001: a broken index"),
    ],
)
def test_a_broken_index(spoil, message, built, tmp_path):
    shutil.copytree(built, tmp_path / "index")
    spoil(tmp_path / "index")
    with pytest.raises(InputError, match=message):
        Search(tmp_path / "index", device="cpu")


def test_index_tells_of_a_broken_index(built, tmp_path, monkeypatch):
    folder = tmp_path / "index"
    shutil.copytree(built, folder)
    (folder / "segments" / "000001" / "products.parquet").unlink()
    for words in ((), ("--remove", "1000")):
        with pytest.raises(InputError, match="000001: a broken index, a file of it cannot be read"):
            run_main(index.main, monkeypatch, "--output", folder, "--device", "cpu", *words)


@pytest.mark.parametrize("name", ["index.json", "segments/000001/products.parquet", "segments/000001/text_emb.npy"])
def test_an_index_that_may_not_be_read_is_not_told_as_broken(name, built, monkeypatch):
    """root, who may run the tests, reads everything: the readers refuse in the system's place."""

    def refusing(reader):
        def read(file, *words, **options):
            if Path(file) == built / name:
                raise PermissionError(errno.EACCES, "Permission denied")
            return reader(file, *words, **options)

        return read

    for reader in ("pathlib.Path.read_text", "pandas.read_parquet", "numpy.load"):
        monkeypatch.setattr(reader, refusing(pkgutil.resolve_name(reader)))
    place = built / name if name == "index.json" else (built / name).parent
    with pytest.raises(InputError) as raised:
        Search(built, device="cpu")
    assert str(raised.value) == (
        f"{place}: this user may not read it; let its owner give the right (chmod -R a+rX {place.parent})"
    )
    if name.endswith("products.parquet"):
        with pytest.raises(InputError, match="this user may not read it"):
            run_main(index.main, monkeypatch, "--output", built, "--remove", "1000")


# --- queries -------------------------------------------------------------------------------------------


def test_words_find_what_a_product_of_all_scores_finds(search):
    emb = search.encoder.texts(["red disc on white"])[0]
    scores = pd.Series(search.image_emb @ emb).groupby(search.product_of_image).max().sort_values(ascending=False)
    answer = search.by_text("red disc on white", top=7)
    assert [result.id for result in answer.results] == search.products["id"].iloc[scores.index[:7]].tolist()
    assert [result.score for result in answer.results] == pytest.approx(scores[:7].tolist(), abs=1e-4)
    assert [result.rank for result in answer.results] == list(range(1, 8))


def test_a_trained_run_finds_products_by_their_titles(search):
    found = [search.by_text(row["title"], top=5) for row in tiny_products(PRODUCTS)]
    hits = [row["id"] in [result.id for result in answer.results]
            for row, answer in zip(tiny_products(PRODUCTS), found, strict=True)]  # fmt: skip
    assert np.mean(hits) > 0.2, "chance is 0.04"


def test_a_picture_finds_itself_and_its_words(search, catalogue):
    row = tiny_products(PRODUCTS)[7]
    file = catalogue.parent / "images" / "1007-0.jpg"
    for picture in (file, str(file), file.read_bytes(), Image.open(file)):
        answer = search.by_image(picture, top=3)
        assert answer.results[0].id == "1007" and answer.results[0].score > 0.99 and answer.matches is None
    words = search.words(file, top=PRODUCTS)
    assert len(words) == PRODUCTS and words[0][1] >= words[1][1]
    assert [text for text, _ in words].index(row["title"]) < 20


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pillows_pictures_are_seen_as_their_files_are(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = encoded(Image.open(io.BytesIO(drawing("red", "triangle", "grey", (32, 24)))), "PNG", exif=exif)
    expected = decoded(photo, (40, 30))
    with Image.open(io.BytesIO(photo)) as image:
        assert np.array_equal(decoded(image, (40, 30)), expected)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_pillows_pictures_of_any_kind(mode):
    image = Image.new("RGB", (8, 8), (204, 204, 204))
    assert np.abs(decoded(image.convert(mode), (8, 8)).astype(int) - 204).max() < 4


@pytest.mark.parametrize("mode", ["La", "I", "F"])
def test_pillows_pictures_of_no_known_colours(mode):
    with pytest.raises(InputError, match=f"the picture, of Pillow's mode {mode}: cannot be read"):
        decoded(Image.new(mode, (8, 8)), (8, 8))


def test_words_beside_a_picture_pull_the_answer_their_way(search, catalogue):
    file = catalogue.parent / "images" / "1007-0.jpg"
    alone, text = search.by_image(file, top=5), search.by_text("blue bar on grey", top=5)
    ids = lambda answer: [result.id for result in answer.results]  # noqa: E731
    assert ids(search.by_image(file, "blue bar on grey", weight=0.0, top=5)) == ids(alone)
    assert ids(search.by_image(file, "blue bar on grey", weight=1.0, top=5)) == ids(text)
    with pytest.raises(InputError, match=r"weight 1\.5: expected a number from 0 to 1"):
        search.by_image(file, "blue", weight=1.5)


def test_a_product_finds_the_like_and_not_itself(search):
    answer = search.similar("1010", top=PRODUCTS)
    assert "1010" not in [result.id for result in answer.results] and len(answer.results) == PRODUCTS - 1
    with pytest.raises(InputError, match=r"101O: no such product in .*; did you mean 1[01]+\?"):
        search.similar("101O")
    with pytest.raises(InputError, match=r"zzz: no such product in \S+$"):
        search.similar("zzz")


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_conditions_leave_only_what_meets_them(kind, search):
    search.images = Neighbours(search.image_emb, kind)
    rows = {row["id"]: row for row in tiny_products(PRODUCTS)}
    answer = search.by_text("a disc", top=PRODUCTS, where=["Colour=RED", "shape!=bar"])
    wanted = {name for name, row in rows.items() if row["colour"] == "red" and row["shape"] != "bar"}
    assert {result.id for result in answer.results} == wanted and len(wanted) > 3
    assert search.by_text("a disc", where=["colour=red", "colour=blue"]).results == []
    likes = search.similar("1010", top=PRODUCTS, where=["shape!=bar"]).results
    assert {result.id for result in likes} == {name for name, row in rows.items() if row["shape"] != "bar"} - {"1010"}
    assert len(search.similar("1010", top=PRODUCTS).results) == PRODUCTS - 1


def test_a_product_has_the_values_of_all_its_rows(built, run, catalogue, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "index"
    shutil.copytree(built, folder)

    def change(rows):  # of two images that 1010 has
        rows.loc[rows["image"] == "images/1010-1.jpg", ["colour", "title"]] = ["mauve", ""]
        return rows

    build(monkeypatch, run, table(catalogue, tmp_path / "new", change), folder)
    assert "0 new, 1 changed, 0 gone" in capsys.readouterr().out
    search, colour = Search(folder, device="cpu"), tiny_products(PRODUCTS)[10]["colour"]
    conditions = ("colour=Mauve", f"colour={colour}", "title=", "colour!=mauve", f"colour!={colour}")
    answers = [search.by_text("disc", PRODUCTS, [condition]) for condition in conditions]
    found = [{result.id: result.attributes for result in answer.results} for answer in answers]
    assert ["1010" in ids for ids in found] == [True, True, True, False, False] and len(found[3]) == PRODUCTS - 1
    assert found[0]["1010"]["colour"] == f"{colour}, mauve" and found[0]["1010"]["title"] == "No. 10"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("red", "--where red: expected ATTRIBUTE=VALUE or ATTRIBUTE!=VALUE"),
        ("color=red", "no attribute 'color' in the index; did you mean colour?"),
        ("size=4", "no attribute 'size' in the index; there are colour, shape, title"),
        ("colour=rad", "no product has this colour; there are red, "),
    ],
)
def test_conditions_that_cannot_be_met_are_told(condition, message, search):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        search.by_text("disc", where=[condition])


def test_what_matches_nothing_is_said(search):
    threshold = search.manifest.threshold
    assert -1 < threshold < 1
    best = search.by_text(tiny_products(1)[0]["title"])
    assert best.matches is (best.results[0].score >= threshold)
    low = search.by_text("qwertz uiop")
    assert low.matches is (low.results[0].score >= threshold)
    with pytest.raises(InputError, match="an empty query"):
        search.by_text("  ")


def test_more_is_asked_for_than_there_is(search):
    assert len(search.by_text("disc", top=10_000).results) == PRODUCTS
    with pytest.raises(InputError, match="--top 0: expected a number from 1 up"):
        search.by_text("disc", top=0)


# --- the graph -----------------------------------------------------------------------------------------


def test_a_graph_finds_nearly_what_comparing_with_all_finds(monkeypatch):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))
    vectors = centres[rng.integers(0, 40, 3000)] + 0.4 * rng.standard_normal((3000, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    exact, graph = Neighbours(vectors), Neighbours(vectors, "hnsw")
    scores, found = exact.nearest(vectors[:5], 4)
    order = np.argsort(-(vectors[:5] @ vectors.T), axis=1, kind="stable")[:, :4]
    assert np.array_equal(found, order) and np.allclose(scores[:, 0], 1, atol=1e-5)
    assert graph.recall(vectors[:200], exact) > 0.95
    assert exact.recall(vectors[:20], exact) == 1.0
    few = vectors[:5]  # there are no more to be found, and what fills an answer does not count
    assert Neighbours(few, "hnsw").recall(vectors[:20], Neighbours(few)) == 1.0
    lost = Neighbours(few, "hnsw")
    monkeypatch.setattr(lost, "nearest", lambda queries, top: (None, np.tile([0, 1, -1, -1, -1], (len(queries), 1))))
    assert lost.recall(vectors[:20], Neighbours(few)) == pytest.approx(0.4)


def test_a_graph_loses_nothing_under_a_condition(tmp_path):
    """What is allowed lies far from the query, and from what a walk through the graph passes."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 16))
    vectors = centres[rng.integers(0, 60, 6000)] + 0.3 * rng.standard_normal((6000, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    query, scores = vectors[:1], vectors @ vectors[0]
    allowed = np.argsort(np.argsort(scores)) < 50
    Neighbours(vectors, "hnsw").write(tmp_path)
    for graph in (Neighbours(vectors, "hnsw"), Neighbours.read(tmp_path)):
        found = graph.nearest(query, 60, allowed)[1][0]
        assert np.array_equal(found[:50], np.argsort(-scores)[-50:]) and (found[50:] == -1).all()
        assert graph.nearest(query, 10)[1][0][0] == 0


def test_a_graph_is_kept_and_built_again_when_products_change(built, run, catalogue, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "index"
    shutil.copytree(built, folder)
    build(monkeypatch, run, catalogue, folder, "--engine", "hnsw")
    assert "% of the 10 nearest images of 120 captions" in capsys.readouterr().out
    assert Search(folder, device="cpu").images.kind == "hnsw"
    build(monkeypatch, run, catalogue, folder, "--engine", "hnsw")
    assert "building" not in capsys.readouterr().out
    run_main(index.main, monkeypatch, "--output", folder, "--remove", "1000", "--engine", "hnsw")
    assert "building the graph" in capsys.readouterr().out
    assert Search(folder, device="cpu").images.count == read_all(folder, read_manifest(folder)).image_emb.shape[0]
    (folder / "hnsw.faiss").write_bytes(b"x")
    with pytest.raises(InputError, match=r"hnsw\.faiss: cannot be read"):
        Search(folder, device="cpu")
    few = table(catalogue, tmp_path / "few", lambda rows: rows.iloc[1:6])
    build(monkeypatch, run, few, tmp_path / "five", "--engine", "hnsw")
    assert "the graph finds 100.0% of the 5 nearest images of 5 captions" in capsys.readouterr().out
    assert [chosen("auto", count) for count in (1000, 100_000, 100_001)] == ["exact", "exact", "hnsw"]


# --- the command line ----------------------------------------------------------------------------------


def test_a_table_json_and_a_grid(built, tmp_path, monkeypatch, capsys):
    words = [built, "red disc on white", "--top", 7, "--device", "cpu"]
    run_main(query.main, monkeypatch, *words, "--grid", tmp_path / "a.png")
    lines = capsys.readouterr().out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("rank"))
    assert lines[head].split() == ["rank", "score", "id", "title", "attributes"]
    assert lines[-1] == f"pictures: {tmp_path / 'a.png'}" and len(lines) - head == 9
    with Image.open(tmp_path / "a.png") as grid:
        assert grid.format == "PNG" and min(grid.size) > 500
    run_main(query.main, monkeypatch, *words, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["query"] == "red disc on white" and len(found["results"]) == 7
    assert list(found["results"][0]) == ["rank", "id", "title", "score", "attributes"]
    assert found["results"] == Search(built, device="cpu").by_text("red disc on white", 7).json()["results"]


def test_a_grid_of_titles_that_the_font_lacks_is_drawn_without_a_warning(built, tmp_path, recwarn):
    titles = ["लाल कुर्ता", "红色 手提包", "👗 dress", "plain"]
    results = [Result(rank, f"{1000 + rank}", title, 0.5, {}) for rank, title in enumerate(titles, start=1)]
    query.draw_grid(Answer("लाल 👗", results), Search(built, device="cpu"), tmp_path / "a.png")
    assert not [str(warning.message) for warning in recwarn if warning.category is UserWarning]
    with Image.open(tmp_path / "a.png") as grid:
        assert min(grid.size) > 300


def test_weight_is_the_share_of_the_words(built, catalogue, monkeypatch, capsys):
    file, found = catalogue.parent / "images" / "1007-0.jpg", []
    for words in (["--weight", "0.5"], [], ["--weight", "0"], ["--weight", "1"]):
        run_main(
            query.main, monkeypatch, built, "--image", file, "--text", "blue bar", *words, "--json", "--device", "cpu"
        )
        found.append(json.loads(capsys.readouterr().out)["results"])
    assert found[0] == found[1] and found[2] != found[1] != found[3]


def test_a_narrow_window_cuts_nothing(monkeypatch, capsys):
    found = Result(1, "11137", "a long title " * 20, 0.7126, {"colour": "navy blue", "type": "attribute " * 20})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")  # 80 columns, no bold letters
    query.print_table(Answer("words", [found]), search=None)
    words = capsys.readouterr().out.split()
    assert words[:3] == ["rank", "score", "id"] and words[5:8] == ["1", "0.713", "11137"]
    assert words.count("title") == 1 + 20 and words.count("attribute") == 20


def test_a_picture_and_its_words(built, catalogue, monkeypatch, capsys):
    file = catalogue.parent / "images" / "1007-0.jpg"
    run_main(query.main, monkeypatch, built, "--image", file, "--describe", "--top", 3, "--json", "--device", "cpu")
    found = json.loads(capsys.readouterr().out)
    assert [caption["rank"] for caption in found["captions"]] == [1, 2, 3]
    run_main(query.main, monkeypatch, built, "--like", "1007", "--where", "shape=disc", "--json", "--device", "cpu")
    assert all(result["attributes"]["shape"] == "disc" for result in json.loads(capsys.readouterr().out)["results"])


def test_conditions_may_be_given_together_or_one_by_one(built, monkeypatch, capsys):
    for between in ([], ["--where"]):
        run_main(query.main, monkeypatch, built, "disc", "--json", "--device", "cpu", "--top", 50,
                 "--where", "shape=disc", "colour!=red", *between, "colour!=blue")  # fmt: skip
        found = [result["attributes"] for result in json.loads(capsys.readouterr().out)["results"]]
        assert found and all(one["shape"] == "disc" and one["colour"] not in ("red", "blue") for one in found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give words, --image FILE or --like ID; none is given"),
        (["disc", "--like", "1000"], "words and --like are given"),
        (["disc", "--text", "red"], "--text is about a picture"),
        (
            ["--where", "colour=red", "shape!=bar", "blue", "disc"],
            "none is given: --where took 'blue disc' as a condition; put the words before the options",
        ),
        (["--where", "colour=red"], "none is given$"),
        (["disc", "--weight", "0.2"], r"--weight 0\.2: it weighs words against a picture: name both, --image FILE and"),
        (["--image", "none.jpg", "--text", " ", "--weight", "0.5"], r"--weight 0\.5: it weighs words against"),
        (["--image", "none.jpg", "--text", "red", "--weight", "0.2"], "--image none.jpg: no such file"),
        (["disc", "--describe"], "--describe is about a picture"),
        (["--image", "none.jpg", "--describe", "--text", "red"], "--text is about products, --describe gives captions"),
        (["--image", "none.jpg", "--describe", "--grid", "a.png"], "--grid is about products, --describe gives"),
        (["--image", "none.jpg", "--describe", "--where", "colour=red"], "--where is about products, --describe gives"),
        (["--image", "none.jpg"], "--image none.jpg: no such file"),
        (["disc", "--grid", "a.pdf"], "--grid a.pdf: expected the name of a .png file"),
    ],
)
def test_mistakes(words, message, built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run_main(query.main, monkeypatch, built, *words)


def test_a_text_as_a_picture(built, tmp_path, monkeypatch):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text.jpg: no image that can be decoded \(cannot identify image file"):
        run_main(query.main, monkeypatch, built, "--image", tmp_path / "text.jpg", "--device", "cpu")


def test_the_benchmark_prints_its_figures(built, monkeypatch, capsys):
    run_main(search_latency.main, monkeypatch, "--index", built, "--queries", 5, "--device", "cpu")
    out = capsys.readouterr().out
    assert out.startswith("120 products, 132 images, 32 dimensions, exact search, ")
    figures = dict(line.split(": ") for line in out.splitlines() if "_ms: " in line)
    names = ["text", "text_encoding", "search", "image", "image_encoding"]
    assert list(figures) == [f"{name}_p50_ms" for name in names] and all(float(value) > 0 for value in figures.values())


@pytest.fixture(scope="module")
def own(data, tmp_path_factory):
    """A run and its index of products that have one image each."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        run = train(monkeypatch, data, folder / "run", epochs=8)
        return run, build(monkeypatch, run, data, folder / "index")


def test_recall_through_the_index_is_that_of_eval(own, data, monkeypatch):
    """Of all products: what the first K results hold."""
    run, folder = own
    report = evaluate(monkeypatch, run, "--split", "all")
    search = Search(folder, device="cpu")
    rows = pd.read_csv(data, dtype=str)
    captions, files = rows["caption"].tolist(), [data.parent / name for name in rows["image"]]
    found = [[result.title for result in search.by_text(caption).results] for caption in captions]
    words = [[text for text, _ in search.words(file)] for file in files]
    for direction, results in (("text_to_image", found), ("image_to_text", words)):
        for top in (1, 5, 10):
            hits = [caption in some[:top] for caption, some in zip(captions, results, strict=True)]
            assert 100 * np.mean(hits) == pytest.approx(report[direction][f"R@{top}"], abs=1e-6)
        assert 0 < report[direction]["R@1"] < 100


def test_the_benchmark_compares_recall_with_that_of_eval(own, tmp_path, monkeypatch, capsys):
    run, folder = own
    found, report = evaluate(monkeypatch, run), tmp_path / "report.json"
    report.write_text(json.dumps(found))
    given = (monkeypatch, "--index", folder, "--report", report, "--device", "cpu")
    with pytest.raises(SystemExit) as ended:
        run_main(search_recall.main, *given)
    assert ended.value.code == 0 and "largest_difference: 0.000" in capsys.readouterr().out
    found["text_to_image"]["R@5"] -= 1
    report.write_text(json.dumps(found))
    with pytest.raises(SystemExit) as ended:
        run_main(search_recall.main, *given)
    assert ended.value.code == 1 and "largest_difference: 1.000" in capsys.readouterr().out


def test_the_benchmark_tells_which_product_an_index_lacks(own, data, tmp_path, monkeypatch):
    run, folder = own
    (tmp_path / "report.json").write_text(json.dumps(evaluate(monkeypatch, run)))
    shutil.copytree(folder, tmp_path / "index")
    removed = load_data(CatalogueOptions(data=data), (32, 24), sample=None).rows("test")["product"].iloc[0]
    run_main(index.main, monkeypatch, "--output", tmp_path / "index", "--remove", removed)
    given = "--index", tmp_path / "index", "--report", tmp_path / "report.json", "--device", "cpu"
    with pytest.raises(InputError, match=f"index: lacks 1 products of the test split, {removed} is the first"):
        run_main(search_recall.main, monkeypatch, *given)


def test_the_benchmark_compares_exact_search_and_a_graph(built, monkeypatch, capsys):
    run_main(search_latency.main, monkeypatch, "--index", built, "--copies", 3, "--queries", 20, "--device", "cpu")
    figures = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert list(figures) == ["images", "exact_p50_ms", "hnsw_p50_ms", "graph_build_seconds", "graph_recall"]
    assert figures["images"] == "396" and 0.9 < float(figures["graph_recall"]) <= 1
