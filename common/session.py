"""Everything that a training needs beside its model and its losses."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torchvision
from torch import nn

from common import processes
from common.attributes import named_column
from common.batches import Data, Images, Pairs, Texts, load_data
from common.captions import Tokenizer, describe_unknown
from common.checkpoints import Run
from common.devices import (
    choose_device,
    describe,
    keep_freed_memory,
    precision_name,
    resolve_precision,
    seed_everything,
)
from common.errors import InputError
from common.gallery import Gallery
from common.options import TrainOptions, read_config, typed_data
from common.speed import compile_image_encoder, fastest_precision
from common.splits import fewer_products, require_splits
from common.text_encoders import build_tokenizer, load_tokenizer


@dataclass(frozen=True)
class Session:
    """A catalogue ready for training, and where the training goes.

    Attributes:
        config: what a new run's config.json will hold.
        images: all decoded images (N, H, W, 3) uint8, or their features (N, F) float32.
        images_from: where batches of them are to be taken from, as `--images-from`.
        val_texts: the captions of `val`.
        batch_size: pairs a step of all processes together, no more than there are.
    """

    run: Run
    config: dict[str, Any]
    settings: Any
    device: torch.device
    precision: torch.dtype
    data: Data
    tokenizer: Tokenizer
    images: Images
    images_from: str
    train: Pairs
    val: Gallery
    val_texts: Texts
    batch_size: int

    @property
    def parts(self) -> int:
        """How many equal parts a batch is encoded in: those of each process."""
        return parts_of(self.settings)

    @property
    def resumed_from(self) -> Path | None:
        """The run folder that a resumed model is read from: no pretrained weights are fetched then."""
        return self.run.folder if self.run.resumed else None


def prepare(
    model: str, options: TrainOptions, settings: Any, sample: Callable[[], Path], label_column: str = ""
) -> Session:
    """Check the run folder, choose the device, open the catalogue, and seed. Nothing is written yet.

    Args:
        model: its name.
        options: of the command line.
        settings: the hyperparameters.
        sample: makes the sample catalogue, for when no other is named.
        label_column: attribute whose values are identity labels, or "product" for each product's own; "" for none.

    Raises:
        InputError: the catalogue, the device or the run folder cannot be used, or --resume finds
            other data than the run was started with.
        SystemExit: the run to resume is finished (code 0).
    """
    processes.start()
    check_parts(settings)
    device = choose_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    run = Run.open(options)
    if run.resumed:
        end_if_finished(run)
    with processes.first_on_machine_first():
        data = load_data(options, settings.image_size, sample)
    if label_column:  # before anything is made of its captions
        known = ["product", *data.catalogue.attributes]
        label_column = named_column(label_column, known, "--cmpc-column", data.catalogue.path)
    require_splits(data.splits, ("train", "val", "test"), data.catalogue.path)
    if run.resumed:
        config = read_config(run.folder, model)
        refuse_other_data(run.folder, config, data)
        precision = getattr(torch, config["precision"])
    else:
        precision = choose_precision(settings, device)
        config = describe_run(model, options, settings, data, precision, device)
    seed_everything(settings.seed)
    if run.resumed:
        tokenizer = load_tokenizer(settings, run.folder)
    else:
        tokenizer = build_tokenizer(settings, data.captions("train"))
    images = data.images.pixels
    train = data.pairs("train", tokenizer, label_column)
    val = limited_gallery(data.rows("val"), settings.val_products)
    val_texts = Texts(*tokenizer(val.captions))
    print(describe_unknown(tokenizer, {"train": train.texts.tokens, "val": val_texts.tokens}))
    print(f"device: {describe(device)}, {precision_name(precision)}")
    if len(train) < 2:
        raise InputError(f"{data.catalogue.path}: {len(train)} pair to train on; a batch needs two")
    batch_size = usable_batch_size(settings, len(train))
    return Session(
        run, config, settings, device, precision, data, tokenizer, images, options.images_from, train, val, val_texts,
        batch_size,
    )  # fmt: skip


def end_if_finished(run: Run) -> None:
    """Say so and end with code 0, even where its data are gone; what a kill left unpublished is published before."""
    state = run.load_state(torch.device("cpu"))
    with run.restoring():
        if processes.is_first():
            run.publish(state)
        finished = state["progress"]["finished"]
    if finished:
        print(f"{run.folder}: this run is finished; nothing to resume")
        sys.exit(0)


def parts_of(settings: Any) -> int:
    """In how many equal parts a batch is encoded: `accumulate` in each process."""
    return processes.count() * settings.accumulate


def check_parts(settings: Any) -> None:
    """Raise an `InputError` when a batch cannot be parted equally among the processes and their passes."""
    count, parts = processes.count(), parts_of(settings)
    if settings.compile and count > 1:
        raise InputError("compile = true: only with one process, batch norms over several cannot be compiled; "
                         "use --no-compile")  # fmt: skip
    if settings.batch_size % parts or settings.batch_size < 2 * parts:
        nearest = max(2, round(settings.batch_size / parts)) * parts
        raise InputError(
            f"batch_size = {settings.batch_size}: pairs of all processes together, to be parted among {count} "
            f"process{'es' * (count > 1)} x accumulate = {settings.accumulate}, two or more in each; "
            f"use --batch-size {nearest}, or to --resume a number of processes that divides it"
        )


def usable_batch_size(settings: Any, pairs: int) -> int:
    """The batch size, or the largest below it that the pairs there are allow."""
    parts = parts_of(settings)
    batch_size = min(settings.batch_size, pairs // parts * parts)
    if batch_size < 2 * parts:
        raise InputError(f"{pairs} pairs to train on are too few for {parts} parts of two or more; "
                         "use fewer processes, or a lower accumulate")  # fmt: skip
    if batch_size < settings.batch_size:
        print(f"batch size: {batch_size} instead of {settings.batch_size}, there are no more training pairs")
    return batch_size


def choose_precision(settings: Any, device: torch.device) -> torch.dtype:
    """The precision of the encoders; with "auto" the first process measures, for all of them."""
    if settings.precision != "auto":
        return resolve_precision(settings.precision, device)
    pairs = settings.batch_size // parts_of(settings)
    return processes.from_first(fastest_precision(settings, device, pairs) if processes.is_first() else None)


def prepare_model(model: nn.Module, session: Session) -> nn.Module:
    """The model on the session's device, the same in every process, its image encoder compiled if so set."""
    settings, device = session.settings, session.device
    model = model.to(device)
    processes.start_alike(model)
    if settings.compile:
        pairs = session.batch_size // session.parts
        size, twice = settings.image_size, settings.accumulate > 1
        compile_image_encoder(model.image_encoder, session.precision, size, pairs, twice, device)
    return model


def limited_gallery(rows: pd.DataFrame, most: int) -> Gallery:
    """What validation searches among: at most so many products (0: all), and it says when there are more."""
    gallery = Gallery.of(fewer_products(rows, most))
    products = rows["product"].nunique()
    if gallery.products < products:
        print(f"validation: {gallery.products:,} of {products:,} products")
    return gallery


def describe_run(
    model: str, options: TrainOptions, settings: Any, data: Data, precision: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """What config.json holds: what was run, on which data, with which versions, on which machine."""
    catalogue = data.catalogue
    return {
        "model": model,
        "hyperparameters": asdict(settings),
        "data": {"path": str(catalogue.path), "fingerprint": catalogue.fingerprint, "options": typed_data(options)},
        "precision": precision_name(precision),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "processes": processes.count(),
        "hardware": {"device": describe(device), "cores": os.cpu_count(), "system": platform.platform()},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def refuse_other_data(folder: Path, config: dict[str, Any], data: Data) -> None:
    """Check that a resumed run sees the data it was started with."""
    started_with, found = config["data"]["fingerprint"], data.catalogue.fingerprint
    if started_with != found:
        raise InputError(
            f"{data.catalogue.path}: not the data that the run in {folder} was started with (fingerprint "
            f"{found} instead of {started_with}); give that data, or start a new run in another --output"
        )
