"""A folder of images, each with its captions beside it in a text file of the same name, one a line."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from common.columns import Part, clean, table_of
from common.containment import inside
from common.errors import InputError
from common.formats.source import Source

Image.init()
SUFFIXES = frozenset(Image.EXTENSION)


def images_in(path: Path, unreadable: list[Path]) -> Iterator[Path]:
    """The image files in a folder and those below it, in the order of their names; links to folders are passed over.

    Folders that may not be read are added to the list on the way.
    """
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208, names weigh less than paths
    except PermissionError:
        unreadable.append(path)
        return
    for name in names:
        file = path / name
        if file.is_dir() and not file.is_symlink():
            yield from images_in(file, unreadable)
        elif file.suffix.lower() in SUFFIXES and file.is_file():
            yield file


def matches(path: Path) -> bool:
    """Whether some image has a text file beside it."""
    return path.is_dir() and any(image.with_suffix(".txt").is_file() for image in images_in(path, []))


def read(path: Path) -> Source:
    """Read the folder; several images in one folder below it are of one product, those at the top of one each.

    Raises:
        InputError: a text file is not UTF-8.
    """
    unusable: list[tuple[str, str]] = []
    frame = table_of(captioned_images(path, unusable), ["id", "image", "caption"])
    places = Part(frame["image"], np.arange(len(frame), dtype=np.int32))
    columns = {name: name for name in frame}
    return Source(path, frame, places, path, unusable, ["folder of images, each with a .txt file"], columns)


def lines_of(text: Path) -> list[str]:
    """The lines of a text file in which something is written, or one that is empty."""
    return [line for line in text.read_text(encoding="utf-8-sig").split("\n") if line.strip()] or [""]


def captioned_images(path: Path, unusable: list[tuple[str, str]]) -> Iterator[list[str]]:
    """Product, image and caption of each row; those that cannot be used are added to the list on the way."""
    is_inside, unreadable = inside(path), []
    for image in images_in(path, unreadable):
        name, text = image.relative_to(path), image.with_suffix(".txt")
        if clean(str(name)) != str(name):
            unusable.append(("its name is not UTF-8", str(name)))
            continue
        if not is_inside(text):
            unusable.append(("its text file is a link out of the folder", str(name)))
            continue
        try:
            captions = lines_of(text) if text.is_file() else None
        except UnicodeDecodeError as error:
            raise InputError(f"{text}: the encoding is not UTF-8 ({error.reason}); save the file as UTF-8") from None
        if captions is None:
            unusable.append(("no text file beside the image", str(name)))
            continue
        product = name.parent if name.parent.name else name
        yield from ([str(product), str(name), caption] for caption in captions)
    unusable += [("a folder that may not be read", str(folder.relative_to(path))) for folder in unreadable]
