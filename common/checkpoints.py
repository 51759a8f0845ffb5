"""The run folder: everything that a training writes and an evaluation reads."""

import importlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from common.captions import TRANSFORMER_FOLDER, VOCABULARY_FILE, Tokenizer, first_line
from common.devices import evaluation_precision
from common.errors import InputError
from common.files import remove, remove_leftovers, replacing, write_atomically
from common.hashing import json_list
from common.options import TrainOptions
from common.text_encoders import load_tokenizer, save_text_config

MODELS = ("deep_cmpl", "siamese", "correlational")
CONFIG, MODEL, STATE = "config.json", "model.safetensors", "training_state.pt"
TRAIN_PRODUCTS = "train_products.json"
OF_THE_MODEL = ("ranks-*.parquet", "recall-by-*.png")
"""What an evaluation leaves in a run folder that another model makes untrue."""
OWN_FILES = (
    STATE, MODEL, TRAIN_PRODUCTS, VOCABULARY_FILE, TRANSFORMER_FOLDER,
    "metrics.jsonl", "curves.png", "tensorboard", *OF_THE_MODEL, "fg101-*.parquet", "*.part", "*.part.*",
)  # fmt: skip
"""What a training or an evaluation leaves in a run folder beside its configuration.

The state goes first when a run is deleted and the configuration stays until that of the next run replaces it: killed
in between, the folder is still known as a run, and no state is resumed that has lost its model.
"""
STATE_PARTS = {"model", "optimizer", "schedule", "random", "progress"}


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
            InputError: it cannot be written to, it holds something and neither option is given, or
                --overwrite is given for a folder that is no run.
        """
        folder = options.output.resolve()
        refuse_read_only(folder)
        remove_leftovers(folder)
        if options.resume:
            resumed = (folder / STATE).is_file()
            print(f"run: {folder}, " + ("resumed" if resumed else "no saved state there, starting over"))
            return cls(folder, resumed)
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
        """Start the folder; an earlier run is deleted only now, when all input is known to be good.

        Args:
            train_products: the ids of the products that are trained on.
        """
        if self.overwrite:
            delete_run(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / CONFIG, json.dumps(config, indent=2))
        with replacing(self.folder / TRAIN_PRODUCTS) as part, part.open("w", encoding="utf-8") as file:
            file.writelines(json_list(train_products))
        tokenizer.save(self.folder)
        save_text_config(text_encoder, self.folder)

    def save_state(self, state: dict[str, Any]) -> None:
        """Write a training state, and then what follows from it.

        Raises:
            DiskFull: there is no space left; the state before this one is as it was.
        """
        if ends_best_epoch(state["progress"]):
            remove_all(self.folder, OF_THE_MODEL)  # they are of the model before
        with replacing(self.folder / STATE, tensor_bytes(state)) as part, part.open("wb") as file:
            torch.save(state, file)  # to an open file: the error of a full disk is then one that can be told
        self.publish(state)

    def publish(self, state: dict[str, Any]) -> None:
        """Write what follows from a state: metrics.jsonl and, at the end of the best epoch so far, the model.

        The state is written first and this is done again before it is resumed: a kill in between, or an epoch that
        comes out differently the second time, cannot leave a model that is not that of the best epoch.
        """
        progress = state["progress"]
        write_atomically(
            self.folder / "metrics.jsonl", "".join(json.dumps(epoch) + "\n" for epoch in progress["history"])
        )
        if ends_best_epoch(progress):
            weights = {key: value.contiguous() for key, value in state["model"].items()}
            with replacing(self.folder / MODEL, tensor_bytes(weights)) as part:
                safetensors.torch.save_file(weights, part)

    def load_state(self, device: torch.device) -> dict[str, Any]:
        """Read the training state; nothing but tensors and plain values is accepted.

        Raises:
            InputError: the file is broken.
        """
        file = self.folder / STATE
        try:
            state = torch.load(file, map_location=device, weights_only=True)
        except Exception:  # torch, zipfile and pickle each raise their own, and advise to load what is not safe
            state = None
        if not isinstance(state, dict) or not state.keys() >= STATE_PARTS:
            raise InputError(
                f"{file}: not a training state that can be read, it is truncated or was changed. The model kept so far "
                "can still be evaluated; to train, start this run again with --overwrite or name another --output"
            )
        return state

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Turn the errors of a state that does not fit into one message.

        Raises:
            InputError: tensors or values of the state do not fit the model.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.folder / STATE}: does not fit the model that {CONFIG} describes ({first_line(error)}); one of "
                "the two was changed, or the run is of another version. Start it again with --overwrite, or name "
                "another --output"
            ) from None


def refuse_read_only(folder: Path) -> None:
    """Raise an `InputError` if a folder cannot be made or written to: now, not when the first epoch is done."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir():
        raise InputError(f"--output {folder}: a file is in the way, {place}; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"--output {folder}: {place} is read-only, nothing can be written there; name another --output"
        )


def tensor_bytes(state: Any) -> int:
    """The size of all tensors in nested dictionaries and lists."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, dict | list | tuple):
        return sum(map(tensor_bytes, state.values() if isinstance(state, dict) else state))
    return 0


def is_run(folder: Path) -> bool:
    """Whether a folder holds the configuration of a run of one of the models."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config["model"] in MODELS and "hyperparameters" in config
    except (OSError, ValueError, KeyError, TypeError):
        return False


def delete_run(folder: Path) -> None:
    """Delete what a run writes beside its configuration; whatever else lies in its folder stays."""
    remove_all(folder, OWN_FILES)


def remove_all(folder: Path, names: Iterable[str]) -> None:
    """Remove what bears one of these names, with stars, in their order."""
    for name in names:
        for path in folder.glob(name):
            remove(path)


def ends_best_epoch(progress: dict[str, Any]) -> bool:
    """Whether a state is that at the end of the best epoch so far, whose model is kept."""
    return progress["step"] == 0 and progress["epoch"] == progress["best_epoch"]


def load_model(
    folder: Path, config: dict[str, Any], device: torch.device, precision: torch.dtype | None = None
) -> tuple[nn.Module, Tokenizer]:
    """The trained model of a run, in evaluation mode, and its tokenizer; nothing is downloaded.

    Args:
        folder: of the run.
        config: its config.json.
        device: where to compute.
        precision: of the encoders; None for that of `evaluation_precision`.

    Raises:
        InputError: a file is missing or broken, or the weights do not fit the configuration.
    """
    if config["model"] not in MODELS:
        raise InputError(f"{folder / CONFIG}: unknown model {config['model']!r}; expected one of {MODELS}")
    module = importlib.import_module(f"{config['model']}.model")  # one of three names, whatever the file says
    settings = SimpleNamespace(**config["hyperparameters"])
    try:
        tokenizer = load_tokenizer(settings, folder)
        state = safetensors.torch.load_file(folder / MODEL, device=str(device))
    except FileNotFoundError as error:
        missing = Path(getattr(error, "filename", None) or folder / MODEL)
        why = "the run was interrupted before its first validation" if missing.name == MODEL else "copy the whole run"
        if missing.exists():
            raise InputError(f"{missing}: it may not be read; change its permissions") from None
        raise InputError(f"{missing}: missing; {why}") from None
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: a broken run, a file of it cannot be read ({error})") from None
    try:
        setting = config["hyperparameters"].get("precision", "default")
        precision = precision or evaluation_precision(setting, config["precision"], device)
        model = module.build_model(settings, tokenizer, precision, folder=folder)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(
            f"{folder / CONFIG}: no model can be built from it ({first_line(error)}); it was changed or is of another "
            "version"
        ) from None
    model = model.to(device).eval()
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys  # what only training needs is left
    except RuntimeError as error:
        raise InputError(f"{folder / MODEL}: the weights do not fit {CONFIG} ({error})") from None
    if missing:
        raise InputError(f"{folder / MODEL}: lacks {len(missing)} tensors, '{missing[0]}' among them")
    return model, tokenizer
