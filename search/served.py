"""The same index in a Qdrant server, for catalogues that outgrow the memory of one machine.

Two collections: NAME holds a point an image, with its product's id, title and attributes, NAME-texts a point a caption.
Sharding and replication are the server's: what it is told about a collection stays when products come and go.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException
from tqdm import tqdm

from common.captions import first_line, fold
from common.errors import InputError
from common.hashing import digest
from search.encoder import Picture
from search.engine import Search, check_top
from search.results import Answer, Result
from search.store import ATTRIBUTE, SEGMENTS, Manifest, Segment, live_products, read_segment, shown, values_of

AT_ONCE = 256
NAMES = uuid.UUID("5a1d0a52-53f0-4d0e-9d0b-6d1f4e8f0c11")


def connect(url: str) -> QdrantClient:
    """A client of a server.

    Raises:
        InputError: none answers.
    """
    try:
        client = QdrantClient(url=url, timeout=60)
        client.get_collections()
    except Exception as error:  # of the client, of httpx, of the server
        raise InputError(f"--qdrant {url}: no Qdrant server answers there ({first_line(error)})") from None
    return client


@contextmanager
def answering(client: QdrantClient) -> Iterator[None]:
    """Tell which server is at fault where one stops to answer, or refuses.

    Raises:
        InputError: it does.
    """
    try:
        yield
    except ApiException as error:
        told = " ".join(str(error).split())
        url = client.init_options["url"]
        raise InputError(f"--qdrant {url}: the Qdrant server does not answer any more, or not this ({told})") from None


def upload(client: QdrantClient, folder: Path, manifest: Manifest, name: str) -> None:
    """Bring the collections up to date: what is new or changed, or of another model, is sent, what is gone is deleted.

    Killed at any moment, the next call goes on.

    Args:
        client: of the server.
        folder: of the index.
        manifest: of the index.
        name: of the collection.

    Raises:
        InputError: the collections hold vectors of another length.
    """
    segments = [read_segment(folder, part).without(set(manifest.removed.get(part, []))) for part in manifest.segments]
    wanted = {
        product: content
        for segment in segments
        for product, content in zip(segment.products["id"], segment.products["digest"], strict=True)
    }
    make_collections(client, name, next(segment.image_emb.shape[1] for segment in segments))
    # the texts of a product are sent before its images: a product whose images are there is there as a whole
    model = digest(manifest.model)
    there = products_of(client, name, model)
    gone = [product for product in there if wanted.get(product) != there[product]]
    for collection in (name, f"{name}-texts"):
        for start in range(0, len(gone), AT_ONCE):
            client.delete(collection, models.Filter(must=[one_of("product", gone[start : start + AT_ONCE])]), wait=True)
    new = [product for product, content in wanted.items() if there.get(product) != content]
    print(f"{name}: {len(there):,} products before; {len(new):,} to send, {len(gone):,} taken out")
    with tqdm(total=len(new), desc="sending products", unit="product") as bar:
        for segment in segments:
            left = segment.without(set(segment.products["id"]) - set(new))
            for start in range(0, len(left.products), AT_ONCE):
                some = set(left.products["id"].iloc[start : start + AT_ONCE])
                part = left.without(set(left.products["id"]) - some)
                client.upsert(f"{name}-texts", list(text_points(part)), wait=True)
                client.upsert(name, list(image_points(part, model)), wait=True)
                bar.update(len(some))


def make_collections(client: QdrantClient, name: str, dim: int) -> None:
    """Make the two collections of vectors (D,) where they are not there.

    Raises:
        InputError: one is there, of vectors of another length.
    """
    collections = (name, f"{name}-texts")
    there = [collection for collection in collections if client.collection_exists(collection)]
    for collection in there:
        length = getattr(client.get_collection(collection).config.params.vectors, "size", "several")
        if length != dim:
            raise InputError(f"{collection}: the collection's vectors have {length} numbers, those of the index {dim}; "
                             "name another with --collection, or delete it")  # fmt: skip
    for collection in collections:
        if collection not in there:
            vectors = models.VectorParams(size=dim, distance=models.Distance.COSINE)
            client.create_collection(collection, vectors_config=vectors)
        for key in ("product", "model"):
            client.create_payload_index(collection, key, models.PayloadSchemaType.KEYWORD)


def image_points(segment: Segment, model: str) -> Iterator[models.PointStruct]:
    rows = segment.products.fillna("").set_index("id", drop=False)
    counts, of = {}, segment.images["product"].value_counts().to_dict()
    for product, vector in zip(segment.images["product"], segment.image_emb, strict=True):
        row, number = rows.loc[product], counts.setdefault(product, 0)
        counts[product] += 1
        attributes = {key.removeprefix(ATTRIBUTE): row[key] for key in row.index if key.startswith(ATTRIBUTE)}
        payload = {
            "product": product, "title": row["title"], "digest": row["digest"], "model": model,
            "number": number, "of": of[product],
            "attributes": {key: shown(kept) for key, kept in attributes.items() if shown(kept)},
            "folded": {key: [fold(value) for value in values_of(kept)] for key, kept in attributes.items()},
        }  # fmt: skip
        yield models.PointStruct(id=point(f"image {product} {number}"), vector=vector.tolist(), payload=payload)


def text_points(segment: Segment) -> Iterator[models.PointStruct]:
    for row, vector in zip(segment.texts.itertuples(), segment.text_emb, strict=True):
        payload = {"product": row.product, "caption": row.caption, "folded": fold(row.caption)}
        name = point(f"text {row.product} {payload['folded']}")
        yield models.PointStruct(id=name, vector=vector.tolist(), payload=payload)


def point(name: str) -> str:
    """The id of a point: the same whenever the same is sent."""
    return str(uuid.uuid5(NAMES, name))


def one_of(key: str, values: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))


def products_of(client: QdrantClient, name: str, model: str) -> dict[str, str]:
    """Product id -> digest of a collection; "" where not all images are there as a model's vectors."""
    found: dict[str, str] = {}
    missing: dict[str, int] = {}
    keys, place = ["product", "digest", "model", "of"], None
    while True:
        points, place = client.scroll(name, limit=10_000, offset=place, with_payload=keys)
        for payload in (record.payload for record in points):
            product = payload["product"]
            found[product] = payload["digest"]
            missing[product] = missing.get(product, payload["of"]) - (payload.get("model") == model)
        if place is None:
            return {product: "" if missing[product] else content for product, content in found.items()}


class ServedSearch(Search):
    """`Search` in a server's collections; of the index's own folder the manifest, thumbnails and attributes are read.

    Args:
        index: folder that search/index.py wrote.
        client: of the server.
        name: of the collection.
        run, device, onnx: as of `Search`.

    Raises:
        InputError: as `Search` does, or there is no such collection, or one of another model's vectors.
    """

    def __init__(
        self, index: Path | str, client: QdrantClient, name: str, run: Path | str | None = None, device: str = "auto",
        onnx: Path | str | None = None,
    ) -> None:  # fmt: skip
        self.open(index, run, device, onnx)
        self.client, self.name = client, name
        other = models.Filter(must_not=[one_of("model", [digest(self.manifest.model)])])
        with answering(client):
            if not client.collection_exists(name):
                raise InputError(f"no collection {name} in the server; send the index with search/index.py --qdrant")
            others, _ = client.scroll(name, scroll_filter=other, limit=1)
        if others:
            raise InputError(f"{name}: the collection holds vectors of another model than {self.folder}; send the "
                             "index with search/index.py --qdrant, or name another collection")  # fmt: skip
        files = [self.folder / SEGMENTS / part / "products.parquet" for part in self.manifest.segments]
        schemas = map(pq.read_schema, files)
        names = dict.fromkeys(key for schema in schemas for key in schema.names if key.startswith(ATTRIBUTE))
        self.attributes = [key.removeprefix(ATTRIBUTE) for key in names]

    def answer(
        self, name: str, query: np.ndarray, top: int, where: Sequence[str], cross_modal: bool = False,
        but: str | None = None,
    ) -> Answer:  # fmt: skip
        """The products whose best images are nearest to a unit vector (D,)."""
        check_top(top)
        must, must_not = [], [] if but is None else [one_of("product", [but])]
        for condition in where:
            column, sign, value = self.condition(condition)
            (must if sign == "=" else must_not).append(one_of(f'folded."{column}"', [fold(value)]))
        with answering(self.client):
            found = self.client.query_points_groups(
                self.name, query=query.tolist(), group_by="product", limit=top, group_size=1,
                query_filter=models.Filter(must=must, must_not=must_not), with_payload=True,
            ).groups  # fmt: skip
        hits = sorted((group.hits[0] for group in found), key=lambda hit: -hit.score)
        results = [
            Result(rank, hit.payload["product"], hit.payload["title"], round(hit.score, 4), hit.payload["attributes"])
            for rank, hit in enumerate(hits, start=1)
        ]
        return Answer(name, results, self.judged(results, cross_modal))

    def has(self, column: str, value: str) -> bool:
        """Whether some product has this value, whatever its case."""
        only = models.Filter(must=[one_of(f'folded."{column}"', [fold(value)])])
        with answering(self.client):
            return self.client.count(self.name, count_filter=only, exact=False).count > 0

    def values(self, column: str) -> list[str]:
        """The values of an attribute, as the index's folder has them."""
        found = dict.fromkeys(live_products(self.folder, self.manifest, ATTRIBUTE + column).values())
        return list(dict.fromkeys(value for kept in found for value in values_of(kept)))

    def vector(self, product: str) -> np.ndarray:
        return np.asarray(self.first_point(product).vector, dtype=np.float32)

    def title(self, product: str) -> str:
        return self.first_point(product).payload["title"]

    def first_point(self, product: str) -> models.Record:
        """The point of a product's first image.

        Raises:
            InputError: there is no such product.
        """
        first = models.FieldCondition(key="number", match=models.MatchValue(value=0))
        only = models.Filter(must=[one_of("product", [product]), first])
        with answering(self.client):
            points, _ = self.client.scroll(self.name, scroll_filter=only, limit=1, with_vectors=True)
        if not points:
            raise InputError(f"{product}: no such product in {self.name}")
        return points[0]

    def words(self, image: Picture, top: int = 10) -> list[tuple[str, float]]:
        """The captions that describe a picture best, with their cosines."""
        query = self.encoder.picture(image).tolist()
        with answering(self.client):
            groups = self.client.query_points_groups(
                f"{self.name}-texts", query=query, group_by="folded", limit=top, group_size=1, with_payload=True
            ).groups
        hits = sorted((group.hits[0] for group in groups), key=lambda hit: -hit.score)
        return [(hit.payload["caption"], hit.score) for hit in hits]

    def thumbnail(self, product: str) -> bytes:
        """The JPEG of a product's first image."""
        for part in reversed(self.manifest.segments):
            if product not in self.manifest.removed.get(part, []):
                file = self.folder / SEGMENTS / part / "images.parquet"
                found = pd.read_parquet(file, filters=[("product", "==", product)])
                if len(found):
                    return found["thumbnail"].iloc[0]
        raise InputError(f"{product}: no such product in {self.folder}")
