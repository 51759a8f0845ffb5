"""What a search gives."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """A product that was found.

    Attributes:
        rank: from 1.
        id: of the product.
        title: its first caption.
        score: cosine of the query and of the product's best image.
        attributes: column -> value, or values with commas between, without the empty ones.
    """

    rank: int
    id: str
    title: str
    score: float
    attributes: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        query: what was asked for, in words.
        results: best first.
        matches: False where the best result scores below 95% of the validation captions with their own product;
            None where that cannot be said: of pictures and products, whose cosines are of another kind.
    """

    query: str
    results: list[Result] = field(default_factory=list)
    matches: bool | None = None

    def json(self) -> dict[str, Any]:
        return {"query": self.query, "results": [asdict(result) for result in self.results], "matches": self.matches}
