"""How much of the bare model's speed the training loop and the embedding keep, and how far the ordinary loop is behind.

    python benchmarks/training_speed.py siamese --data catalogue.csv --batch-size 256

Options that are not listed here go to the model's train.py, which prepares everything and would then train. All sides
have the same model, batch size and machine. They take turns, and a ratio is the median of the turns' own: a machine
that changes its speed meanwhile does so for both sides of most turns. But for the ordinary loop, whose workers would
take the cores from the other sides: it runs alone, at the mean speed of as many steps.

- loop: `fit()`'s own steps: batches fetched, augmented, trained on and accounted for. Workers that read ahead are
  started in each repeat, as `fit` does in each epoch: give `--steps` as many as an epoch has where there are some.
- bare: forward, backward, clipping and update on one batch that is already on the device. Its positives are
  worked out in each step, as in the loop.
- bare_without_replay: where a GPU replays the image encoder in these two, bare with its kernels launched one by one,
  while the graphs stay in memory.
- ordinary: the loop of the field: a DataLoader whose workers decode each image with Pillow and augment it with
  torchvision's transforms, float32; left out where a model is trained on features, or compiled.
- embedding: validation's images through the trained model, against the bare model without gradients.
"""

import io
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from common.batches import Batch
from common.devices import describe
from common.embedding import EMBEDDED_AT_ONCE, embed_images
from common.errors import InputError, run_script
from common.images import blank_batch
from common.large_batches import Embed, Losses, compute_gradients
from common.loading import WORKERS, place
from common.optimization import build_optimizer
from common.replay import replayed
from common.report.ledger import record_of, record_share
from common.session import Session
from common.training import Progress, epoch_batches, train_steps, with_placed_images

LOWEST_RATIO = {"cpu": 0.95, "cuda": 0.92}
LOWEST_EMBEDDING_RATIO = 0.9


@dataclass(frozen=True)
class Options:
    model: tyro.conf.Positional[Literal["deep_cmpl", "siamese", "correlational"]]
    """Which model."""
    steps: int = 8
    """Steps a repeat."""
    repeats: int = 7
    """Repeats a side."""
    record: str | None = None
    """Keep the loop's ratio in assets/results/RECORD.json, the record of a training with these very options."""


class OrdinaryImages(Dataset):
    """Each image decoded and augmented when it is asked for: (3, H, W) uint8, and the pair's number."""

    def __init__(self, session: Session) -> None:
        size, shift = session.settings.image_size, session.settings.shift
        wanted = set(session.train.image.tolist())
        images = enumerate(session.data.catalogue.images)
        self.sources = {number: source for number, source in images if number in wanted}
        self.image = session.train.image
        self.transform = transforms.Compose([
            transforms.Resize(size), transforms.RandomHorizontalFlip(), transforms.RandomAffine(0, (shift, shift)),
            transforms.PILToTensor(),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, pair: int) -> tuple[Tensor, int]:
        source = self.sources[int(self.image[pair])]
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return self.transform(image.convert("RGB")), pair


class Sides:
    """One model, trained by each of the loops."""

    def __init__(
        self,
        model: nn.Module,
        embed: Embed,
        losses: Losses,
        session: Session,
        rates: dict[nn.Module, float],
        steps: int,
    ) -> None:
        self.model, self.embed, self.losses, self.session, self.steps = model, embed, losses, session, steps
        self.optimizer = build_optimizer(model, session.settings, rates)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _: 1.0)
        self.ready = next(epoch_batches(session, Progress(), 1))
        self.own_forward = model.image_encoder.forward

    def loop(self) -> None:
        method = (self.model, self.embed, self.losses)
        for _ in train_steps(*method, self.session, self.optimizer, self.schedule, Progress(), self.steps):
            pass

    def bare(self) -> None:
        for _ in range(self.steps):
            self.update(self.ready)

    def bare_without_replay(self) -> None:
        with patch.object(self.model.image_encoder, "forward", self.own_forward):
            self.bare()

    def is_replayed(self) -> bool:
        return self.model.image_encoder.forward != self.own_forward

    def ordinary(self, loader: Iterable) -> None:
        nothing = np.zeros((len(self.session.data.images.digests), 1, 1, 3), dtype=np.uint8)
        pairs_alone = self.session.train.with_inputs(images=nothing)  # to decode none a second time
        for images, pairs in loader:
            batch = replace(pairs_alone.batch(pairs.numpy()), images=images)
            self.update(batch.to(self.session.device))

    def update(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        compute_gradients(self.model, self.embed, self.losses, batch, self.session.settings.accumulate)
        self.optimizer.step()


def main() -> None:
    options, passed_on = tyro.cli(Options, description=__doc__, return_unknown_args=True)
    if options.steps < 1 or options.repeats < 1:
        raise InputError(f"--steps {options.steps} --repeats {options.repeats}: expected 1 or more of each")
    train = import_module(f"{options.model}.train")
    with TemporaryDirectory() as folder, patch("common.training.fit", partial(measure, options)):
        sys.argv = [train.__file__, "--output", f"{folder}/run", *passed_on]
        train.main()


def measure(
    options: Options,
    model: nn.Module,
    embed: Embed,
    losses: Losses,
    session: Session,
    at_chance: dict[str, Tensor | float],
    rates: dict[nn.Module, float],
) -> None:
    """Print the speeds of what `fit` would train; exits with 1 where they are too far below the bare model's."""
    session = with_placed_images(session)
    steps_there = len(session.train) // session.batch_size
    if steps_there < options.steps:
        raise InputError(f"--steps {options.steps}: an epoch of this catalogue has {steps_there}; use no more")
    catalogue, device, record = session.data.catalogue, describe(session.device), None
    if options.record is not None:
        record = record_of(options.record, options.model, asdict(session.settings), catalogue.fingerprint, device)
    sides = Sides(model, embed, losses, session, rates, options.steps)
    model.train()
    with replayed(model, session):
        timed = [sides.loop, sides.bare, *([sides.bare_without_replay] if sides.is_replayed() else [])]
        loops = timed_in_turn(timed, options.repeats, session.device)
    images = options.steps * session.batch_size
    speed = {side.__name__: images / float(np.median(seconds)) for side, seconds in loops.items()}
    trained_on_images = not sides.ready.images.is_floating_point()
    if trained_on_images and not session.settings.compile:
        speed["ordinary"] = images / ordinary_seconds(sides, options.repeats)
    embedding = embedding_ratio(session, model, options.repeats)
    ratio = median_ratio(loops[sides.bare], loops[sides.loop])
    for name, value in speed.items():
        print(f"{name}_images_per_second: {value:.1f}")
    if sides.bare_without_replay in loops:
        print(f"factor_of_replay: {median_ratio(loops[sides.bare_without_replay], loops[sides.bare]):.2f}")
    if "ordinary" in speed:
        print(f"factor_over_ordinary: {speed['loop'] / speed['ordinary']:.2f}")
    print(f"embedding_ratio: {embedding:.3f}")
    print(f"ratio: {ratio:.3f}")
    if record:
        record_share(record, ratio)
        print(f"recorded: {record}")
    sys.exit(0 if ratio >= LOWEST_RATIO[session.device.type] and embedding >= LOWEST_EMBEDDING_RATIO else 1)


def ordinary_seconds(sides: Sides, repeats: int) -> float:
    """The mean seconds that the ordinary loop takes for a repeat's steps, once its workers are all at work."""
    session, steps = sides.session, sides.steps * repeats
    images, read_ahead = OrdinaryImages(session), 2 * WORKERS
    drawn = RandomSampler(images, replacement=True, num_samples=(steps + 2 * read_ahead) * session.batch_size)
    pinned = session.device.type == "cuda"
    loader = iter(DataLoader(images, session.batch_size, sampler=drawn, num_workers=WORKERS, pin_memory=pinned))
    with patch.object(sides.model, "precision", torch.float32):
        sides.ordinary(islice(loader, read_ahead))
        started = time.perf_counter()
        sides.ordinary(islice(loader, steps))
        if pinned:
            torch.cuda.synchronize(session.device)
        return (time.perf_counter() - started) / repeats


def embedding_ratio(session: Session, model: nn.Module, repeats: int) -> float:
    """The speed of `embed_images` on what validation or the extraction of features sees, over the bare model's."""
    which = np.tile(session.val.images, 1 + 4 * EMBEDDED_AT_ONCE // len(session.val.images))[: 4 * EMBEDDED_AT_ONCE]
    pixels, *_ = place(session.data.images.pixels, session.val_texts.tokens, session.device, session.images_from)
    ready = blank_batch(EMBEDDED_AT_ONCE, session.settings.image_size, session.device)

    def loaded() -> None:
        embed_images(model, pixels, which, session.device)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(4):
            model.encode_image(ready)

    model.eval()
    seconds = timed_in_turn([loaded, bare], repeats, session.device)
    return median_ratio(seconds[bare], seconds[loaded])


def timed_in_turn(sides: list[Callable], repeats: int, device: torch.device) -> dict[Callable, list[float]]:
    """The seconds of each side in each turn; the first turn warms up."""
    times = {side: [] for side in sides}
    for _ in range(repeats + 1):
        for side in sides:
            started = time.perf_counter()
            side()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[side].append(time.perf_counter() - started)
    return {side: seconds[1:] for side, seconds in times.items()}


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """The median of the ratios of what was measured in the same turn."""
    return float(np.median(np.divide(numerators, denominators)))


if __name__ == "__main__":
    run_script(main)
