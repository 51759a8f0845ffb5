"""data/audit.py: every planted defect is found and nothing else, in any split; the folder and the page."""

import csv
import dataclasses
import io
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogues import drawing, encoded, tiny_products
from PIL import Image
from tiny_runs import remove_caches, run_main

from common.batches import load_data
from common.contradictions import contradictions, named_share
from common.errors import InputError, run_script
from common.images import decode
from common.options import ROOT, CatalogueOptions
from common.splits import Splits, assign
from data import audit_folder
from data.audit import audit, describe, main
from data.audit_folder import figure_lines, page, refuse_foreign, report_of
from data.findings import Case, Finding
from data.findings.images import deviation

SIZE = (60, 80)
"""width, height"""
CLEAN = 60
SCRIPT = ROOT / "data" / "audit.py"
ACROSS = ("products_across", "files_across", "captions_across", "near_duplicates_across", "look_alikes_across")
TITLE = "<script>alert('red')</script> disc & more"


def write(folder: Path, rows: list[dict], pictures: dict[str, bytes]) -> Path:
    """A table in a folder: the rows' id, image, caption, colour and shape; `pictures` are its image files."""
    (folder / "images").mkdir(parents=True)
    for name, content in pictures.items():
        (folder / "images" / name).write_bytes(content)
    path = folder / "planted.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "image", "caption", "colour", "shape"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def clean() -> tuple[list[dict], dict[str, bytes]]:
    """Products without a defect, and their pictures."""
    products = tiny_products(CLEAN)
    rows = [
        {"id": row["id"], "image": f"images/{row['id']}.png", "caption": row["title"],
         "colour": row["colour"].title(), "shape": row["shape"]}
        for row in products
    ]  # fmt: skip
    pictures = {
        f"{row['id']}.png": as_png(drawing(row["colour"], row["shape"], row["ground"], SIZE)) for row in products
    }
    return rows, pictures


def as_png(picture: bytes, colour_shift: int = 0) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
    return encoded(Image.fromarray(np.clip(pixels + colour_shift, 0, 255).astype(np.uint8)), "PNG")


def planted(folder: Path) -> Path:
    """The clean products and a product for each defect; the ids say which."""
    rows, pictures = clean()

    def add(name: str, picture: bytes | None, caption: str, colour: str = "Red", shape: str = "disc") -> None:
        rows.append({"id": name, "image": f"images/{name}.png", "caption": caption, "colour": colour, "shape": shape})
        if picture is not None:
            pictures[f"{name}.png"] = picture

    def of(number: int) -> tuple[bytes, str, str]:
        return pictures[f"{rows[number]['id']}.png"], rows[number]["colour"], rows[number]["shape"]

    plain = photo()
    picture, colour, shape = of(0)
    add("same-file", picture, f"{colour} {shape} on sale", colour, shape)
    add("photo", encoded(plain, "PNG"), "Red disc on blue")
    add("near", encoded(plain, quality=70), "Red disc on green")
    add("alike", as_png(encoded(plain, "PNG"), colour_shift=6), "Red disc on yellow")
    add("same-title", encoded(photo(1), "PNG"), f"  {rows[1]['caption'].upper()}", *of(1)[1:])
    add("other-colour", encoded(photo(2), "PNG"), "Blue disc on white sale")
    add("other-shape", encoded(photo(3), "PNG"), "Red squares on green")
    add("blank", encoded(Image.new("RGB", (60, 30), (120, 121, 120)), "PNG"), "Red disc on black sale")
    add("small", encoded(photo(4).resize((31, 80)), "PNG"), "Red disc on white sale")
    add("title", encoded(photo(5), "PNG"), TITLE)
    add("broken", b"no image", "Red disc on grey")
    add("missing", None, "Red disc on black")
    add("no-caption", encoded(photo(6), "PNG"), "")
    return write(folder, rows, pictures)


def photo(seed: int = 0) -> Image.Image:
    spots = np.random.default_rng(seed).integers(40, 200, (8, 6, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize(SIZE, Image.Resampling.BICUBIC)


def load(path: Path):
    return load_data(CatalogueOptions(data=path), (32, 32), sample=None)


def with_split(data, **products: str):
    """The data with a split of its own: the named products in the named split, all others in train."""
    of_row = data.catalogue.rows["product"].map(lambda name: products.get(name.replace("-", "_"), "train"))
    return dataclasses.replace(data, splits=Splits(of_row.to_numpy(dtype=object), np.array([]), []))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = planted(tmp_path_factory.mktemp("audit"))
    yield path
    remove_caches(path)


@pytest.fixture(scope="module")
def spoilt(path):
    return load(path)


@pytest.fixture(scope="module")
def findings(spoilt) -> dict[str, Finding]:
    return audit(spoilt, smallest_side=32)


def ids(finding: Finding, data) -> list[set[str]]:
    """The products of each case."""
    return [set(data.catalogue.rows["product"].iloc[case.rows]) for case in finding.cases]


def notes(finding: Finding) -> list[str]:
    return [case.note for case in finding.cases]


# --- every planted defect and nothing else -----------------------------------------------------------------------


def test_a_clean_catalogue_has_none(tmp_path):
    path = write(tmp_path / "clean", *clean())
    found = audit(load(path), smallest_side=32)
    remove_caches(path)
    about_words = ("words_once", "words_unknown")
    assert {key: finding.count for key, finding in found.items() if finding.count and key not in about_words} == {}
    assert {"contradictions_colour", "contradictions_shape"} <= found.keys()


def test_counts(findings):
    assert {key: finding.count for key, finding in findings.items() if key not in ACROSS} == {
        "near_duplicates_across_without_links": findings["near_duplicates_across_without_links"].count,
        "near_duplicates_inside": 1, "equal_files": 1,
        "undecodable": 1, "too_small": 2, "blank": 1,
        "contradictions_colour": 1, "contradictions_shape": 1,
        "shared_captions": 2, "words_once": 4, "words_unknown": findings["words_unknown"].count,
        "left_out": 3,
    }  # fmt: skip


def test_cases(findings, spoilt):
    first, second = (row["id"] for row in tiny_products(2))
    assert ids(findings["near_duplicates_inside"], spoilt) == [{"photo", "near"}]
    assert findings["near_duplicates_inside"].figures["with_different_captions"] == 1
    assert ids(findings["equal_files"], spoilt) == [{first, "same-file"}]
    assert ids(findings["too_small"], spoilt) == [{"blank"}, {"small"}]
    assert notes(findings["too_small"]) == ["30 x 60 pixels (height x width)", "80 x 31 pixels (height x width)"]
    assert ids(findings["blank"], spoilt) == [{"blank"}]
    assert [note.split(":")[0] for note in notes(findings["undecodable"])] == ["broken.png"]
    assert ids(findings["contradictions_colour"], spoilt) == [{"other-colour"}]
    assert notes(findings["contradictions_colour"]) == ["colour: Red, caption: blue"]
    assert ids(findings["contradictions_shape"], spoilt) == [{"other-shape"}]
    assert notes(findings["contradictions_shape"]) == ["shape: disc, caption: squares"]
    assert notes(findings["words_once"]) == ["'alert'", "'more'", "'script'", "'squares'"]
    assert {note.split(": ", 1)[1].split(":")[0] for note in notes(findings["left_out"])} == {
        "no caption", "the image file does not exist", "image cannot be decoded",
    }  # fmt: skip
    assert next(iter(findings["shared_captions"].figures["most_common"].values())) == 2
    assert findings["shared_captions"].figures["share_of_the_products"] == 2 / len(spoilt.catalogue.rows)
    assert second in set(spoilt.catalogue.rows["product"])


def test_the_split_of_the_catalogue_parts_nothing(findings, spoilt):
    assert [findings[key].count for key in ACROSS[:4]] == [0, 0, 0, 0]
    split = dict(zip(spoilt.catalogue.rows["product"], spoilt.splits.of_row, strict=True))
    apart = sum(split[one] != split["alike"] for one in ("photo", "near"))
    assert findings["look_alikes_across"].count == apart


def test_smallest_side_is_an_option(spoilt):
    assert audit(spoilt, smallest_side=30)["too_small"].count == 0
    assert audit(spoilt, smallest_side=61)["too_small"].count == len(spoilt.catalogue.rows)


# --- a split that was made wrong ---------------------------------------------------------------------------------


def crossed(data) -> dict[str, list[set[str]]]:
    found = audit(data, smallest_side=32)
    assert all(found[key].count == len(found[key].cases) for key in ACROSS)
    return {key: ids(found[key], data) for key in ACROSS if found[key].count}


def test_what_a_wrong_split_parts_is_found(spoilt):
    first, second = (row["id"] for row in tiny_products(2))
    look_alikes = [{"photo", "alike"}, {"near", "alike"}]
    assert crossed(with_split(spoilt)) == {}
    assert crossed(with_split(spoilt, same_file="test")) == {"files_across": [{first, "same-file"}]}
    assert crossed(with_split(spoilt, same_title="val")) == {"captions_across": [{second, "same-title"}]}
    assert crossed(with_split(spoilt, alike="test"))["look_alikes_across"] in (look_alikes, look_alikes[::-1])
    found = crossed(with_split(spoilt, near="test", alike="test"))
    assert found["near_duplicates_across"] == [{"photo", "near"}]
    assert found["look_alikes_across"] == [{"photo", "near"}, {"photo", "alike"}]


def test_a_product_in_two_splits_is_found(spoilt):
    rows = spoilt.catalogue.rows
    catalogue = dataclasses.replace(spoilt.catalogue, rows=rows.replace({"product": {"other-shape": "other-colour"}}))
    of_row = np.where(rows["product"] == "other-shape", "test", "train").astype(object)
    data = dataclasses.replace(spoilt, catalogue=catalogue, splits=Splits(of_row, np.array([]), []))
    found = audit(data, smallest_side=32)["products_across"]
    assert found.count == 1 and notes(found) == ["in train and test"] and len(found.cases[0].rows) == 2


def test_rows_that_the_split_excludes_cross_nothing(spoilt):
    assert crossed(with_split(spoilt, same_file="excluded", same_title="excluded", near="excluded")) == {}


def test_share_of_the_test_images_seen_in_train(spoilt):
    name = "share_of_the_test_images_with_one_in_train"
    data = with_split(spoilt, near="test", other_shape="test", same_title="test", alike="val")
    found = audit(data, smallest_side=32)
    assert found["near_duplicates_across"].figures[name] == pytest.approx(1 / 3)
    assert found["look_alikes_across"].figures["share_of_the_val_images_with_one_in_train"] == 1.0
    # an equal file is seen as well
    data = with_split(spoilt, same_file="test", other_shape="test")
    assert audit(data, smallest_side=32)["near_duplicates_across"].figures[name] == pytest.approx(1 / 2)


def test_a_pair_stands_for_files_equal_to_its_images(spoilt):
    """Pairs are of different files; a copy of one of the two in another split is a crossing too."""
    rows = spoilt.catalogue.rows
    of = {name: int(rows.index[rows["product"] == name][0]) for name in ("photo", "near", "other-shape")}
    images = rows["image"].to_numpy().copy()
    digests = spoilt.images.digests.copy()
    digests[images[of["other-shape"]]] = digests[images[of["photo"]]]  # the same file content, later in the catalogue
    data = dataclasses.replace(spoilt, images=dataclasses.replace(spoilt.images, digests=digests))
    data = with_split(data, photo="test", near="test")
    assert {"other-shape", "near"} in ids(audit(data, smallest_side=32)["near_duplicates_across"], data)


def test_without_links_is_the_split_by_equal_files(tmp_path):
    """The number does not depend on the split that the catalogue has, but on one that is made for it."""
    rows, pictures = clean()
    for number in range(20):
        picture = photo(number)
        for kind, content in (("a", encoded(picture, "PNG")), ("b", encoded(picture, quality=80))):
            name = f"{kind}{number}"
            pictures[f"{name}.png"] = content
            rows.append({"id": name, "image": f"images/{name}.png", "caption": f"Red disc {name}",
                         "colour": "Red", "shape": "disc"})  # fmt: skip
    path = write(tmp_path / "linked", rows, pictures)
    data = load(path)
    found = audit(data, smallest_side=32)
    assert found["near_duplicates_across"].count == 0 and found["near_duplicates_inside"].count == 20
    finding = found["near_duplicates_across_without_links"]
    a, b = (assign(pd.Series([f"{kind}{number}" for number in range(20)]), np.arange(20)) for kind in "ab")
    assert finding.count == (a != b).sum() > 0 and finding.cases == []
    assert audit(with_split(data, a1="test"), smallest_side=32)["near_duplicates_across_without_links"] == finding
    remove_caches(path)


# --- contradictions ----------------------------------------------------------------------------------------------


def named(*pairs: tuple[str, str]) -> list[list[str]]:
    captions, values = zip(*pairs, strict=True)
    return list(contradictions(pd.Series(captions), pd.Series(values)))


@pytest.mark.parametrize(
    ("caption", "value", "expected"),
    [
        ("Women's top", "Men", ["women"]), ("Men's top", "Women", ["men"]), ("Mens top", "Men", []),
        ("Womens top", "Men", ["womens"]), ("Men and women", "Women", []), ("Top", "Men", []),
        ("Red dress", "Dresses", []), ("Red DRESSES", "Dresses", []), ("Red dress", "Tshirts", ["dress"]),
        ("Red t-shirt", "Tshirts", []), ("Tshirt", "Tshirts", []), ("Red shirt", "Tshirts", ["shirt"]),
        ("Watch", "Watches", []), ("Navy top", "Navy Blue", []), ("Blue top", "Navy Blue", []),
        ("Overdressed", "Shirts", []), ("Red dress", "", []),
    ],
)  # fmt: skip
def test_whole_words_singular_and_plural(caption, value, expected):
    others = [("x", other) for other in ("Men", "Women", "Dresses", "Tshirts", "Shirts", "Watches", "Navy Blue")]
    assert named((caption, value), *others)[0] == expected


def test_a_word_that_seldom_goes_with_the_value_is_no_name_of_it():
    """ "Rose" in the names of perfumes is no contradiction of their colour; "red" on a blue shirt is."""
    perfumes = [("Rose water", "White")] * 9
    roses = [("Rose shirt", "Rose")] * 4
    assert named(*perfumes, *roses, ("Red shirt", "White"), ("x", "Red"))[-2] == ["red"]
    assert named(*perfumes, *roses)[0] == []
    assert named(*perfumes[:8], *roses)[0] == ["rose"]
    assert named(*perfumes[:4])[0] == [] and named(*perfumes[:4], ("x", "Rose"))[0] == ["rose"]


def test_named_share():
    captions, values = pd.Series(["red shirts", "blue", "green", "x"]), pd.Series(["Red", "Red", "", "Green"])
    assert named_share(captions, values) == 1 / 4
    assert named_share(captions, pd.Series([""] * 4)) == 0.0 == named_share(captions[:0], values[:0])


# --- blank images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(60, 80), (80, 60), (33, 64), (1, 20), (500, 37)])
def test_padding_is_no_part_of_an_image(size):
    grey = Image.new("RGB", size, (120, 120, 120))
    assert deviation(*decode(encoded(grey, "PNG"), (32, 32))) == 0.0
    grey.paste((0, 0, 255), (0, 0, size[0], size[1] // 2))
    assert deviation(*decode(encoded(grey, "PNG"), (32, 32))) > 50


def test_an_image_on_its_side_is_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(Image.new("RGB", (90, 40), (120, 120, 120)), exif=exif)
    path = write(tmp_path, [{"id": "1", "image": "images/a.jpg", "caption": "x"}], {"a.jpg": turned})
    found = audit(load(path), smallest_side=41)
    remove_caches(path)
    assert notes(found["too_small"]) == ["90 x 40 pixels (height x width)"] and found["blank"].count == 1


# --- the folder and the page -------------------------------------------------------------------------------------


class Links(HTMLParser):
    """The tags of a page, the pictures and all other places that it names, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.pictures, self.named, self.text = set(), [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.pictures += [value for name, value in attrs if tag == "img" and name == "src"]
        self.named += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def run(path, tmp_path_factory):
    """The script as a user runs it: the process, and the folder that it wrote."""
    folder = tmp_path_factory.mktemp("written") / "some" / "audit"
    command = [sys.executable, str(SCRIPT), str(path), "--output", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent), folder


def test_the_script_prints_a_summary(run):
    process, folder = run
    assert process.returncode == 0, process.stderr
    for line in (
        "Across splits",
        "        0  captions in more than one split (without regard to case and white space)",
        "        1  pairs of near-duplicate images of different products in the same split",
        "           with different captions: 1",
        "        1  captions that name another 'colour' than the column, and not its own",
        "        2  images whose shorter side is below 32 pixels",
    ):
        assert line in process.stdout.splitlines()
    assert "Traceback" not in process.stderr and str(folder / "index.html") in process.stdout


def test_the_report(run, findings, path):
    _, folder = run
    report = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert report["audit_version"] == 1 and report["catalogue"] == str(path) and report["name"] == "planted.csv"
    assert report["products"]["all"] == report["rows"] == CLEAN + 10
    assert sum(report["products"][split] for split in ("train", "val", "test")) == CLEAN + 10
    assert {key: finding["count"] for key, finding in report["findings"].items()} == {
        key: finding.count for key, finding in findings.items()
    }
    (case,) = report["findings"]["near_duplicates_inside"]["cases"]
    assert [row["product"] for row in case["rows"]] == ["photo", "near"]
    assert case["rows"][0] == {
        "product": "photo", "caption": "Red disc on blue", "split": case["rows"][1]["split"],
        "place": "line 63", "image": case["rows"][0]["image"],
    }  # fmt: skip


def test_the_page_holds_the_pictures_and_nothing_from_elsewhere(run):
    _, folder = run
    links = Links((folder / "index.html").read_text(encoding="utf-8"))
    # pairs and equal files have two, the others one: near, equal, small (2), blank, colour, shape
    look_alikes = json.loads((folder / "audit.json").read_text())["findings"]["look_alikes_across"]["count"]
    assert len(links.pictures) == 2 + 2 + 2 + 1 + 1 + 1 + 2 * look_alikes
    assert all((folder / picture).is_file() for picture in links.pictures)
    assert {f"pictures/{file.name}" for file in (folder / "pictures").iterdir()} == set(links.pictures)
    assert all(named.startswith(("#", "pictures/", "audit.json")) for named in links.named)
    with Image.open(folder / links.pictures[0]) as picture:
        assert picture.size == audit_folder.PICTURE_SIZE


def test_titles_are_escaped(spoilt):
    rows = spoilt.catalogue.rows
    which = int(rows.index[rows["product"] == "title"][0])
    finding = Finding("Some", f"of {TITLE}", 1, cases=[Case(TITLE, [which])], figures={TITLE: {TITLE: 1}})
    html = page(report_of({"some": finding}, spoilt))
    links = Links(html)
    assert "script" not in links.tags and "<script" not in html
    assert "".join(links.text).count(TITLE) >= 4, "they are shown as they are"


def test_the_page_shows_the_first_cases_and_says_so(spoilt):
    cases = [Case(f"number {number}", [0]) for number in range(70)]
    html = page(report_of({"some": Finding("Some", "things", 5000, cases=cases)}, spoilt))
    assert html.count("<figure>") == audit_folder.SHOWN == 60 and "number 59" in html and "number 60" not in html
    assert "The first 60 are shown." in html and "5,000" in html


def test_an_earlier_audit_is_replaced(path, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "audit"
    run_main(main, monkeypatch, path, "--output", folder)
    (folder / "pictures" / "stale.jpg").touch()
    (folder / "mine.txt").touch()
    before = (folder / "audit.json").read_bytes()
    run_main(main, monkeypatch, path, "--output", folder, "--smallest-side", "10")
    assert (folder / "audit.json").read_bytes() != before
    assert sorted(file.name for file in folder.iterdir()) == ["audit.json", "index.html", "mine.txt", "pictures"]
    assert not (folder / "pictures" / "stale.jpg").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["audit"], "nothing is left beside it"


@pytest.mark.parametrize("report", [None, "not JSON", "[1]", "17", '{"model": "siamese"}', '"audit_version"'])
def test_a_foreign_folder_stays_as_it_is(report, path, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    if report is not None:
        (tmp_path / "audit.json").write_text(report)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="not empty and no audit"):
        refuse_foreign(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_folder_and_none_are_taken(tmp_path):
    refuse_foreign(tmp_path)
    refuse_foreign(tmp_path / "none")


# --- what a user can get wrong -----------------------------------------------------------------------------------


def script(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{path}", "--output", "{here}"), "error: {here}: not empty and no audit"),
        (("{path}", "--output", "{here}/notes.txt"), "notes.txt: a file; --output takes a folder"),
        (("{here}/gone.csv",), "gone.csv: no such file or folder; give the path of a catalogue"),
        (("{here}/notes.txt", "--output", "{here}/new"), "notes.txt: not a catalogue; expected"),
        (("{path}", "--output", "{here}/new", "--caption-column", "colr"), "no column 'colr' (--caption-column)"),
    ],
)
def test_wrong_use_ends_in_one_message(words, message, path, tmp_path, monkeypatch, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as end:
        run_main(lambda: run_script(main), monkeypatch, *(word.format(path=path, here=tmp_path) for word in words))
    assert end.value.code == 2
    assert message.format(here=tmp_path) in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"], "nothing was written"


def test_a_mistyped_option_is_named():
    process = script("--smallest-sid", "3")
    assert process.returncode == 2 and "smallest-sid" in process.stderr


def test_help_answers_at_once():
    code = (
        f"import runpy, sys; sys.argv = ['audit.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        f"except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.splitlines()[-1] == "0 False"
    assert "--smallest-side" in process.stdout and "--id-column" in process.stdout


def test_other_columns_and_the_default_folder(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("data.audit.ROOT", tmp_path)
    run_main(main, monkeypatch, path, "--caption-column", "shape", "--id-column", "image")
    report = json.loads((tmp_path / "runs" / "audit-planted" / "audit.json").read_text())
    assert set(report["findings"]["shared_captions"]["figures"]["most_common"]) <= {
        "disc", "square", "bar", "pole", "triangle", "cross",
    }  # fmt: skip
    assert "contradictions_caption (attribute)" not in report["findings"]


def test_without_a_catalogue_it_is_the_sample(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("data.sample.make_sample", lambda: path)
    run_main(main, monkeypatch, "--output", tmp_path / "audit")
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["name"] == "planted.csv"


def test_figures_as_text():
    figures = {"share_of_it": 0.0125, "words_of_val": 1234, "most_common": {"red": 12}}
    assert figure_lines(figures) == ["share of it: 1.25%", "words of val: 1,234", "most common:", "      12  red"]


def test_the_summary_has_no_details_where_there_is_nothing():
    finding = {"section": "S", "what": "things", "count": 0, "advice": "a", "cases": [], "figures": {"n": 1}}
    assert describe({"findings": {"some": finding}}).splitlines() == ["", "S", "        0  things"]


# --- real data ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_parquet(fashion_data):
    data = load(fashion_data / "fashion-product-images-small.parquet")
    found = audit(data, smallest_side=32)
    assert [found[key].count for key in ACROSS] == [0, 0, 0, 0, 211]
    without = found["near_duplicates_across_without_links"]
    assert without.count == 138 and 0.010 < without.figures["share_of_the_test_images_with_one_in_train"] < 0.011
    assert found["near_duplicates_inside"].count == 639 and found["equal_files"].count == 587
    assert found["shared_captions"].count == 17_519 and found["shared_captions"].figures["distinct_captions"] == 28_625
    assert [found[key].count for key in ("undecodable", "too_small", "blank", "left_out")] == [0, 0, 5, 0]
    contradicted = {key.split("_")[1]: finding.count for key, finding in found.items() if "contradictions" in key}
    assert contradicted == {"gender": 379, "subCategory": 570, "articleType": 839, "baseColour": 1161, "usage": 120}
    assert found["words_once"].count == 3_827
