"""Each public layout as its users meet it: an archive is unpacked, looked at, trained on with each model, evaluated."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from public_formats import FORMATS
from tiny_runs import MODELS, arguments, remove_caches

from common.catalogue import open_catalogue

ROOT = Path(__file__).resolve().parents[1]
PRODUCTS = 180
PRETRAINED = {"image_encoder": "efficientnet-lite0", "image_weights": "imagenet"}
pytestmark = pytest.mark.slow


def run(script: str, *words) -> str:
    """A script in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, words)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def unpacked(archive: Path, output: Path) -> Path:
    """Where prepare.py says the catalogue is."""
    told = run("data/prepare.py", "unpack", archive, "--output", output)
    return Path(re.search(r"^use it with --data (.+)$", told, re.M)[1])


def sizes_of_splits(screen: str) -> list[int]:
    found = re.search(r"split: products in train ([\d,]+), val ([\d,]+), test ([\d,]+)", screen)
    return [int(number.replace(",", "")) for number in found.groups()]


@pytest.mark.parametrize("kind", FORMATS)
def test_from_the_archive_to_the_recall(kind, tmp_path):
    unusable = FORMATS[kind](tmp_path / "made" / kind, PRODUCTS)
    archive = shutil.make_archive(str(tmp_path / "published"), "gztar", tmp_path / "made")
    data = unpacked(Path(archive), tmp_path / "out")
    assert data == tmp_path / "out" / kind

    screen = run("data/check.py", data, "--output", tmp_path / "sheet.png")
    for reason, count in unusable.items():
        assert re.search(rf"left out {count} rows?: {re.escape(reason)}", screen), screen
    assert (tmp_path / "sheet.png").stat().st_size > 50_000
    rows = open_catalogue(data).rows
    assert sum(sizes_of_splits(screen)) == rows["product"].nunique() >= PRODUCTS - 3

    for model in MODELS:
        settings = {"epochs": 2} | (PRETRAINED if model != "deep_cmpl" else {})
        output, report = tmp_path / model, tmp_path / f"{model}.json"
        run(f"{model}/train.py", *arguments(data, output, model, **settings))
        by = ["--by", "partition"] if "partition" in rows else []
        run(f"{model}/eval.py", "--run", output, "--device", "cpu", "--json", report, *by)
        found = json.loads(report.read_text())
        assert found["model"] == model and found["gallery"]["products"] == sizes_of_splits(screen)[2]
        assert 0 < found["rsum"] <= 600
        assert json.loads((output / "config.json").read_text())["data"]["path"] == str(data)
    remove_caches(data)


def test_the_real_archive(fashion_data, tmp_path):
    data = unpacked(fashion_data / "fashion-product-images-224.tar", tmp_path / "out")
    screen = run("data/check.py", data, "--output", tmp_path / "sheet.png")
    assert "left out 6 rows: the image file does not exist" in screen and "read whole: 1" in screen
    assert sum(sizes_of_splits(screen)) == 9003
    output, report = tmp_path / "run", tmp_path / "report.json"
    run("deep_cmpl/train.py", *arguments(data, output, epochs=1, word_dim=32, batch_size=64))
    run("deep_cmpl/eval.py", "--run", output, "--device", "cpu", "--json", report)
    found = json.loads(report.read_text())
    assert found["gallery"]["products"] == sizes_of_splits(screen)[2] and found["rsum"] > 10, "chance is 3.7"
    remove_caches(data)
