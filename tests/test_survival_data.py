"""Caches and data whose making was killed are made again; nothing is left over, and nothing of others is removed."""

import os
from pathlib import Path

import pytest
from killing import cache_parts, contents, dead_process, kill_after, moments, parts, run
from tiny_runs import arguments, assert_same_run, remove_caches

from common.files import HOST, part_name, write_atomically


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_catalogue):
    path = tiny_catalogue(tmp_path_factory.mktemp("catalogue"), products=60)
    yield path
    remove_caches(path)


@pytest.mark.parametrize("name", ["*.npy", "*.npz"])
def test_an_image_cache_that_was_killed_is_built_again(name, data, tmp_path):
    cache, other, log = tmp_path / "cache", tmp_path / "other", tmp_path / "log"
    run("never", "killing:build_images", data, other, log=log)
    run(f"replace:{name} 1", "killing:build_images", data, cache, log=log)
    assert parts(cache)
    run("never", "killing:build_images", data, cache, log=log)
    assert contents(cache) == contents(other)


@pytest.mark.parametrize("name", ["*-images-*.npy", "*-train-captions-*.npy", "word2vec-*.npy"])
def test_features_and_word_vectors_that_were_killed_are_computed_again(name, data, tmp_path):
    remove_caches(data)
    output, whole, log = tmp_path / "run", tmp_path / "whole", tmp_path / "log"
    words = arguments(data, output, "siamese", epochs=1)
    run(f"replace:{name} 1", "siamese.train:main", *words, log=log)
    assert not output.exists() and cache_parts(data)
    run("never", "siamese.train:main", *words, log=log)
    assert not cache_parts(data)
    remove_caches(data)
    run("never", "siamese.train:main", *arguments(data, whole, "siamese", epochs=1), log=log)
    assert_same_run(output, whole)


@pytest.mark.slow
def test_a_sample_that_was_killed_is_drawn_again(tmp_path):
    words = ["--output", tmp_path / "sample", "--products", 4]
    run("replace:sample 1", "data.sample:main", *words, log=tmp_path / "log")
    assert len(parts(tmp_path)) == 1
    run("never", "data.sample:main", *words, log=tmp_path / "log")
    run("never", "data.sample:main", "--output", tmp_path / "other", "--products", 4, log=tmp_path / "log")
    assert contents(tmp_path / "sample") == contents(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "other", "sample"]


@pytest.mark.slow
def test_a_sample_whose_replacement_was_killed_is_drawn_again(tmp_path):
    """After the outdated one has made room for it."""
    sample = tmp_path / "sample"
    run("never", "data.sample:main", "--output", sample, "--products", 3, log=tmp_path / "log")
    words = ["--output", sample, "--products", 4]
    run("replace:sample 1", "data.sample:main", *words, log=tmp_path / "log")
    assert len(parts(tmp_path)) == 2 and not sample.exists()
    run("never", "data.sample:main", *words, log=tmp_path / "log")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "sample"]
    assert len(list((sample / "images").iterdir())) == 4


def test_only_what_dead_processes_of_this_machine_left_is_removed(tmp_path):
    dead, other_machine = dead_process(), f"not-{HOST}"
    stays = {"mine.txt", f"a.{HOST}.{os.getpid()}.part.npy", f"a.{other_machine}.{dead}.part.npy", f"a.{dead}.part"}
    for name in (*stays, f"a.{HOST}.{dead}.part.npy", f"b.{HOST}.{dead}.part"):
        (tmp_path / name).write_text("x")
    (tmp_path / f"sample.{HOST}.{dead}.part").mkdir()
    (tmp_path / f"sample.{HOST}.{dead}.part" / "styles.csv").write_text("x")
    write_atomically(tmp_path / "new.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == stays | {"new.json"}


def test_content_and_name_are_on_the_disk_in_this_order(tmp_path, monkeypatch):
    """In a power cut: the content before it gets the name, then the name."""
    done, real_fsync, real_replace = [], os.fsync, os.replace

    def fsync(handle):
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda part, path: done.append("replaced") or real_replace(part, path))
    write_atomically(tmp_path / "a.json", "{}")
    assert done == [part_name(tmp_path / "a.json").name, "replaced", tmp_path.name]


# --- at any moment -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "before", "after"), [("killing:build_images", "", ""), ("data.sample:main", "--output", "--products 20")]
)
def test_data_killed_at_random_moments(main, before, after, data, tmp_path):
    log = tmp_path / "log"

    def words(folder):
        return [*([before] if before else [data]), folder, *after.split()]

    for seconds in moments(10, main, *words(tmp_path / "whole" / "it"), log=log):
        folder = tmp_path / f"{seconds:.3f}" / "it"
        kill_after(seconds, main, *words(folder), log=log)
        run("never", main, *words(folder), log=log)
        assert contents(folder) == contents(tmp_path / "whole" / "it")
        assert not parts(folder) and not parts(folder.parent)
