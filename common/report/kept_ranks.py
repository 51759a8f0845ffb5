"""Runs as the ranks that eval.py left in them, to be compared without their models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from common.errors import InputError
from common.options import read_config
from common.recall import DIRECTIONS

COLUMNS = ["direction", "query", "group", "rank", "reciprocal_rank", "average_precision"]


@dataclass(frozen=True)
class Compared:
    """A run as it is compared.

    Attributes:
        run: its folder.
        split: of the catalogue.
        config: its config.json.
        ranks: one query a row, with `COLUMNS`.
    """

    run: Path
    split: str
    config: dict[str, Any]
    ranks: pd.DataFrame

    def of(self, direction: str) -> pd.DataFrame:
        """The rows of one direction."""
        return self.ranks[self.ranks["direction"] == direction]


def read(run: Path, split: str) -> Compared:
    """A run with the ranks of its queries.

    Raises:
        InputError: there is no run, or it holds no ranks of this split that can be used.
    """
    run = run.expanduser()
    config = read_config(run, model=None)
    file = run / f"ranks-{split}.parquet"
    command = f"python {config['model']}/eval.py --run {run} --split {split}"
    if not file.is_file():
        raise InputError(f"{run}: no ranks of the {split} split there; make them with: {command}")
    try:
        ranks = pd.read_parquet(file)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{file}: not a readable parquet file ({error}); make it again with: {command}") from None
    missing = [name for name in COLUMNS if name not in ranks]
    if missing or set(ranks["direction"]) != set(DIRECTIONS):
        fault = f"has no column {missing}, an older version wrote it" if missing else "lacks a direction"
        raise InputError(f"{file}: {fault}; evaluate again with: {command}")
    return Compared(run, split, config, ranks)


def names(runs: list[Compared]) -> list[str]:
    """The shortest ends of the runs' paths that tell different folders apart."""
    folders = [run.run.resolve() for run in runs]
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        ends = [str(Path(*folder.parts[-length:])) for folder in folders]
        if len(set(ends)) == len(set(folders)):
            break
    return ends


def refuse_other_queries(baseline: Compared, run: Compared, first: str, second: str) -> None:
    """Raise an `InputError` unless both runs have the same data and the same queries in the same order."""
    told = f"{first} and {second} cannot be compared query by query"
    before, after = (compared.config["data"] for compared in (baseline, run))
    if before["fingerprint"] != after["fingerprint"]:
        raise InputError(
            f"{told}: they are of different data ({before.get('path')}, fingerprint {before['fingerprint']}, and "
            f"{after.get('path')}, {after['fingerprint']}); compare runs of one catalogue"
        )
    again = "evaluate both again with eval.py, so that one version makes both"
    for direction, words in DIRECTIONS.items():
        one, other = baseline.of(direction), run.of(direction)
        if len(one) != len(other):
            raise InputError(f"{told}: {len(one):,} and {len(other):,} {words} queries were asked; {again}")
        for column in ("query", "group"):
            differ = np.flatnonzero(one[column].to_numpy() != other[column].to_numpy())
            if len(differ):
                a, b = (part[column].iloc[differ[0]] for part in (one, other))
                raise InputError(
                    f"{told}: the {column} of {len(differ):,} of {len(one):,} {words} queries differs, first '{a}' and "
                    f"'{b}' in place {differ[0]}; {again}"
                )
