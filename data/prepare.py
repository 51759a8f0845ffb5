"""Get a catalogue ready for --data: download the images that a table names by URL or a data set of the hub, or
unpack an archive.

    python data/prepare.py indian-fashion --links indian_fashion.csv --output data/indian-fashion
    python data/prepare.py urls shop.csv --output data/shop
    python data/prepare.py hub ashraq/fashion-product-images-small --output data/fashion-small
    python data/prepare.py unpack archive.zip --output data/fashion

Start it again with the same words to go on where it was stopped.
"""

import csv
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import InputError, run_script
from data.limits import Limits

CATALOGUE, FAILURES, SOURCE = "catalogue.csv", "not-downloaded.csv", "source.json"


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
    caption_column: str | None = None
    """Column with the captions, of which a row may hold a list (None: guessed from common names)."""


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
        prepare_table(command, command.links, "link", "description")
    else:
        prepare_table(command, command.table, command.image_column, command.caption_column)


def prepare_table(command: Download, file: Path, image_column: str | None, caption_column: str | None) -> None:
    """Download the images of a table and write it again with their files in place of the URLs.

    Raises:
        InputError: the table cannot be read or holds no URL, the output folder holds something else, or a
            catalogue that was changed since, or no image could be downloaded, and no catalogue is written.
    """
    import pandas as pd

    from common.account import examples
    from common.catalogue import COMMON_NAMES
    from common.columns import first_named, free_name, without_lists
    from common.files import write_atomically
    from common.formats import parquet, table
    from common.hashing import hashed
    from data.download import download

    if not file.is_file():
        raise InputError(f"{file}: no such file; give the table with the URLs")
    output = command.output.expanduser()
    written = written_before(output, file)
    source = (parquet if parquet.matches(file) else table).read(file)
    frame = source.frame
    names = list(frame.columns)
    column = image_column or first_named(names, COMMON_NAMES["image"])
    for what, name in (("image", column), ("caption", caption_column or column)):
        if name not in names:
            wanted = f"column '{name}'" if name else f"{what} column"
            raise InputError(f"{file}: no {wanted} found among {names}; name it with --{what}-column NAME")
    frame = without_lists(frame, (column, caption_column or first_named(names, COMMON_NAMES["caption"])))
    found_at, frame = frame.index, frame.reset_index(drop=True)
    urls = frame[column].fillna("").str.strip()
    named = urls.str.match(r"https?://", case=False).astype(bool)
    if not named.any():
        raise InputError(f"{file}: the column '{column}' holds no URL; name the column with --image-column")
    command.limits.check()
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / SOURCE, json.dumps(written))  # first of all: by it a later call knows the folder
    found = download(urls[named], output, command.limits, command.retry_failed)

    got = named & urls.isin(list(found.files))
    files = urls[got].map(found.files)
    if got.any():  # else the catalogue of an earlier call is better than an empty one
        rest = frame[got].drop(columns=column)
        rest = rest.rename(
            columns={name: free_name(f"{name} (table)", rest) for name in rest if name.lower() == "image"}
        )
        address = free_name("url", rest)
        new = pd.concat([files.rename("image"), rest, urls[got].rename(address)], axis=1)
        text = new.to_csv(index=False, quoting=csv.QUOTE_ALL)
        written["written"] = list(dict.fromkeys([*written["written"], hashed([text])]))
        write_atomically(output / SOURCE, json.dumps(written))
        write_atomically(output / CATALOGUE, text)
    reasons = urls.map(found.failures).where(named, f"no URL in '{column}'")
    places = pd.Series([source.places[number] for number in found_at], dtype=object)
    missing = pd.DataFrame({"place": places, "url": urls, "reason": reasons})[~got]
    # what no reader could use will not be in the new table either
    unusable = pd.DataFrame([(place, "", reason) for reason, place in source.unusable], columns=missing.columns)
    missing = pd.concat([missing, unusable], ignore_index=True)
    write_atomically(output / FAILURES, missing.to_csv(index=False))

    print(f"{file}: {len(source.places) + len(source.unusable):,} rows, {urls[named].nunique():,} distinct URLs")
    if got.any():
        print(f"  {int(got.sum()):,} rows with an image, {files.nunique():,} images: {output / CATALOGUE}")
    for reason, rows in missing.groupby("reason", sort=False):
        print(f"  left out {len(rows):,}: {reason} {examples(rows['place'].tolist())}")
    if len(missing):
        again = "; to ask again for what failed: --retry-failed" if found.failures else ""
        print(f"  listed in {output / FAILURES}{again}")
    if not got.any():
        there = "stays as it is" if (output / CATALOGUE).exists() else "is not written"
        raise InputError(
            f"{file}: none of the images could be downloaded, for the reasons above; {output / CATALOGUE} {there}"
        )


def written_before(output: Path, file: Path) -> dict[str, Any]:
    """What source.json says of a folder: the table, and hashes of the catalogues that were written.

    Raises:
        InputError: the folder holds something else, what was made of another table, or a catalogue that was changed.
    """
    from common.files import remove_leftovers
    from common.hashing import hashed

    remove_leftovers(output)  # of a call that was killed before it wrote anything
    table, source, catalogue = str(file.resolve()), output / SOURCE, output / CATALOGUE
    if not output.exists() or not any(output.iterdir()):
        return {"table": table, "written": []}
    try:
        known = json.loads(source.read_text(encoding="utf-8"))
        before, written = str(known["table"]), list(known["written"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{output}: not empty and no download of this script, so it stays as it is; "
                         "name another folder with --output") from None  # fmt: skip
    if before != table:
        raise InputError(f"{output}: holds what was made of {before}; name another folder with --output")
    if catalogue.is_file() and hashed([catalogue.read_bytes().decode("utf-8", "replace")]) not in written:
        raise InputError(f"{catalogue}: was changed since it was written, so it stays as it is; rename it to go on")
    return {"table": table, "written": written}


def unpack_catalogue(archive: Path, output: Path) -> None:
    """Unpack an archive, and say what it holds and what was left in it.

    Raises:
        InputError: there is no such archive, it is broken, or nothing of it can be used.
    """
    from common.account import examples
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
        print(f"  left out {len(names):,}: {reason} {examples(names)}")
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
