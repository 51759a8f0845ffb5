"""The one training loop. The method is a function from a batch to named losses; their sum is minimised."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common import processes
from common.batches import Batch, Pairs
from common.devices import peak_memory, random_state, set_random_state
from common.errors import TrainingStopped
from common.exhaustion import told_in_words
from common.images import augment
from common.interrupts import interrupts
from common.large_batches import Embed, Losses, compute_gradients
from common.loading import load, place, workers_for
from common.monitoring import Monitor
from common.optimization import build_optimizer, learning_rate_share
from common.replay import replayed
from common.session import Session
from common.validation import validate

SAVE_EVERY_SECONDS = 600
"""Within an epoch, which can take hours: what a power cut costs at most. A save takes seconds."""
MADE_IN_A_ROW = 8
"""Batches of features; see `in_rows`."""


@dataclass
class Progress:
    """Where a training is; saved and restored as it is."""

    epoch: int = 0
    step: int = 0
    """steps done in this epoch"""
    sums: dict[str, float] = field(default_factory=dict)
    """sum of each loss over these steps"""
    seconds: float = 0.0
    """training time in this epoch so far"""
    history: list[dict[str, Any]] = field(default_factory=list)
    """a record an epoch, as in metrics.jsonl"""
    best_rsum: float = -1.0
    best_epoch: int = 0
    finished: bool = False


class Launched:
    """A step that a GPU may still be computing. Its losses are read when the next step is on its way: a loop that
    waited for each of them would leave the GPU idle until the next batch is there.

    Args:
        terms: its losses, each a ().
        epoch, step: counted from 1.
        pairs: of its batch, (B,) their numbers.
    """

    def __init__(self, terms: dict[str, Tensor], epoch: int, step: int, pairs: np.ndarray) -> None:
        values = torch.stack([value.detach() for value in terms.values()])
        self.names, self.values = list(terms), values.to("cpu", non_blocking=True)
        self.read = torch.cuda.current_stream(values.device).record_event() if values.is_cuda else None
        self.epoch, self.step, self.pairs = epoch, step, pairs
        self.settled = False

    def settle(self, progress: Progress, train: Pairs) -> None:
        """Wait for the losses and add them to the progress, once.

        Args:
            progress: of the training.
            train: the pairs that the batch was taken from.

        Raises:
            TrainingStopped: one is not finite.
        """
        if self.settled:
            return
        if self.read:
            self.read.synchronize()
        terms = dict(zip(self.names, self.values.tolist(), strict=True))
        if not math.isfinite(sum(terms.values())):
            found = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
            raise TrainingStopped(
                f"the loss is not finite in epoch {self.epoch}, step {self.step} ({found}); "
                f"lower the learning rate or look at the batch's products: {', '.join(train.products.some(self.pairs))}"
            )
        for name, value in terms.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value
        self.settled = True


def fit(
    model: nn.Module,
    embed: Embed,
    losses: Losses,
    session: Session,
    at_chance: dict[str, Tensor | float],
    rates: dict[nn.Module, float],
) -> None:
    """Train, validate after each epoch, keep the model that is best by validation rSum.

    Args:
        model: with `encode_image`, `encode_text` and the submodules `image_encoder`, `text_encoder`.
        embed: from a batch to what the losses need of each of its b images and captions, tensors (b, ...).
        losses: from a batch and these, gathered to (B, ...), to named losses, each a (); their sum is minimised.
        session: from `prepare`.
        at_chance: the losses of embeddings that know nothing, for the log.
        rates: the highest learning rate of each part of the model that has its own.

    Raises:
        TrainingStopped: a loss is not finite, the machine's memory is too small, or the user interrupted
            (after saving).
        DiskFull: the state cannot be saved; the one before is as it was.
    """
    session = with_placed_images(session)
    settings, run = session.settings, session.run
    steps = max(1, len(session.train) // session.batch_size)
    optimizer = build_optimizer(model, settings, rates)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_share(step, settings.epochs * steps, settings.warmup)
    )
    progress = Progress()
    if run.resumed:
        progress = restore(session, model, optimizer, schedule)
    else:
        config = session.config | {"parameters": count_parameters(model)}
        seed_process(settings.seed, progress)
        if processes.is_first():
            run.begin(config, session.train.distinct_products(), session.tokenizer, model.text_encoder)
    at_chance = {name: float(value) for name, value in at_chance.items()}
    monitor = Monitor(run.folder, at_chance, progress.epoch) if processes.is_first() else None

    def rehearse(pairs: int) -> None:
        batch = session.train.batch(np.arange(pairs)).to(session.device)
        compute_gradients(model, embed, losses, batch, accumulate=1)

    memory = told_in_words(model, optimizer, session.batch_size, session.parts, session.device, rehearse)
    saved = started = time.perf_counter()
    with interrupts() as interrupted, memory, replayed(model, session), progress_bar(progress, steps, session) as bar:
        while not progress.finished:
            model.train()
            for launched in train_steps(model, embed, losses, session, optimizer, schedule, progress, steps):
                progress.seconds, started = progress.seconds + time.perf_counter() - started, time.perf_counter()
                bar.update(session.batch_size)
                stop, due = processes.any_of(interrupted(), started - saved > SAVE_EVERY_SECONDS)
                if stop or due:
                    launched.settle(progress, session.train)
                    save(session, model, optimizer, schedule, progress)
                    saved = started = time.perf_counter()
                if stop:
                    raise TrainingStopped(f"interrupted; the state is saved, go on with --resume ({run.folder})")
            progress.seconds += time.perf_counter() - started
            finish_epoch(model, session, progress, steps, optimizer)
            if monitor:
                bar.write(monitor.epoch(progress.history, progress.best_epoch))
            save(session, model, optimizer, schedule, progress)
            saved = started = time.perf_counter()
    if monitor:
        monitor.close()
    processes.stop()
    print(f"best validation rSum {progress.best_rsum:.1f} in epoch {progress.best_epoch}; the model is in {run.folder}")


def with_placed_images(session: Session) -> Session:
    """The session with images and captions, or their features, where batches are taken from; prints where."""
    texts = session.train.texts
    images, tokens, where = place(session.images, texts.tokens, session.device, session.images_from)
    print(f"images: {where}")
    texts = replace(texts, tokens=tokens)
    return replace(session, images=images, train=session.train.with_inputs(images, texts))


def count_parameters(model: nn.Module) -> dict[str, int]:
    """How many parameters there are, and how many of them are trained; both are printed."""
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(f"model: {total:,} parameters, {trained:,} of them trained")
    return {"total": total, "trained": trained}


def epoch_batches(session: Session, progress: Progress, steps: int) -> Iterator[Batch]:
    """The rest of an epoch: pairs in an order that depends on the seed and the epoch alone."""
    session_seed = (session.settings.seed, progress.epoch)
    order = np.random.default_rng(session_seed).permutation(len(session.train))
    batches = [order[step * session.batch_size :][: session.batch_size] for step in range(progress.step, steps)]
    make = partial(session.train.batch, epoch=progress.epoch)
    loaded = load(make, batches, session.device, workers_for(session.images, session.device))
    if len(session.images.shape) == 2:  # features, which are as they are
        yield from in_rows(loaded)
    else:
        for batch in loaded:
            yield replace(batch, images=augment(batch.images, session.settings.flip, session.settings.shift))


def in_rows(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, made some at a time: a step leaves nothing of what making one needs in the CPU's caches, and
    steps on features are so short that it shows."""
    while row := list(islice(batches, MADE_IN_A_ROW)):
        yield from row


def train_steps(
    model: nn.Module,
    embed: Embed,
    losses: Losses,
    session: Session,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    progress: Progress,
    steps: int,
) -> Iterator[Launched]:
    """The rest of an epoch of so many steps; each is settled when the next one is on its way."""
    before = None
    for batch in epoch_batches(session, progress, steps):
        launched = train_step(model, embed, losses, batch, optimizer, schedule, session.settings.accumulate, progress)
        if before:
            before.settle(progress, session.train)
        yield launched
        before = launched
    if before:
        before.settle(progress, session.train)


def train_step(
    model: nn.Module,
    embed: Embed,
    losses: Losses,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    accumulate: int,
    progress: Progress,
) -> Launched:
    """Forward, backward and update of a model in training mode."""
    optimizer.zero_grad(set_to_none=True)
    terms = compute_gradients(model, embed, losses, batch, accumulate)
    launched = Launched(terms, progress.epoch + 1, progress.step + 1, batch.pairs)
    optimizer.step()
    schedule.step()
    progress.step += 1
    return launched


def finish_epoch(model: nn.Module, session: Session, progress: Progress, steps: int, optimizer: Any) -> None:
    """Validate, record the epoch, see whether it is the best, decide whether to stop."""
    means = {name: total / progress.step for name, total in progress.sums.items()}
    validation = validate(model, session.images, session.val_texts, session.val, session.device)
    progress.epoch += 1
    progress.history.append({
        "epoch": progress.epoch,
        "steps": progress.epoch * steps,
        "loss": sum(means.values()),
        **means,
        "learning_rate": max(group["lr"] for group in optimizer.param_groups),
        "images_per_second": progress.step * session.batch_size / progress.seconds,
        "seconds": progress.seconds,
        "peak_memory_gb": peak_memory(session.device) / 1e9,
        "val": validation,
    })  # fmt: skip
    if validation["rsum"] > progress.best_rsum:
        progress.best_rsum, progress.best_epoch = validation["rsum"], progress.epoch
    patience = session.settings.patience
    stale = patience > 0 and progress.epoch - progress.best_epoch >= patience
    progress.finished = progress.epoch == session.settings.epochs or stale
    progress.step, progress.sums, progress.seconds = 0, {}, 0.0


def save(session: Session, model: nn.Module, optimizer: Any, schedule: Any, progress: Progress) -> None:
    """Save everything that the rest of the training depends on, and the model if this is its best epoch."""
    random_states = processes.from_all(random_state(session.device))
    if processes.is_first():
        session.run.save_state({
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "random": random_states,
            "progress": asdict(progress),
        })  # fmt: skip
    processes.wait()  # one that ended earlier would have torchrun end the first one while it writes


def restore(session: Session, model: nn.Module, optimizer: Any, schedule: Any) -> Progress:
    """Put a saved state back and return where the training was."""
    state = session.run.load_state(session.device)
    with session.run.restoring():
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        progress, before = Progress(**state["progress"]), len(state["random"])
        if processes.count() in (1, before):
            set_random_state(state["random"][processes.number()], session.device)
        else:
            seed_process(session.settings.seed, progress)
    if processes.count() != before:
        print(f"processes: {processes.count()}, the run had {before}: it goes on, but not bit for bit as it would have")
    return progress


def seed_process(seed: int, progress: Progress) -> None:
    """Give each of several processes random numbers of its own, for dropout and augmentation."""
    if processes.count() > 1:
        place = (seed, progress.epoch, progress.step, processes.number())
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))


def progress_bar(progress: Progress, steps: int, session: Session) -> tqdm:
    done = (progress.epoch * steps + progress.step) * session.batch_size
    total = session.settings.epochs * steps * session.batch_size
    return tqdm(
        total=total,
        initial=done,
        desc="training",
        unit="image",
        smoothing=0.05,
        mininterval=0.5,
        disable=not processes.is_first(),
    )
