"""How much of the bare model's speed the training loop and the embedding keep, and how far the ordinary loop is behind.

All sides have the same model, batch size and machine. Repeats alternate and ratios are of medians, but for the ordinary
loop, whose workers would take the cores from the other sides: it runs alone, at the mean speed of as many steps.

- loop: `fit()`'s own steps: batches fetched, augmented, trained on and accounted for.
- bare: forward, backward and update on one batch that is already on the device.
- ordinary: the loop of the field: a DataLoader whose workers decode each image with Pillow and augment it with
  torchvision's transforms, float32.
- embedding: validation's images through the trained model, against the bare model without gradients.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from common.embedding import EMBEDDED_AT_ONCE, embed_images
from common.errors import InputError, run_script
from common.hyperparameters import from_block, read_block
from common.loading import WORKERS, place
from common.optimization import build_optimizer
from common.options import ROOT, TrainOptions
from common.session import Session, prepare, prepare_model
from common.training import Progress, epoch_batches, train_step, with_placed_images
from data.sample import make_sample
from deep_cmpl.loss import cmpm
from deep_cmpl.model import DeepCMPL, build_model
from deep_cmpl.train import Hyperparameters

LOWEST_RATIO = {"cpu": 0.95, "cuda": 0.92}
LOWEST_EMBEDDING_RATIO = 0.9


@dataclass(frozen=True)
class Options:
    data: Path | None = None
    """Catalogue to train on (None: the sample catalogue)."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""
    images_from: str = "auto"
    """Where the loop takes images from: auto, device, disk or files."""
    image_encoder: str = "efficientnet-lite0"
    """Name of the image encoder; its weights do not matter here."""
    image_size: tuple[int, int] = (80, 60)
    """Height and width in pixels."""
    batch_size: int = 128
    """Pairs a step."""
    compile: bool = False
    """Compile the image encoder, on all sides but the ordinary one."""
    steps: int = 8
    """Steps a repeat."""
    repeats: int = 7
    """Repeats a side."""


class OrdinaryImages(Dataset):
    """Each image decoded and augmented when it is asked for; floats (3, H, W), and the pair's number."""

    def __init__(self, session: Session) -> None:
        size, shift = session.settings.image_size, session.settings.shift
        wanted = set(session.train.image.tolist())
        sources = session.data.catalogue.image_sources()
        self.sources = {number: source for number, source in enumerate(sources) if number in wanted}
        self.image = session.train.image
        self.transform = transforms.Compose([
            transforms.Resize(size), transforms.RandomHorizontalFlip(), transforms.RandomAffine(0, (shift, shift)),
            transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, pair: int) -> tuple[Tensor, int]:
        source = self.sources[int(self.image[pair])]
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return self.transform(image.convert("RGB")), pair


class Sides:
    """One model, trained by each of the loops."""

    def __init__(self, session: Session, model: DeepCMPL, steps: int) -> None:
        self.session, self.model, self.steps = session, model, steps
        self.optimizer = build_optimizer(model, session.settings, {})
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _: 1.0)
        self.ready = next(epoch_batches(session, Progress(), 1))

    def embed(self, batch):
        return self.model.encode_image(batch.images), self.model.encode_text(batch.tokens, batch.lengths)

    def losses(self, batch, image_emb, text_emb):
        divergence = self.session.settings.divergence
        return {"cmpm": cmpm(image_emb, text_emb, batch.positives, divergence, self.model.scale())}

    def loop(self) -> None:
        progress, launched = Progress(), None
        for batch in epoch_batches(self.session, progress, self.steps):
            given = (self.model, self.embed, self.losses, batch, self.optimizer, self.schedule)
            launched = train_step(*given, self.session.settings, progress, launched)
        launched.settle(progress)

    def bare(self) -> None:
        for _ in range(self.steps):
            self.update(self.losses(self.ready, *self.embed(self.ready))["cmpm"])

    def ordinary(self, loader: Iterable) -> None:
        for images, pairs in loader:
            batch = replace(self.session.train.batch(pairs.numpy()), images=images).to(self.session.device)
            features = self.model.image_encoder.backbone(batch.images).mean((2, 3))
            text_emb = self.model.text_joint(self.model.text_encoder(batch.tokens, batch.lengths))
            self.update(self.losses(batch, self.model.image_joint(features), text_emb)["cmpm"])

    def update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    block = read_block(ROOT / "deep_cmpl" / "README.md")
    changes = {key: getattr(options, key) for key in ("image_encoder", "image_size", "batch_size", "compile")}
    settings = replace(from_block(Hyperparameters, block), image_weights="none", **changes)
    with TemporaryDirectory() as folder:
        typed = {key: getattr(options, key) for key in ("data", "device", "images_from")}
        session = prepare("deep_cmpl", TrainOptions(output=Path(folder) / "run", **typed), settings, make_sample)
    session = with_placed_images(session)
    steps_there = len(session.train) // session.batch_size
    if steps_there < options.steps:
        raise InputError(f"--steps {options.steps}: an epoch of this catalogue has {steps_there}; use no more")
    model = prepare_model(build_model(settings, session.tokenizer, session.precision), session)
    sides = Sides(session, model, options.steps)
    model.train()
    loops = timed_in_turn([sides.loop, sides.bare], options.repeats, session.device)
    loops[sides.ordinary] = ordinary_seconds(sides, options.repeats)
    images = options.steps * session.batch_size
    speed = {side.__name__: images / seconds for side, seconds in loops.items()}
    embedding = embedding_ratio(session, model, options.repeats)
    ratio = speed["loop"] / speed["bare"]
    for name, value in speed.items():
        print(f"{name}_images_per_second: {value:.1f}")
    print(f"factor_over_ordinary: {speed['loop'] / speed['ordinary']:.2f}")
    print(f"embedding_ratio: {embedding:.3f}")
    print(f"ratio: {ratio:.3f}")
    sys.exit(0 if ratio >= LOWEST_RATIO[session.device.type] and embedding >= LOWEST_EMBEDDING_RATIO else 1)


def ordinary_seconds(sides: Sides, repeats: int) -> float:
    """The mean seconds that the ordinary loop takes for a repeat's steps, once its workers are all at work."""
    session, steps = sides.session, sides.steps * repeats
    images, read_ahead = OrdinaryImages(session), 2 * WORKERS
    drawn = RandomSampler(images, replacement=True, num_samples=(steps + 2 * read_ahead) * session.batch_size)
    pinned = session.device.type == "cuda"
    loader = iter(DataLoader(images, session.batch_size, sampler=drawn, num_workers=WORKERS, pin_memory=pinned))
    sides.ordinary(islice(loader, read_ahead))
    started = time.perf_counter()
    sides.ordinary(islice(loader, steps))
    if pinned:
        torch.cuda.synchronize(session.device)
    return (time.perf_counter() - started) / repeats


def embedding_ratio(session: Session, model: nn.Module, repeats: int) -> float:
    """The speed of `embed_images` on what validation or the extraction of features sees, over the bare model's."""
    which = np.tile(session.val.images, 1 + 4 * EMBEDDED_AT_ONCE // len(session.val.images))[: 4 * EMBEDDED_AT_ONCE]
    pixels = place(session.data.images.pixels, session.device, session.images_from)[0]
    ready = torch.zeros(EMBEDDED_AT_ONCE, 3, *session.settings.image_size, dtype=torch.uint8, device=session.device)

    def loaded() -> None:
        embed_images(model, pixels, which, session.device)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(4):
            model.encode_image(ready)

    model.eval()
    seconds = timed_in_turn([loaded, bare], repeats, session.device)
    return seconds[bare] / seconds[loaded]


def timed_in_turn(sides: list[Callable], repeats: int, device: torch.device) -> dict[Callable, float]:
    """The median seconds of each side; the first repeat warms up."""
    times = {side: [] for side in sides}
    for _ in range(repeats + 1):
        for side in sides:
            started = time.perf_counter()
            side()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[side].append(time.perf_counter() - started)
    return {side: statistics.median(seconds[1:]) for side, seconds in times.items()}


if __name__ == "__main__":
    run_script(main)
