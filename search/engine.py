"""`Search`: a catalogue that answers words, pictures and products."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.captions import fold
from common.errors import InputError
from search.encoder import Encoder, Picture
from search.neighbours import Neighbours
from search.results import Answer, Result
from search.store import ATTRIBUTE, read_all, read_manifest, shown, values_of

if TYPE_CHECKING:
    from search.onnx_encoder import OnnxEncoder

CONDITION = re.compile(r"(?P<column>[^=]*[^=!\s])\s*(?P<sign>!?=)\s*(?P<value>.*)", re.DOTALL)


class Search:
    """An index with the run that made it.

    Args:
        index: folder that search/index.py wrote.
        run: of the run; None for the one that the index names.
        device: where queries are encoded: auto, cpu, cuda or cuda:N.
        onnx: folder that search/export.py wrote, to encode queries with in place of the run.

    Raises:
        InputError: there is no index or no run, one of them is broken, or the index is of another run.
    """

    def __init__(
        self, index: Path | str, run: Path | str | None = None, device: str = "auto", onnx: Path | str | None = None
    ) -> None:
        self.open(index, run, device, onnx)
        everything = read_all(self.folder, self.manifest)
        self.products = everything.products.set_index("id", drop=False)
        self.attributes = [name.removeprefix(ATTRIBUTE) for name in self.products if name.startswith(ATTRIBUTE)]
        self.thumbnails = everything.images["thumbnail"]
        self.image_emb = np.ascontiguousarray(everything.image_emb)
        position = {product: number for number, product in enumerate(self.products["id"])}
        self.product_of_image = everything.images["product"].map(position).to_numpy()  # (N,)
        first = ~everything.texts["caption"].map(fold).duplicated().to_numpy()
        self.captions = everything.texts["caption"][first].tolist()
        self.images = self.load_engine()
        self.texts = Neighbours(everything.text_emb[first])

    def open(self, index: Path | str, run: Path | str | None, device: str, onnx: Path | str | None) -> None:
        """Read the manifest and load what encodes queries; refuse an index of another run."""
        self.folder = Path(index).expanduser()
        self.manifest = read_manifest(self.folder)
        self.encoder = encoder_of(Path(run or self.manifest.run).expanduser(), device, onnx)
        if self.encoder.identity != self.manifest.model:
            raise InputError(
                f"{self.folder}: not an index of {self.encoder.run}: built with {described(self.manifest.model)}, the "
                f"run is {described(self.encoder.identity)}; name its run with --run, or build the index again"
            )

    def load_engine(self) -> Neighbours:
        """The index over the images: the graph that was built of what is there, else an exact one."""
        engine = self.manifest.engine
        if engine["kind"] == "hnsw" and engine["content"] == self.manifest.content():
            return Neighbours.read(self.folder)
        return Neighbours(self.image_emb)

    def by_text(self, text: str, top: int = 10, where: Sequence[str] = ()) -> Answer:
        """The products that words describe.

        Args:
            text: as a shopper types it.
            top: how many products.
            where: conditions on attributes, "gender=Women" or "baseColour!=Black".

        Raises:
            InputError: there are no words, or no such attribute.
        """
        if not text.strip():
            raise InputError("an empty query; type what you look for")
        query = self.encoder.texts([text])[0]
        return self.answer(text, query, top, where, cross_modal=True)

    def by_image(
        self, image: Picture, text: str = "", weight: float = 0.5, top: int = 10, where: Sequence[str] = ()
    ) -> Answer:
        """The products that look like a picture, or like it with what words add.

        Args:
            image: a file's path, its bytes, or an image of Pillow.
            text: what is to be different or added.
            weight: of the words, from 0 to 1; the picture has the rest.
            top: how many products.
            where: conditions on attributes.

        Raises:
            InputError: the picture cannot be decoded, the weight is none, or there is no such attribute.
        """
        if not 0 <= weight <= 1:
            raise InputError(f"weight {weight}: expected a number from 0 to 1, the share of the words")
        query = self.encoder.picture(image)
        name = str(image) if isinstance(image, str | Path) else "a picture"
        if text.strip():
            query = (1 - weight) * query + weight * self.encoder.texts([text])[0]
            query /= max(np.linalg.norm(query), 1e-12)
        return self.answer(f"{name} {text}".strip(), query, top, where)

    def similar(self, product: str, top: int = 10, where: Sequence[str] = ()) -> Answer:
        """The products that look like one of the index, by its first image; itself is left out.

        Raises:
            InputError: there is no such product, or no such attribute.
        """
        return self.answer(f"like {product}", self.vector(product), top, where, but=product)

    def vector(self, product: str) -> np.ndarray:
        """(D,) of a product's first image."""
        return self.image_emb[np.flatnonzero(self.product_of_image == self.number(product))[0]]

    def words(self, image: Picture, top: int = 10) -> list[tuple[str, float]]:
        """The captions that describe a picture best, with their cosines.

        Raises:
            InputError: the picture cannot be decoded.
        """
        scores, found = self.texts.nearest(self.encoder.picture(image)[None], min(top, len(self.captions)))
        return [(self.captions[number], float(score)) for number, score in zip(found[0], scores[0], strict=True)]

    def thumbnail(self, product: str) -> bytes:
        """The JPEG of a product's first image.

        Raises:
            InputError: there is no such product.
        """
        return self.thumbnails.iloc[int(np.flatnonzero(self.product_of_image == self.number(product))[0])]

    def title(self, product: str) -> str:
        """A product's first caption.

        Raises:
            InputError: there is no such product.
        """
        return self.products["title"].iloc[self.number(product)]

    def number(self, product: str) -> int:
        if product not in self.products.index:
            close = get_close_matches(product, self.products.index, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"{product}: no such product in {self.folder}{hint}")
        return self.products.index.get_loc(product)

    def answer(
        self,
        name: str,
        query: np.ndarray,
        top: int,
        where: Sequence[str],
        cross_modal: bool = False,
        but: str | None = None,
    ) -> Answer:
        """The products whose best images are nearest to a unit vector (D,)."""
        check_top(top)
        allowed = self.allowed(where)
        images = self.images.count if allowed is None else int(allowed.sum())
        if not images:
            return Answer(name, [], self.judged([], cross_modal))
        left_out = -1 if but is None else self.number(but)
        wanted = top if but is None else top + 1
        while True:  # several images of one product may be found
            scores, found = self.images.nearest(query[None], min(wanted, images), allowed)
            kept = (found[0] >= 0) & (self.product_of_image[found[0]] != left_out)
            products, first = np.unique(self.product_of_image[found[0][kept]], return_index=True)
            if len(products) >= top or wanted >= images:
                break
            wanted *= 2
        best = np.sort(first)[:top]
        results = [
            self.result(rank, self.product_of_image[found[0][kept][place]], float(scores[0][kept][place]))
            for rank, place in enumerate(best, start=1)
        ]
        return Answer(name, results, self.judged(results, cross_modal))

    def judged(self, results: list[Result], cross_modal: bool) -> bool | None:
        """Whether the best result matches well; None where that cannot be said."""
        if not cross_modal or self.manifest.threshold is None:
            return None
        return bool(results) and results[0].score >= self.manifest.threshold

    def result(self, rank: int, number: int, score: float) -> Result:
        row = self.products.iloc[number]
        attributes = {name: shown(row[ATTRIBUTE + name]) for name in self.attributes}
        attributes = {name: values for name, values in attributes.items() if values}
        return Result(rank, row["id"], row["title"], round(score, 4), attributes)

    def allowed(self, where: Sequence[str]) -> np.ndarray | None:
        """(N,) bool, the images of products that meet all conditions; None where there are none."""
        if not where:
            return None
        keep = np.ones(len(self.products), dtype=bool)
        for condition in where:
            column, sign, value = self.condition(condition)
            found = self.products[ATTRIBUTE + column]
            meeting = [kept for kept in found.unique() if fold(value) in map(fold, values_of(kept))]
            keep &= found.isin(meeting).to_numpy() == (sign == "=")
        return keep[self.product_of_image]

    def has(self, column: str, value: str) -> bool:
        """Whether some product has this value, whatever its case."""
        return fold(value) in set(map(fold, self.values(column)))

    def values(self, column: str) -> list[str]:
        """The values of an attribute."""
        found = self.products[ATTRIBUTE + column].unique()
        return list(dict.fromkeys(value for kept in found for value in values_of(kept)))

    def condition(self, text: str) -> tuple[str, str, str]:
        """Column, sign and value of "gender=Women" or "gender!=Women"; neither minds case.

        Raises:
            InputError: it is no condition, or there is no such attribute or no product with such a value.
        """
        found = CONDITION.fullmatch(text.strip())
        if found is None:
            raise InputError(f"--where {text}: expected ATTRIBUTE=VALUE or ATTRIBUTE!=VALUE")
        names = {name.lower(): name for name in self.attributes}
        column = names.get(found["column"].lower())
        if column is None:
            close = get_close_matches(found["column"].lower(), names, 1) or [
                n for n in names if found["column"].lower() in n
            ]
            hint = f"did you mean {names[close[0]]}?" if close else f"there are {', '.join(self.attributes) or 'none'}"
            raise InputError(f"--where {text}: no attribute '{found['column']}' in the index; {hint}")
        if not self.has(column, found["value"]):
            values = {fold(value): value for value in self.values(column)}
            close = get_close_matches(fold(found["value"]), list(values), 3, 0.3) or list(values)[:3]
            shown = ", ".join(values[name] or '""' for name in close)
            raise InputError(f"--where {text}: no product has this {column}; there are {shown}, ...")
        return column, found["sign"], found["value"]


def encoder_of(run: Path, device: str, onnx: Path | str | None) -> "Encoder | OnnxEncoder":
    if onnx is None:
        return Encoder(run, device)
    from search.onnx_encoder import OnnxEncoder

    return OnnxEncoder(Path(onnx).expanduser())


def check_top(top: int) -> None:
    if top < 1:
        raise InputError(f"--top {top}: expected a number from 1 up")


def described(model: dict[str, Any]) -> str:
    return f"{model.get('name')} with weights {model.get('weights')}, settings {model.get('settings')}"
