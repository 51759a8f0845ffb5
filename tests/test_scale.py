"""What lets a catalogue of millions fit: compact columns, close hashes, the limit of validation, and its benchmark."""

import json
import pickle
import subprocess
import sys
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmarks.scale import Stage, bounded, within
from common.captions import fold
from common.catalogue import open_catalogue
from common.columns import TEXT, distinct, each, first_equal, hashes, mapped, table_of, without_lists
from common.errors import InputError
from common.formats.source import NamedImages
from common.formats.table import READ_AT_ONCE, find_encoding
from common.hashing import array_digest
from common.near_duplicates import close_hashes
from common.session import limited_gallery
from common.splits import fewer_products

ROOT = Path(__file__).resolve().parents[1]


# --- columns -----------------------------------------------------------------------------------------------


def test_first_equal_is_the_first_row_with_the_same_values():
    rng = np.random.default_rng(0)
    number, text = rng.integers(0, 9, 300), pd.Series(rng.choice(["a", "b", "", "ü"], 300))
    pairs = list(zip(number.tolist(), text, strict=True))
    assert first_equal(number).tolist() == [number.tolist().index(value) for value in number]
    assert first_equal(text).tolist() == [text.tolist().index(value) for value in text]
    assert first_equal(number, text).tolist() == [pairs.index(pair) for pair in pairs]
    assert distinct(first_equal(number, text)) == len(set(pairs))
    assert first_equal(np.array([], dtype=np.uint64)).tolist() == []


def test_hashes_are_those_of_what_is_made_of_the_values():
    texts = pd.Series(["Red  shoe", "red shoe", "blue"], dtype=TEXT)
    assert hashes(texts, fold)[0] == hashes(texts, fold)[1] != hashes(texts, fold)[2]
    assert len(set(hashes(texts).tolist())) == 3
    assert hashes(texts).tolist() == hashes(texts.astype(object)).tolist()


def test_pieces_join_to_the_whole(monkeypatch):
    monkeypatch.setattr("common.columns.pieces", lambda count: (slice(n, n + 2) for n in range(0, count, 2)))
    column = pd.Series(["a", None, "c", "d", "e"], index=[3, 1, 4, 1, 5])
    found = mapped(column, str.upper)
    assert found.dtype == TEXT and found.index.tolist() == [3, 1, 4, 1, 5]
    assert found.fillna("missing").tolist() == ["A", "missing", "C", "D", "E"]
    assert list(each(column.iloc[2:])) == ["c", "d", "e"]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_a_table_of_rows_does_not_depend_on_the_pieces(monkeypatch, at_once):
    monkeypatch.setattr("common.columns.AT_ONCE", at_once)
    found = table_of(([f"a{n}", f"b{n}"] for n in range(5)), ["first", "second"])
    assert list(found) == ["first", "second"] and (found.dtypes == TEXT).all()
    assert found.to_numpy().tolist() == [[f"a{n}", f"b{n}"] for n in range(5)]
    named = [{"b": "1"}, {"a": "2", "b": None}, {"c": ["3", None], "b": "4"}, {"c": ["5"]}, {"c": []}]
    found = table_of(iter(named))
    assert list(found) == ["b", "a", "c"]
    assert found.index.tolist() == [0, 1, 2, 3, 4] and found["b"].dtype == found["a"].dtype == TEXT
    expected = [[row.get(name) for name in "abc"] for row in named]
    columns = [pa.array(found[name]).to_pylist() for name in "abc"]
    assert list(map(list, zip(*columns, strict=True))) == expected
    assert list(table_of([], ["a"])) == ["a"] and table_of([]).shape == (0, 0)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_lists_become_rows_or_one_text(monkeypatch, at_once):
    """Whichever rows come first: texts, nothing, or the lists themselves."""
    monkeypatch.setattr("common.columns.AT_ONCE", at_once)
    rows = [
        {"id": "1", "images": "a.jpg", "tags": None},
        {"id": "2"},
        {"id": "3", "images": ["b.jpg", None, ""], "tags": ["x", "", None, "y"]},
        {"id": "4", "images": [], "tags": []},
        {"id": "5", "images": ["c.jpg", "d.jpg"], "tags": "z"},
    ]
    found = without_lists(table_of(rows), ("images",))
    assert (found.dtypes == TEXT).all()
    # a list of nothing is a row without an image, which is told later
    expected = ["1 a.jpg -", "2 - -", "3 b.jpg x, y", "3 - x, y", "3  x, y", "4 - ", "5 c.jpg z", "5 d.jpg z"]
    assert found.fillna("-").agg(" ".join, axis=1).tolist() == expected
    assert found.index.tolist() == [0, 1, 2, 2, 2, 3, 4, 4]
    both = without_lists(table_of([{"a": ["1", "2"], "b": ["3", "4"]}]), ("a", "b"))
    assert both["a"].tolist() == ["1", "1", "2", "2"] and both["b"].tolist() == ["3", "4"] * 2


@pytest.mark.parametrize("name", ["shop.csv", "shop.jsonl", "kaggle"])
def test_a_table_that_is_read_in_pieces_is_the_same(tmp_path, tiny_catalogue, monkeypatch, name):
    if name == "kaggle":
        path = tiny_catalogue(tmp_path, products=9, kind="kaggle")
    else:
        path = tiny_catalogue(tmp_path, products=9)
        lines = path.read_text().splitlines()
        lines[3:3] = ["", "no proper row", lines[2]]
        if name == "shop.jsonl":
            header = lines[0].split(",")
            lines = [json.dumps(dict(zip(header, line.split(","), strict=False))) if line else "" for line in lines[1:]]
        path = path.with_name(name)
        path.write_text("\n".join(lines))
    whole = open_catalogue(path)
    monkeypatch.setattr("common.columns.AT_ONCE", 2)
    monkeypatch.setattr("common.columns.pieces", lambda count: (slice(n, n + 2) for n in range(0, count, 2)))
    pieces = open_catalogue(path)
    assert pieces.fingerprint == whole.fingerprint and pieces.report == whole.report
    pd.testing.assert_frame_equal(pieces.rows, whole.rows)
    assert list(pieces.images) == list(whole.images) and len(whole.images) == 9
    assert list(pieces.places) == list(whole.places)


def test_an_encoding_is_that_of_the_whole_file(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_bytes(b"image,caption\n" + b"a.jpg,plain\n" * 200_000 + b"b.jpg,caf\xe9\n")
    assert path.stat().st_size > 2 * READ_AT_ONCE
    assert find_encoding(path) == ("cp1252", "Windows-1252")
    path.write_bytes(b"image,caption\na.jpg,NESCAF\xc9\xae\nb.jpg,caf\xe9\nc.jpg,th\xe9\n")  # É® is a letter in UTF-8
    assert find_encoding(path) == ("cp1252", "Windows-1252")
    mixed = "image,caption\na.jpg,robe légère\nb.jpg,chemise à carreaux\n".encode() + b"c.jpg,caf\xe9\nd.jpg,th\xe9\n"
    path.write_bytes(mixed)
    with pytest.raises(InputError, match=r"shop.csv, line 4: not UTF-8, as the rest of the file is \(2 such lines\)"):
        find_encoding(path)
    path.write_bytes(b" \n" * READ_AT_ONCE)
    with pytest.raises(InputError, match=r"shop.csv: the file is empty"):
        find_encoding(path)


def test_images_that_are_files_are_kept_as_their_names(tmp_path):
    files = NamedImages(tmp_path, pd.Series(["a.jpg", "b/c.jpg", "/d.jpg"], dtype=TEXT))
    expected = [tmp_path / "a.jpg", tmp_path / "b" / "c.jpg", Path("/d.jpg")]
    assert list(files) == expected == [files[number] for number in range(len(files))]
    assert files[-1] == expected[-1]
    with pytest.raises(IndexError):
        files[3]
    assert list(pickle.loads(pickle.dumps(files))) == expected


def test_the_numbers_of_images_skip_those_that_cannot_be_used(tmp_path):
    shop = tmp_path / "shop"
    shop.mkdir()
    for name in ("shop/a.jpg", "shop/b.jpg", "outside.jpg"):
        (tmp_path / name).touch()
    names = ["a", "gone", "../outside", "b", "a", "gone"]
    (shop / "shop.csv").write_text("image,caption\n" + "".join(f"{x}.jpg,text {n}\n" for n, x in enumerate(names)))
    catalogue = open_catalogue(shop / "shop.csv")
    assert [catalogue.images[image].name for image in catalogue.rows["image"]] == ["a.jpg", "b.jpg", "a.jpg"]
    assert list(catalogue.images) == [shop / "a.jpg", shop / "b.jpg"] and len(catalogue.images) == 2
    assert catalogue.report.unusable == {
        f"the image lies outside {shop}; --image-root DIR names another folder": ["line 4"],
        "the image file does not exist": ["line 3", "line 7"],
    }


def test_the_digest_of_an_array_is_that_of_its_values_shape_and_type():
    values = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert array_digest(values) == array_digest(values.copy()) == array_digest(np.asfortranarray(values))
    others = [values + 1, values.reshape(4, 3), values.astype(np.int64), values.view(np.uint32), values[:2]]
    assert len({array_digest(other) for other in [values, *others]}) == 6


def test_the_fingerprint_is_that_of_the_whole_table_at_once(tmp_path, tiny_catalogue, monkeypatch):
    monkeypatch.setattr("common.hashing.AT_ONCE", 3)
    catalogue = open_catalogue(tiny_catalogue(tmp_path, products=10))
    sizes = [(file.name, file.stat().st_size) for file in catalogue.images]
    columns = ["product", "image", "caption", *catalogue.attributes]
    whole = json.dumps([sizes, columns, catalogue.rows[columns].to_numpy(object).tolist()])
    assert catalogue.fingerprint == blake2b(whole.encode(), digest_size=8).hexdigest()


# --- close hashes ------------------------------------------------------------------------------------------


def all_close(values: np.ndarray, distance: int) -> list[list[int]]:
    differ = np.bitwise_count(values[:, None] ^ values)
    return [[i, j] for i, j in np.argwhere(differ <= distance).tolist() if i < j]


@pytest.mark.parametrize("distance", [0, 1, 4, 9])
@pytest.mark.parametrize("count", [0, 1, 2, 60, 400])
def test_close_hashes_are_all_there_are(count, distance):
    rng = np.random.default_rng(count + distance)
    values = rng.integers(0, 2**64, max(1, count // 5), dtype=np.uint64)[rng.integers(0, max(1, count // 5), count)]
    for _ in range(6):  # families of hashes that are equal or a few bits apart
        flipped = values ^ (np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64))
        values = np.where(rng.random(count) < 0.4, flipped, values)
    assert close_hashes(values, distance).tolist() == all_close(values, distance)


# --- the limit of validation -------------------------------------------------------------------------------


ROWS = pd.DataFrame({
    "product": [f"p{n // 2}" for n in range(40)], "image": range(40), "caption": [f"shoe {n}" for n in range(40)],
})  # fmt: skip


def test_fewer_products_are_whole_and_do_not_depend_on_the_order():
    chosen = fewer_products(ROWS, 7)
    assert chosen["product"].value_counts().tolist() == [2] * 7
    shuffled = fewer_products(ROWS.sample(frac=1, random_state=1), 7)
    assert set(shuffled["product"]) == set(chosen["product"])
    without_one = fewer_products(ROWS[ROWS["product"] != chosen["product"].iloc[0]], 7)
    assert len(set(without_one["product"]) & set(chosen["product"])) == 6
    nested = [set(fewer_products(ROWS, most)["product"]) for most in range(1, 20)]
    assert all(small < large for small, large in pairwise(nested))


@pytest.mark.parametrize("most", [0, 20, 21])
def test_a_limit_that_does_not_bite_changes_nothing(most, capsys):
    assert fewer_products(ROWS, most) is ROWS
    assert limited_gallery(ROWS, most).products == 20 and capsys.readouterr().out == ""


def test_a_limit_that_bites_is_printed(capsys):
    assert limited_gallery(ROWS, 5).products == 5
    assert capsys.readouterr().out == "validation: 5 of 20 products\n"


# --- the benchmark -----------------------------------------------------------------------------------------


def stages(seconds: tuple[float, float], peaks: tuple[float, float]) -> dict[int, dict[str, Stage]]:
    return {size: {"opening": Stage(*found)} for size, *found in zip((10**6, 10**7), seconds, peaks, strict=True)}


@pytest.mark.parametrize(
    ("seconds", "peaks", "holds"),
    [
        ((10, 120), (1.9e9, 2.9e9), True),
        ((10, 1000), (1.9e9, 2.9e9), False),  # quadratic
        ((10, 120), (1.9e9, 3.1e9), False),  # 110 bytes a product
        ((0.001, 0.1), (1e9, 1e9), True),  # too short to tell
    ],
)
def test_bounds_can_fail(seconds, peaks, holds):
    assert within(bounded(stages(seconds, peaks))) is holds


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from Linux's /proc")
def test_benchmark_prints_its_figures():
    command = [sys.executable, "benchmarks/scale.py", "--sizes", "500", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode in (0, 1), done.stderr  # 1: times of so small sizes may be noise
    lines = done.stdout.splitlines()
    table = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    opened = ["opening a CSV", "opening", "caching", "near-duplicates", "splitting"]
    assert table[2:] == [*opened, "pairs", "word2vec", "run folder", "batches", "evaluating"]
    assert sum("N x M" in line and "extrapolated" in line for line in lines) == 2
    figures = dict(line.split(": ") for line in lines[-2:])
    assert list(figures) == ["peak_bytes_per_product_over_2gb", "largest_exponent"]
    assert float(figures["peak_bytes_per_product_over_2gb"]) <= 100
