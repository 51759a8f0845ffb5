"""Embed a catalogue with a model, measure recall in both directions, and report it."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common.batches import Data, Texts, load_data
from common.captions import describe_unknown
from common.checkpoints import TRAIN_PRODUCTS, load_model
from common.devices import choose_device, precision_name
from common.devices import describe as describe_device
from common.embedding import Embedded, embed_images, embed_texts
from common.errors import InputError
from common.files import check_file, replacing, write_atomically
from common.gallery import Gallery
from common.hashing import digest
from common.options import EvalOptions, read_config, with_recorded_data
from common.report import comparison, fg101, graded, ledger, pages, probes, relevance, robustness, slices
from common.report.intervals import figure_intervals
from common.report.kept_ranks import Compared
from common.report.table import describe_recall, ranks_table
from common.splits import require_splits
from common.validation import both_ranks, chance_figures, figures

PARTS = {"graded": graded, "probes": probes, "robustness": robustness}
"""What every report has after recall, by its name in --json: modules with `measure` and `describe`."""


def evaluate_run(model_name: str, options: EvalOptions, sample: Callable[[], Path]) -> None:
    """What eval.py does: load a run, embed a split, print the report, write what was asked for.

    Without a run, only the ranks that were left in the runs of --compare are read.

    Raises:
        InputError: a run, the catalogue, a column or a file cannot be used, or options contradict each other.
    """
    check(options)
    runs = [comparison.read(run, options.split) for run in options.compare]
    embedded, report, lines, charts = None, {}, [], []
    if options.run is not None:
        config = read_config(options.run, model_name)
        embedded = embed_split(options, config, sample)
        report, charts = measure(embedded, options, config)
        lines = describe(report)
        print("\n".join(lines))
        runs.insert(0, Compared(options.run, options.split, config, ranks_table(embedded)))
    text = "The share of queries with a right item among the first K results, by K. Higher and further left is better."
    charts.append(("Recall at K", text, partial(comparison.draw_curves, runs)))
    if options.compare:
        report["comparison"] = comparison.compare(runs)
        found = comparison.describe(report["comparison"])
        print("\n".join(found))
        lines += found
    if embedded is not None:
        keep(report, embedded, options, config)
    if options.json is not None:
        write_atomically(options.json, json.dumps(report, indent=2))
        print(f"figures written to {options.json}")
    if options.pictures is not None:
        print(f"pages written; open {pages.write(options.pictures, report, embedded, charts, lines)}")
    if options.record is not None:
        file = ledger.record(options.record, report, options.run, config, embedded.data.catalogue.fingerprint)
        print(f"recorded: {file}; assets/write_results.py writes the results table from there")


def check(options: EvalOptions) -> None:
    """Raise an `InputError` for options that cannot be followed, before anything is computed."""
    ledger.check(options)
    fg101.check(options)
    if options.pictures is not None:
        pages.check(options.pictures)
    if options.json is not None:
        check_file(options.json, "--json")
    if options.relevance is not None:
        relevance.read(options.relevance)
    if options.run is None and len(options.compare) < 2:
        raise InputError(f"--compare {options.compare[0]}: one run; name two, or name the first one with --run")
    if options.run is None:
        for name in ("data", "by", "relevance", "protocol", "record"):
            if getattr(options, name):
                raise InputError(f"--{name} is about a run: name it with --run; --compare alone reads kept ranks only")


def embed_split(options: EvalOptions, config: dict[str, Any], sample: Callable[[], Path]) -> Embedded:
    """Load the run's model and embed the images and captions of the split."""
    device = choose_device(options.device)
    model, tokenizer = load_model(options.run, config, device)
    with_data = with_recorded_data(options, config)
    data = load_data(with_data, tuple(config["hyperparameters"]["image_size"]), sample)
    check_data(data, options, config)
    gallery = Gallery.of(data.rows(options.split))
    print(f"run: {options.run}, device: {describe_device(device)}, {precision_name(model.precision)}")
    texts = Texts(*tokenizer(gallery.captions))
    print(describe_unknown(tokenizer, {options.split: texts.tokens}))
    image_emb = embed_images(model, data.images.pixels, gallery.images, device, show=True)
    text_emb = embed_texts(model, texts, device, show=True)
    ranks = both_ranks(image_emb, text_emb, gallery)
    return Embedded(model, tokenizer, device, data, options.split, gallery, image_emb, text_emb, ranks)


def check_data(data: Data, options: EvalOptions, config: dict[str, Any]) -> None:
    """Raise an `InputError` for what the catalogue does not allow, and warn of products that were trained on."""
    for column in options.by:
        slices.find_slicing(column, data.catalogue)
    if options.protocol is not None:
        fg101.category_column(data.catalogue, options.category)
    seen = warn_if_trained_on(data, options, config)
    if options.record is not None and seen:
        raise InputError(f"--record {options.record}: {seen:,} of the tested products were trained on")
    other_data = data.catalogue.fingerprint != config["data"]["fingerprint"]
    for name in ("record", "compare"):
        if other_data and getattr(options, name):
            raise InputError(f"--{name}: {data.catalogue.path} is not the data that {options.run} was trained on; "
                             f"leave out --data, or --{name}")  # fmt: skip
    if options.split != "all":
        require_splits(data.splits, (options.split,), data.catalogue.path)


def measure(
    embedded: Embedded, options: EvalOptions, config: dict[str, Any]
) -> tuple[dict[str, Any], list[pages.Chart]]:
    """All figures, as --json writes them, the full gallery first; and the charts that go with them."""
    gallery = embedded.gallery
    report = {
        "model": config["model"],
        "run": str(options.run),
        "split": options.split,
        "catalogue": embedded.data.catalogue.path.name,
        "gallery": gallery.sizes,
        **figures(embedded.ranks),
        "interval": figure_intervals(embedded.ranks, gallery.groups),
        "chance": chance_figures(embedded.ranks, gallery),
    }
    report |= {name: part.measure(embedded) for name, part in PARTS.items()}
    charts: list[pages.Chart] = []
    if options.by:
        report["by"] = [slices.measure(embedded, column) for column in options.by]
        text = "R@10 of the queries with each value, worst first, with 95% intervals: wide ones have few queries."
        charts = [(f"Recall by {found['column']}", text, partial(slices.draw, found)) for found in report["by"]]
    if options.relevance is not None:
        report["relevance"] = relevance.measure(embedded, relevance.read(options.relevance))
    if options.protocol is not None:
        column = fg101.category_column(embedded.data.catalogue, options.category)
        file = options.candidates or kept_file(embedded, options, config, f"fg101-{column}", ".parquet")
        report["fg101"] = fg101.measure(embedded, options.category, file)
    return report, charts


def describe(report: dict[str, Any]) -> list[str]:
    """The report as lines for the terminal."""
    lines = describe_recall(report)
    for name, part in PARTS.items():
        lines += part.describe(report[name])
    for found in report.get("by", []):
        lines += slices.describe(found)
    for name, part in (("relevance", relevance), ("fg101", fg101)):
        lines += part.describe(report[name]) if name in report else []
    return lines


def keep(report: dict[str, Any], embedded: Embedded, options: EvalOptions, config: dict[str, Any]) -> None:
    """Leave the ranks and the charts in the run."""
    catalogue = embedded.data.catalogue
    try:
        if catalogue.fingerprint == config["data"]["fingerprint"]:
            with replacing(options.run / f"ranks-{options.split}.parquet") as part:
                ranks_table(embedded).to_parquet(part)
        else:
            print("the ranks are not kept in the run, because this is not the data it was trained on")
        for found in report.get("by", []):
            file = kept_file(embedded, options, config, f"recall-by-{found['column']}", ".png")
            slices.draw(found, file)
            print(f"chart: {file}")
    except OSError as error:  # a run on a read-only disk can be evaluated all the same
        print(f"the ranks and charts are not kept in the run, it cannot be written to ({error})")


def kept_file(embedded: Embedded, options: EvalOptions, config: dict[str, Any], name: str, suffix: str) -> Path:
    """Where something about a split is kept in the run folder; other data than the run's have names of their own."""
    fingerprint = embedded.data.catalogue.fingerprint
    other = "" if fingerprint == config["data"]["fingerprint"] else f"-{fingerprint}"
    plain = re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-")
    odd = "" if re.fullmatch(r"[\w -]+", name) else f"-{digest(name)[:6]}"  # signs that a file's name cannot have
    return options.run / f"{plain}{odd}-{options.split}{other}{suffix}"


def warn_if_trained_on(data: Data, options: EvalOptions, config: dict[str, Any]) -> int:
    """How many of the products the run was trained on; says so, and when the data is not what the run recorded."""
    changed = config["data"]["fingerprint"] != data.catalogue.fingerprint
    if changed and options.data is None:
        print("warning: the data has changed since the run was trained; products may have been trained on")
    file, evaluated = options.run / TRAIN_PRODUCTS, set(data.rows(options.split)["product"])
    try:
        trained_on = json.loads(file.read_text(encoding="utf-8"))
        seen = len(evaluated.intersection(trained_on))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); without it nobody knows what was trained on") from None
    if seen:
        print(
            f"warning: {seen:,} of the {len(evaluated):,} products of the {options.split} split were trained on; "
            "the figures say nothing about new products"
        )
    return seen
