"""Write the main README's results, table and chart, from the ledger in assets/results/.

    python siamese/eval.py --run RUN --record NAME      adds a run to the ledger
    python benchmarks/training_speed.py siamese --record NAME   adds the loop's share of the bare model's speed
    python assets/write_results.py                      writes README.md and assets/results.png

Trainings that differ in nothing but the seed are one row: mean and standard deviation. Every gallery has a table and a
chart of its own, the largest one first.
"""

import re
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image

from common.errors import InputError, run_script
from common.files import write_atomically
from common.hashing import digest
from common.options import ROOT
from common.recall import CUTOFFS, DIRECTIONS
from common.report.ledger import LEDGER, SHARE, read_ledger

README = ROOT / "README.md"
BEGIN, END = "<!-- results: written by assets/write_results.py -->", "<!-- end of results -->"
NAMES = {"deep_cmpl": "Deep CMPL", "siamese": "Siamese network", "correlational": "Correlational network"}
LEDGER_KEY = "Ledger"
"""Where the chart says which ledger it was drawn from."""

RECORDED_LATER = ("images_per_second", "peak_memory_gb", SHARE)
"""Figures of a training that some records lack."""
Row = list[dict[str, Any]]
"""The records of one system, a seed each."""


def main() -> None:
    records = read_ledger()
    if not records:
        raise InputError(f"{LEDGER}: no results there; record some with eval.py --record NAME")
    text = README.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(f"{README}: expected the lines {BEGIN} and {END}, once each")
    for same, chart in galleries(records):
        draw(same, chart)
        print(f"written: {chart}")
    write_atomically(README, f"{before}{section(records)}{after}")
    print(f"written: {README}, from {len(records)} records")


def galleries(records: list[dict[str, Any]]) -> list[tuple[list[dict[str, Any]], Path]]:
    """The records of each gallery, the largest one first, and where their chart stands."""
    same: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        same.setdefault(digest([record["catalogue"], record["report"]["gallery"]]), []).append(record)
    ordered = sorted(same.values(), key=lambda found: -found[0]["report"]["gallery"]["products"])
    names = ["results.png", *(f"results-{number}.png" for number in range(2, len(ordered) + 1))]
    return [(found, ROOT / "assets" / name) for found, name in zip(ordered, names, strict=True)]


def rows_of(records: list[dict[str, Any]]) -> list[Row]:
    """The systems, the one that finds most first.

    Raises:
        InputError: a training is recorded twice.
    """
    systems: dict[str, Row] = {}
    for record in records:
        settings = {key: value for key, value in record["hyperparameters"].items() if key != "seed"}
        device = record["hardware"]["device"].partition(" (cuda:")[0]  # whichever of several like it
        system = digest([record["report"]["model"], settings, device])
        systems.setdefault(system, []).append(record)
    for row in systems.values():
        seeds = [record["hyperparameters"]["seed"] for record in row]
        if len(set(seeds)) < len(seeds):
            raise InputError(f"{LEDGER}: {name_of(row)} is recorded twice with one seed (seeds {seeds}); delete one")
    return sorted(systems.values(), key=lambda row: -mean(row, "rsum"))


def section(records: list[dict[str, Any]]) -> str:
    """The part of the README between the two marks, marks included."""
    tables = "\n\n".join("\n".join(table(same, chart)) for same, chart in galleries(records))
    return f"{BEGIN}\n{tables}\n{END}"


def title_of(records: list[dict[str, Any]]) -> str:
    """The gallery that these records share, in words."""
    name, gallery = records[0]["catalogue"]["name"], records[0]["report"]["gallery"]
    sizes = f"{gallery['products']:,} products, {gallery['images']:,} images, {gallery['texts']:,} distinct captions"
    return f"test split of {name}: {sizes}"


def table(records: list[dict[str, Any]], chart: Path) -> list[str]:
    rows = rows_of(records)
    chance = records[0]["report"]["chance"]
    machines = {
        f"{r['hardware']['device']}, {r['hardware']['cores']} cores, torch {r['versions']['torch'].split('+')[0]}"
        for r in records
    }
    at_chance = ["chance", *(recalls([chance[d][f"R@{k}"] for k in CUTOFFS], 2) for d in DIRECTIONS)]
    at_chance += [f"{sum(chance[d][f'R@{k}'] for d in DIRECTIONS for k in CUTOFFS):.1f}", "", "", ""]
    return [
        f"The full {title_of(records)}; per cent. ± is the standard deviation over seeds, the "
        "range of rSum its 95% interval over the tested products (of several seeds the mean of "
        f"the bounds, and the median of times and speeds). {'; '.join(sorted(machines))}.",
        "",
        "| model | "
        + " | ".join(f"{words} R@1 / R@5 / R@10" for words in DIRECTIONS.values())
        + " | rSum | parameters (trained) | device | training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(table_row(row) for row in rows),
        f"| {' | '.join(at_chance)} |",
        "",
        f"![recall of every row in both directions, with intervals, {title_of(records)}](assets/{chart.name})",
    ]


def table_row(row: Row) -> str:
    model = row[0]["report"]["model"]
    cells = [f"[{name_of(row)}]({model}/README.md#commands-and-what-they-give)"]
    for direction in DIRECTIONS:
        cells.append(" / ".join(mean_and_spread(row, direction, f"R@{k}") for k in CUTOFFS))
    low, high = (statistics.mean(r["report"]["interval"]["rsum"][end] for r in row) for end in (0, 1))
    cells.append(f"{mean_and_spread(row, 'rsum')} ({low:.1f} to {high:.1f})")
    total, trained = (row[0]["parameters"][key] / 1e6 for key in ("total", "trained"))
    cells.append(f"{total:.1f} M ({'all' if trained == total else f'{trained:.1f} M'})")
    cells += [device_of(row), ", ".join(training(row))]
    return f"| {' | '.join(cells)} |"


def training(row: Row) -> list[str]:
    """How long the trainings were, their speed and memory where those were recorded, and how many they are."""
    seconds, speed, memory, share = (median_of_training(row, key) for key in ("seconds", *RECORDED_LATER))
    words = [f"{row[0]['training']['epochs']} epochs", f"batch {row[0]['hyperparameters']['batch_size']}"]
    words.append(f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s")
    words += [f"{speed:,.0f} images/s", f"{memory:.1f} GB"] if speed else []
    words += [f"{share:.0%} of the bare speed"] if share else []
    return [*words, f"{len(row)} seed{'s' * (len(row) > 1)}"]


def median_of_training(row: Row, key: str) -> float | None:
    """The median over the seeds that it was recorded for, None where it was for none."""
    found = [record["training"][key] for record in row if key in record["training"]]
    return statistics.median(found) if found else None


def name_of(row: Row) -> str:
    """The method, its image encoder and (height x width), as in "modified Deep CMPL, efficientnet-lite0 at 80x60"."""
    model, settings = row[0]["report"]["model"], row[0]["hyperparameters"]
    modified = "modified " if model == "deep_cmpl" and settings["image_encoder"].startswith("efficientnet") else ""
    loss = " with the paper's loss" if settings.get("divergence") == "forward" and settings["scale"] == "paper" else ""
    is_frozen = settings["freeze_image_encoder"] if model == "deep_cmpl" else not settings.get("finetune", False)
    frozen = "frozen " if is_frozen else ""
    scratch = " from scratch" if settings["image_weights"] == "none" else ""
    size = "x".join(map(str, settings["image_size"]))
    return f"{modified}{NAMES[model]}{loss}, {frozen}{settings['image_encoder']}{scratch} at {size}"


def device_of(row: Row) -> str:
    """Where it was trained: "CPU", or the name of the GPU."""
    return re.split(r"[,(]", row[0]["hardware"]["device"])[0].strip()


def values(row: Row, *keys: str) -> list[float]:
    found = [record["report"] for record in row]
    for key in keys:
        found = [value[key] for value in found]
    return found


def mean(row: Row, *keys: str) -> float:
    return statistics.mean(values(row, *keys))


def mean_and_spread(row: Row, *keys: str) -> str:
    spread = f" ± {statistics.stdev(values(row, *keys)):.1f}" if len(row) > 1 else ""
    return f"{mean(row, *keys):.1f}{spread}"


def recalls(figures: list[float], digits: int) -> str:
    return " / ".join(f"{figure:.{digits}f}" for figure in figures)


def draw(records: list[dict[str, Any]], file: Path) -> None:
    """R@1, R@5 and R@10 of every system in both directions, with 95% intervals; the file names its ledger."""
    rows = rows_of(records)
    figure, panels = plt.subplots(1, 2, figsize=(11, 1.4 + 0.75 * len(rows)), sharey=True, layout="constrained")
    for axes, (direction, words) in zip(panels, DIRECTIONS.items(), strict=True):
        for number, cutoff in enumerate(CUTOFFS):
            name = f"R@{cutoff}"
            found = [mean(row, direction, name) for row in rows]
            bounds = [[mean_bound(row, direction, name, end) for row in rows] for end in (0, 1)]
            reach = [[abs(f - b) for f, b in zip(found, bound, strict=True)] for bound in bounds]
            places = [place + 0.22 * (number - 1) for place in range(len(rows))]
            axes.barh(places, found, 0.2, xerr=reach, color=f"C{number}", label=name, error_kw={"capsize": 2})
        axes.set(title=words, xlim=(0, 100), xlabel="per cent of the queries")
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(
        f"{title_of(records)}\nlines: 95% intervals over the products; the seed is not in them", fontsize=10
    )
    panels[0].invert_yaxis()  # the first row on top, as in the table
    panels[0].set_yticks(range(len(rows)), [f"{name_of(row)} ({device_of(row)})".replace(", ", "\n") for row in rows])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(CUTOFFS))
    figure.savefig(file, dpi=100, metadata={LEDGER_KEY: digest(records)})
    plt.close(figure)


def mean_bound(row: Row, direction: str, name: str, end: int) -> float:
    return statistics.mean(record["report"]["interval"][direction][name][end] for record in row)


def drawn_from(file: Path) -> str:
    """The ledger that a chart was drawn from, as `digest` names it."""
    with Image.open(file) as image:
        return image.info.get(LEDGER_KEY, "")


if __name__ == "__main__":
    run_script(main)
