"""Used-up memory: what is said by hand-worked numbers, and what a training leaves behind."""

import pytest
import torch
from tiny_runs import state, train

import deep_cmpl.loss
from common.errors import TrainingStopped, run_script
from common.exhaustion import GIB, describe_out_of_memory, measure, told_in_words

pytestmark = pytest.mark.usefixtures("patches")


@pytest.mark.parametrize(
    ("at_once", "missing", "free", "fits"),
    [
        # 3 GiB in use, a pair takes 0.25: of the 8 GiB free 7.2 may be taken
        (64, 0, 8, 24),  # 28 pairs, which is no multiple of 8
        (64, 2, 8, 16),  # 20 pairs
        (64, 0, 2, 7),
        (20, 0, 80, 16),  # nothing but less than what did not fit
        (64, 9, 8, 0),
    ],
)
def test_a_batch_that_fits_by_hand(at_once, missing, free, fits):
    asked = []

    def peak(pairs):
        asked.append(pairs)
        return 3 * GIB + pairs * GIB // 4

    found, measured = measure(at_once, missing * GIB, 3 * GIB, free * GIB, peak)
    assert found == fits and max(asked) < at_once / 4
    assert measured == (
        f"each needs 256 MiB, by what {asked[0]} and {asked[1]} took, and {3 + missing:.1f} GiB are needed in any "
        f"case; there are {3 + free:.1f}"
    )


@pytest.mark.parametrize(("most", "fits"), [(60, 48), (16, 8), (4, 4)])
def test_where_the_small_batches_do_not_fit_smaller_ones_are_tried(most, fits):
    def peak(pairs):
        if pairs > most:
            raise torch.OutOfMemoryError
        return GIB + pairs * GIB

    assert measure(1925, 0, GIB, (most + 1) * GIB, peak)[0] == fits


def test_nothing_fits():
    def peak(_):
        raise torch.OutOfMemoryError

    assert measure(64, 0, 0, GIB, peak) == (0, "not even 4 fit")
    assert describe_out_of_memory(1, 64, 0, "not even 4 fit") == (
        "the GPU has too little memory for 64 pairs at once (not even 4 fit). Start again with a smaller --image-size "
        "or another --image-encoder"
    )


def test_a_batch_in_parts_is_told_by_the_part():
    """300 pairs in 4 parts of 75, of which 56 fit: three times as many parts, for 75 is no even number."""
    message = describe_out_of_memory(4, 75, 56, "measured")
    assert message.startswith("the GPU has too little memory for 75 pairs at once (measured). Start again with ")
    assert "--batch-size 224 or less, or with 3 times the --accumulate" in message


def test_more_parts_are_advised_only_where_each_has_two_pairs():
    """Of 7 pairs a part no number of parts above one leaves two or more."""
    message = describe_out_of_memory(1, 7, 3, "measured")
    assert message.endswith("--batch-size 3 or less")


def test_out_of_memory_in_a_training(data, tmp_path, monkeypatch):
    """In the eighth step; what was saved before is there, and the message ends the training."""
    run, calls, real_cmpm = tmp_path / "run", [], deep_cmpl.loss.cmpm

    def cmpm(*arguments):
        calls.append(1)
        if len(calls) == 9:  # the first one is the chance level
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real_cmpm(*arguments)

    with monkeypatch.context() as small, pytest.raises(TrainingStopped) as told:
        small.setattr(deep_cmpl.loss, "cmpm", cmpm)
        train(small, data, run)
    assert str(told.value) == (
        "the GPU has too little memory for 16 pairs at once (half of it may fit). Start again with --batch-size 8 or "
        "less, or with 2 times the --accumulate, which encodes the batch in so many parts and keeps all of it for the "
        "loss"
    )
    assert state(run)["progress"]["epoch"] == 1
    train(monkeypatch, data, run, "--overwrite", batch_size=8, epochs=1)


def test_out_of_memory_elsewhere_is_one_message_too(capsys):
    """In the extraction of features, say, or in eval.py."""

    def main():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 1 GiB.")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "stopped: the GPU has too little memory (CUDA out of memory). End what else runs on it, or use a smaller "
        "--image-size, another --image-encoder or --device cpu\n"
    )


def test_any_other_runtime_error_is_a_defect():
    def main():
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run_script(main)


@pytest.mark.parametrize(
    "error",
    [
        "DataLoader worker (pid(s) 71, 72) exited unexpectedly",
        "DataLoader worker (pid 71) is killed by signal: Killed. ",
    ],
)
def test_a_worker_that_died(error):
    model = torch.nn.Linear(1, 1)
    given = (model, torch.optim.AdamW(model.parameters()), 16, 1, torch.device("cpu"), lambda pairs: None)
    with pytest.raises(TrainingStopped) as told, told_in_words(*given):
        raise RuntimeError(error)
    assert str(told.value) == (
        f"a process that loads images has died ({error.strip(' .')}). Mostly the memory of the machine is used up, or "
        "in a container its shared memory (/dev/shm): free some, then go on with --resume"
    )
    with pytest.raises(RuntimeError, match="another defect"), told_in_words(*given):
        raise RuntimeError("another defect")
