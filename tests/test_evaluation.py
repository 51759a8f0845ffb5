"""common/evaluation.py and checkpoints.py: the report against figures worked out one by one, and its files."""

import dataclasses
import functools
import json
import shutil
import socket

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import MODELS, Patches, evaluate, kept_files, remove_caches, train, use_patches

from common.catalogue import open_catalogue
from common.checkpoints import load_model
from common.errors import InputError
from common.hyperparameters import TrainingSettings
from common.images import open_images
from common.near_duplicates import photographs
from common.options import read_config
from common.splits import split_catalogue
from common.validation import spread

CPU = torch.device("cpu")
FIGURES = ["R@1", "R@5", "R@10", "median_rank", "mean_rank", "MRR", "mAP"]
DIRECTIONS = ("image_to_text", "text_to_image")


@pytest.fixture(autouse=True)
def patches(monkeypatch):
    use_patches(monkeypatch)


each_model = pytest.mark.parametrize("model", MODELS)


@pytest.fixture(scope="module")
def evaluated(data, tmp_path_factory):
    """A function: the name of a model -> a run of it and the report on it, made on first use."""

    @functools.cache
    def of(model):
        with pytest.MonkeyPatch.context() as monkeypatch:
            use_patches(monkeypatch)
            run = train(monkeypatch, data, tmp_path_factory.mktemp(model) / "run", model=model, epochs=4)
            return run, evaluate(monkeypatch, run, model=model)

    return of


@pytest.fixture(scope="module")
def run(evaluated):
    return evaluated("deep_cmpl")[0]


@pytest.fixture(scope="module")
def report(evaluated):
    return evaluated("deep_cmpl")[1]


def split_of(data, name):
    """The rows of a split and all decoded images."""
    catalogue = open_catalogue(data)
    images = open_images(catalogue, (32, 24))
    return catalogue.rows.iloc[split_catalogue(catalogue.rows, photographs(catalogue, images)).rows(name)], images


# --- the report ----------------------------------------------------------------------------------------


@each_model
def test_the_report_has_the_keys_of_the_contract(model, evaluated):
    run, report = evaluated(model)
    always = ["model", "run", "split", "catalogue", "gallery", *DIRECTIONS, "rsum", "interval", "chance"]
    assert list(report) == [*always, "graded", "probes", "robustness"]
    assert (report["model"], report["run"], report["split"]) == (model, str(run), "test")
    assert list(report["gallery"]) == ["images", "texts", "products", "groups", "pairs", "relevant"]
    assert all(list(report[direction]) == FIGURES for direction in DIRECTIONS)
    assert list(report["chance"]) == list(DIRECTIONS)
    assert all(set(report["chance"][direction]) == set(FIGURES) - {"median_rank"} for direction in DIRECTIONS)
    assert list(report["interval"]) == [*DIRECTIONS, "rsum"]
    for direction in DIRECTIONS:
        for name in FIGURES:
            low, high = report["interval"][direction][name]
            assert low <= report[direction][name] <= high


@each_model
def test_the_figures_equal_those_of_single_embeddings_and_a_loop(model, evaluated, data):
    """Each image and caption embedded alone; the rank is 1 + the number that score at least as high."""
    run, report = evaluated(model)
    rows, images = split_of(data, "test")
    network, tokenizer = load_model(run, read_config(run, model), CPU)
    with torch.inference_mode():
        image_emb = [network.encode_image(torch.tensor(images.pixels[image]).permute(2, 0, 1)[None])[0]
                     for image in rows["image"]]  # fmt: skip
        text_emb = [network.encode_text(*map(torch.from_numpy, tokenizer([caption])))[0] for caption in rows["caption"]]
    cosine = np.array([[torch.cosine_similarity(i, t, dim=0).item() for t in text_emb] for i in image_emb])
    for direction, sim in (("image_to_text", cosine), ("text_to_image", cosine.T)):
        ranks = [sum(score >= row[k] - 1e-6 for score in row) for k, row in enumerate(sim)]
        expected = {f"R@{k}": 100 * np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)}
        expected |= {"median_rank": np.median(ranks), "mean_rank": np.mean(ranks)}
        expected |= {name: np.mean([1 / rank for rank in ranks]) for name in ("MRR", "mAP")}
        assert report[direction] == pytest.approx(expected)
    assert report["rsum"] == pytest.approx(sum(report[d][f"R@{k}"] for d in DIRECTIONS for k in (1, 5, 10)))
    assert set(report["gallery"].values()) == {len(rows)}


def test_the_chance_row_is_that_of_a_random_order(report):
    count = report["gallery"]["images"]
    for direction in DIRECTIONS:
        chance = report["chance"][direction]
        assert [chance[f"R@{k}"] for k in (1, 5, 10)] == pytest.approx([100 * min(1, k / count) for k in (1, 5, 10)])
        assert chance["mean_rank"] == pytest.approx((count + 1) / 2)
        assert chance["MRR"] == pytest.approx(sum(1 / rank for rank in range(1, count + 1)) / count)


def test_the_ranks_of_all_queries_stay_in_the_run(report, run, data):
    ranks = pd.read_parquet(run / "ranks-test.parquet")
    rows, _ = split_of(data, "test")
    assert list(ranks) == ["direction", "query", "group", "rank", "reciprocal_rank", "average_precision"]
    queries = {direction: part["query"].tolist() for direction, part in ranks.groupby("direction")}
    assert queries == {"image_to_text": rows["product"].tolist(), "text_to_image": rows["caption"].tolist()}
    for direction, part in ranks.groupby("direction"):
        figures = report[direction]
        # in units of ranks and never cut off: neither at 50, nor a percentage
        assert part["rank"].between(1, len(rows)).all()
        assert figures["median_rank"] == part["rank"].median()
        assert figures["mean_rank"] == pytest.approx(part["rank"].mean())
        assert figures["MRR"] == pytest.approx(part["reciprocal_rank"].mean())
        assert figures["mAP"] == pytest.approx(part["average_precision"].mean())
        assert [figures[f"R@{k}"] for k in (1, 5, 10)] == pytest.approx(
            [100 * part["rank"].le(k).mean() for k in (1, 5, 10)]
        )


def test_ranks_are_not_cut_off(run, monkeypatch):
    """Constant embeddings: every query ties with everything and ranks last among 100 images."""
    monkeypatch.setattr("deep_cmpl.model.DeepCMPL.encode_image", lambda self, images: torch.ones(len(images), 32))
    found = evaluate(monkeypatch, run, "--split", "train")
    count = found["gallery"]["images"]
    assert count > 90
    assert found["text_to_image"]["median_rank"] == found["text_to_image"]["mean_rank"] == count
    assert found["text_to_image"]["R@10"] == 0


def test_what_is_printed(run, report, monkeypatch, capsys):
    evaluate(monkeypatch, run)
    told = capsys.readouterr().out
    images = report["gallery"]["images"]
    assert f"protocol: full gallery, the test split of tiny.csv, {images} products" in told
    assert f"image -> text: {images} queries in a gallery of {images} distinct captions" in told
    lines = [line.split() for line in told.splitlines()]
    header = next(line for line in lines if line[:1] == ["R@1"])
    assert header == ["R@1", "R@5", "R@10", "median", "mean", "MRR", "mAP"]
    for direction in DIRECTIONS:
        words = direction.replace("_to_", " -> ").split()
        line = next(line for line in lines if line[:3] == words and len(line) == 3 + len(FIGURES))
        expected = [report[direction][name] for name in FIGURES]
        assert [float(value) for value in line[3:]] == pytest.approx(expected, abs=0.051)
    recall = lines[: next(number for number, line in enumerate(lines) if line[:2] == ["graded", "relevance:"])]
    assert sum(line[:1] == ["chance"] for line in recall) == 2
    assert "warning" not in told


@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_products_that_were_trained_on_are_told(split, run, data, monkeypatch, capsys):
    trained, evaluated = (set(split_of(data, name)[0]["product"]) for name in ("train", split))
    found = evaluate(monkeypatch, run, "--split", split)
    assert found["gallery"]["products"] == len(evaluated)
    warned = f"{len(trained & evaluated)} of the {len(evaluated)} products of the {split} split were trained on"
    assert (f"warning: {warned}" in capsys.readouterr().out) is (split != "val")


def test_products_trained_on_are_told_for_another_catalogue_too(
    run, data, tmp_path, tiny_catalogue, monkeypatch, capsys
):
    other = tiny_catalogue(tmp_path / "other", products=60)
    evaluate(monkeypatch, run, "--data", other, "--split", "train")
    remove_caches(other)
    assert "products of the train split were trained on" in capsys.readouterr().out


def test_data_that_changed_is_told(run, data, monkeypatch, capsys):
    before = data.read_text()
    data.write_text(before.replace("Red", "Scarlet"))
    try:
        evaluate(monkeypatch, run)
    finally:
        data.write_text(before)
    assert "warning: the data has changed since the run was trained" in capsys.readouterr().out


# --- the run folder on its own -------------------------------------------------------------------------


@each_model
def test_a_copied_run_evaluates_the_same_without_network_and_caches(model, evaluated, data, tmp_path, monkeypatch):
    """The weights of both encoders and the vectors of the words are in the run: nothing is fetched or learned."""

    def no_network(*_):
        raise OSError("no network here")

    run, report = evaluated(model)
    asked = []
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr("common.word2vec.word_vectors", lambda *_: pytest.fail("they are in the run"))
    monkeypatch.setattr(
        f"{model}.model.build_image_encoder", lambda _, weights, frozen, folder: asked.append(folder) or Patches(frozen)
    )
    copied, moved = tmp_path / "copied", tmp_path / "moved" / data.name
    shutil.copytree(run, copied)
    shutil.copytree(data.parent, moved.parent)
    remove_caches(data)
    found = evaluate(monkeypatch, copied, "--data", moved, model=model)
    kept = kept_files(moved)
    remove_caches(moved)
    assert found | {"run": report["run"]} == report
    assert asked == [copied]
    # another test beside this one may keep the vectors of the same words
    learned = [file.name for file in kept if "features" in file.name]
    assert kept and learned == [], "decoded images are all that an evaluation keeps"


@each_model
def test_a_run_from_before_a_setting_of_training_was_there_still_evaluates(model, evaluated, tmp_path, monkeypatch):
    run, report = evaluated(model)
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    config = json.loads((copied / "config.json").read_text())
    names = {field.name for field in dataclasses.fields(TrainingSettings)} - {"seed"}
    alone = {"frozen_image_layers", "norm_momentum", "image_learning_rate", "text_learning_rate", "flip", "shift"}
    for name in names | alone:
        config["hyperparameters"].pop(name, None)
    (copied / "config.json").write_text(json.dumps(config))
    assert evaluate(monkeypatch, copied, model=model) | {"run": report["run"]} == report


def test_recorded_data_that_is_gone_asks_for_data(run, tmp_path, monkeypatch):
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    config = json.loads((copied / "config.json").read_text())
    config["data"]["options"]["data"] = "/gone/tiny.csv"
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"/gone/tiny\.csv: no such file or folder; give --data"):
        evaluate(monkeypatch, copied)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "no run there .* train one first with deep_cmpl/train.py"),
        ("config.json", b"{}", r"config\.json: not the configuration of a run"),
        ("config.json", b'{"model": ', r"config\.json: not the configuration of a run"),
        ("model.safetensors", None, r"model\.safetensors: missing; the run was interrupted before"),
        ("model.safetensors", b"broken", "a broken run"),
        ("vocabulary.json", b"[", "a broken run"),
        ("vocabulary.json", None, r"vocabulary\.json: missing"),
        ("train_products.json", None, r"train_products\.json"),
    ],
)
def test_a_run_that_lacks_a_file_or_holds_a_broken_one(file, content, message, run, tmp_path, monkeypatch):
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    (copied / file).unlink()
    if content is not None:
        (copied / file).write_bytes(content)
    with pytest.raises((InputError, FileNotFoundError), match=message):  # run_script tells either in one line
        evaluate(monkeypatch, copied)


def test_weights_of_other_hyperparameters_are_refused(run, tmp_path, monkeypatch):
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    config = json.loads((copied / "config.json").read_text())
    config["hyperparameters"]["embedding_dim"] = 33
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model\.safetensors: the weights do not fit config\.json"):
        evaluate(monkeypatch, copied)


@each_model
def test_a_run_of_another_model_is_refused_and_the_right_script_named(model, evaluated, monkeypatch):
    run, _ = evaluated(model)
    for other in set(MODELS) - {model}:
        with pytest.raises(InputError, match=rf"a run of {model}, not of {other}; use {model}/eval\.py"):
            evaluate(monkeypatch, run, model=other)


@each_model
def test_what_is_unknown_is_told(model, evaluated, data, tmp_path, monkeypatch, capsys):
    """Three of four captions get a word that no training caption has, one of these has no other."""
    run, _ = evaluated(model)
    lines = data.read_text().splitlines()
    header, rows = lines[0], [line.split(",") for line in lines[1:5]]
    for number, caption in enumerate(["Red disc", "Red zigzag", "Zigzag blue on white", "Zigzag"]):
        rows[number][2] = caption
    few = data.with_name("few.csv")
    few.write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    evaluate(monkeypatch, run, "--data", few, "--split", "all", model=model)
    remove_caches(few)
    assert (
        "vocabulary: 20 words of the train captions; in all 33.3% of the words are unknown, "
        "1 of 4 captions have no known word"
    ) in capsys.readouterr().out


# --- relevance files -----------------------------------------------------------------------------------


def test_the_captions_as_a_relevance_file_give_the_recall_of_the_report(
    run, report, data, tmp_path, monkeypatch, capsys
):
    rows, _ = split_of(data, "test")
    content = {caption: {product: 1, "not-there": 1, "0": 0}
               for caption, product in zip(rows["caption"], rows["product"], strict=True)}  # fmt: skip
    (tmp_path / "relevance.json").write_text(json.dumps(content))
    found = evaluate(monkeypatch, run, "--relevance", tmp_path / "relevance.json")
    relevance = found.pop("relevance")
    assert found == report
    assert relevance["ceiling"] == {"Recall@1": 0.5, "Recall@10": 0.5, "MRR@10": 1.0}
    assert relevance["queries"] == len(rows)
    for k in (1, 10):
        assert relevance[f"Recall@{k}"] == pytest.approx(report["text_to_image"][f"R@{k}"] / 100 / 2)
    assert f"{len(rows)} relevant products are not in the gallery" in capsys.readouterr().out


# --- spread --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("emb", "expected"),
    [
        (torch.ones(5, 3), 0.0),
        (torch.tensor([[1.0, 0], [-3, 0]]), 1.0),
        (torch.tensor([[2.0, 0], [0, 7]]), 0.5),
    ],
)
def test_spread_by_hand(emb, expected):
    assert spread(emb) == pytest.approx(expected, abs=1e-6)
