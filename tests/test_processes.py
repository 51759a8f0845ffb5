"""common/processes.py and large_batches.py: a batch in parts, in one process or in several, is the whole batch."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from in_processes import gradients
from tiny_runs import MODELS, arguments, assert_same_run, evaluate, metrics, state, train, use_patches
from torch import nn

import common.training
from common import processes
from common.errors import InputError
from common.processes import WholeBatchNorm

SCRIPT = Path(__file__).with_name("in_processes.py")
ROOT = SCRIPT.parents[1]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def in_two(*words, count: int = 2, expect: int = 0) -> subprocess.CompletedProcess:
    """Run tests/in_processes.py through torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", str(SCRIPT)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, env=environment, timeout=300)
    assert (done.returncode == 0) == (expect == 0), done.stdout + done.stderr
    return done


# --- the loss and the gradients are those of the whole batch -------------------------------------------


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The gradients of every model on one batch, in one process and one pass."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return {
            (model, frozen): gradients(monkeypatch, data, folder / "run", (model, frozen, 1))
            for model in MODELS
            for frozen in (True, False)
        }


@pytest.fixture(scope="module")
def parted(data, tmp_path_factory):
    """The same in two processes with half of the batch each, in one pass and in two."""
    file = tmp_path_factory.mktemp("parted") / "gradients.pt"
    in_two("gradients", data, file)
    return torch.load(file)


def assert_equal(found, expected):
    assert found["losses"].keys() == expected["losses"].keys()
    for name, value in expected["losses"].items():
        assert found["losses"][name] == pytest.approx(value, rel=1e-5, abs=1e-5)
    assert found["gradients"].keys() == expected["gradients"].keys() and len(found["gradients"]) > 3
    largest = max(value.abs().max().item() for value in expected["gradients"].values())
    assert largest > 1e-3, "there is something to compare"
    # a bias in front of a batch norm has no gradient but what is left of others when they cancel
    close = CLOSE | {"atol": 1e-5 * max(1, largest)}
    for name, value in expected["gradients"].items():
        torch.testing.assert_close(found["gradients"][name], value, **close, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_two_processes_have_the_gradients_of_one(model, accumulate, whole, parted):
    assert_equal(parted[model, True, accumulate], whole[model, True])
    if accumulate == 1:  # in parts, a batch norm in training sees a part
        found = parted[model, False, 1]
        assert_equal(found, whole[model, False])
        for name, value in whole[model, False]["norms"].items():
            torch.testing.assert_close(found["norms"][name], value, **CLOSE)


@pytest.mark.parametrize("accumulate", [2, 4, 16])
@pytest.mark.parametrize("model", MODELS)
def test_accumulated_parts_have_the_gradients_of_the_whole_batch(model, accumulate, whole, data, tmp_path, monkeypatch):
    found = gradients(monkeypatch, data, tmp_path / "run", (model, True, accumulate))
    assert_equal(found, whole[model, True])


@pytest.mark.parametrize("model", ["deep_cmpl", "siamese"])
def test_dropout_is_the_same_in_both_passes(model, data, tmp_path, monkeypatch):
    """Then a part's gradient is that of the loss that was computed: with another dropout it would be of none."""
    real_set, case = common.large_batches.set_random_state, (model, True, 2)
    found = gradients(monkeypatch, data, tmp_path / "run", case, dropout=0.5)
    again = gradients(monkeypatch, data, tmp_path / "run", case, dropout=0.5)
    without = gradients(monkeypatch, data, tmp_path / "run", case)
    assert again["losses"] == found["losses"] != without["losses"]
    assert_equal(found, in_one_graph(monkeypatch, data, tmp_path / "run", case, dropout=0.5))
    monkeypatch.setattr(common.large_batches, "set_random_state", lambda *_: None)
    other = gradients(monkeypatch, data, tmp_path / "run", case, dropout=0.5)
    assert other["losses"] == found["losses"]
    assert any((other["gradients"][name] - value).abs().max() > 1e-3 for name, value in found["gradients"].items())
    monkeypatch.setattr(common.large_batches, "set_random_state", real_set)


def in_one_graph(monkeypatch, data, output, case, **dropout):
    """The parts encoded one after another, all activations kept: an ordinary backward pass through all of them."""

    def one_pass(model, embed, losses, batch, accumulate):
        embedded = [embed(part) for part in batch.split(accumulate)]
        terms = losses(batch, *(torch.cat(pieces) for pieces in zip(*embedded, strict=True)))
        sum(terms.values()).backward()
        return terms

    with monkeypatch.context() as patched:
        patched.setattr(common.large_batches, "in_two_passes", one_pass)
        return gradients(monkeypatch, data, output, case, **dropout)


def test_a_batch_in_parts_is_counted_once_by_batch_norms(data, tmp_path, monkeypatch):
    """The first pass leaves no trace: the statistics are those of parts that were encoded once."""
    case = ("deep_cmpl", False, 4)
    found = gradients(monkeypatch, data, tmp_path / "run", case)["norms"]
    expected = in_one_graph(monkeypatch, data, tmp_path / "run", case)["norms"]
    assert len(found) >= 4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


# --- torch's random negatives, norms, uneven parts -----------------------------------------------------


def test_one_process_changes_nothing():
    emb = torch.randn(3, 2)
    assert processes.count() == 1 and processes.number() == 0 and processes.is_first()
    assert processes.gather(emb) is emb and processes.gather_parts(emb, 3) is emb
    assert processes.from_all("it") == ["it"] and processes.from_first("it") == "it"
    assert processes.any_of(True, False) == [True, False]
    assert processes.own_part(np.arange(5)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 5, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_batch_norm_over_processes_is_torchs_own_in_one(shape, affine):
    torch.manual_seed(0)
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    norm = kind(3, momentum=0.3, affine=affine)
    if affine:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    expected = kind(3, momentum=0.3, affine=affine)
    expected.load_state_dict(norm.state_dict())
    single = pytest.MonkeyPatch()
    single.setattr("common.processes.dist.all_reduce", lambda value: None)
    found = WholeBatchNorm.of(norm)
    inputs = (3 * torch.randn(shape) + 1).requires_grad_()
    twin = inputs.detach().clone().requires_grad_()
    for module, of in ((found, inputs), (expected, twin)):
        module(of).pow(3).sum().backward()
    single.undo()
    torch.testing.assert_close(inputs.grad, twin.grad, rtol=1e-4, atol=1e-4)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value)
    torch.testing.assert_close(found.eval()(inputs), expected.eval()(twin))


# --- a training through torchrun -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("torchrun") / "run"
    done = in_two("train", 0, "deep_cmpl", *arguments(data, run))
    return run, done


def test_there_is_one_writer_and_one_voice(finished):
    run, done = finished
    assert json.loads((run / "config.json").read_text())["processes"] == 2
    assert len(metrics(run)) == 3 and not list(run.glob("*.part*"))
    for line in ("best validation rSum", "epoch 3:", "device: CPU", "model: "):
        assert done.stdout.count(line) == 1, done.stdout
    assert len(re.findall(r"training: 100%", done.stderr)) >= 1
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_it_learns_what_one_process_learns(finished, data, tmp_path, monkeypatch):
    """Not the same numbers, dropout and augmentation are drawn anew; the same course."""
    use_patches(monkeypatch)
    alone = metrics(train(monkeypatch, data, tmp_path / "alone"))
    together = metrics(finished[0])
    assert [record["steps"] for record in together] == [record["steps"] for record in alone]
    for record, other in zip(together, alone, strict=True):
        assert record["loss"] == pytest.approx(other["loss"], rel=0.25)
    assert together[-1]["loss"] < 0.8 * together[0]["loss"]


def test_what_it_leaves_is_a_run_like_any_other(finished, monkeypatch, capsys):
    use_patches(monkeypatch)
    evaluate(monkeypatch, finished[0], "--split", "val")
    last = max(record["val"]["rsum"] for record in metrics(finished[0]))
    assert f"rSum {last:.1f}" in capsys.readouterr().out, "validation was gathered from both"


@pytest.mark.slow
def test_validation_with_fewer_captions_than_processes(data, tmp_path):
    run = tmp_path / "run"
    done = in_two("train", 0, "deep_cmpl", *arguments(data, run, epochs=1, val_products=1))
    assert "validation: 1 of " in done.stdout
    assert metrics(run)[0]["val"]["rsum"] == 600.0, "one image and one caption find each other"


@pytest.mark.slow
def test_an_interrupt_that_reaches_one_process_stops_all_and_resume_is_bit_for_bit(finished, data, tmp_path):
    run = tmp_path / "run"
    done = in_two("train", 8, "deep_cmpl", *arguments(data, run), expect=1)
    assert done.stderr.count("stopped: interrupted; the state is saved") >= 1, done.stderr
    assert (state(run)["progress"]["epoch"], state(run)["progress"]["step"]) == (1, 2)
    in_two("train", 0, "deep_cmpl", "--output", run, "--resume", "--device", "cpu")
    assert_same_run(run, finished[0])


@pytest.mark.slow
def test_it_goes_on_with_another_number_of_processes(data, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    in_two("train", 8, "deep_cmpl", *arguments(data, run), expect=1)
    use_patches(monkeypatch)
    from tiny_runs import resume

    resume(monkeypatch, run, "deep_cmpl")
    assert "processes: 1, the run had 2: it goes on, but not bit for bit" in capsys.readouterr().out
    assert state(run)["progress"]["finished"] and len(metrics(run)) == 3
    assert metrics(run)[-1]["loss"] < metrics(run)[0]["loss"]


@pytest.mark.parametrize(("batch_size", "accumulate", "instead"), [(16, 3, 15), (16, 16, 32), (7, 2, 8)])
def test_a_batch_that_cannot_be_parted(batch_size, accumulate, instead, data, tmp_path, monkeypatch):
    use_patches(monkeypatch)
    with pytest.raises(InputError, match=rf"batch_size = {batch_size}: .* use --batch-size {instead}, or"):
        train(monkeypatch, data, tmp_path / "run", batch_size=batch_size, accumulate=accumulate)
    assert not (tmp_path / "run").exists()


def test_a_small_catalogue_makes_a_batch_that_can_be_parted(data, tmp_path, monkeypatch, capsys):
    use_patches(monkeypatch)
    train(monkeypatch, data, tmp_path / "run", batch_size=600, accumulate=3, epochs=1)
    assert "batch size: 99 instead of 600" in capsys.readouterr().out
