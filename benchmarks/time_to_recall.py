"""How long Deep CMPL trains until text -> image R@10 on the validation split first reaches a target.

Two recipes, one after the other: that of the README's block as it was when this benchmark was written, frozen here,
and the fastest one found since, which the README explains. Images are decoded beforehand. What counts is the time of
the training steps, on a GPU with the recording of the one that is replayed; validation after each epoch, at whose end
the target is looked for, is left out on both sides.
"""

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import InputError, run_script
from common.options import ROOT

FROZEN = (
    "--image-encoder efficientnet-lite0 --image-weights imagenet --no-freeze-image-encoder --frozen-image-layers 0 "
    "--norm-momentum 0.01 --image-size 80 60 "
    "--text-encoder bilstm --text-weights '' --no-freeze-text-encoder --word-dim 512 --lstm-dim 512 --dropout 0.3 "
    "--min-word-count 2 --max-words 40 --embedding-dim 512 --divergence reverse --scale learned --cmpc-column '' "
    "--epochs 10 --batch-size 128 --accumulate 1 --learning-rate 1e-3 --image-learning-rate 5e-4 "
    "--text-learning-rate 1e-3 --weight-decay 4e-5 --warmup 0.05 --gradient-clip 5.0 --patience 0 "
    "--val-products 10000 --flip --shift 0.05 --precision default --no-compile --seed 0"
)
"""The block of deep_cmpl/README.md in November 2026."""
FASTEST = (
    "--text-encoder mean --dropout 0.1 --shift 0 --image-size 88 66 --frozen-image-layers 5 --epochs 2 "
    "--batch-size 256 --learning-rate 4e-3 --image-learning-rate 2e-3 --text-learning-rate 1e-2 --warmup 0.1"
)
"""What the fastest recipe changes in the block of today."""
LOWEST_FACTOR = 3.0


@dataclass(frozen=True)
class Options:
    data: Path
    """Catalogue to train on."""
    recall: float = 70.0
    """Text -> image R@10 to reach, in per cent."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    seconds = {}
    for name, recipe in {"fastest": FASTEST, "frozen": FROZEN}.items():
        seconds[name] = seconds_to_recall(shlex.split(recipe), options)
        print(f"{name}: {seconds[name]:.0f} s of training")
    factor = seconds["frozen"] / seconds["fastest"]
    for name, value in seconds.items():
        print(f"{name}_seconds: {value:.1f}")
    print(f"factor: {factor:.2f}")
    sys.exit(0 if factor >= LOWEST_FACTOR else 1)


def seconds_to_recall(recipe: list[str], options: Options) -> float:
    """Seconds of training until the target; the training is stopped there.

    Raises:
        InputError: the training ended before it.
    """
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        given = ["--data", options.data.resolve(), "--output", run, "--device", options.device, *recipe]
        command = [sys.executable, ROOT / "deep_cmpl" / "train.py", *given]
        training = subprocess.Popen(list(map(str, command)))
        try:
            while True:
                ended = training.poll() is not None  # before the file is read: its last line is then there
                found = seconds_in(run / "metrics.jsonl", options.recall)
                if found is not None:
                    return found
                if ended:
                    raise InputError(f"the training ended before text -> image R@10 was {options.recall:g}")
                time.sleep(1)
        finally:
            training.kill()
            training.wait()


def seconds_in(metrics: Path, recall: float) -> float | None:
    """Seconds of all epochs up to the first one that reached the recall, None if none did."""
    seconds = 0.0
    for line in metrics.read_text().splitlines() if metrics.is_file() else ():
        record = json.loads(line)
        seconds += record["seconds"]
        if record["val"]["text_to_image"]["R@10"] >= recall:
            return seconds
    return None


if __name__ == "__main__":
    run_script(main)
