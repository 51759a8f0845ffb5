"""Recall at any size: how long N queries against N items take, and how much memory.

The figures, for each size N:

    ratio_N                  time of rank_queries / time of the bare product: float32 queries @ items.T of unit
                             vectors that are in memory already, block by block into one buffer, nothing else
    seconds_N                time of rank_queries for all N queries
    bare_seconds_N           time of the bare product for all N queries
    queries_N                queries that were timed; if fewer than N, the seconds for N are extrapolated from them,
                             with the time for a single query counted once: that is what the gallery alone takes
    peak_extra_mb_N          memory (10**6 bytes) of rank_queries beyond the embeddings, at its peak; where not all
                             queries were timed: the part of the queries against all items, plus all queries
                             against a part of the items
    naive_ratio_N            the same for the whole score matrix, sorted row by row, where that fits
    naive_peak_extra_mb_N

On the CPU, memory is the resident memory that a fresh process gains (Linux); on CUDA, what torch allocates.
Exit status 1 if a ratio is above 1.5 or peak_extra_mb above 512.
"""

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import tyro
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from common.devices import choose_device, describe
from common.errors import run_script
from common.recall import rank_queries

HIGHEST_RATIO = 1.5
HIGHEST_MB = 512
BLOCK = {"cpu": (1024, 4096), "cuda": (2048, 8192)}  # queries, items: the bare product is fast with these
PART = 1024  # items, where memory is measured with all queries
NAIVE_BYTES = 24  # a score: float32, its place when sorted, and room to sort


@dataclass(frozen=True)
class Options:
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """How many queries and items, each."""
    width: int = 512
    """Length of an embedding."""
    repeats: int = 3
    """Repeats a side, alternating; their medians count."""
    seconds: float = 20
    """Longest time of one repeat of the bare product; a size that takes longer is timed with part of its queries."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    device = choose_device(options.device)
    print(f"device: {describe(device)}, {options.width} numbers an embedding")
    figures = {}
    for size in options.sizes:
        found = in_child(measure_time, size, options, device)
        queries = found[f"queries_{size}"]
        found[f"peak_extra_mb_{size}"] = in_child(measure_memory, queries, size, options.width, device)
        if queries < size:
            print(f"{size}: {queries} of the queries are timed, the seconds extrapolated")
            found[f"peak_extra_mb_{size}"] += in_child(measure_memory, size, min(size, PART), options.width, device)
        if size**2 * NAIVE_BYTES < free_bytes(device):
            naive_seconds, naive_mb = in_child(measure_naive, size, options.width, device)
            found[f"naive_ratio_{size}"] = naive_seconds / found[f"bare_seconds_{size}"]
            found[f"naive_peak_extra_mb_{size}"] = naive_mb
        else:
            print(f"{size}: the whole score matrix and its sorting, {size**2 * NAIVE_BYTES / 1e9:.0f} GB, do not fit")
        figures |= found
    for name, value in figures.items():
        print(f"{name}: {value}" if isinstance(value, int) else f"{name}: {value:.2f}")
    ratios = [value for name, value in figures.items() if name.startswith("ratio_")]
    peaks = [value for name, value in figures.items() if name.startswith("peak_extra_mb_")]
    sys.exit(0 if max(ratios) <= HIGHEST_RATIO and max(peaks) <= HIGHEST_MB else 1)


def in_child(work: Callable, *args):
    """The result of `work(*args)` in a process of its own, whose memory holds nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def measure_time(size: int, options: Options, device: torch.device) -> dict[str, float]:
    rows, _ = BLOCK[device.type]
    query_emb, gallery_emb, _ = embeddings(min(size, rows), size, options.width, device)
    one_chunk, _ = timed(lambda: bare_product(query_emb, gallery_emb), device)
    queries = min(size, rows * max(1, int(options.seconds / one_chunk)))  # full chunks
    del query_emb, gallery_emb
    query_emb, gallery_emb, relevant = embeddings(queries, size, options.width, device)
    sides = {
        "ours": lambda: rank_queries(query_emb, gallery_emb, relevant),
        "bare": lambda: bare_product(query_emb, gallery_emb),
    }
    times = {side: [] for side in sides}
    with tqdm(total=options.repeats * len(sides), desc=f"{size} x {size}", disable=None) as bar:
        for _ in range(options.repeats):
            for side, work in sides.items():
                times[side].append(timed(work, device)[0])
                bar.update()
    ours, bare = (statistics.median(times[side]) for side in sides)
    if queries < size:
        once, _ = timed(lambda: rank_queries(query_emb[:1], gallery_emb, relevant[:, :1]), device)
        ours, bare = once + (ours - once) * size / queries, bare * size / queries
    return {
        f"ratio_{size}": ours / bare,
        f"seconds_{size}": ours,
        f"bare_seconds_{size}": bare,
        f"queries_{size}": queries,
    }


def measure_memory(queries: int, items: int, width: int, device: torch.device) -> float:
    """MB of rank_queries beyond its input."""
    query_emb, gallery_emb, relevant = embeddings(queries, items, width, device)
    return timed(lambda: rank_queries(query_emb, gallery_emb, relevant), device)[1]


def measure_naive(size: int, width: int, device: torch.device) -> tuple[float, float]:
    """Seconds and MB of ranking by the whole, sorted score matrix."""
    query_emb, gallery_emb, (query, item) = embeddings(size, size, width, device)

    def naive() -> Tensor:
        order = (query_emb @ gallery_emb.T).argsort(dim=1, descending=True)
        return (order[query] == item[:, None]).int().argmax(1) + 1

    return timed(naive, device)


def bare_product(query_emb: Tensor, gallery_emb: Tensor) -> None:
    rows, columns = BLOCK[query_emb.device.type]
    buffer = torch.empty(rows * columns, device=query_emb.device)
    for items in gallery_emb.split(columns):
        for query in query_emb.split(rows):
            torch.mm(query, items.T, out=buffer[: len(query) * len(items)].view(len(query), len(items)))


def embeddings(queries: int, items: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors (Q, D) and (G, D), and relevant_items (2, Q): query i has a cosine of 0 to 0.4 with its partner,
    so that its rank is anything from the first to the middle of the gallery."""
    generator = torch.Generator(device).manual_seed(0)

    def random_units(count: int) -> Tensor:
        emb = torch.empty(count, width, device=device)
        for piece in emb.split(1024):  # in place: the process must not have held more than it holds afterwards
            piece.copy_(normalize(torch.randn(piece.shape, generator=generator, device=device)))
        return emb

    gallery_emb, query_emb = random_units(items), random_units(queries)
    partner = torch.arange(queries, device=device) % items
    for piece, item in zip(query_emb.split(1024), partner.split(1024), strict=True):
        cosine = 0.4 * torch.rand(len(piece), 1, generator=generator, device=device)
        piece.mul_((1 - cosine**2).sqrt()).add_(cosine * gallery_emb[item])
        piece.copy_(normalize(piece))
    return query_emb, gallery_emb, torch.stack([torch.arange(queries, device=device), partner])


def timed(work: Callable, device: torch.device) -> tuple[float, float]:
    """Seconds that it takes, and MB that it holds at its peak beyond what was held before."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        with suppress(OSError):  # where the peak cannot be set back, it is at worst too high
            Path("/proc/self/clear_refs").write_text("5")
        before = resident_bytes("VmRSS")
    started = time.perf_counter()
    result = work()
    if cuda:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    del result
    peak = torch.cuda.max_memory_allocated(device) if cuda else resident_bytes("VmHWM")
    return seconds, (peak - before) / 1e6


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (at its peak) of this process."""
    return read_kilobytes("/proc/self/status", field) * 1024


def free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return read_kilobytes("/proc/meminfo", "MemAvailable") * 1024


def read_kilobytes(path: str, field: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    run_script(main)
