"""common/report/relevance.py: relevance files, read and measured."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from common.errors import InputError
from common.gallery import Gallery
from common.report import relevance


def measured(queries: dict[str, list[str]], query_emb: torch.Tensor) -> dict:
    """Product p has the images 0 and 1, r image 2, s image 3."""
    rows = pd.DataFrame({"product": list("pprs"), "image": range(4), "caption": list("abcd")})
    image_emb = torch.tensor([[1.0, 0], [0, 1], [0.9, 0.4], [-1, 0]])
    embedded = SimpleNamespace(gallery=Gallery.of(rows), image_emb=image_emb, embed=lambda captions: query_emb)
    return relevance.measure(embedded, queries)


def test_figures_by_hand():
    # query 0: images 0, 2, 1, 3 in this order; p is found at 1 and 3
    # query 1: images 1, 2, then 0 and 3 tied; r is found at 2, "gone" is not
    # query 2: neither "gone" nor "lost" can be found
    queries = {"x": ["p"], "y": ["r", "gone"], "z": ["gone", "lost"]}
    found = measured(queries, torch.tensor([[1.0, 0], [0, 1], [1, 1]]))
    figures = {name: found[name] for name in ("Recall@1", "Recall@10", "MRR@10")}
    assert figures == pytest.approx({
        "Recall@1": (1 / 2 + 0 + 0) / 3,
        "Recall@10": (1 + 1 / 2 + 0) / 3,
        "MRR@10": (1 + 1 / 2 + 0) / 3,
    })  # fmt: skip
    # the best that could be done: one of two, one of two (one is gone), none of two
    assert found["ceiling"] == pytest.approx({
        "Recall@1": (1 / 2 + 1 / 2 + 0) / 3,
        "Recall@10": (1 + 1 / 2 + 0) / 3,
        "MRR@10": (1 + 1 + 0) / 3,
    })  # fmt: skip
    assert (found["queries"], found["missing"], found["images"], found["relevant"]) == (3, 3, 4, 1.0)
    for name, value in figures.items():
        low, high = found["interval"][name]
        assert low <= value <= high and value <= found["ceiling"][name] + 1e-12


def test_no_interval_passes_the_ceiling():
    """Nothing can be found of the one query, half of the other."""
    assert measured({"x": ["gone"]}, torch.tensor([[1.0, 0]]))["interval"]["Recall@10"] == [0, 0]
    found = measured({"x": ["gone"], "y": ["r"]}, torch.tensor([[1.0, 0], [0.9, 0.4]]))
    assert found["Recall@1"] == 0.5 == found["interval"]["Recall@1"][1]


def test_an_image_of_two_relevant_products_is_one_relevant_item():
    rows = pd.DataFrame({"product": ["p", "q"], "image": [0, 0], "caption": ["a", "b"]})
    embedded = SimpleNamespace(
        gallery=Gallery.of(rows), image_emb=torch.tensor([[1.0, 0]]), embed=lambda _: torch.tensor([[1.0, 0]])
    )
    found = relevance.measure(embedded, {"x": ["p", "q"]})
    assert (found["Recall@1"], found["ceiling"]["Recall@1"], found["relevant"]) == (1, 1, 1)


def test_the_table_shows_the_figures_and_the_ceiling():
    found = measured({"x": ["p"], "y": ["r", "gone"]}, torch.tensor([[1.0, 0], [0, 1]]))
    lines = [line.split() for line in relevance.describe(found)]
    assert ["relevance", "file", "0.2500", "0.7500", "0.7500"] in lines
    assert ["ceiling", "0.5000", "0.7500", "1.0000"] in lines


def test_a_relevance_file_is_read(tmp_path):
    (tmp_path / "relevance.json").write_text('{"red disc": {"7": 1, "8": 0, "9": 2}}')
    assert relevance.read(tmp_path / "relevance.json") == {"red disc": ["7", "9"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("not json", "not JSON"),
        ("[]", "expected"),
        ("{}", "expected"),
        ('{"red": ["7"]}', r"query 'red' holds \['7'\]"),
        ('{"red": {"7": "yes"}}', "query 'red' holds"),
        ('{"red": {"7": null}}', "query 'red' holds"),
        ('{"red": {}}', "query 'red' has no relevant product"),
        ('{"red": {"7": 0}}', "query 'red' has no relevant product"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_a_relevance_file_that_cannot_be_used(content, message, tmp_path):
    file = tmp_path / "relevance.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"--relevance .*relevance\.json: .*{message}"):
        relevance.read(file)
