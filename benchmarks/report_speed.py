"""How long the parts of eval.py's report take, beyond embedding the catalogue and without pictures.

    python siamese/train.py --epochs 1 --output runs/one
    python benchmarks/report_speed.py siamese runs/one

Prints seconds. For 4,000 products on 2 CPU cores the report is meant to stay under 20 of them, the intervals of recall
under 10; times depend on the machine, so they do not decide the exit status.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import run_script
from common.evaluation import PARTS, embed_split
from common.options import EvalOptions, read_config
from common.report.intervals import RESAMPLES, figure_intervals
from common.validation import both_ranks
from data.sample import make_sample


@dataclass(frozen=True)
class Options:
    model: tyro.conf.Positional[Literal["deep_cmpl", "siamese", "correlational"]]
    """Which model the run is of."""
    run: tyro.conf.Positional[Path]
    """Run folder."""
    split: Literal["val", "test"] = "test"
    """Which products to search among."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    eval_options = EvalOptions(run=options.run, split=options.split, device=options.device)
    embedded = embed_split(eval_options, read_config(options.run, options.model), make_sample)
    gallery = embedded.gallery
    parts = {
        "ranks": lambda: both_ranks(embedded.image_emb, embedded.text_emb, gallery),
        "intervals": lambda: figure_intervals(embedded.ranks, gallery.groups),
        **{name: lambda part=part: part.measure(embedded) for name, part in PARTS.items()},
    }
    seconds = {}
    for name, part in parts.items():
        started = time.perf_counter()
        part()
        seconds[name] = time.perf_counter() - started
    print(f"products: {gallery.products}")
    print(f"queries: {len(gallery.images) + len(gallery.captions)}")
    print(f"resamples: {RESAMPLES}")
    for name, taken in seconds.items():
        print(f"seconds_{name}: {taken:.2f}")
    print(f"seconds_report: {sum(seconds.values()):.2f}")


if __name__ == "__main__":
    run_script(main)
