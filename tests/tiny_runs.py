"""Trainings and evaluations that take a second or two: a tiny catalogue, a stub for the image encoder."""

import importlib
import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from common.batches import load_data
from common.files import CACHE_FOLDER
from common.hashing import digest
from common.options import CatalogueOptions

MODELS = ("deep_cmpl", "siamese", "correlational")
SHARED = {
    "image_size": "32 24", "word_dim": "8", "min_word_count": "1", "batch_size": "16", "epochs": "3",
    "learning_rate": "0.01", "warmup": "0.1",
    "image_encoder": "mobilenet-v3-small", "image_weights": "none", "precision": "float32",
}  # fmt: skip
OWN = {
    "deep_cmpl": {
        "lstm_dim": "16", "embedding_dim": "32", "image_learning_rate": "0.01", "text_learning_rate": "0.01"
    },
    "siamese": {"word_epochs": "3", "hidden_dim": "32", "embedding_dim": "16", "negatives_warmup": "1"},
    "correlational": {"word_epochs": "3", "hidden_dims": "32 16", "code_dim": "12"},
}  # fmt: skip
TINY = {model: SHARED | own for model, own in OWN.items()}
CLOCK = ("seconds", "images_per_second", "peak_memory_gb")


class Patches(nn.Module):
    """In place of an image encoder: the mean colours of 8 x 6 patches, one linear layer."""

    dim = 64

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.frozen = frozen
        self.linear = nn.Linear(8 * 6 * 3, self.dim).requires_grad_(not frozen)

    def forward(self, images):
        patches = F.adaptive_avg_pool2d(images.float() / 127.5 - 1, (8, 6))
        return self.linear(patches.flatten(1))


def use_patches(monkeypatch) -> None:
    """Let every model have `Patches` for its image encoder."""
    for model in MODELS:
        monkeypatch.setattr(f"{model}.model.build_image_encoder", lambda name, weights, frozen, folder: Patches(frozen))


def arguments(data: Path | None = None, output: Path | None = None, model: str = "deep_cmpl", **settings) -> list[str]:
    """The command line of train.py for the tiny settings; `None` leaves one out."""
    options = {"data": data, "output": output, "device": "cpu", **TINY[model], **settings}
    return [
        word
        for name, value in options.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", *str(value).split())
    ]


def run_main(main, monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", *map(str, words)])
    main()


def script(model: str, name: str):
    """The `main` of a model's train.py or eval.py."""
    return importlib.import_module(f"{model}.{name}").main


def train(monkeypatch, data: Path, output: Path, *flags: str, model: str = "deep_cmpl", **settings) -> Path:
    """Run train.py in this process; returns the run folder."""
    run_main(script(model, "train"), monkeypatch, *arguments(data, output, model, **settings), *flags)
    return output


def resume(monkeypatch, output: Path, model: str = "deep_cmpl") -> Path:
    run_main(script(model, "train"), monkeypatch, "--output", output, "--resume", "--device", "cpu")
    return output


def evaluate(monkeypatch, run: Path, *words, model: str = "deep_cmpl") -> dict:
    """Run eval.py in this process; returns the report."""
    report = run.parent / "report.json"
    run_main(script(model, "eval"), monkeypatch, "--run", run, "--device", "cpu", "--json", report, *words)
    return json.loads(report.read_text())


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_clock(records: list[dict]) -> list[dict]:
    """The records of metrics.jsonl without what no two runs share."""
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in records]


def state(run: Path) -> dict:
    return torch.load(run / "training_state.pt", weights_only=True)


def weights(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run / "model.safetensors")


def assert_same_run(found: Path, expected: Path) -> None:
    """Bit for bit: the kept model, the last model and optimiser, the metrics, the best epoch."""
    assert without_clock(metrics(found)) == without_clock(metrics(expected))
    assert_same(weights(found), weights(expected))
    after, before = state(found), state(expected)
    for progress in (after["progress"], before["progress"]):
        progress["history"] = without_clock(progress["history"])
    assert_same(after, before)


def assert_same(found, expected, where: str = "") -> None:
    """Equal nested dictionaries and lists of tensors and values."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}/{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for number, value in enumerate(expected):
            assert_same(found[number], value, f"{where}/{number}")
    else:
        assert found == expected, where


def kept_files(data: Path) -> list[Path]:
    """What the scripts keep of a catalogue beside the runs: decoded images, features and word vectors."""
    opened = load_data(CatalogueOptions(data=data), (32, 24), sample=None)
    captions = digest(opened.rows("train")["caption"].tolist())
    names = (f"{data.name}-{digest(str(data.resolve()))}", f"word2vec-{captions}")
    return [file for name in names for file in CACHE_FOLDER.glob(f"{name}-*")]


def remove_caches(data: Path) -> None:
    for file in kept_files(data):
        file.unlink(missing_ok=True)
