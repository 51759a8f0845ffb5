"""How time and memory grow with the catalogue, on simulated catalogues of any number of products.

Sizes are simulated, not images: the tables are a real parquet and a real CSV file, the images of the latter links to a
few files, the cache of decoded images a sparse file, the perceptual hashes are drawn. All else is what a training
calls. The stages, each with its time (of the processor, so that other work on the machine does not count), the peak
memory of the process in it, and its growth: the exponent x of "time ~ N**x" from the size before.

    opening a CSV   open_catalogue of a table with an image file a product, and the state of these files; in a process
                    of its own, as all that follows has the catalogue of the parquet file
    opening         open_catalogue: reading, tidying, remarks, the fingerprint
    caching         the cache of decoded images: its digests read, equal photographs of a product merged
    near-duplicates close hashes, and what each image shows
    splitting       split_catalogue
    pairs           the vocabulary, the captions of train as tokens, and how many of their words are unknown
    word2vec        the words' vectors from the captions of train, in one pass of the many (`word_epochs`)
    run folder      what a training writes when it begins: the product ids of train, by which eval.py knows them
    batches         the order of an epoch, and some of its batches
    evaluating      the gallery of validation, limited to some products, and its ranks

Exact recall of a whole split is N x M, and a benchmark of its own: recall_scale.py.

Exit status 1 if a peak is above 2 GB + 100 bytes a product, or an exponent above 1.3: N log N (1.05
to 1.1), arrays that outgrow the caches of the processor, and noise.
"""

import math
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import torch
import tyro

from benchmarks.recall_scale import in_child, resident_bytes
from common import files, near_duplicates
from common.batches import Data, merge_equal_images
from common.captions import Vocabulary, describe_unknown
from common.catalogue import open_catalogue
from common.checkpoints import Run
from common.errors import run_script
from common.gallery import Gallery
from common.images import load_cache
from common.splits import fewer_products, split_catalogue
from common.validation import both_ranks

MOST_BYTES, MOST_BYTES_A_PRODUCT = 2e9, 100
HIGHEST_EXPONENT = 1.3
SHORTEST = 0.1  # seconds; what takes less is noise
SIZE = (32, 32)  # of the simulated images
VAL_PRODUCTS = 500  # fewer than validation has at any size that is worth measuring
BATCHES, BATCH, WIDTH = 100, 128, 128
WORD_VECTORS = SimpleNamespace(word2vec="skip-gram", word_dim=100, word_window=5, word_epochs=1, seed=0)
FILES_A_FOLDER = 1000
WORDS = {"brand": 500, "gender": 5, "colour": 46, "type": 140, "name": 20_000, "detail": 2_000}  # how many there are


@dataclass(frozen=True)
class Options:
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """How many products, ascending."""


@dataclass(frozen=True)
class Stage:
    seconds: float
    peak: int


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    stages = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            in_child(simulate, size, Path(folder))
            stages[size] = in_child(measure_csv, Path(folder)) | in_child(measure, Path(folder))
    print(table(stages))
    figures = bounded(stages)
    for name, value in figures.items():
        print(f"{name}: {value:.2f}")
    sys.exit(0 if within(figures) else 1)


def table(stages: dict[int, dict[str, Stage]]) -> str:
    """A line a stage: seconds and peak memory at each size, and the exponent from the size before."""
    growth = exponents(stages)
    lines = ["| stage | " + " | ".join(f"{size:,}" for size in stages) + " |", "| --- |" + " --- |" * len(stages)]
    for name in next(iter(stages.values())):
        cells = []
        for size, found in stages.items():
            exponent = growth.get((name, size))
            grown = "" if exponent is None else f", N^{exponent:.2f}"
            cells.append(f"{found[name].seconds:.1f} s, {found[name].peak / 1e6:,.0f} MB{grown}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def exponents(stages: dict[int, dict[str, Stage]]) -> dict[tuple[str, int], float]:
    """The exponent of each stage's time, for each size but the first."""
    return {
        (name, size): math.log(max(SHORTEST, stage.seconds) / max(SHORTEST, stages[before][name].seconds))
        / math.log(size / before)
        for before, size in zip(stages, list(stages)[1:], strict=False)
        for name, stage in stages[size].items()
    }


def bounded(stages: dict[int, dict[str, Stage]]) -> dict[str, float]:
    """The figures that decide the exit status."""
    peaks = {size: max(stage.peak for stage in found.values()) for size, found in stages.items()}
    over = [max(0.0, (peak - MOST_BYTES) / size) for size, peak in peaks.items()]
    return {
        "peak_bytes_per_product_over_2gb": max(over),
        "largest_exponent": max(exponents(stages).values(), default=0.0),
    }


def within(figures: dict[str, float]) -> bool:
    return (
        figures["peak_bytes_per_product_over_2gb"] <= MOST_BYTES_A_PRODUCT
        and figures["largest_exponent"] <= HIGHEST_EXPONENT
    )


def simulate(size: int, folder: Path) -> None:
    """Write two tables, image files that are empty, and an image cache whose pixels take no room on the disk.

    The images of catalogue.parquet have no bytes; those of catalogue.csv are the files.
    """
    generator = np.random.default_rng(0)
    number = {name: generator.integers(0, count, size) for name, count in WORDS.items()}
    word = {
        name: pa.array([f"{name[0]}{n}" for n in range(count)]).take(pa.array(number[name]))
        for name, count in WORDS.items()
    }
    captions = pc.binary_join_element_wise(*word.values(), " ")
    # 45 of 100 products have the caption of one in ten; 38 of 100 then share theirs
    repeated = generator.random(size) < 0.45
    captions = captions.take(np.where(repeated, generator.integers(0, max(1, size // 10), size), np.arange(size)))
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {
        "id": pa.array(np.arange(size) + 10_000_000),
        "gender": word["gender"],
        "articleType": word["type"],
        "baseColour": word["colour"],
        "productDisplayName": captions,
        "image": pa.nulls(size, image),
    }
    pq.write_table(pa.table(columns), folder / "catalogue.parquet")
    columns["image"] = pa.array(link_files(folder, size))
    pyarrow.csv.write_csv(pa.table(columns), folder / "catalogue.csv")
    with (folder / "cache.npy").open("wb") as file:
        shape = (size, *SIZE, 3)
        np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + math.prod(shape))
    digests = generator.integers(1, 2**63, size, dtype=np.uint64)
    few = size // 100
    digests[:few] = digests[few : 2 * few]  # these files are there twice
    np.savez(folder / "cache.npz", digests=digests, facts='{"errors": {}, "remarks": []}')


def link_files(folder: Path, size: int) -> Iterator[str]:
    """Make an image file a product, and give their names; most are links, which take no room but for the name."""
    for number in range(size):
        inside, name = f"images/{number // FILES_A_FOLDER:05}", f"{number:08}.jpg"
        if number % FILES_A_FOLDER == 0:
            (folder / inside).mkdir(parents=True)
            first = folder / inside / name
            first.touch()
        else:
            os.link(first, folder / inside / name)
        yield f"{inside}/{name}"


def measure_csv(folder: Path) -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    with stage("opening a CSV", found):
        open_catalogue(folder / "catalogue.csv").image_state()
    return found


def measure(folder: Path) -> dict[str, Stage]:
    torch.set_num_threads(1)
    found: dict[str, Stage] = {}
    with stage("opening", found):
        catalogue = open_catalogue(folder / "catalogue.parquet")
    with stage("caching", found):
        images = load_cache(folder / "cache.npy", folder / "cache.npz")
        catalogue = merge_equal_images(catalogue, images)
    with (
        mock.patch.object(near_duplicates, "open_images", lambda *_: images),
        mock.patch.object(near_duplicates, "perceptual_hashes", random_hashes),
        mock.patch.object(near_duplicates, "kept_array", partial(files.kept_array, folder=folder)),
        stage("near-duplicates", found),
    ):
        shown = near_duplicates.photographs(catalogue, images)
    with stage("splitting", found):
        data = Data(catalogue, images, split_catalogue(catalogue.rows, shown))
    del shown
    with stage("pairs", found):
        vocabulary = Vocabulary.from_captions(data.captions("train"), min_count=2, max_words=16)
        pairs = data.pairs("train", vocabulary)
        describe_unknown(vocabulary, {"train": pairs.texts.tokens})
    with stage("word2vec", found):
        from common import word2vec  # gensim's memory is of this stage

        with mock.patch.object(word2vec, "kept_array", partial(files.kept_array, folder=folder)):
            word2vec.word_vectors(vocabulary, pairs.captions, WORD_VECTORS)
    with stage("run folder", found):
        Run(folder / "run").begin({}, pairs.distinct_products(), vocabulary, torch.nn.Identity())
    with stage("batches", found):
        order = torch.randperm(len(pairs)).numpy()
        images.pixels._mmap.madvise(mmap.MADV_RANDOM)  # the time and memory to read a disk ahead are not ours
        for start in range(0, min(len(order), BATCHES * BATCH), BATCH):
            pairs.batch(order[start : start + BATCH])
            images.pixels._mmap.madvise(mmap.MADV_DONTNEED)  # the system takes such pages back when it needs them
    with stage("evaluating", found):
        gallery = Gallery.of(fewer_products(data.rows("val"), VAL_PRODUCTS))
        emb = {len_of: torch.randn(len(getattr(gallery, len_of)), WIDTH) for len_of in ("images", "captions")}
        both_ranks(emb["images"], emb["captions"], gallery)
    return found


def random_hashes(pixels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2**64, len(pixels), dtype=np.uint64)


@contextmanager
def stage(name: str, found: dict[str, Stage]) -> Iterator[None]:
    """Measure what is done inside."""
    with suppress(OSError):  # where the peak cannot be set back, it is at worst too high
        Path("/proc/self/clear_refs").write_text("5")
    started = time.process_time()
    yield
    found[name] = Stage(time.process_time() - started, resident_bytes("VmHWM"))


if __name__ == "__main__":
    run_script(main)
