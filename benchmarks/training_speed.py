"""How much of the bare model's speed the training loop keeps.

Both sides train the same model with the same batch size: the loop fetches, augments and accounts
for each batch; the bare side repeats forward, backward and update on one batch that is already on
the device. Repeats alternate, the ratio of their medians counts.
"""

import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import tyro

from common.errors import InputError, run_script
from common.hyperparameters import from_block, read_block
from common.options import ROOT, TrainOptions
from common.session import prepare
from common.training import Progress, build_optimizer, epoch_batches, train_step
from data.sample import make_sample
from deep_cmpl.loss import cmpm
from deep_cmpl.model import build_model
from deep_cmpl.train import Hyperparameters

LOWEST_RATIO = 0.9


@dataclass(frozen=True)
class Options:
    data: Path | None = None
    """Catalogue to train on (None: the sample catalogue)."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""
    image_encoder: str = "efficientnet-lite0"
    """Name of the image encoder; its weights do not matter here."""
    image_size: tuple[int, int] = (80, 60)
    """Height and width in pixels."""
    batch_size: int = 128
    """Pairs a step."""
    steps: int = 8
    """Steps a repeat."""
    repeats: int = 7
    """Repeats a side."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    block = read_block(ROOT / "deep_cmpl" / "README.md")
    changes = {key: getattr(options, key) for key in ("image_encoder", "image_size", "batch_size")}
    settings = replace(from_block(Hyperparameters, block), image_weights="none", **changes)
    with TemporaryDirectory() as folder:
        train_options = TrainOptions(data=options.data, device=options.device, output=Path(folder) / "run")
        session = prepare("deep_cmpl", train_options, settings, make_sample)
    steps_there = len(session.train) // session.batch_size
    if steps_there < options.steps:
        raise InputError(f"--steps {options.steps}: an epoch of this catalogue has {steps_there} steps")
    model = build_model(settings, session.tokenizer, session.precision).to(session.device)
    optimizer = build_optimizer(model, settings, {})
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)

    def losses(batch):
        image_emb = model.encode_image(batch.images)
        text_emb = model.encode_text(batch.tokens, batch.lengths)
        return {"cmpm": cmpm(image_emb, text_emb, batch.positives, settings.divergence, model.scale())}

    def loop() -> None:
        progress = Progress()
        for batch in epoch_batches(session, progress, options.steps):
            train_step(model, losses, batch, optimizer, schedule, settings, progress)

    ready = next(epoch_batches(session, Progress(), 1))

    def bare() -> None:
        for _ in range(options.steps):
            loss = losses(ready)["cmpm"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    model.train()
    times = {loop: [], bare: []}
    for repeat in range(options.repeats + 1):
        for side in times:
            seconds = timed(side, session.device)
            if repeat > 0:  # the first one warms up
                times[side].append(seconds)
    images = options.steps * session.batch_size
    speed = {side: images / statistics.median(seconds) for side, seconds in times.items()}
    ratio = speed[loop] / speed[bare]
    print(f"loop_images_per_second: {speed[loop]:.1f}")
    print(f"bare_images_per_second: {speed[bare]:.1f}")
    print(f"ratio: {ratio:.3f}")
    sys.exit(0 if ratio >= LOWEST_RATIO else 1)


def timed(work, device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    run_script(main)
