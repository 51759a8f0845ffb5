"""data/check.py: one screen about a catalogue, and a sheet of pairs."""

import csv
import re
import warnings
from pathlib import Path

import pytest
from catalogues import drawing, tiny_catalogue
from PIL import Image
from tiny_runs import run_main

from common.errors import InputError
from data import check
from data.check import main


def spoilt(folder: Path) -> Path:
    """A catalogue with one defect of several kinds, and a caption of a thousand words."""
    (folder / "images").mkdir()
    rows = []
    colours = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "brown", "cyan", "navy")
    for number in range(60):
        colour, shape = colours[number % 10], ("disc", "square", "bar", "pole", "triangle", "cross")[number // 10]
        (folder / "images" / f"{number}.jpg").write_bytes(drawing(colour, shape, "white"))
        rows.append([number, f"images/{number}.jpg", f"{colour} {shape} for $5 and $6 number {number}"])
    rows[7][2] = "a word " * 1000
    rows[8][2] = ""
    rows[9][1] = "images/none.jpg"
    (folder / "images" / "10.jpg").write_bytes(b"<html>")
    file = folder / "shop.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("id", "image", "caption"), *rows])
    return file


def test_one_screen_says_it_all(tmp_path, monkeypatch, capsys):
    run_main(main, monkeypatch, spoilt(tmp_path), "--output", tmp_path / "sheets" / "sheet.png")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    out = "\n".join(lines)
    assert "left out 1 row: no caption (line 10)" in out and "the image file does not exist (line 11)" in out
    assert "image cannot be decoded: cannot identify image file (line 12)" in out
    assert "57 products, 57 images, 57 distinct captions" in out and "split: products in train" in out
    assert "captions: " in out and " to 6,999 letters" in out
    listed = lines[lines.index("the 10 longest captions:") + 1 : -1]
    assert len(listed) == 10 and listed[0].startswith("    6,999 letters, line 9: a word a word")
    assert listed[0].endswith("...") and len(listed[0]) < 150
    with Image.open(tmp_path / "sheets" / "sheet.png") as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 1000


def test_the_same_seed_draws_the_same_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "SHEET", (2, 2))
    path, sheets = spoilt(tmp_path), [tmp_path / f"{name}.png" for name in "abc"]
    for seed, sheet in zip((0, 0, 1), sheets, strict=True):
        run_main(main, monkeypatch, path, "--output", sheet, "--seed", seed)
    assert sheets[0].read_bytes() == sheets[1].read_bytes() != sheets[2].read_bytes()


@pytest.mark.parametrize(
    "caption", ["\u0932\u093e\u0932 \u091c\u0942\u0924\u093e", "\u7ea2\u978b", "shoe \U0001f45f", "caf\u00e9"]
)
def test_letters_that_the_font_lacks_are_told_once(caption, tmp_path, monkeypatch, capsys):
    """Hindi, Chinese and an emoji; an accented letter is there."""
    monkeypatch.setattr(check, "SHEET", (2, 2))
    path = tiny_catalogue(tmp_path / "shop", 30)
    path.write_text(path.read_text().replace(" on ", f" {caption} "))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run_main(main, monkeypatch, path, "--output", tmp_path / "sheet.png")
    boxes = "" if caption == "caf\u00e9" else " (its font lacks letters of some captions, which are boxes there)"
    assert capsys.readouterr().out.endswith(f"4 random pairs: {tmp_path / 'sheet.png'}{boxes}\n")


@pytest.mark.parametrize(("products", "same"), [(3, False), (60, True), (60, False)])
def test_a_split_without_products_is_told(products, same, tmp_path, monkeypatch, capsys):
    """Of all that have one caption those in val and test are excluded."""
    monkeypatch.setattr(check, "SHEET", (1, 2))
    path = tiny_catalogue(tmp_path / "shop", products)
    if same:
        header, *lines = path.read_text().splitlines()
        path.write_text("\n".join([header, *(re.sub(r"[^,]+ on [^,]+", "shoe", line) for line in lines)]))
    run_main(main, monkeypatch, path, "--output", tmp_path / "sheet.png")
    told = re.findall(r"^  a training would stop: .*the \w+ split is empty.*$", capsys.readouterr().out, re.MULTILINE)
    assert len(told) == (products == 3 or same)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.csv"], "no such file or folder"),
        (["--output", "sheet.jpg"], "expected the name of a .png file"),
        (["--output", "sheet.png", "--seed", -1], "--seed -1: expected a number from 0 to 4294967295"),
        (
            ["--output", "sheet.png", "--seed", 99999999999],
            "--seed 99999999999: expected a number from 0 to 4294967295",
        ),
    ],
)
def test_bad_words(words, message, tmp_path, monkeypatch):
    words = words if words[0] != "--output" else [spoilt(tmp_path), *words]
    with pytest.raises(InputError, match=message):
        run_main(main, monkeypatch, *words)
