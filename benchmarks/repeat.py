"""Train a model several times, with different seeds or values of one hyperparameter, and print the aggregate.

    python benchmarks/repeat.py siamese --seeds 0 1 2 --data catalogue.csv --epochs 10
    python benchmarks/repeat.py siamese --vary negatives all hardest random --split val --data catalogue.csv

Options that are not listed here go to the model's train.py. Each training is a run folder of its own under
--output; started again, the command goes on where it stopped, and trains nothing twice.
"""

import importlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro
from matplotlib import pyplot as plt
from matplotlib.backend_bases import FigureCanvasBase

from common.errors import InputError, run_script
from common.files import write_atomically
from common.options import ROOT, EvalOptions, refuse_repeated, train_command_line
from common.recall import CUTOFFS, DIRECTIONS
from common.report import ledger

RECALLS = [f"R@{cutoff}" for cutoff in CUTOFFS]


@dataclass(frozen=True)
class Options:
    model: tyro.conf.Positional[Literal["deep_cmpl", "siamese", "correlational"]]
    """Which model to train."""
    seeds: tuple[Annotated[int, tyro.conf.arg(metavar="SEED")], ...] = (0,)
    """Seeds, a training each."""
    vary: tuple[str, ...] = ()
    """A hyperparameter and its values, a training each for every seed; of an on/off setting, true and false."""
    split: Literal["val", "test"] = "test"
    """Which split to evaluate on: choose on val, report test."""
    output: Path | None = None
    """Folder for the runs (None: runs/<model>-repeated in the repository)."""
    record: str | None = None
    """Keep the figures of each training in the ledger, as assets/results/RECORD-seed-N.json."""
    picture: Path | None = None
    """Picture to draw of the recall by the varied hyperparameter."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class Repeat:
    """One training: its value of the varied hyperparameter ("" without one), its seed and its folder."""

    value: str
    seed: int
    folder: Path


def main() -> None:
    refuse_repeated("--seeds", "--vary")
    options, passed_on = tyro.cli(Options, description=__doc__, return_unknown_args=True)
    name, values = (options.vary[0].replace("_", "-"), options.vary[1:]) if options.vary else ("", ("",))
    check(options, name, values, passed_on)
    output = (options.output or ROOT / "runs" / f"{options.model}-repeated").expanduser()
    repeats = [
        Repeat(value, seed, output / "-".join(filter(None, (name, value.replace("/", "-"), f"seed-{seed}"))))
        for value in values
        for seed in options.seeds
    ]
    trainings = [
        train_words(options, repeat, [*varied(options.model, name, repeat.value), *passed_on]) for repeat in repeats
    ]
    for words in trainings:
        parse(options.model, words)
    for words in trainings:
        script(options.model, "train", *words)
    results = [{"value": r.value, "seed": r.seed, **evaluate(options, r)} for r in repeats]
    aggregate = output / f"aggregate-{'-'.join(filter(None, (name, options.split)))}.json"
    write_atomically(aggregate, json.dumps(results, indent=2))
    print(describe(results, options, name))
    print(f"all figures: {aggregate}")
    if options.picture is not None:
        draw(results, name, options)
        print(f"picture: {options.picture}")


def check(options: Options, name: str, values: tuple[str, ...], passed_on: list[str]) -> None:
    """Raise an `InputError` for options that contradict each other, before anything is trained."""
    if len(set(options.seeds)) < len(options.seeds) or not options.seeds:
        raise InputError(f"--seeds {' '.join(map(str, options.seeds))}: expected different seeds, at least one")
    if options.vary and (not values or len(set(values)) < len(values)):
        raise InputError("--vary: expected the name of a hyperparameter and its different values")
    if options.record is not None and (options.vary or options.split != "test"):
        raise InputError("--record keeps figures of the test split, of one setting: leave out --vary, or --record")
    ledger.check(EvalOptions(split=options.split, record=options.record))
    if options.picture is not None and not options.vary:
        raise InputError("--picture draws the recall by a hyperparameter: name it with --vary")
    if options.picture is not None and options.picture.suffix[1:].lower() not in FigureCanvasBase.filetypes:
        raise InputError(f"--picture {options.picture}: expected the name of a picture, as in recall.png or recall.pdf")
    if name in ("seed", "output", "resume", "overwrite"):
        raise InputError(f"--vary {name}: set by this script for each training; --seeds and --output choose them")
    given = {word.split("=")[0].replace("_", "-") for word in passed_on if word.startswith("--")}
    taken = {"--seed", "--output", "--resume", "--overwrite", f"--{name}", f"--no-{name}"} & given
    if taken:
        raise InputError(f"{', '.join(sorted(taken))}: set by this script for each training; leave out")


def hyperparameters(model: str) -> type:
    return importlib.import_module(f"{model}.train").Hyperparameters


def varied(model: str, name: str, value: str) -> list[str]:
    """How train.py is told the value of the varied hyperparameter."""
    if not name:
        return []
    if get_type_hints(hyperparameters(model)).get(name.replace("-", "_")) is not bool:
        return [f"--{name}", *value.split()]
    if value not in ("true", "false"):
        raise InputError(f"--vary {name} {value}: an on/off setting, whose values are true and false")
    return [f"--{name}" if value == "true" else f"--no-{name}"]


def train_words(options: Options, repeat: Repeat, words: list[str]) -> list[str]:
    """The options of a training, or of one that goes on where it was interrupted."""
    if (repeat.folder / "config.json").is_file():
        words = [*words, "--resume"]
    return ["--output", str(repeat.folder), "--device", options.device, "--seed", str(repeat.seed), *words]


def parse(model: str, words: list[str]) -> None:
    """Let what train.py would refuse be refused at once, not after the trainings before it."""
    with patch.object(sys, "argv", [f"{model}/train.py", *words]):
        train_command_line(model, hyperparameters(model))


def evaluate(options: Options, repeat: Repeat) -> dict[str, Any]:
    """Run eval.py; its figures, the run's number of parameters and the seconds of training."""
    report = repeat.folder / f"report-{options.split}.json"
    words = ["--split", options.split, "--json", str(report)]
    if options.record is not None:
        words += ["--record", f"{options.record}-seed-{repeat.seed}"]
    script(options.model, "eval", "--run", str(repeat.folder), "--device", options.device, *words)
    config = json.loads((repeat.folder / "config.json").read_text(encoding="utf-8"))
    epochs = map(json.loads, (repeat.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    training = {"parameters": config["parameters"], "seconds": sum(epoch["seconds"] for epoch in epochs)}
    return json.loads(report.read_text(encoding="utf-8")) | training


def script(model: str, name: str, *words: str) -> None:
    """Run a script of a model; what it prints is shown. Its failure ends this one, with its exit code."""
    command = [sys.executable, str(ROOT / model / f"{name}.py"), *words]
    print("$", " ".join(["python", f"{model}/{name}.py", *words]), flush=True)
    with subprocess.Popen(command) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the script got it as well, and saves
            code = process.wait()
    if code != 0:
        sys.exit(code)


def describe(results: list[dict[str, Any]], options: Options, name: str) -> str:
    """The table: mean and standard deviation over the seeds, a line a value."""
    gallery = results[0]["gallery"]
    width = max(12, len(name), *(len(result["value"]) for result in results)) + 2
    spread = "mean ± standard deviation (n - 1)" if len(options.seeds) > 1 else "no spread from one seed"
    lines = [
        f"{options.model}, {options.split} split: {gallery['images']:,} images, "
        f"{gallery['texts']:,} distinct captions; {seeds_of(options)}, {spread}",
        f"{name:{width}}" + "".join(f"{words:^42}" for words in DIRECTIONS.values()),
        " " * width
        + "".join(f"{cutoff:>14}" for _ in DIRECTIONS for cutoff in RECALLS)
        + f"{'rSum':>15}{'minutes':>9}",
    ]
    for value in dict.fromkeys(result["value"] for result in results):
        same = [result for result in results if result["value"] == value]
        columns = [
            mean_and_spread([result[direction][cutoff] for result in same])
            for direction in DIRECTIONS
            for cutoff in RECALLS
        ]
        line = "".join(f"{column:>14}" for column in columns) + f"{mean_and_spread([r['rsum'] for r in same]):>15}"
        lines.append(f"{value:{width}}{line}{statistics.mean(r['seconds'] for r in same) / 60:9.1f}")
    return "\n".join(lines)


def mean_and_spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def draw(results: list[dict[str, Any]], name: str, options: Options) -> None:
    """R@1 and R@10 in both directions, and the mean of all six recalls, by the value of a hyperparameter."""
    values = list(dict.fromkeys(result["value"] for result in results))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")

    def line(figure_of: Callable[[dict[str, Any]], float], style: str, colour: str, label: str) -> None:
        found = [[figure_of(result) for result in results if result["value"] == value] for value in values]
        spreads = [statistics.stdev(same) for same in found] if len(options.seeds) > 1 else None
        means = [statistics.mean(same) for same in found]
        axes.errorbar(values, means, spreads, fmt=style, color=colour, capsize=4, label=label)

    for colour, (direction, words) in zip(("C0", "C1"), DIRECTIONS.items(), strict=True):
        line(lambda result, of=direction: result[of]["R@10"], "-o", colour, f"{words} R@10")
        line(lambda result, of=direction: result[of]["R@1"], "--s", colour, f"{words} R@1")
    line(lambda result: result["rsum"] / 2 / len(RECALLS), ":", "black", "mean of the six recalls")
    what = "mean and standard deviation over" if len(options.seeds) > 1 else "one training for each value,"
    axes.set(xlabel=name.replace("-", "_"), ylabel=f"per cent, {options.split} split", ylim=(0, None))
    axes.set_title(f"{options.model}: {what} {seeds_of(options)}", fontsize=10)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=110)
    plt.close(figure)


def seeds_of(options: Options) -> str:
    return f"seed{'s' * (len(options.seeds) > 1)} {', '.join(map(str, options.seeds))}"


if __name__ == "__main__":
    run_script(main)
