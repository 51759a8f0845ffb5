"""Fixtures that several test files use."""

import os
from pathlib import Path

import catalogues
import pytest
from tiny_runs import remove_caches


@pytest.fixture(scope="session")
def fashion_data() -> Path:
    """The folder of real data that the environment variable FASHION_DATA names."""
    named = os.environ.get("FASHION_DATA")
    if not named:
        pytest.skip("FASHION_DATA is not set: the tests on real data need the folder that it names")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"FASHION_DATA = {named}: no such folder")
    return folder


@pytest.fixture(scope="session")
def tiny_catalogue():
    """The function `tiny_catalogue(folder, products=60, kind="csv") -> Path`."""
    return catalogues.tiny_catalogue


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_catalogue):
    """A table of 120 products, for trainings of a second or two."""
    path = tiny_catalogue(tmp_path_factory.mktemp("catalogue"), products=120)
    yield path
    remove_caches(path)
