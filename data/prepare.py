"""Get a catalogue ready for --data: download the images that a table names by URL or a data set of the hub, or
unpack an archive.

    python data/prepare.py indian-fashion --links indian_fashion.csv --output data/indian-fashion
    python data/prepare.py urls shop.csv --output data/shop
    python data/prepare.py hub ashraq/fashion-product-images-small --output data/fashion-small
    python data/prepare.py unpack archive.zip --output data/fashion

Start it again with the same words to go on where it was stopped.
"""

import csv
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import InputError, run_script
from data.limits import Limits

CATALOGUE, FAILURES = "catalogue.csv", "not-downloaded.csv"
EXAMPLES = 3


@dataclass(frozen=True)
class Download:
    """Where to, and how."""

    output: Path
    """Folder to write: catalogue.csv for --data, images/, and what could not be downloaded."""
    retry_failed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ask again for the images that an earlier call failed to get."""
    limits: tyro.conf.OmitArgPrefixes[Limits] = field(default_factory=Limits)


@dataclass(frozen=True)
class IndianFashion(Download):
    """The Indian fashion links: a CSV of link, description and id."""

    links: Path = tyro.MISSING
    """The CSV file."""


@dataclass(frozen=True)
class Urls(Download):
    """A table of your own whose image column holds URLs (.csv, .tsv, .jsonl or .parquet)."""

    table: tyro.conf.Positional[Path] = tyro.MISSING
    """The table."""
    image_column: str | None = None
    """Column with the URLs (None: guessed from common names)."""


@dataclass(frozen=True)
class Hub:
    """A data set of parquet files on the Hugging Face hub, as ashraq/fashion-product-images-small or Marqo/KAGL."""

    name: tyro.conf.Positional[str]
    """Owner and name."""
    output: Path = tyro.MISSING
    """Folder to write; name it, or its data/, with --data."""
    revision: str | None = None
    """Branch, tag or commit; the commit that it stands for at the first call is kept for the next ones
    (None: the commit that this project names for the data sets of data/README.md, else the main branch)."""


@dataclass(frozen=True)
class Unpack:
    """An archive of a data set (.zip, .tar, .tar.gz, ...); links, and names that lead out of the folder, stay in it."""

    archive: tyro.conf.Positional[Path]
    """The archive."""
    output: Path = tyro.MISSING
    """Folder to write; what is there stays as it is."""


Command = (
    Annotated[IndianFashion, tyro.conf.subcommand("indian-fashion")]
    | Annotated[Urls, tyro.conf.subcommand("urls")]
    | Annotated[Hub, tyro.conf.subcommand("hub")]
    | Annotated[Unpack, tyro.conf.subcommand("unpack")]
)


def main() -> None:
    command = tyro.cli(Command, description=__doc__)
    # imported only now, so that --help and a mistyped option answer at once
    if isinstance(command, Hub):
        from data.hub import fetch

        fetch(command.name, command.revision, command.output.expanduser())
    elif isinstance(command, Unpack):
        unpack_catalogue(command.archive, command.output.expanduser())
    elif isinstance(command, IndianFashion):
        prepare_table(command, command.links, "link")
    else:
        prepare_table(command, command.table, command.image_column)


def prepare_table(command: Download, file: Path, image_column: str | None) -> None:
    """Download the images of a table and write it again with their files in place of the URLs.

    Raises:
        InputError: the table cannot be read or holds no URL, or the output folder holds something else.
    """
    import pandas as pd

    from common.catalogue import COMMON_NAMES, guess
    from common.columns import without_lists
    from common.files import write_atomically
    from common.formats import parquet, table
    from data.download import LOG, download

    if not file.is_file():
        raise InputError(f"{file}: no such file; give the table with the URLs")
    output = command.output.expanduser()
    if output.exists() and any(output.iterdir()) and not (output / LOG).is_file():
        raise InputError(f"{output}: not empty and no download of this script, so it stays as it is; "
                         "name another folder with --output")  # fmt: skip
    source = (parquet if parquet.matches(file) else table).read(file)
    frame = source.frame
    names = list(frame.columns)
    column = image_column or guess(names, COMMON_NAMES["image"])
    if column not in names:
        wanted = f"column '{image_column}'" if image_column else "image column"
        raise InputError(f"{file}: no {wanted} found among {names}; name it with --image-column NAME")
    frame = without_lists(frame, (column, guess(names, COMMON_NAMES["caption"])))
    found_at, frame = frame.index, frame.reset_index(drop=True)
    urls = frame[column].fillna("").str.strip()
    named = urls.str.match(r"https?://", case=False).astype(bool)
    if not named.any():
        raise InputError(f"{file}: the column '{column}' holds no URL; name the column with --image-column")
    found = download(urls[named], output, command.limits, command.retry_failed)

    failed = named & urls.isin(list(found.failures))
    got = named & ~failed
    # what no reader could use is told here, as it will not be in the new table
    lost = Counter(reason for reason, _ in source.unusable)
    if not named.all():
        lost[f"no URL in '{column}'"] = int((~named).sum())
    files = urls[got].map(found.files)
    # under the name that readers know, unless another column has it
    name = "image" if column == "image" or "image" not in frame else column
    address = "url" if "url" not in frame else "image url"
    new = frame[got].drop(columns=column).assign(**{name: files, address: urls[got]})
    write_atomically(output / CATALOGUE, new.to_csv(index=False, quoting=csv.QUOTE_ALL))
    places = pd.Series([source.places[number] for number in found_at], dtype=object)
    missing = pd.DataFrame({"place": places[failed], "url": urls[failed], "reason": urls[failed].map(found.failures)})
    write_atomically(output / FAILURES, missing.to_csv(index=False))

    print(f"{file}: {len(source.places) + len(source.unusable):,} rows, {urls[named].nunique():,} distinct URLs")
    print(f"  {int(got.sum()):,} rows with an image, {files.nunique():,} images: {output / CATALOGUE}")
    for reason, count in lost.most_common():
        print(f"  left out {count:,}: {reason}")
    for reason, rows in missing.groupby("reason", sort=False):
        print(f"  left out {len(rows):,}: {reason} ({'; '.join(rows['place'][:EXAMPLES])})")
    if len(missing):
        print(f"  listed in {output / FAILURES}; to ask for them again: --retry-failed")
    if not got.any():
        raise InputError(f"{output}: none of the images could be downloaded")


def unpack_catalogue(archive: Path, output: Path) -> None:
    """Unpack an archive, and say what it holds and what was left in it.

    Raises:
        InputError: there is no such archive, it is broken, or nothing of it can be used.
    """
    from common.account import printable
    from common.catalogue import ARCHIVES
    from data.unpack import find_catalogue, unpack

    if not archive.is_file():
        raise InputError(f"{archive}: no such file; give the archive to unpack")
    done = unpack(archive, output)
    files = done.written + done.there
    size = sum(file.stat().st_size for file in files)
    there = f", {len(done.there):,} of them were there already" if done.there else ""
    print(f"{archive}: {len(files):,} files, {size / 1e6:,.1f} MB, in {output}{there}")
    for reason, names in done.left_out.items():
        shown = "; ".join(names[:EXAMPLES]) + ("; ..." if len(names) > EXAMPLES else "")
        print(f"  left out {len(names):,}: {reason} ({printable(shown)})")
    if not files:
        raise InputError(f"{archive}: nothing in it could be unpacked")
    for file in files:
        if file.name.lower().endswith(ARCHIVES):
            print(f"  an archive in the archive: {file}; unpack it, too")
    found = find_catalogue(files, output)
    unknown = "none of the layouts of data/README.md was found in it; is more to be unpacked?"
    print(f"use it with --data {found}" if found else unknown)


if __name__ == "__main__":
    run_script(main)
