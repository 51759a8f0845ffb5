"""Fixtures that several test files use."""

import gc
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: a process has one core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # compiling ranx takes longer than all that it computes here

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import catalogues
import numpy as np
import pytest
import torch
from disks import mounted
from served_pages import catalogue, folder, search, served  # noqa: F401, fixtures
from tiny_runs import remove_caches, train, use_patches

CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def fashion_data() -> Path:
    """The folder of real data that the environment variable FASHION_DATA names."""
    named = os.environ.get("FASHION_DATA")
    if not named:
        pytest.skip("FASHION_DATA is not set: the tests on real data need the folder that it names")
    place = Path(named)
    if not place.is_dir():
        pytest.skip(f"FASHION_DATA = {named}: no such folder")
    return place


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


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MiB."""
    try:
        mounted(tmp_path / "disk", "-o", "size=1m")
    except FileNotFoundError:
        pytest.skip("no disk can be mounted here")
    yield tmp_path / "disk"
    gc.collect()  # an error that nobody sees any more may hold a file there open
    subprocess.run(["umount", tmp_path / "disk"], check=True)


@pytest.fixture
def patches(monkeypatch):
    """Trainings with a stub for the image encoder and without curves, which take longer than all else in them."""
    use_patches(monkeypatch)
    monkeypatch.setattr("common.monitoring.draw_curves", lambda *_: None)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of three epochs with that stub."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        monkeypatch.setattr("common.monitoring.draw_curves", lambda *_: None)
        return train(monkeypatch, data, tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture
def learned(monkeypatch):
    """In place of learning word2vec: random vectors. Collects the captions that it would have learned from."""
    asked = []

    def vectors(tokenizer, captions, settings):
        asked.append(list(captions))
        return np.random.default_rng(0).standard_normal((len(tokenizer), settings.word_dim), dtype=np.float32)

    # in place of the module, so that gensim is not imported
    monkeypatch.setitem(sys.modules, "common.word2vec", SimpleNamespace(word_vectors=vectors))
    return asked


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The folder of a transformer with one layer of 12, random weights and six tokens."""
    import transformers

    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=6, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no browser: neither chromium, chromium-browser nor google-chrome is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
