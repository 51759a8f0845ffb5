"""The drawn sample catalogue: its layout, its titles, and that it is written all or not at all."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from tiny_runs import run_main

from common.errors import InputError
from data import sample
from data.sample import KINDS, SILHOUETTES, make_sample, sample_table

HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
PRODUCTS = 60


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("one") / "sample", PRODUCTS)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return sample_table()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_the_same_bytes(catalogue, tmp_path):
    assert contents(make_sample(tmp_path / "sample", PRODUCTS)) == contents(catalogue)


def test_other_seed_gives_other_products(table):
    assert not sample_table(seed=1).productDisplayName.equals(table.productDisplayName)


def test_layout_is_that_of_fashion_product_images(catalogue):
    lines = (catalogue / "styles.csv").read_text().splitlines()
    assert lines[0] == HEADER
    assert all(line.count(",") == HEADER.count(",") and '"' not in line for line in lines)
    ids = [line.split(",")[0] for line in lines[1:]]
    assert ids == [str(number) for number in range(10000, 10000 + PRODUCTS)]
    assert {path.stem for path in (catalogue / "images").glob("*.jpg")} == set(ids)


def test_pictures_differ_and_are_large_enough(catalogue):
    pictures = list((catalogue / "images").iterdir())
    assert len({path.read_bytes() for path in pictures}) == PRODUCTS
    for path in pictures:
        with Image.open(path) as picture:
            assert min(picture.size) >= 96 and picture.mode == "RGB"


def test_written_table_is_the_announced_one(catalogue):
    written = pd.read_csv(catalogue / "styles.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(written, sample_table(PRODUCTS), check_dtype=False)


def test_default_catalogue_is_large_and_varied(table):
    assert len(table) >= 1200 and table.articleType.nunique() >= 20
    assert 0.005 < (table.season == "").mean() < 0.03
    assert not table.productDisplayName.str.contains(",").any()
    assert KINDS.keys() == SILHOUETTES.keys()


def test_some_titles_are_shared(table):
    sizes = table.productDisplayName.value_counts()
    assert 0.08 < sizes[sizes > 1].sum() / len(table) < 0.17


def test_many_titles_differ_in_one_word(table):
    """Titles that become equal when one word is left out are one attribute apart."""
    words = table.productDisplayName.drop_duplicates().str.split()
    shortened = [(*title[:place], "", *title[place + 1 :]) for title in words for place in range(len(title))]
    assert pd.Series(shortened).duplicated().sum() > 200


def test_complete_catalogue_is_not_drawn_again(catalogue, monkeypatch):
    monkeypatch.setattr(sample, "write_catalogue", lambda *_: pytest.fail("drawn again"))
    assert make_sample(catalogue, PRODUCTS) == catalogue


def test_older_version_is_drawn_again(tmp_path, monkeypatch):
    folder = make_sample(tmp_path / "sample", 2)
    monkeypatch.setattr(sample, "VERSION", sample.VERSION + 1)
    (folder / "images" / "left-over.jpg").touch()
    make_sample(folder, 2)
    assert len(list((folder / "images").iterdir())) == 2
    assert list(tmp_path.iterdir()) == [folder]


def test_users_own_folder_is_never_overwritten(tmp_path):
    (tmp_path / "styles.csv").write_text("mine")
    with pytest.raises(InputError, match=str(tmp_path)):
        make_sample(tmp_path, 2)
    assert contents(tmp_path) == {"styles.csv": b"mine"}


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(folder: Path, products: int, seed: int) -> None:
        (folder / "styles.csv").write_text(HEADER)
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "write_catalogue", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_sample(tmp_path / "sample", 2)
    assert not list(tmp_path.iterdir())


def test_command_runs_from_any_folder(tmp_path):
    command = [sys.executable, sample.__file__, "--output", "drawn", "--products", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "3 drawn products" in done.stdout
    assert (tmp_path / "drawn" / "styles.csv").exists()


@pytest.mark.parametrize("products", ["0", "-1"])
def test_no_products_are_refused(products, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=f"^--products {products}: expected a number from 1 up$"):
        run_main(sample.main, monkeypatch, "--output", tmp_path / "drawn", "--products", products)
    assert not list(tmp_path.iterdir())
