"""A full disk, a read-only folder: one message, and the run can be used."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
import safetensors
import torch
from disks import fill, mounted
from killing import parts
from tiny_runs import (
    assert_same_run,
    resume,
    train,
)

import common.monitoring
import common.training
from common.errors import DiskFull, InputError, TrainingStopped, run_script
from common.files import is_disk_full, kept_array, replacing, write_atomically

pytestmark = pytest.mark.usefixtures("patches")


# --- a full disk ---------------------------------------------------------------------------------------


def interrupted(monkeypatch, data, output) -> Path:
    """A run with a state after the first epoch and one step."""
    calls, real_step = [], common.training.train_step

    def train_step(*arguments):
        launched = real_step(*arguments)
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), 2)
        return launched

    with monkeypatch.context() as patched, pytest.raises(TrainingStopped):
        patched.setattr(common.training, "train_step", train_step)
        train(patched, data, output)
    return output


def test_a_full_disk_stops_a_training_that_then_goes_on(disk, finished, data, monkeypatch):
    run = interrupted(monkeypatch, data, disk / "run")
    ballast = fill(disk, 64 * 1024)  # the state takes 210 kB
    before = (run / "training_state.pt").read_bytes()
    with pytest.raises(DiskFull) as told:
        resume(monkeypatch, run)
    assert str(told.value).startswith(f"{run / 'training_state.pt'}: the disk is full, 0.")
    assert str(told.value).endswith(
        " MB more are needed. Nothing that was there before is lost: free some space and start again "
        "(a training goes on with --resume)"
    )
    assert (run / "training_state.pt").read_bytes() == before and not parts(run)
    ballast.unlink()
    assert_same_run(resume(monkeypatch, run), finished)


def test_a_full_disk_in_every_way_to_write(disk):
    """Each library tells it in its own words."""
    tensors = {"a": torch.zeros(300_000)}  # 1.2 MB

    def save_tensors():
        with replacing(disk / "a", 1_200_000) as part, part.open("wb") as file:
            torch.save(tensors, file)

    def save_safetensors():
        with replacing(disk / "a", 1_200_000) as part:
            safetensors.torch.save_file(tensors, part)

    writers = [
        save_tensors, save_safetensors,
        lambda: write_atomically(disk / "a", 1_200_000 * "x"),
        lambda: kept_array("a", "1", (300_000,), lambda _: pytest.fail("known before it is computed"), disk),
    ]  # fmt: skip
    for write in writers:
        with pytest.raises(DiskFull, match=r"the disk is full, 0\.[12] MB more are needed"):
            write()
        assert not list(disk.iterdir())


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
        (
            safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            True,
        ),
        (OSError(errno.EIO, os.strerror(errno.EIO)), False),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1000832 vs 1000784"), False),
    ],
)
def test_which_errors_are_of_a_full_disk(error, full):
    assert is_disk_full(error) is full


@pytest.mark.parametrize(("name", "time"), [("training_state", 2), ("model", 1), ("metrics", 2)])
def test_without_space_for_a_file_the_run_goes_on_later(name, time, finished, data, tmp_path, monkeypatch, capsys):
    """Where no small disk can be had: as if the disk became full at the end of an epoch."""
    calls, real_durable = [], common.files.make_durable

    def make_durable(part):
        calls.append(part.name.partition(".")[0])
        if calls.count(name) == time:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_durable(part)

    run = tmp_path / "run"
    with monkeypatch.context() as full, pytest.raises(SystemExit) as left:
        full.setattr(common.files, "make_durable", make_durable)
        run_script(lambda: train(full, data, run))
    assert left.value.code == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"stopped: {run / name}.") and "the disk is full, 0.1 MB more are needed." in message
    assert not parts(run)
    assert_same_run(resume(monkeypatch, run), finished)


# --- a read-only folder --------------------------------------------------------------------------------


def refused(monkeypatch, data, output, *flags) -> str:
    with pytest.raises(InputError) as told:
        train(monkeypatch, data, output, *flags)
    return str(told.value)


def test_a_read_only_folder_is_known_before_anything_is_read(finished, data, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    monkeypatch.setattr("common.session.load_data", lambda *_: pytest.fail("read the catalogue first"))
    expected = f"--output {tmp_path / 'a' / 'run'}: {tmp_path} is read-only, nothing can be written there; "
    assert refused(monkeypatch, data, tmp_path / "a" / "run") == expected + "name another --output"
    assert not list(tmp_path.iterdir())


def test_a_read_only_disk(data, tmp_path, monkeypatch):
    mounted(tmp_path / "disk", "-o", "ro")
    try:
        assert "disk is read-only, nothing can be written there" in refused(
            monkeypatch, data, tmp_path / "disk" / "run"
        )
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_a_file_in_the_way_of_a_folder_above(data, tmp_path, monkeypatch):
    (tmp_path / "notes").write_text("mine")
    output = tmp_path / "notes" / "run"
    assert refused(monkeypatch, data, output) == (
        f"--output {output}: a file is in the way, {tmp_path / 'notes'}; name a folder"
    )
