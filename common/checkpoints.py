"""The run folder: everything that a training writes and an evaluation reads."""

import importlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from common.captions import TRANSFORMER_FOLDER, VOCABULARY_FILE, Tokenizer
from common.errors import InputError
from common.files import write_atomically
from common.options import TrainOptions
from common.text_encoders import load_tokenizer, save_text_config

MODELS = ("deep_cmpl", "siamese", "correlational")
CONFIG, MODEL, STATE = "config.json", "model.safetensors", "training_state.pt"
TRAIN_PRODUCTS = "train_products.json"
OWN_FILES = (
    CONFIG, MODEL, STATE, TRAIN_PRODUCTS, VOCABULARY_FILE, TRANSFORMER_FOLDER,
    "metrics.jsonl", "curves.png", "tensorboard", "ranks-*.parquet", "fg101-*.parquet",
    "recall-by-*.png", "*.part", "*.part.*",
)  # fmt: skip
"""Everything that a training or an evaluation leaves in a run folder."""


class Run:
    """A run folder; a file in it that is written more than once gets a temporary name first.

    Attributes:
        folder: where it is.
        resumed: whether there is a saved state that is to be continued.
        overwrite: whether an earlier run there is deleted when this one begins.
    """

    def __init__(self, folder: Path, resumed: bool = False, overwrite: bool = False) -> None:
        self.folder = folder
        self.resumed = resumed
        self.overwrite = overwrite

    @classmethod
    def open(cls, options: TrainOptions) -> "Run":
        """Check that the output folder can be used: new or empty, a run to --resume, or one to --overwrite.

        Raises:
            InputError: the folder holds something and neither option is given, or --overwrite is
                given for a folder that is no run.
        """
        folder = options.output.resolve()
        if options.resume:
            resumed = (folder / STATE).is_file()
            print(f"run: {folder}, " + ("resumed" if resumed else "no saved state there, starting over"))
            return cls(folder, resumed)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--output {folder}: a file is in the way; name a folder")
        if folder.is_dir() and any(folder.iterdir()):
            if not options.overwrite:
                raise InputError(
                    f"{folder}: not empty; go on with the run there (--resume), delete it (--overwrite), "
                    "or name another folder (--output)"
                )
            if not is_run(folder):
                raise InputError(f"{folder}: not a run of this project, so --overwrite will not delete it")
        print(f"run: {folder}")
        return cls(folder, overwrite=options.overwrite)

    def begin(
        self, config: dict[str, Any], train_products: Iterable[str], tokenizer: Tokenizer, text_encoder: nn.Module
    ) -> None:
        """Start the folder; an earlier run is deleted only now, when all input is known to be good."""
        if self.overwrite:
            delete_run(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / CONFIG, json.dumps(config, indent=2))
        write_atomically(self.folder / TRAIN_PRODUCTS, json.dumps(sorted(set(train_products))))
        tokenizer.save(self.folder)
        save_text_config(text_encoder, self.folder)

    def save_model(self, model: nn.Module) -> None:
        """Write the weights, as contiguous tensors."""
        part = self.folder / f"{MODEL}.part"
        safetensors.torch.save_file({key: value.contiguous() for key, value in model.state_dict().items()}, part)
        os.replace(part, self.folder / MODEL)

    def save_state(self, state: dict[str, Any]) -> None:
        part = self.folder / f"{STATE}.part"
        torch.save(state, part)
        os.replace(part, self.folder / STATE)

    def load_state(self, device: torch.device) -> dict[str, Any]:
        """Read the training state; nothing but tensors and plain values is accepted.

        Raises:
            InputError: the file is broken.
        """
        try:
            return torch.load(self.folder / STATE, map_location=device, weights_only=True)
        except Exception as error:  # torch, zipfile and pickle each raise their own
            raise InputError(f"{self.folder / STATE}: not a training state that can be read ({error})") from None

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        write_atomically(self.folder / "metrics.jsonl", "".join(json.dumps(epoch) + "\n" for epoch in history))


def is_run(folder: Path) -> bool:
    """Whether a folder holds the configuration of a run of one of the models."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config["model"] in MODELS and "hyperparameters" in config
    except (OSError, ValueError, KeyError, TypeError):
        return False


def delete_run(folder: Path) -> None:
    """Delete what a run writes; whatever else lies in its folder stays."""
    for name in OWN_FILES:
        for path in folder.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def load_model(folder: Path, config: dict[str, Any], device: torch.device) -> tuple[nn.Module, Tokenizer]:
    """The trained model of a run, in evaluation mode, and its tokenizer; nothing is downloaded.

    Raises:
        InputError: a file is missing or broken, or the weights do not fit the configuration.
    """
    if config["model"] not in MODELS:
        raise InputError(f"{folder / CONFIG}: unknown model {config['model']!r}; expected one of {MODELS}")
    module = importlib.import_module(f"{config['model']}.model")
    settings = SimpleNamespace(**config["hyperparameters"])
    try:
        tokenizer = load_tokenizer(settings, folder)
        state = safetensors.torch.load_file(folder / MODEL, device=str(device))
    except FileNotFoundError as error:
        missing = getattr(error, "filename", None) or folder / MODEL
        raise InputError(f"{missing}: missing; the run was interrupted before its first validation") from None
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: a broken run, a file of it cannot be read ({error})") from None
    model = module.build_model(settings, tokenizer, precision=getattr(torch, config["precision"]), folder=folder)
    model = model.to(device).eval()
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys  # what only training needs is left
    except RuntimeError as error:
        raise InputError(f"{folder / MODEL}: the weights do not fit {CONFIG} ({error})") from None
    if missing:
        raise InputError(f"{folder / MODEL}: lacks {len(missing)} tensors, '{missing[0]}' among them")
    return model, tokenizer
