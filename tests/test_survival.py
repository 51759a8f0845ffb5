"""Killed at any moment and started again: every script ends as if nothing had happened, bit for bit on the CPU."""

import os
import shutil
from collections import Counter

import pytest
from killing import cache_parts, dead_process, kill_after, moments, parts, run
from tiny_runs import arguments, assert_same, assert_same_run, remove_caches, resume, state, train, use_patches, weights

import common.checkpoints
import common.monitoring
import common.training
from common.files import HOST

EPOCHS = 3
TRAIN = "deep_cmpl.train:main"


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_catalogue):
    path = tiny_catalogue(tmp_path_factory.mktemp("catalogue"), products=60)
    yield path
    remove_caches(path)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """An uninterrupted run in a process of its own."""
    output = tmp_path_factory.mktemp("runs") / "finished"
    run("never", TRAIN, *arguments(data, output, epochs=EPOCHS), log=output.with_suffix(".log"))
    assert state(output)["progress"]["finished"] and not parts(output)
    return output


# --- training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "epoch", "step", "left"),
    [
        ("late-step 5", 1, 1, 0),  # three steps an epoch: the first one of epoch 2 is done and saved
        ("state 2", 1, 0, 1),
        ("replace:model.safetensors 2", 2, 0, 1),  # the state says that epoch 2 is the best, the model is of epoch 1
    ],
)
def test_killed_and_resumed_equals_uninterrupted(moment, epoch, step, left, finished, data, tmp_path):
    output = tmp_path / "run"
    log = tmp_path / "log"
    run(moment, TRAIN, *arguments(data, output, epochs=EPOCHS), log=log)
    progress = state(output)["progress"]
    assert (progress["epoch"], progress["step"], len(parts(output))) == (epoch, step, left)
    assert "resumed" in run("never", TRAIN, "--output", output, "--resume", "--device", "cpu", log=log)
    assert_same_run(output, finished)
    assert not parts(output)


class Killed(BaseException):
    """In place of SIGKILL, in this process."""


def kill_at_replace(monkeypatch, number):
    """Stop when the n-th file has got its final name. Returns the names so far."""
    names, real_replace = [], os.replace

    def replace(part, path):
        real_replace(part, path)
        names.append(path.name)
        if len(names) == number:
            raise Killed

    monkeypatch.setattr(os, "replace", replace)
    return names


@pytest.fixture
def quick(monkeypatch, data, finished):
    """Trainings in this process, without curves; an uninterrupted one had left its caches."""
    use_patches(monkeypatch)
    monkeypatch.setattr(common.monitoring, "draw_curves", lambda *_: None)
    return monkeypatch


def test_between_any_two_files(quick, finished, data, tmp_path):
    """All moments of a training at which a file has got its final name and the next one has not."""
    with quick.context() as counted:
        names = kill_at_replace(counted, 0)
        train(counted, data, tmp_path / "counted", epochs=EPOCHS)
    begin = ["config.json", "train_products.json", "vocabulary.json"]
    assert names[:6] == [*begin, "training_state.pt", "metrics.jsonl", "model.safetensors"]
    for number in range(1, len(names) + 1):
        output = tmp_path / f"run-{number}"
        with quick.context() as killed, pytest.raises(Killed):
            kill_at_replace(killed, number)
            train(killed, data, output, epochs=EPOCHS)
        try:
            resume(quick, output)
        except SystemExit as left:  # the last state was written
            assert not left.code
        assert_same_run(output, finished)


def test_a_kill_before_the_first_file_leaves_a_folder_that_can_be_used(quick, finished, data, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / f"config.{HOST}.{dead_process()}.part.json").write_text("{")
    train(quick, data, output, epochs=EPOCHS)
    assert_same_run(output, finished)


def test_a_kill_while_an_older_run_is_deleted_leaves_a_run(quick, finished, data, tmp_path):
    """Neither a folder that --overwrite does not know any more, nor a state without its model."""
    real_remove, removed = common.checkpoints.remove, []
    for number in range(1, 6):
        output = shutil.copytree(finished, tmp_path / f"run-{number}")

        def remove(path, number=number):
            real_remove(path)
            removed.append(path.name)
            if len(removed) == number:
                raise Killed

        removed.clear()
        with quick.context() as killed, pytest.raises(Killed):
            killed.setattr(common.checkpoints, "remove", remove)
            train(killed, data, output, "--overwrite", epochs=EPOCHS)
        assert not (output / "training_state.pt").exists()
        train(quick, data, output, "--overwrite", epochs=EPOCHS)
        assert_same_run(output, finished)


@pytest.mark.parametrize("moment", ["training_state.pt", "metrics.jsonl", "model.safetensors"])
def test_the_model_is_that_of_the_best_epoch_even_if_an_epoch_comes_out_differently(moment, quick, data, tmp_path):
    """On a GPU: epoch 2 is the best, is killed before a file of it has its name, and done again is the worst."""
    kept, real_validate, real_replace = {}, common.training.validate, os.replace
    rsums = {"first": [10, 30, 20], "again": [5, 8]}
    written = []

    def replace(part, path):
        written.append(path.name)
        if written.count(moment) == 2:
            raise Killed
        real_replace(part, path)

    def validating(epoch, values):
        def validate(model, *rest):
            kept[next(epoch)] = {key: value.clone() for key, value in model.state_dict().items()}
            return real_validate(model, *rest) | {"rsum": float(values.pop(0))}

        return validate

    run_folder = tmp_path / "run"
    with quick.context() as killed, pytest.raises(Killed):
        killed.setattr(common.training, "validate", validating(iter((1, 2, 3)), rsums["first"]))
        killed.setattr(os, "replace", replace)
        train(killed, data, run_folder, epochs=EPOCHS)
    done = state(run_folder)["progress"]["epoch"]
    assert done == (1 if moment == "training_state.pt" else 2)
    quick.setattr(common.training, "validate", validating(iter(range(done + 1, 4)), rsums["again"]))
    resume(quick, run_folder)
    assert state(run_folder)["progress"]["best_epoch"] == done
    assert_same(weights(run_folder), kept[done])


def test_a_state_is_saved_within_a_long_epoch(quick, data, tmp_path):
    """A clock that moves four minutes a step: after the third step ten minutes have passed, or an epoch is over."""
    saved, seconds, real_save, real_step = [], [], common.training.save, common.training.train_step

    def save(*arguments):
        saved.append((arguments[-1].epoch, arguments[-1].step))
        real_save(*arguments)

    def train_step(*arguments):
        seconds.append(240)
        return real_step(*arguments)

    quick.setattr(common.training, "save", save)
    quick.setattr(common.training, "train_step", train_step)
    quick.setattr(common.training.time, "perf_counter", lambda: float(sum(seconds)))
    output = train(quick, data, tmp_path / "run", epochs=2, batch_size=9)
    steps = state(output)["progress"]["history"][0]["steps"]
    assert steps == 5
    assert saved == [(0, 3), (1, 0), (1, 3), (2, 0)]
    assert state(output)["progress"]["history"][0]["seconds"] == 240 * steps


# --- at any moment -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("model", "number"), [("deep_cmpl", 20), ("siamese", 8)])
def test_training_killed_at_random_moments(model, number, data, tmp_path):
    """From the first image that is decoded to the last file that is written."""
    main, log, whole = f"{model}.train:main", tmp_path / "log", tmp_path / "whole"
    remove_caches(data)
    reached = Counter()
    for seconds in moments(number, main, *arguments(data, whole, model, epochs=8), log=log):
        remove_caches(data)
        output = tmp_path / f"run-{seconds:.3f}"
        words = arguments(data, output, model, epochs=8)
        kill_after(seconds, main, *words, log=log)
        begun = (output / "config.json").is_file()
        if (output / "training_state.pt").is_file():
            reached[f"epoch {state(output)['progress']['epoch']}"] += 1
        else:
            reached["in the first epoch" if begun else "before it"] += 1
        run("never", main, *(["--output", output, "--resume", "--device", "cpu"] if begun else words), log=log)
        assert_same_run(output, whole)
        assert not parts(output) and not cache_parts(data)
    print(f"killed after {dict(reached)}")
    assert len(reached) >= 3
