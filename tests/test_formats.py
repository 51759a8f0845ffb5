"""common/formats: the public layouts as the readers see them, defects included, and a training on each."""

import errno
import json
import os
import shutil

import h5py
import numpy as np
import pytest
from catalogues import tiny_catalogue, tiny_products
from public_formats import FORMATS, fashion_gen, hm, in_shop, multimodal, picture, write
from tiny_runs import evaluate, train, use_patches

from common.catalogue import open_catalogue
from common.errors import InputError
from common.formats.folder import images_in
from common.images import open_images
from common.loading import load


@pytest.fixture(scope="module", params=FORMATS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    unusable = FORMATS[request.param](folder, 90)
    return request.param, folder, unusable


def test_rows_are_used_or_reported(made):
    kind, folder, unusable = made
    catalogue = open_catalogue(folder)
    assert {reason: len(places) for reason, places in catalogue.report.unusable.items()} == unusable
    assert catalogue.report.found[0].startswith(
        {"kaggle_large": "Kaggle folder, styles.csv", "mirror": "parquet, 1 file", "kagl": "parquet, 4 files",
         "hm": "H&M, articles.csv", "in_shop": "DeepFashion In-Shop", "multimodal": "DeepFashion-MultiModal",
         "fashion_gen": "Fashion-Gen, 2 files", "captioned_folder": "folder of images, each with"}[kind]
    )  # fmt: skip
    places = [catalogue.places[place] for place in catalogue.rows["place"]]
    assert len(set(places)) == len(catalogue.rows) or kind == "captioned_folder", "a place is of one row"


def test_every_image_can_be_decoded(made):
    _, folder, _ = made
    catalogue = open_catalogue(folder)
    images = open_images(catalogue, (32, 24), folder.parent / f"{folder.name}-cache")
    assert images.errors == {} and len(images.pixels) == len(catalogue.images) >= 87


def test_a_training_and_an_evaluation_run_end_to_end(made, tmp_path, monkeypatch):
    _, folder, _ = made
    use_patches(monkeypatch)
    run = train(monkeypatch, folder, tmp_path / "run", epochs=1)
    products = json.loads((run / "train_products.json").read_text())
    assert products and len(products) == len(set(products)), "once each, however many images and captions it has"
    report = evaluate(monkeypatch, run)
    assert report["gallery"]["products"] >= 5 and report["rsum"] > 0
    assert json.loads((run / "config.json").read_text())["data"]["path"] == str(folder)


def rows_of(folder):
    catalogue = open_catalogue(folder)
    return catalogue, catalogue.rows.astype(dict.fromkeys(catalogue.attributes, str))


def test_hm(tmp_path):
    hm(tmp_path)
    catalogue, rows = rows_of(tmp_path)
    wanted = tiny_products(60)[2:]
    assert rows["product"].tolist() == [f"0{108775 + number}" for number in range(2, 60)], "zeros in front stay"
    assert rows["caption"].iloc[0] == wanted[0]["shape"].title(), "without a description the name alone"
    assert rows["caption"].iloc[1] == f'{wanted[1]["shape"].title()}. {wanted[1]["title"]}, with a hem, and "pockets".'
    assert rows["colour_group_name"].tolist() == [row["colour"] for row in wanted]
    assert rows["article_id"].iloc[0] == "0108777017"
    assert catalogue.images[0] == tmp_path / "images" / "010" / "0108777017.jpg"


def test_in_shop(tmp_path):
    in_shop(tmp_path)
    catalogue, rows = rows_of(tmp_path)
    first = tiny_products(60)[1]
    assert len(rows) == 117 and rows["product"].nunique() == 59
    names = ["product", "caption", "color", "gender", "category", "variant", "pose", "partition"]
    assert rows.iloc[0][names].tolist() == [
        "id_00000002", f"{first['title']}. Model is 5'9\" \u00b7 machine wash", first["colour"].title(), "WOMEN",
        f"{first['shape'].title()}s_Shapes", "01", "front", "query",
    ]  # fmt: skip
    assert rows["partition"].value_counts().to_dict() == {"train": 58, "query": 30, "gallery": 29}
    assert catalogue.places[rows["place"].iloc[0]] == "line 5", "the count, the header and item 1 stand before"


def test_multimodal_and_in_shop_are_of_one_group_space(tmp_path):
    in_shop(tmp_path / "in_shop"), multimodal(tmp_path / "multimodal")
    (_, one), (_, other) = rows_of(tmp_path / "in_shop"), rows_of(tmp_path / "multimodal")
    assert set(one["product"]) == set(other["product"])
    facts = ["product", "gender", "category", "pose"]
    assert set(map(tuple, one[facts].to_numpy())) < set(map(tuple, other[facts].to_numpy())), "one file was missing"
    assert other["caption"].str.endswith("additional view.").sum() == 59


def test_fashion_gen(tmp_path):
    fashion_gen(tmp_path)
    catalogue, rows = rows_of(tmp_path)
    products = tiny_products(60)
    assert len(rows) == 118 and rows["product"].tolist() == [row["id"] for row in products[1:] for _ in range(2)]
    assert rows["caption"].iloc[0] == f"{products[1]['title']} caf\u00e9 style.", "latin-1"
    assert rows["partition"].value_counts().to_dict() == {"train": 94, "validation": 24}
    assert rows["subcategory"].iloc[0] == products[1]["shape"].upper()
    with h5py.File(tmp_path / "fashiongen_256_256_validation.h5") as file:
        expected = file["input_image"][3]
    images = open_images(catalogue, (16, 16), tmp_path / "cache")
    assert np.array_equal(images.pixels[96 + 3], expected)
    one_file, _ = rows_of(tmp_path / "fashiongen_256_256_validation.h5")
    assert len(one_file.rows) == 24


def test_fashion_gen_is_read_by_several_workers_at_once(tmp_path):
    fashion_gen(tmp_path)
    catalogue = open_catalogue(tmp_path)
    cached = open_images(catalogue, (16, 16), tmp_path / "cache").pixels
    files = open_images(catalogue, (16, 16), tmp_path / "cache", source="files").pixels
    import torch

    pieces = np.array_split(np.random.default_rng(0).permutation(len(cached)), 12)
    loaded = load(lambda which: torch.from_numpy(files[which]), pieces, torch.device("cpu"), workers=3)
    for piece, pixels in zip(pieces, loaded, strict=True):
        assert np.array_equal(pixels.numpy(), cached[piece])


def test_a_folder_with_captions_beside_its_images(tmp_path):
    FORMATS["captioned_folder"](tmp_path)
    catalogue, rows = rows_of(tmp_path)
    products = tiny_products(60)
    assert rows["product"].nunique() == 59 and len(catalogue.images) == 89
    views = rows[rows["product"] == products[1]["id"]]
    assert views["image"].nunique() == 2
    assert set(views["caption"]) == {products[1]["title"], f"the {products[1]['title'].lower()} again"}


def test_the_lines_of_a_text_file_are_captions_where_something_is_written(tmp_path):
    for name, text in (("a", "red shirt\n\n"), ("b", " \r\ngreen\x0bshirt\r\n"), ("c", "\n")):
        (tmp_path / f"{name}.png").write_bytes(picture(tiny_products(1)[0]))
        (tmp_path / f"{name}.txt").write_bytes(text.encode())
    catalogue, rows = rows_of(tmp_path)
    assert rows["caption"].tolist() == ["red shirt", "green shirt"]
    assert catalogue.report.unusable == {"no caption": ["c.png"]}


def spoil(folder, kind):
    """Each layout once without what it needs, with the error that says so."""
    if kind == "hm without images":
        hm(folder), shutil.rmtree(folder / "images")
        return "articles.csv is there but the folder images/ is not"
    if kind == "hm without a column":
        hm(folder)
        file = folder / "articles.csv"
        file.write_text(file.read_text().replace("detail_desc", "details"))
        return r"articles\.csv: no column detail_desc; its columns are \['article_id'"
    if kind == "in-shop without partition":
        in_shop(folder), (folder / "Eval" / "list_eval_partition.txt").unlink()
        return "list_eval_partition.txt: no such file"
    if kind == "in-shop that is no list":
        in_shop(folder), (folder / "Anno" / "list_description_inshop.json").write_text('{"item": 1}')
        return "list_description_inshop.json: expected a list with entries"
    if kind == "in-shop with other entries":
        in_shop(folder), (folder / "Anno" / "list_description_inshop.json").write_text('[{"item": "id_00000001"}]')
        return r"list_description_inshop.json: expected \{item, color, description: \[lines\]\}, found"
    if kind == "captions.json cut off":
        multimodal(folder), (folder / "captions.json").write_text('{"WOMEN-')
        return r"captions\.json: not JSON"
    if kind == "multimodal without images":
        multimodal(folder), shutil.rmtree(folder / "images")
        return "captions.json is there but the folder images/ is not"
    if kind == "in-shop whose images are a link":
        (
            in_shop(folder),
            (folder / "Img").rename(folder.parent / "away"),
            (folder / "Img").symlink_to(folder.parent / "away"),
        )
        return "Img: a link out of the catalogue; if its images may be read, say so: --image-root"
    fashion_gen(folder)
    file = folder / "fashiongen_256_256_train.h5"
    if kind == "fashion-gen cut off":
        file.write_bytes(file.read_bytes()[:3000])
        return "fashiongen_256_256_train.h5: not a readable HDF5 file"
    with h5py.File(file, "a") as content:
        if kind in SPOILT:
            name, value, message = SPOILT[kind]
            del content[name]
            content[name] = value(content)
            return message
        del content["input_name"]
        if kind == "fashion-gen of two lengths":
            content["input_name"] = np.zeros((3, 1), dtype="S4")
            return "data sets of different lengths"
    return "no input_name; expected the data sets of Fashion-Gen"


SPOILT = {
    "fashion-gen of another file": (
        "input_image", lambda content: h5py.ExternalLink("fashiongen_256_256_validation.h5", "input_image"),
        "input_image is a link to another file",
    ),
    "fashion-gen of one number": ("input_productID", lambda content: 7, r"data sets of different lengths"),
    "fashion-gen with grey images": (
        "input_image", lambda content: np.zeros((4, 16, 16), np.uint8), r"input_image is \(4, 16, 16\) uint8 instead of"
    ),
    "fashion-gen with float images": (
        "input_image", lambda content: np.zeros((4, 16, 16, 3)), r"input_image is \(4, 16, 16, 3\) float64 instead of"
    ),
    "fashion-gen with two ids a row": (
        "input_productID", lambda content: np.zeros((len(content["input_name"]), 2), np.int32),
        r"input_productID is \(\d+, 2\) instead of \(N, 1\)",
    ),
    "fashion-gen with numbers as texts": (
        "input_name", lambda content: np.zeros((len(content["input_image"]), 1)), "input_name holds float64 instead of"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [
    *SPOILT, "in-shop whose images are a link",
    "hm without images", "hm without a column", "in-shop without partition", "in-shop that is no list",
    "in-shop with other entries", "captions.json cut off", "multimodal without images", "fashion-gen cut off",
    "fashion-gen without a data set", "fashion-gen of two lengths",
])  # fmt: skip
def test_what_is_missing_is_named(kind, tmp_path):
    (tmp_path / "shop").mkdir()
    message = spoil(tmp_path / "shop", kind)
    with pytest.raises(InputError, match=message):
        open_catalogue(tmp_path / "shop")


def test_captions_that_are_texts_lists_or_neither(tmp_path):
    in_shop(tmp_path / "in_shop"), multimodal(tmp_path / "multimodal")
    file = tmp_path / "in_shop" / "Anno" / "list_description_inshop.json"
    described = json.loads(file.read_text())
    described[0]["description"] = "red dress"
    file.write_text(json.dumps(described))
    assert rows_of(tmp_path / "in_shop")[1]["caption"].iloc[0] == "red dress"
    file = tmp_path / "multimodal" / "captions.json"
    captions = json.loads(file.read_text())
    first, second, third, *_ = captions
    file.write_text(json.dumps(captions | {first: ["one", "two"], second: {"en": "three"}, third: None}))
    catalogue, rows = rows_of(tmp_path / "multimodal")
    assert rows["caption"].tolist()[:2] == ["one", "two"] and len(rows) == 118 - 3 + 2
    assert catalogue.report.unusable["the caption is a dict, not a text"] == [second]
    assert catalogue.report.unusable["no caption"] == [third]


def test_images_of_a_folder_and_beside_it_are_of_different_products(tmp_path):
    for name in ("1", "1/z", "1/y", "2"):
        write(tmp_path / f"{name}.jpg", picture(tiny_products(9)[len(name)]))
        write(tmp_path / f"{name}.txt", name.encode())
    _, rows = rows_of(tmp_path)
    assert rows.groupby("product")["caption"].agg(set).to_dict() == {
        "1": {"1/y", "1/z"},
        "1.jpg": {"1"},
        "2.jpg": {"2"},
    }


def test_images_of_a_folder_come_in_the_order_of_their_names(tmp_path):
    """Folder by folder, as paths are compared; what a link to a folder leads to is not there twice."""
    names = ["B.jpg", "a/1/z.jpg", "a/2.jpg", "a-b/1.jpg", "a.jpg", "x.jpg/1.jpg", "x.png"]
    for name in reversed(names):
        write(tmp_path / name, picture(tiny_products(1)[0]))
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    found = list(images_in(tmp_path, []))
    assert found == sorted(found) == [tmp_path / name for name in names]


def test_a_folder_that_may_not_be_read_is_reported(tmp_path, monkeypatch):
    """Root may read all, so the system's answer is imitated; a whole disk has its lost+found."""
    for name in ("a", "lost+found/1", "z/1"):
        write(tmp_path / f"{name}.jpg", picture(tiny_products(1)[0]))
        write(tmp_path / f"{name}.txt", name.encode())
    real = os.listdir

    def listdir(path):
        if path.name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    catalogue, rows = rows_of(tmp_path)
    assert rows["product"].tolist() == ["a.jpg", "z"]
    assert catalogue.report.unusable == {"a folder that may not be read": ["lost+found"]}


def test_a_name_that_is_no_text_is_reported(tmp_path):
    multimodal(tmp_path)
    file = tmp_path / "captions.json"
    name = "WOMEN-D\ud800-id_00000002-02_1_front.jpg"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: "half a sign"}))
    assert name in open_catalogue(tmp_path).report.unusable["the image file does not exist"]


def test_odd_lines_and_names_are_reported(tmp_path):
    in_shop(tmp_path)
    file = tmp_path / "Eval" / "list_eval_partition.txt"
    file.write_text(
        file.read_text() + "img/WOMEN/Dresses/id_00000001/01_1_front.jpg id_00000002 query\nbroken line\n"
        "img/somewhere/else.jpg id_00000003 train\n"
    )
    report = open_catalogue(tmp_path).report
    assert report.unusable["the image's name is of another item"] == ["line 123"]
    assert report.unusable["2 columns instead of 3"] == ["line 124"]
    assert report.unusable["the image's name is not like WOMEN/Dresses/id_00000002/02_1_front.jpg"] == ["line 125"]
    assert "line 1 says '120' images, 123 lines follow the header" in " ".join(report.found)
    multimodal(tmp_path / "multimodal")
    captions = json.loads((tmp_path / "multimodal" / "captions.json").read_text())
    (tmp_path / "multimodal" / "captions.json").write_text(json.dumps(captions | {"odd.jpg": "odd"}))
    (tmp_path / "multimodal" / "images" / "odd.jpg").write_bytes(picture(tiny_products(1)[0]))
    report = open_catalogue(tmp_path / "multimodal").report
    assert report.unusable["the image's name is not like WOMEN/Dresses/id_00000002/02_1_front.jpg"] == ["odd.jpg"]


# --- the descriptions of the large Kaggle data set ---------------------------------------------------------------


def with_descriptions(folder):
    """The Kaggle layout with styles/<id>.json; some products have no description, one has no file."""
    tiny_catalogue(folder, 60, kind="kaggle")
    (folder / "styles").mkdir()
    for number, row in enumerate(tiny_products(60)):
        html = (
            f"<p>A <b>{row['colour']}</b> {row['shape']}<br>with&nbsp;pockets &amp; {row['ground']} hem</p>"
            "<style>p { color: red }</style><ul><li>wash cold</li></ul>"
        )
        descriptors = {"description": {"descriptorType": "description", "value": html}} if number > 1 else {}
        data = {"id": row["id"], "productDescriptors": descriptors}
        content = {"notification": {}, "meta": {"code": 200}, "data": data}
        if number > 0:
            (folder / "styles" / f"{row['id']}.json").write_text(json.dumps(content))
    return tiny_products(60)


def test_descriptions_as_captions(tmp_path):
    products = with_descriptions(tmp_path)
    catalogue = open_catalogue(tmp_path, caption="description")
    assert len(catalogue.report.unusable["no caption"]) == 2
    first = products[2]
    assert (
        catalogue.rows["caption"].iloc[0]
        == f"A {first['colour']} {first['shape']} with pockets & {first['ground']} hem wash cold"
    )
    both = open_catalogue(tmp_path, caption="both")
    assert len(both.rows) == 60 + 58 and both.rows["product"].nunique() == 60 and len(both.images) == 60
    rows = both.rows[both.rows["product"] == first["id"]]
    assert rows["caption"].tolist() == [first["title"], catalogue.rows["caption"].iloc[0]]
    assert [both.places[place] for place in rows["place"]] == ["line 4", "line 4, description"]
    titles = open_catalogue(tmp_path)
    assert titles.rows["caption"].tolist() == [row["title"] for row in products]
    assert len({c.fingerprint for c in (catalogue, both, titles)}) == 3


def test_the_choice_of_captions_is_recorded_in_the_run(tmp_path, monkeypatch):
    with_descriptions(tmp_path / "shop")
    use_patches(monkeypatch)
    run = train(monkeypatch, tmp_path / "shop", tmp_path / "run", "--caption", "both", epochs=1)
    report = evaluate(monkeypatch, run, "--split", "all")
    assert report["gallery"]["texts"] == 118


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "styles"), "styles: no such folder; descriptions stand in styles/<id>"),
        (lambda folder: (folder / "styles" / "1005.json").write_text("{"), r"1005\.json: not JSON"),
    ],
)  # fmt: skip
def test_descriptions_that_cannot_be_read(spoilt, message, tmp_path):
    with_descriptions(tmp_path)
    spoilt(tmp_path)
    with pytest.raises(InputError, match=message):
        open_catalogue(tmp_path, caption="description")
    open_catalogue(tmp_path)


def test_a_description_that_is_a_link_or_no_html(tmp_path):
    products, styles = with_descriptions(tmp_path / "shop"), tmp_path / "shop" / "styles"
    first, second = (products[number]["id"] for number in (3, 4))
    (styles / f"{first}.json").rename(tmp_path / "away.json")
    (styles / f"{first}.json").symlink_to(tmp_path / "away.json")
    content = json.loads((styles / f"{second}.json").read_text())
    content["data"]["productDescriptors"]["description"]["value"] = "<p>A <![foo dress</p>"
    (styles / f"{second}.json").write_text(json.dumps(content))
    captions = open_catalogue(tmp_path / "shop", caption="description").rows.set_index("product")["caption"]
    assert first not in captions.index and captions[second].startswith("A")


def test_the_choice_is_for_the_kaggle_layout_alone(tmp_path):
    hm(tmp_path)
    with pytest.raises(InputError, match="--caption both is for the Kaggle layout"):
        open_catalogue(tmp_path, caption="both")
