"""The ledger of results: what eval.py found on a test split, kept as JSON with all that it rests on.

`assets/write_results.py` writes the main README's table and chart from these files.
"""

import json
import re
import shlex
import statistics
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import write_atomically
from common.hyperparameters import Block, read_block
from common.options import RECORDED_PATHS, ROOT, EvalOptions

LEDGER = ROOT / "assets" / "results"
LEFT_OUT = ("run", "by", "relevance", "fg101", "comparison")
"""Parts of a report that are not kept: a path of this machine, and what was asked for on the side."""
SHARE = "share_of_bare_speed"
"""What a benchmark adds to a record's training later (`record_share`)."""
NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


def check(options: EvalOptions) -> None:
    """Raise an `InputError` if --record cannot be followed, before anything is computed."""
    if options.record is None:
        return
    if not NAME.fullmatch(options.record):
        raise InputError(f"--record {options.record}: expected small letters, digits, dots, dashes, as in siamese-0")
    if options.split != "test":
        raise InputError(f"--record {options.record}: the ledger is for the test split, not for {options.split}")


def record(name: str, report: dict[str, Any], run: Path, config: dict[str, Any], fingerprint: str) -> Path:
    """Write a report, and the training that it is about, to `LEDGER`; returns the file.

    Raises:
        InputError: the run's metrics.jsonl is missing or broken, or there is another record of that name.
    """
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line) for line in lines]
        best = max(epochs, key=lambda epoch: epoch["val"]["rsum"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{run / 'metrics.jsonl'}: cannot be read ({error}); --record needs it") from None
    content = {
        "report": {key: value for key, value in report.items() if key not in LEFT_OUT},
        "catalogue": {"name": report["catalogue"], "fingerprint": fingerprint},
        "hyperparameters": config["hyperparameters"],
        "command": command(config, report["catalogue"], read_block(ROOT / config["model"] / "README.md")),
        "training": {
            "epochs": len(epochs),
            "seconds": sum(epoch["seconds"] for epoch in epochs),
            "images_per_second": statistics.median(epoch["images_per_second"] for epoch in epochs),
            "peak_memory_gb": max(epoch["peak_memory_gb"] for epoch in epochs),
            "best_epoch": best["epoch"],
            "validation_rsum": best["val"]["rsum"],
        },
        "parameters": config["parameters"],
        "precision": config["precision"],
        "versions": config["versions"],
        "hardware": {key: config["hardware"][key] for key in ("device", "cores")},
    }
    LEDGER.mkdir(parents=True, exist_ok=True)
    file, text = LEDGER / f"{name}.json", json.dumps(content, indent=2) + "\n"
    if not file.exists():
        write_atomically(file, text)
    elif without_share(file.read_text(encoding="utf-8")) != json.loads(text):
        raise InputError(f"--record {name}: {file} holds other figures; delete it first, or choose another name")
    return file


def without_share(text: str) -> dict[str, Any] | None:
    """A record as eval.py wrote it, None where the text is no record."""
    try:
        content = json.loads(text)
        content["training"].pop(SHARE, None)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return content


def record_of(name: str, model: str, hyperparameters: dict[str, Any], fingerprint: str, device: str) -> Path:
    """The file of a record, which is to be of this training; the seed may be another.

    Args:
        name: of the record.
        model: its name.
        hyperparameters: compared as far as the record has them, which may be older than some.
        fingerprint: of the catalogue.
        device: where it was trained, as config.json says it.

    Raises:
        InputError: there is no such record, or it is of another model, catalogue, device or hyperparameter.
    """
    file = LEDGER / f"{name}.json"
    if not file.is_file():
        raise InputError(
            f"--record {name}: {file} is not there; train with these options, then eval.py --record {name}"
        )
    content = without_share(file.read_text(encoding="utf-8"))
    if content is None:
        raise InputError(f"--record {name}: {file} is not a record; delete it")
    there = {"model": content["report"]["model"], "catalogue": content["catalogue"]["fingerprint"]}
    there |= {"device": content["hardware"]["device"]} | content["hyperparameters"]
    del there["seed"]
    here = {"model": model, "catalogue": fingerprint, "device": device} | json.loads(json.dumps(hyperparameters))
    differences = [f"{key} {value}, here {here.get(key)}" for key, value in there.items() if here.get(key) != value]
    if differences:
        raise InputError(f"--record {name}: {file} is of another training ({'; '.join(differences)})")
    return file


def record_share(file: Path, share: float) -> None:
    """Add to a record the speed of the training loop over the bare model's, about 1 at best."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content["training"][SHARE] = share
    write_atomically(file, json.dumps(content, indent=2) + "\n")


def command(config: dict[str, Any], catalogue: str, block: Block) -> str:
    """How to train such a run today: the columns that were named, and what differs from the block of the model's
    README."""
    words = ["python", f"{config['model']}/train.py", "--data", catalogue]
    for key, value in config["data"]["options"].items():
        if value is not None and key not in RECORDED_PATHS:
            words += [f"--{key.replace('_', '-')}", value]
    for key, value in config["hyperparameters"].items():
        if value != block.values.get(key):
            option = key.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            else:
                words += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def read_ledger(folder: Path = LEDGER) -> list[dict[str, Any]]:
    """Everything that was recorded, by name.

    Raises:
        InputError: a file there is not a record.
    """
    records = []
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            content["report"]["interval"], content["hyperparameters"]["seed"], content["training"]["seconds"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: not a record of --record ({error!r}); delete it") from None
        records.append(content)
    return records
