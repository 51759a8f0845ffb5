"""The index folder: segments that never change, and a manifest that says which of their products are there.

In the folder: `index.json`, the manifest, and `segments/<number>/` with `products.parquet` (a row a product),
`images.parquet` (a row an image, with its thumbnail), `texts.parquet` (a row a distinct caption), and the embeddings of
the last two as `image_emb.npy` and `text_emb.npy`. A segment is written under a temporary name, then the manifest names
it: killed at any moment, the index is that of before or of after.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from common.errors import InputError
from common.files import PART, remove, remove_leftovers, replacing, write_atomically
from common.hashing import digest

MANIFEST, SEGMENTS, LOCK = "index.json", "segments", "index.lock"
VERSION = 1
MOST_SEGMENTS = 200
MOST_REMOVED = 0.3
"""The share of removed products above which the rest is written again."""
TABLES = ("products", "images", "texts")
ATTRIBUTE = "attribute "
BETWEEN = "\x1f"
"""Between the values of an attribute of which a product has several."""


@dataclass(frozen=True)
class Manifest:
    """What index.json holds.

    Attributes:
        run: folder of the run that embedded the products.
        model: what is embedded with: the run's method, a hash of its weights and hyperparameters, the image size.
        data: path and fingerprint of the catalogue that was indexed last, and how it was named; --add leaves it.
        threshold: the cosine below which a caption finds nothing that matches well, None before it is known.
        segments: names of the segments, oldest first.
        removed: segment -> ids of its products that are no longer there, or are in a later segment.
        engine: of the index over the images, what was asked for ("auto", "exact" or "hnsw"), its kind ("exact" or
            "hnsw") and what a graph was built of.
        added: ids of products that --add brought from other catalogues than that of `data`.
    """

    run: str
    model: dict[str, Any]
    data: dict[str, Any]
    threshold: float | None = None
    segments: list[str] = field(default_factory=list)
    removed: dict[str, list[str]] = field(default_factory=dict)
    engine: dict[str, str] = field(default_factory=lambda: {"asked": "auto", "kind": "exact", "content": ""})
    added: list[str] = field(default_factory=list)
    version: int = VERSION

    def content(self) -> str:
        """A hash of which products are there."""
        return digest([self.segments, self.removed])


@dataclass(frozen=True)
class Segment:
    """Some products with their images and captions.

    Attributes:
        products: columns id, title, digest (of all that is known of the product), and one an attribute, whose name
            begins with `ATTRIBUTE`, with the values of all the product's rows.
        images: columns product, thumbnail (the bytes of a JPEG).
        texts: columns product, caption.
        image_emb: (N, D) float32 unit vectors of `images`.
        text_emb: (M, D) float32 unit vectors of `texts`.
    """

    products: pd.DataFrame
    images: pd.DataFrame
    texts: pd.DataFrame
    image_emb: np.ndarray
    text_emb: np.ndarray

    def without(self, products: set[str]) -> "Segment":
        """The segment without some products."""
        if not products:
            return self
        kept, images, texts = (
            ~table[name].isin(products).to_numpy()
            for table, name in ((self.products, "id"), (self.images, "product"), (self.texts, "product"))
        )
        return Segment(
            self.products[kept], self.images[images], self.texts[texts], self.image_emb[images], self.text_emb[texts]
        )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep other processes from writing an index meanwhile; should this one be killed, the system ends that.

    Raises:
        InputError: another one is writing it.
    """
    import fcntl  # not on Windows, where no index can be made

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another search/index.py writes this index; wait for it") from None
        except OSError as error:
            print(f"{folder}: cannot be locked ({error.strerror}); start no other search/index.py for it meanwhile")
        yield


def values_of(kept: str) -> list[str]:
    """The values of a product's attribute, mostly one, from how a segment keeps them."""
    return kept.split(BETWEEN)


def shown(kept: str) -> str:
    """The same to be read, "" for none."""
    return ", ".join(filter(None, values_of(kept)))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index.

    Raises:
        InputError: there is none, it may not be read, or it is broken.
    """
    file = folder / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise InputError(f"{file}: of version {content['version']}, this is {VERSION}; build the index again")
        return Manifest(**content)
    except FileNotFoundError:
        raise InputError(f"{folder}: no index there; build one with search/index.py --output {folder}") from None
    except PermissionError:
        raise InputError(forbidden(file)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: a broken index, it cannot be read ({error}); build it again") from None


def forbidden(path: Path) -> str:
    return f"{path}: this user may not read it; let its owner give the right (chmod -R a+rX {path.parent})"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_atomically(folder / MANIFEST, json.dumps(asdict(manifest), indent=1))


def read_segment(folder: Path, name: str) -> Segment:
    """A segment; the embeddings are memory-mapped.

    Raises:
        InputError: a file of it is missing or broken, or may not be read.
    """
    place = folder / SEGMENTS / name
    with reading(place):
        tables = [pd.read_parquet(place / f"{table}.parquet") for table in TABLES]
        vectors = [np.load(place / f"{kind}_emb.npy", mmap_mode="r") for kind in ("image", "text")]
    return Segment(*tables, *vectors)


@contextmanager
def reading(place: Path) -> Iterator[None]:
    """Tell what is wrong with a segment whose files cannot be read."""
    try:
        yield
    except PermissionError:
        raise InputError(forbidden(place)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: a broken index, a file of it cannot be read ({error}); build it again") from None


def add_segment(folder: Path, manifest: Manifest, segment: Segment) -> Manifest:
    """Write a segment, then the manifest, in which its products replace those of the same id."""
    name = f"{max(map(int, manifest.segments), default=-1) + 1:06}"
    place = folder / SEGMENTS / name
    place.parent.mkdir(parents=True, exist_ok=True)
    remove(place)  # of a process that was killed before it wrote the manifest
    with replacing(place) as part:
        part.mkdir()
        for table in TABLES:
            getattr(segment, table).to_parquet(part / f"{table}.parquet", index=False)
        np.save(part / "image_emb.npy", segment.image_emb)
        np.save(part / "text_emb.npy", segment.text_emb)
    manifest = remove_products(folder, manifest, set(segment.products["id"]), write=False)
    manifest = replace(manifest, segments=[*manifest.segments, name])
    write_manifest(folder, manifest)
    return manifest


def remove_products(folder: Path, manifest: Manifest, products: set[str], write: bool = True) -> Manifest:
    """The manifest without some products; those it does not have are passed over."""
    removed = dict(manifest.removed)
    for name in manifest.segments:
        there = set(pd.read_parquet(folder / SEGMENTS / name / "products.parquet", columns=["id"])["id"])
        if gone := there & products - set(removed.get(name, [])):
            removed[name] = sorted({*removed.get(name, []), *gone})
    manifest = replace(manifest, removed=removed)
    if write:
        write_manifest(folder, manifest)
    return manifest


def live_products(folder: Path, manifest: Manifest, column: str = "digest") -> dict[str, str]:
    """Product id -> digest, or what another column has of it, of what is there.

    Raises:
        InputError: a segment's table is missing or broken, or may not be read.
    """
    found: dict[str, str] = {}
    for name in manifest.segments:
        place = folder / SEGMENTS / name
        with reading(place):
            there = pq.read_schema(place / "products.parquet").names  # an attribute may be missing
            table = pd.read_parquet(place / "products.parquet", columns=[key for key in ("id", column) if key in there])
        table = table.reindex(columns=["id", column], fill_value="")
        table = table[~table["id"].isin(set(manifest.removed.get(name, [])))]
        found |= dict(zip(table["id"], table[column], strict=True))
    return found


def remove_dead_segments(folder: Path, manifest: Manifest) -> None:
    """Remove what killed processes were writing, and segments that the manifest does not name."""
    place = folder / SEGMENTS
    if place.is_dir():
        remove_leftovers(place)
        for path in place.iterdir():
            if re.fullmatch(r"\d+", path.name) and path.name not in manifest.segments and not PART.search(path.name):
                remove(path)


def compact(folder: Path, manifest: Manifest) -> Manifest:
    """Make one segment of many, or of some that hold more than is there; nothing is embedded again."""
    held = sum(len(pd.read_parquet(folder / SEGMENTS / name / "products.parquet", columns=["id"]))
               for name in manifest.segments)  # fmt: skip
    gone = sum(map(len, manifest.removed.values()))
    if (len(manifest.segments) <= MOST_SEGMENTS and gone <= MOST_REMOVED * held) or held == gone:
        return manifest
    manifest = add_segment(folder, manifest, read_all(folder, manifest))
    manifest = replace(manifest, segments=manifest.segments[-1:], removed={})
    write_manifest(folder, manifest)
    remove_dead_segments(folder, manifest)
    return manifest


def read_all(folder: Path, manifest: Manifest) -> Segment:
    """All that is there as one segment.

    Raises:
        InputError: a file is missing or broken.
    """
    parts = [read_segment(folder, name).without(set(manifest.removed.get(name, []))) for name in manifest.segments]
    if not parts or not sum(len(part.products) for part in parts):
        raise InputError(f"{folder}: an index of no products; add some with search/index.py")
    tables = [pd.concat([getattr(part, table) for part in parts], ignore_index=True) for table in TABLES]
    tables[0] = tables[0].fillna("")  # an attribute that some segments lack
    vectors = [np.concatenate([getattr(part, f"{kind}_emb") for part in parts]) for kind in ("image", "text")]
    return Segment(*tables, *vectors)
