"""The command-line options that all three models share. Nothing here imports torch."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro

from common.errors import InputError
from common.hyperparameters import ImageSize, checked, command_line, from_block, read_block

ROOT = Path(__file__).resolve().parents[1]
Settings = TypeVar("Settings")
RECORDED_PATHS = ("data", "image_root")
RECORDED = (*RECORDED_PATHS, "image_column", "caption_column", "id_column", "caption")
"""Which options name a catalogue; a run keeps them."""


@dataclass(frozen=True)
class CatalogueOptions:
    """Where the catalogue is and how its columns are called."""

    data: Path | None = None
    """Catalogue: a table (.csv, .tsv, .jsonl), a .parquet file, a folder of images with texts, or a public data set's
    own layout, see data/README.md (None: for training the sample catalogue, for evaluation the data the run was
    trained on)."""
    image_column: str | None = None
    """Column of a table with the image's path (None: guessed from common names)."""
    caption_column: str | None = None
    """Column of a table with the caption (None: guessed from common names)."""
    id_column: str | None = None
    """Column of a table with the product's id (None: guessed; without one each image is a product)."""
    image_root: Path | None = None
    """Folder that the image paths of a table are relative to (None: the table's own folder)."""
    caption: Literal["title", "description", "both"] | None = None
    """What the Kaggle layout gives as captions; descriptions stand in styles/<id>.json (None: the title)."""
    strict: tyro.conf.FlagCreatePairsOff[bool] = False
    """Stop with an error when a row of the catalogue cannot be used, instead of reporting and leaving it out."""
    images_from: Literal["auto", "device", "disk", "files"] = "auto"
    """Where images are taken from: the device's memory, the cache of decoded images on disk, or the catalogue's own
    files, decoded on the fly (auto: a GPU that has room for them, else the cache if the disk has room, else the
    files; in evaluation the device counts as the cache: each image is seen once)."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class TrainOptions(CatalogueOptions):
    """Options of the run."""

    output: Path | None = None
    """Run folder to write (None: runs/<model> in the repository)."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with the run in the output folder where it was interrupted."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Delete the run in the output folder and start again."""


@dataclass(frozen=True)
class EvalOptions(CatalogueOptions):
    """Options of the evaluation."""

    run: Path | None = None
    """Run folder that train.py wrote (None: runs/<model> in the repository)."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Which products to search among."""
    by: tuple[str, ...] = ()
    """Columns of the catalogue, or "caption length": recall for each of their values, worst first."""
    compare: tuple[Path, ...] = ()
    """Runs to compare query by query, from the ranks that eval.py left in them; with --run, its run is the first."""
    relevance: Path | None = None
    """JSON file {query text: {product id: 1}}: adds Recall@1, Recall@10 and MRR@10 in BEIR style."""
    protocol: Literal["fg101"] | None = None
    """Adds a second protocol: fg101 is Fashion-Gen's, a query against 1 positive and 100 negatives of its category."""
    category: str | None = None
    """With --protocol: column with the category that the negatives share."""
    candidates: Path | None = None
    """With --protocol: parquet file of candidate lists, read if it exists, else written (None: kept in the run)."""
    pictures: Path | None = None
    """Folder to write pages with the report's pictures to: best and worst queries, curves, a map of the embeddings."""
    record: str | None = None
    """Keep the figures of the test split as assets/results/RECORD.json, for the results table."""
    json: Path | None = None
    """File to write the figures to, as JSON."""


def train_command_line(model: str, hyperparameters: type[Settings]) -> tuple[TrainOptions, Settings]:
    """Read the model's README and the command line; with --resume the run's own hyperparameters.

    Raises:
        InputError: the README's block or an option cannot be used, or, with --resume, an option
            differs from what the run was started with.
    """
    description = f"Train {model} on a catalogue and write a run folder."
    resume = "--resume" in sys.argv[1:]
    if resume:
        known, _ = tyro.cli(TrainOptions, description=description, return_unknown_args=True)
        folder = run_folder(known.output, model)
        config = read_config(folder, model)
        defaults, comments = saved_settings(config, hyperparameters, folder), {}
    else:
        block = read_block(ROOT / model / "README.md")
        defaults, comments = from_block(hyperparameters, block), block.comments
    options, settings = command_line(TrainOptions, defaults, comments, description)
    options = at_home(options)
    options = dataclasses.replace(options, output=run_folder(options.output, model))
    if resume:
        if options.overwrite:
            raise InputError("--resume goes on with a run, --overwrite deletes it: give one of the two")
        refuse_changes(defaults, settings, options.output)
        options = with_recorded_data(options, config)
    return options, settings


def refuse_repeated(*options: str) -> None:
    """Raise an `InputError` if one of these options of several values is typed twice: the last would count."""
    typed = [word.partition("=")[0] for word in sys.argv[1:]]
    for option in options:
        if typed.count(option) > 1:
            raise InputError(
                f"{option} is given twice, and only the last would count: name all values after one {option}"
            )


def run_folder(typed: Path | None, model: str) -> Path:
    return (typed or ROOT / "runs" / model).expanduser()


def at_home(options: Any) -> Any:
    """The options with the home folder in place of a ~ in their paths, which a shell leaves after a `=`."""
    typed = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return dataclasses.replace(options, **{key: v.expanduser() for key, v in typed.items() if isinstance(v, Path)})


def eval_command_line(model: str) -> EvalOptions:
    """Parse the options of eval.py; its run stays None where kept ranks are compared and no run is evaluated."""
    description = f"Print the image-to-text and text-to-image recall of a trained {model}."
    refuse_repeated("--by", "--compare")
    options = at_home(tyro.cli(EvalOptions, description=description))
    if options.compare and options.run is None:
        return options
    return dataclasses.replace(options, run=run_folder(options.run, model))


def read_config(run: Path, model: str | None) -> dict[str, Any]:
    """The config.json of a run of `model`, or of any model if that is None.

    Raises:
        InputError: there is no such run, it cannot be read or it is a run of another model.
    """
    path = run / "config.json"
    if not path.is_file():
        wanted = f"train one first with {model}/train.py" if model else "expected a folder that train.py wrote"
        raise InputError(f"{run}: no run there (it has no config.json); {wanted}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found = config["model"]
        config["data"]["fingerprint"]
        if config["precision"] not in ("float32", "bfloat16"):
            raise ValueError(f"precision = {config['precision']!r}")
        checked(config["hyperparameters"]["image_size"], ImageSize, "image_size")
        for key, value in config["data"]["options"].items():
            if key not in RECORDED or not isinstance(value, str | None):
                raise ValueError(f"data option {key} = {value!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the configuration of a run ({error!r})") from None
    if model is not None and found != model:
        raise InputError(f"{run}: a run of {found}, not of {model}; use {found}/eval.py or another folder")
    return config


def saved_settings(config: dict[str, Any], hyperparameters: type[Settings], run: Path) -> Settings:
    """The hyperparameters that a run was started with, as the dataclass."""
    values = config["hyperparameters"]
    names = {field.name for field in dataclasses.fields(hyperparameters)}
    if names != set(values):
        differences = [f"it lacks {', '.join(sorted(names - set(values)))}"] * bool(names - set(values))
        differences += [f"{', '.join(sorted(set(values) - names))} is unknown"] * bool(set(values) - names)
        raise InputError(
            f"{run}: a run of another version of this code ({' and '.join(differences)} in its hyperparameters); "
            "resume it with that version, or start it again with --overwrite or in another --output"
        )
    hints = {field.name: field.type for field in dataclasses.fields(hyperparameters)}
    where = run / "config.json"
    return hyperparameters(**{key: checked(values[key], hints[key], f"{where}: {key}") for key in hints})


def refuse_changes(started_with: Any, settings: Any, run: Path) -> None:
    """Raise an `InputError` that names the first hyperparameter that was changed."""
    for key, value in dataclasses.asdict(settings).items():
        before = getattr(started_with, key)
        if value != before:
            raise InputError(
                f"--{key.replace('_', '-')} {value}: the run in {run} was started with {before}; "
                "--resume cannot change it. Leave the option out, or start a new run in another --output"
            )


def typed_data(options: CatalogueOptions) -> dict[str, str | None]:
    """Which catalogue was named and how, to be recorded: absolute paths, None for what was not given."""
    paths = {key: getattr(options, key) for key in RECORDED_PATHS}
    typed = {key: None if path is None else str(Path(path).expanduser().resolve()) for key, path in paths.items()}
    return typed | {key: getattr(options, key) for key in RECORDED if key not in paths}


def with_recorded_data(options: Any, config: dict[str, Any]) -> Any:
    """Without --data, the catalogue that the run was trained on, and its columns where none are typed."""
    if options.data is not None:
        return options
    recorded = {key: value for key, value in config["data"]["options"].items() if getattr(options, key) is None}
    for key in RECORDED_PATHS:
        if recorded.get(key) is not None:
            recorded[key] = Path(recorded[key])
    return dataclasses.replace(options, **recorded)
