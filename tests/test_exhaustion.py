"""Used-up memory: what is said by hand-worked numbers, and what a training leaves behind."""

import pytest
import torch
from tiny_runs import state, train

import deep_cmpl.loss
from common.devices import batch_that_fits
from common.errors import TrainingStopped
from common.exhaustion import GIB, describe_out_of_memory, told_in_words

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate {wanted}. GPU 0 has a total capacity of 8.00 GiB of which 12.50 MiB is "
    "free. Including non-PyTorch memory, this process has 7.98 GiB memory in use. Of the allocated memory 6.50 GiB is "
    "allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated."
)


pytestmark = pytest.mark.usefixtures("patches")


@pytest.mark.parametrize(
    ("batch", "total", "fixed", "needed", "fits"),
    [
        (64, 10, 2, 18, 32),  # 16 for 64 pairs, 8 are there
        (100, 8, 2, 12, 56),  # 60 pairs, which is no multiple of 8
        (64, 10, 2, 70, 0),  # 7 pairs
        (64, 2, 2, 10, 0),
        (64, 1, 2, 10, 0),
        (64, 10, 2, 2, 0),
    ],
)
def test_a_batch_that_fits_by_hand(batch, total, fixed, needed, fits):
    assert batch_that_fits(batch, total, fixed, needed) == fits


@pytest.mark.parametrize(
    ("wanted", "to_come", "told"),
    [
        # 6.5 + 3.5 + 0 are needed, 2 of them fixed: 8 for 128 pairs, of which 6 are there
        ("3.50 GiB", 0, "at least 10.0 GiB are needed, 2.0 of them for model and optimiser; there are 8.0). Start "
         "again with --batch-size 96 or less, or with 2 times the --accumulate,"),
        ("512.00 MiB", 1, "at least 8.0 GiB are needed, 2.0 of them for model and optimiser; there are 8.0). Start "
         "again with --batch-size 120 or less, or with 2 times the --accumulate,"),
        ("3.50 GiB", 200, "there are 8.0). Start again with a smaller --image-size or another --image-encoder"),
    ],
)  # fmt: skip
def test_out_of_memory_by_hand(wanted, to_come, told):
    message = describe_out_of_memory(OUT_OF_MEMORY.format(wanted=wanted), 128, 1, 2 * GIB, to_come * GIB)
    assert message.startswith("the GPU has too little memory for 128 pairs at once (at least ") and told in message


def test_a_batch_in_parts_is_told_by_the_part():
    """300 pairs in 4 parts of 75, of which 56 fit: three times as many parts, for 75 is no even number."""
    message = describe_out_of_memory(OUT_OF_MEMORY.format(wanted="3.50 GiB"), 300, 4, 2 * GIB, 0)
    assert "for 75 pairs at once" in message
    assert "--batch-size 224 or less, or with 3 times the --accumulate" in message


def test_out_of_memory_in_words_that_are_not_known():
    assert "for 128 pairs at once (half of it may fit). Start again with --batch-size 64 or less, or with " in (
        describe_out_of_memory("CUDA error: out of memory", 128, 1, 0, 0)
    )


def test_out_of_memory_in_a_training(data, tmp_path, monkeypatch):
    """In the eighth step; what was saved before is there, and the message ends the training."""
    run, calls, real_cmpm = tmp_path / "run", [], deep_cmpl.loss.cmpm

    def cmpm(*arguments):
        calls.append(1)
        if len(calls) == 9:  # the first one is the chance level
            raise torch.OutOfMemoryError(OUT_OF_MEMORY.format(wanted="2.00 GiB"))
        return real_cmpm(*arguments)

    with monkeypatch.context() as small, pytest.raises(TrainingStopped) as told:
        small.setattr(deep_cmpl.loss, "cmpm", cmpm)
        train(small, data, run)
    assert str(told.value) == (
        "the GPU has too little memory for 16 pairs at once (at least 8.5 GiB are needed, 0.0 of them for model and "
        "optimiser; there are 8.0). Start again with --batch-size 8 or less, or with 2 times the --accumulate, which "
        "encodes the batch in so many parts and keeps all of it for the loss"
    )
    assert state(run)["progress"]["epoch"] == 1
    train(monkeypatch, data, run, "--overwrite", batch_size=8, epochs=1)


@pytest.mark.parametrize(
    "error",
    [
        "DataLoader worker (pid(s) 71, 72) exited unexpectedly",
        "DataLoader worker (pid 71) is killed by signal: Killed. ",
    ],
)
def test_a_worker_that_died(error):
    optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters())
    with pytest.raises(TrainingStopped) as told, told_in_words(torch.nn.Linear(1, 1), optimizer, 16, 1):
        raise RuntimeError(error)
    assert str(told.value) == (
        f"a process that loads images has died ({error.strip(' .')}). Mostly the memory of the machine is used up, or "
        "in a container its shared memory (/dev/shm): free some, then go on with --resume"
    )
    with pytest.raises(RuntimeError, match="another defect"), told_in_words(torch.nn.Linear(1, 1), optimizer, 16, 1):
        raise RuntimeError("another defect")
