"""benchmarks/time_to_recall.py: the frozen recipe is whole, and seconds are counted up to the target."""

import dataclasses
import json
import shlex
import sys

import pytest

from benchmarks.time_to_recall import FASTEST, FROZEN, seconds_in
from common.options import train_command_line
from deep_cmpl.train import Hyperparameters


def test_the_frozen_recipe_names_every_hyperparameter():
    """What the README's block says later does not change it."""
    named = {word[2:].removeprefix("no-") for word in shlex.split(FROZEN) if word.startswith("--")}
    assert named == {field.name.replace("_", "-") for field in dataclasses.fields(Hyperparameters)}


@pytest.mark.parametrize("recipe", [FROZEN, FASTEST])
def test_recipes_parse(recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", *shlex.split(recipe)])
    train_command_line("deep_cmpl", Hyperparameters)


@pytest.mark.parametrize(("recall", "seconds"), [(30, 10), (31, 30), (60, 60), (61, None)])
def test_seconds_up_to_the_first_epoch_that_reaches_the_target(recall, seconds, tmp_path):
    file = tmp_path / "metrics.jsonl"
    assert seconds_in(file, recall) is None
    epochs = [
        {"seconds": s, "val": {"text_to_image": {"R@10": r}}} for s, r in ((10, 30), (20, 50), (30, 60), (40, 55))
    ]
    file.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    assert seconds_in(file, recall) == seconds
