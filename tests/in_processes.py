"""What the tests run in several processes at once, through torchrun: python in_processes.py WHAT ARGUMENTS."""

import os
import signal
import sys
from itertools import product
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import numpy as np
import pytest
import torch
from tiny_runs import MODELS, arguments, script, use_patches
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import common.monitoring
import common.training
from common import processes
from common.large_batches import compute_gradients

PAIRS = 32
Case = tuple[str, bool, int]
"""a model, whether its batch norms are frozen, and `accumulate`"""


def gradients(monkeypatch: pytest.MonkeyPatch, data: Path, output: Path, case: Case, dropout: float = 0.0) -> dict:
    """The losses, gradients, batch norms and random numbers after one batch of a model's real train.py."""
    model_name, frozen, accumulate = case
    found = {}

    def fit(model, embed, losses, session, at_chance, rates):
        model.train()
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.train(not frozen)
                # statistics that are no identity, so that a norm at rest does something
                module.running_mean.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
            if isinstance(module, nn.Dropout):
                module.p = dropout
        torch.manual_seed(3)
        batch = session.train.batch(np.arange(PAIRS))
        terms = compute_gradients(model, embed, losses, batch, accumulate)
        found["losses"] = {name: float(value) for name, value in terms.items()}
        found["gradients"] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found["norms"] = {name: value for name, value in model.state_dict().items() if "running" in name}
        found["next"] = torch.rand(3)

    with monkeypatch.context() as patched:
        use_patches(patched)
        patched.setattr(common.training, "fit", fit)
        settings = {"batch_size": PAIRS, "accumulate": accumulate}
        patched.setattr(sys, "argv", ["train.py", *arguments(data, output, model_name, **settings)])
        script(model_name, "train")()
    return found


def save_gradients(data: Path, file: Path) -> None:
    """Those of every model, with batch norms frozen and not, in one pass and in two, in a file."""
    results = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for case in product(MODELS, (True, False), (1, 2)):
            results[case] = gradients(monkeypatch, data, file.with_suffix(".run"), case)
    if processes.is_first():
        torch.save(results, file)
    processes.stop()


def train(stop_after: int, model: str, *words: str) -> None:
    """Run train.py; a SIGTERM reaches the last process alone in a step (counted from 1), or never for 0."""
    steps, real_step = [], common.training.train_step

    def train_step(*given):
        launched = real_step(*given)
        steps.append(given)
        if len(steps) == stop_after and processes.number() == processes.count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return launched

    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        monkeypatch.setattr(common.training, "train_step", train_step)
        monkeypatch.setattr(common.monitoring, "draw_curves", lambda *_: None)
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        script(model, "train")()


if __name__ == "__main__":
    from common.errors import run_script

    what, *words = sys.argv[1:]
    if what == "gradients":
        save_gradients(*map(Path, words))
    else:
        run_script(lambda: train(int(words[0]), *words[1:]))
