"""common/loading.py, ImageFiles and --images-from: the same numbers wherever images are taken from."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from catalogues import drawing
from tiny_runs import arguments, assert_same_run, evaluate, run_main, script, train, use_patches

import common.images
import common.loading
from common.batches import Pairs, take
from common.catalogue import open_catalogue
from common.errors import InputError, TrainingStopped
from common.images import ImageFiles, open_images
from common.loading import load, place, workers_for

CPU = torch.device("cpu")
PIXELS = np.arange(10 * 4 * 3 * 3, dtype=np.uint8).reshape(10, 4, 3, 3)
FEATURES = np.arange(10 * 5, dtype=np.float32).reshape(10, 5)
TOKENS = np.arange(12 * 4, dtype=np.int32).reshape(12, 4)
NEEDED = PIXELS.nbytes + TOKENS.nbytes
SIZE = (32, 24)


pytestmark = pytest.mark.usefixtures("patches")


@pytest.fixture
def parquet(tmp_path):
    """Two shards, of 7 and 5 images in row groups of 3; one image is missing and one is broken."""
    folder = tmp_path / "shards"
    folder.mkdir()
    colours, shapes = ("red", "blue", "green"), ("disc", "square")
    images = [drawing(colours[n % 3], shapes[n % 2], "white") for n in range(12)]
    images[4], images[9] = None, b"no image"
    rows = [
        {"id": str(n), "image": {"bytes": image, "path": ""}, "caption": f"c {n}"} for n, image in enumerate(images)
    ]
    pd.DataFrame(rows[:7]).to_parquet(folder / "a.parquet", row_group_size=3)
    pd.DataFrame(rows[7:]).to_parquet(folder / "b.parquet", row_group_size=3)
    return folder


# --- one image after another ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "table"])
def test_files_give_what_the_cache_holds(kind, parquet, data, tmp_path):
    catalogue = open_catalogue(parquet if kind == "parquet" else data)
    cached = open_images(catalogue, SIZE, tmp_path)
    found = open_images(catalogue, SIZE, tmp_path, source="files")
    assert isinstance(found.pixels, ImageFiles) and len(found.pixels) == len(cached.pixels)
    assert found.pixels.shape == cached.pixels.shape
    which = np.random.default_rng(0).permutation(len(cached.pixels))
    assert np.array_equal(found.pixels[which], cached.pixels[which]) and found.pixels[which].dtype == np.uint8
    assert np.array_equal(found.pixels[3], cached.pixels[3])
    assert np.array_equal(found.digests, cached.digests) and found.errors.keys() == cached.errors.keys()
    assert (kind == "table") == (not found.errors)


def test_beyond_the_disk_files_are_decoded_on_the_fly_and_it_says_so(data, tmp_path, monkeypatch, capsys):
    catalogue, real_usage = open_catalogue(data), common.images.shutil.disk_usage
    needed = len(catalogue.images) * 32 * 24 * 3
    monkeypatch.setattr(
        common.images.shutil, "disk_usage", lambda folder: real_usage(folder)._replace(free=int(needed * 1.05))
    )
    assert isinstance(open_images(catalogue, SIZE, tmp_path, source="auto").pixels, ImageFiles)
    assert "a cache of 0.0 GB would not fit in" in capsys.readouterr().out
    assert not isinstance(open_images(catalogue, SIZE, tmp_path, source="disk").pixels, ImageFiles), "forced"
    assert not isinstance(open_images(catalogue, SIZE, tmp_path, source="auto").pixels, ImageFiles), "it is there now"


# --- where they are ------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [PIXELS, FEATURES], ids=["pixels", "features"])
def test_on_the_device_are_the_same_images(images):
    held, captions, where = place(images, TOKENS, CPU, "device")
    assert isinstance(held, torch.Tensor) and where == "in the memory of cpu, 0.00 GB with the captions"
    assert isinstance(captions, torch.Tensor) and torch.equal(captions, torch.from_numpy(TOKENS))
    assert held.shape == images.shape and torch.equal(held, torch.from_numpy(images))
    which = np.array([7, 0, 7])
    assert torch.equal(take(held, which), take(images, which))
    assert workers_for(held, CPU) == 0


@pytest.mark.parametrize("wanted", ["auto", "disk"])
def test_on_a_cpu_they_stay_where_they_are(wanted):
    held, captions, where = place(PIXELS, TOKENS, CPU, wanted)
    assert held is PIXELS and captions is TOKENS and where == "from the cache on disk, 0.00 GB"


def gpu_with(monkeypatch, free):
    """A GPU as far as `place` looks at it."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    monkeypatch.setattr(torch, "empty", lambda *shape, dtype, device, real=torch.empty: real(*shape, dtype=dtype))
    return torch.device("cuda", 0)


@pytest.mark.parametrize(("free", "on_device"), [(2 * NEEDED, True), (2 * NEEDED - 1, False)])
def test_a_gpu_with_room_holds_them_and_another_reads_ahead(free, on_device, monkeypatch):
    device = gpu_with(monkeypatch, free)
    held, captions, where = place(PIXELS, TOKENS, device, "auto")
    assert isinstance(held, torch.Tensor) == isinstance(captions, torch.Tensor) == on_device
    assert where.startswith("in the memory of cuda:0" if on_device else "from the cache on disk")
    assert on_device or "read ahead by" in where
    assert workers_for(held, device) == (0 if on_device else common.loading.WORKERS)


def test_images_that_do_not_fit_the_gpu_cannot_be_forced_there(monkeypatch):
    device = gpu_with(monkeypatch, NEEDED - 1)
    said = r"--images-from device: 0.00 GB of images and captions, but cuda:0 has .* free; use disk"
    with pytest.raises(InputError, match=said):
        place(PIXELS, TOKENS, device, "device")


def test_captions_stay_where_workers_can_reach_them(monkeypatch):
    """However much room a GPU has."""
    device = gpu_with(monkeypatch, 10 * NEEDED)
    for images, wanted in ((object.__new__(ImageFiles), "auto"), (PIXELS, "disk")):
        held, captions, _ = place(images, TOKENS, device, wanted)
        assert held is images and captions is TOKENS


# --- loading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_and_draw_no_random_numbers(workers):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    batches = [np.array([n, 9 - n]) for n in range(10)]
    found = list(load(lambda which: torch.from_numpy(PIXELS[which]), batches, CPU, workers))
    assert torch.equal(torch.stack(found), torch.from_numpy(PIXELS[np.stack(batches)]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def from_disk(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        yield train(monkeypatch, data, tmp_path_factory.mktemp("runs") / "disk", epochs=2)


@pytest.mark.parametrize("place", ["device", "files"])
def test_a_training_is_the_same_bit_for_bit_wherever_images_come_from(
    place, from_disk, data, tmp_path, monkeypatch, capsys
):
    run = train(monkeypatch, data, tmp_path / "run", "--images-from", place, epochs=2)
    said = {"device": "images: in the memory of cpu", "files": "images: decoded on the fly by"}
    assert said[place] in capsys.readouterr().out
    assert_same_run(run, from_disk)
    found, expected = evaluate(monkeypatch, run, "--images-from", place), evaluate(monkeypatch, run)
    assert found["image_to_text"] == expected["image_to_text"] and found["rsum"] == expected["rsum"]


def test_features_of_images_decoded_on_the_fly(data, tmp_path, monkeypatch):
    expected = train(monkeypatch, data, tmp_path / "disk", model="siamese", epochs=1)
    found = train(monkeypatch, data, tmp_path / "files", "--images-from", "files", model="siamese", epochs=1)
    assert_same_run(found, expected)


def test_a_worker_that_dies_ends_in_one_message(data, tmp_path, monkeypatch):
    real_batch, training = Pairs.batch, os.getpid()

    def batch(*arguments, **more):
        if os.getpid() != training:
            os.kill(os.getpid(), signal.SIGKILL)
        return real_batch(*arguments, **more)

    with monkeypatch.context() as patched, pytest.raises(TrainingStopped, match="a process that loads images has died"):
        patched.setattr(Pairs, "batch", batch)
        train(patched, data, tmp_path / "run", "--images-from", "files")
    words = ["--output", tmp_path / "run", "--resume", "--device", "cpu"]
    run_main(script("deep_cmpl", "train"), monkeypatch, *words)
    assert (tmp_path / "run" / "model.safetensors").is_file(), "the folder is usable"


def test_a_place_that_there_is_not(data, tmp_path, monkeypatch, capsys):
    words = [*arguments(data, tmp_path / "run"), "--images-from", "moon"]
    with pytest.raises(SystemExit) as stopped:
        run_main(script("deep_cmpl", "train"), monkeypatch, *words)
    assert stopped.value.code == 2 and "moon" in capsys.readouterr().err
