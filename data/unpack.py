"""Unpack the archives that data sets come as, without trusting what stands in them."""

import filecmp
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm import tqdm

from common.catalogue import FORMATS
from common.containment import inside
from common.errors import DiskFull, InputError
from common.files import describe_full_disk, is_disk_full, make_durable, part_name, remove_leftovers
from common.formats import folder as captioned
from common.formats import table

MOST_EXPANSION = 100
"""A data set is no more than so many times as large as its archive; a decompression bomb is."""
SMALL = 100_000_000
"""Bytes that any archive may hold."""
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError,
    NotImplementedError,
)  # fmt: skip
"""What the libraries raise for archives that are cut off, damaged or of an unknown kind."""
NO_FILE = "a link or a device, not a file"


@dataclass(frozen=True)
class Member:
    """Something in an archive.

    Attributes:
        name: with slashes between folders.
        size: in bytes, when it is unpacked.
        refused: why it is not unpacked, or "".
        open: gives its content.
    """

    name: str
    size: int
    refused: str
    open: Callable[[], BinaryIO]


@dataclass
class Unpacked:
    """What became of an archive: the files written, those that were there already, and reason -> names left out."""

    written: list[Path] = field(default_factory=list)
    there: list[Path] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def unpack(archive: Path, output: Path) -> Unpacked:
    """Write the files of a zip or tar archive below a folder; nothing that is there is replaced.

    Started again after a kill it goes on: a file is found whole under its name or not at all.

    Args:
        archive: .zip, .tar, or .tar compressed with gzip, bzip2 or xz.
        output: folder, which need not be empty.

    Raises:
        InputError: it is no archive, is broken, or holds far more than its size lets expect.
        DiskFull: there is no space left.
    """
    with archive.open("rb") as file:
        members = members_of(archive, file)
        size, room = archive.stat().st_size, MOST_EXPANSION * archive.stat().st_size + SMALL
        output.mkdir(parents=True, exist_ok=True)
        done, folders = Unpacked(), set()
        with tqdm(total=size, desc="unpacking", unit="B", unit_scale=True) as bar:
            try:
                for member in members:
                    room -= member.size
                    if room < 0:
                        raise InputError(
                            f"{archive}: holds more than {MOST_EXPANSION} times its own size, up to {member.name}; "
                            "a data set does not, so the rest is left in it"
                        )
                    write(member, output, folders, done)
                    bar.update(file.tell() - bar.n if file.tell() > bar.n else 0)
            except BROKEN as error:
                if isinstance(error, InputError) or getattr(error, "filename", None):  # not of the archive
                    raise
                raise InputError(
                    f"{archive}: broken or cut off after {len(done.written) + len(done.there):,} files ({error}); "
                    f"fetch it again, and remove what was unpacked into {output}, as it may be damaged"
                ) from None
            bar.update(size - bar.n)
    make_durable(output)
    return done


def members_of(archive: Path, file: BinaryIO) -> Iterator[Member]:
    """The members of an archive that is open, folders left out."""
    try:
        # by its beginning: a tar whose last member is a zip ends as a zip does
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        return members_of_zip(zipfile.ZipFile(file)) if is_zip else members_of_tar(tarfile.open(fileobj=file))
    except BROKEN as error:
        told = str(error).split("\n")[0]
        raise InputError(f"{archive}: neither a .zip nor a .tar archive that can be read ({told})") from None


def members_of_zip(content: zipfile.ZipFile) -> Iterator[Member]:
    for info in content.infolist():
        name, kind = info.filename.replace("\\", "/"), stat.S_IFMT(info.external_attr >> 16)
        if not name.endswith("/") or info.file_size:
            refused = "" if kind in (0, stat.S_IFREG) and not name.endswith("/") else NO_FILE
            refused = refused or ("it needs a password" if info.flag_bits & 1 else "")
            yield Member(name, info.file_size, refused or refusal(name), lambda info=info: content.open(info))


def members_of_tar(content: tarfile.TarFile) -> Iterator[Member]:
    stream, zeros = content.fileobj, bytes(tarfile.BLOCKSIZE)
    while True:
        for info in content:
            if not info.isdir():
                refused = "" if info.isreg() else NO_FILE
                yield Member(
                    info.name,
                    info.size,
                    refused or refusal(info.name),
                    lambda info=info, content=content: content.extractfile(info),
                )
        # where a header is damaged or missing, tarfile takes it for the end
        stream.seek(content.offset)
        if stream.read(tarfile.BLOCKSIZE) != zeros:
            raise tarfile.ReadError("it does not end as an archive does")
        while (block := stream.read(tarfile.BLOCKSIZE)) == zeros:
            pass
        if not block.strip(b"\0"):
            return
        stream.seek(-len(block), os.SEEK_CUR)  # another one, appended to the first
        content = tarfile.TarFile(fileobj=stream)


def refusal(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        return "its name leads out of the folder"
    return "" if path.parts and "\0" not in name else "its name is none for a file"


def write(member: Member, output: Path, folders: set[Path], done: Unpacked) -> None:
    """Write one member, and note in `done` what became of it; `folders` are those that may be written to."""
    if member.refused:
        done.left_out[member.refused].append(member.name)
        return
    target = output / member.name
    try:
        if target.parent not in folders:
            if not inside(output)(target.parent):
                done.left_out["a link in the output folder leads out of it"].append(member.name)
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target.parent)
            folders.add(target.parent)
        part = part_name(target.parent / "unpacked")  # shorter than some names of files
        try:
            with member.open() as source, part.open("wb") as copy:
                shutil.copyfileobj(source, copy, 2**20)
                if copy.tell() != member.size:  # which tarfile does not tell
                    raise EOFError(f"{member.name} is cut off")
            if not os.path.lexists(target):
                part.replace(target)
                done.written.append(target)
            elif target.is_file() and filecmp.cmp(part, target, shallow=False):
                done.there.append(target)
            else:
                done.left_out["something else of this name is there, and stays"].append(member.name)
        finally:
            part.unlink(missing_ok=True)
    except NotImplementedError as error:  # a zip's compression
        done.left_out[f"it cannot be read ({error})"].append(member.name)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(describe_full_disk(target, part, member.size)) from None
        if error.filename is None:  # of the archive
            raise
        done.left_out[f"it cannot be written ({error.strerror})"].append(member.name)


def find_catalogue(files: list[Path], output: Path) -> Path | None:
    """The catalogue among files that were unpacked below a folder, if there is one: the one least deep."""
    folders = {folder for file in files for folder in file.parents if folder.is_relative_to(output)}
    tables = [file for file in files if table.matches(file)]
    candidates = sorted([*folders, *tables], key=lambda path: (len(path.parts), path))
    readers = [reader for reader in FORMATS if reader is not captioned]
    if found := next((path for path in candidates if any(reader.matches(path) for reader in readers)), None):
        return found
    # of images with texts the folder that holds them all: one above it would be read as one product a folder
    known = set(files)
    images = [file for file in files if file.suffix.lower() in captioned.SUFFIXES and file.with_suffix(".txt") in known]
    return Path(os.path.commonpath([image.parent for image in images])) if images else None
