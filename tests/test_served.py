"""search/served.py: the same results from a Qdrant server's collections as from the index itself."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogues import tiny_products
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException
from tiny_runs import run_main, train, use_patches

from common.errors import InputError
from search import Search, index, query
from search.page import build_page, cards, menus_of
from search.question import Question
from search.served import ServedSearch, upload
from search.store import read_manifest

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect")


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    use_patches(monkeypatch)
    monkeypatch.setattr(index, "SEGMENT", 50)


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    """An index in which one product has two captions and two colours."""
    folder = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        monkeypatch.setattr(index, "SEGMENT", 50)
        run = train(monkeypatch, data, folder / "run", epochs=6)
        rows = pd.read_csv(data, dtype=str)
        rows = pd.concat([rows, rows[rows["id"] == "1010"].assign(colour="mauve", caption="Also mauve")])
        rows.to_csv(folder / "shop.csv", index=False)
        named = "--run", run, "--data", folder / "shop.csv", "--image-root", data.parent
        run_main(index.main, monkeypatch, *named, "--output", folder / "index", "--device", "cpu")
    return folder / "index"


@pytest.fixture
def client():
    client = QdrantClient(":memory:")
    yield client
    client.close()


@pytest.fixture
def both(built, client):
    upload(client, built, read_manifest(built), "shop")
    return Search(built, device="cpu"), ServedSearch(built, client, "shop", device="cpu")


def assert_same(found, expected):
    assert found.query == expected.query and found.matches == expected.matches
    assert [result.id for result in found.results] == [result.id for result in expected.results]
    for one, other in zip(found.results, expected.results, strict=True):
        assert one.score == pytest.approx(other.score, abs=2e-4)
        assert (one.rank, one.title, one.attributes) == (other.rank, other.title, other.attributes)


@pytest.mark.slow
def test_its_page_is_the_same(both):
    """But for the scores' last digits, which HTML shows three of."""
    local, served = both
    assert menus_of(served) == menus_of(local) != {}
    for question in (Question("red disc"), Question(like="1010", where=("colour!=red",)), Question(like="none")):
        one, other = (re.sub(r"0\.\d{3}", "", cards(search, question, None, 0.5)) for search in (local, served))
        assert one == other
    build_page(served, Path("uploads"))


def test_menus_have_the_values_of_all_products(built, client, monkeypatch):
    """However few points a server gives at once."""
    real = client.scroll
    monkeypatch.setattr(client, "scroll", lambda *words, limit, **more: real(*words, limit=min(limit, 10), **more))
    upload(client, built, read_manifest(built), "shop")
    served, local = ServedSearch(built, client, "shop", device="cpu"), Search(built, device="cpu")
    assert menus_of(served) == menus_of(local) and "mauve" in menus_of(served)["colour"]


def test_the_same_is_found(both, data):
    local, served = both
    for row in tiny_products(120)[::10]:
        assert_same(served.by_text(row["title"]), local.by_text(row["title"]))
        assert_same(served.similar(row["id"], top=7), local.similar(row["id"], top=7))
        picture = data.parent / "images" / f"{row['id']}.jpg"
        assert_same(served.by_image(picture, "in red"), local.by_image(picture, "in red"))
        words, expected = served.words(picture, 5), local.words(picture, 5)
        assert [text for text, _ in words] == [text for text, _ in expected]
        assert served.thumbnail(row["id"]) == local.thumbnail(row["id"])


CONDITIONS = (["Colour=RED"], ["shape!=disc"], ["colour=red", "shape!=bar"], ["colour=red", "colour=blue"],
              ["colour=mauve"], ["colour!=mauve"])  # fmt: skip


@pytest.mark.parametrize("where", CONDITIONS)
def test_the_same_under_conditions(where, both):
    local, served = both
    assert_same(served.by_text("a disc", top=50, where=where), local.by_text("a disc", top=50, where=where))


@pytest.mark.parametrize("where", ["size=4", "colour=rad", "colour"])
def test_the_same_mistakes(where, both):
    messages = []
    for search in both:
        with pytest.raises(InputError) as raised:
            search.by_text("disc", where=[where])
        messages.append(str(raised.value).split(";")[0])
    assert messages[0] == messages[1]


def test_products_come_and_go(built, client, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "index"
    shutil.copytree(built, folder)
    upload(client, folder, read_manifest(folder), "shop")
    assert "0 products before; 120 to send, 0 taken out" in capsys.readouterr().out
    run_main(index.main, monkeypatch, "--output", folder, "--remove", "1000", "1001")
    capsys.readouterr()
    upload(client, folder, read_manifest(folder), "shop")
    assert "120 products before; 0 to send, 2 taken out" in capsys.readouterr().out
    assert client.count("shop").count == 118 and client.count("shop-texts").count == 119
    served = ServedSearch(folder, client, "shop", device="cpu")
    assert_same(served.by_text("disc", top=200), Search(folder, device="cpu").by_text("disc", top=200))
    upload(client, built, read_manifest(built), "shop")
    assert "118 products before; 2 to send, 0 taken out" in capsys.readouterr().out


def test_what_was_cut_off_is_sent_again(built, client, monkeypatch):
    monkeypatch.setattr("search.served.AT_ONCE", 20)
    real, calls = client.upsert, []

    def upsert(collection, points, **options):
        calls.append(collection)
        if len(calls) == 6:
            real(collection, points[:3], **options)
            raise KeyboardInterrupt
        return real(collection, points, **options)

    monkeypatch.setattr(client, "upsert", upsert)
    with pytest.raises(KeyboardInterrupt):
        upload(client, built, read_manifest(built), "shop")
    monkeypatch.undo()
    use_patches(monkeypatch)
    upload(client, built, read_manifest(built), "shop")
    assert client.count("shop").count == 120
    assert client.count("shop-texts").count == 121


@pytest.fixture(scope="module")
def retrained(built, data, tmp_path_factory):
    """The index of the same catalogue by a training with another seed, and by one with shorter vectors."""
    folder = tmp_path_factory.mktemp("retrained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        for name, change in (("seed", {"seed": 5}), ("short", {"embedding_dim": 16})):
            run = train(monkeypatch, data, folder / f"{name}-run", epochs=1, **change)
            named = "--run", run, "--data", built.parent / "shop.csv", "--image-root", data.parent
            run_main(index.main, monkeypatch, *named, "--output", folder / name, "--device", "cpu")
    return folder


def test_an_index_of_another_model_is_sent_anew(both, retrained, built, client, capsys):
    other = retrained / "seed"
    with pytest.raises(InputError, match="shop: the collection holds vectors of another model than"):
        ServedSearch(other, client, "shop", device="cpu")
    capsys.readouterr()
    upload(client, other, read_manifest(other), "shop")
    assert "120 products before; 120 to send, 120 taken out" in capsys.readouterr().out
    served = ServedSearch(other, client, "shop", device="cpu")
    assert_same(served.by_text("red disc"), Search(other, device="cpu").by_text("red disc"))
    with pytest.raises(InputError, match="another model"):
        ServedSearch(built, client, "shop", device="cpu")


def test_vectors_of_another_length_leave_the_collection_as_it_is(both, retrained, client):
    short = retrained / "short"
    with pytest.raises(InputError, match="shop: the collection's vectors have 32 numbers, those of the index 16"):
        upload(client, short, read_manifest(short), "shop")
    assert client.count("shop").count == 120 and client.count("shop-texts").count == 121
    upload(client, short, read_manifest(short), "shop-short")
    assert ServedSearch(short, client, "shop-short", device="cpu").by_text("disc").results


def test_its_page_shows_what_the_folder_has_no_longer(built, client, tmp_path, monkeypatch):
    """Taken out of the index, which was not sent again."""
    folder = tmp_path / "index"
    shutil.copytree(built, folder)
    upload(client, folder, read_manifest(folder), "shop")
    run_main(index.main, monkeypatch, "--output", folder, "--remove", "1010")
    served = ServedSearch(folder, client, "shop", device="cpu")
    found = cards(served, Question("disc", where=("colour=mauve",)), None, 0.5)
    assert 'data-like="1010"' in found and "<img" not in found


def test_a_server_that_fails_is_told(both, built, data, client, monkeypatch):
    served = both[1]
    client.init_options["url"] = "http://shop:6333"

    def fail(*_, **__):
        raise ResponseHandlingException(ConnectionError("[Errno 111]\nConnection refused"))

    for name in ("collection_exists", "scroll", "count", "query_points_groups", "upsert"):
        monkeypatch.setattr(client, name, fail)
    monkeypatch.setattr("search.served.connect", lambda url: client)
    picture = data.parent / "images" / "1010.jpg"
    sending = "--output", built, "--device", "cpu", "--qdrant", "http://shop:6333"
    for ask in (lambda: served.by_text("disc"), lambda: served.by_text("disc", where=["colour=red"]),
                lambda: served.similar("1010"), lambda: served.words(picture),
                lambda: ServedSearch(built, client, "shop", device="cpu"),
                lambda: run_main(index.main, monkeypatch, *sending)):  # fmt: skip
        with pytest.raises(InputError, match=r"--qdrant http://shop:6333: .* \(\[Errno 111\] Connection refused\)"):
            ask()
    assert "the Qdrant server does not answer any more" in cards(served, Question("disc"), None, 0.5)


def test_no_server_and_no_collection(built, client, monkeypatch):
    for url in ("http://127.0.0.1:9", "http://[::1"):
        with pytest.raises(InputError, match=f"--qdrant {re.escape(url)}: no Qdrant server answers there"):
            run_main(query.main, monkeypatch, built, "disc", "--qdrant", url)
    with pytest.raises(InputError, match="no collection other in the server; send the index with"):
        ServedSearch(built, client, "other", device="cpu")


def test_vectors_are_those_of_the_index(both):
    local, served = both
    np.testing.assert_allclose(served.vector("1010"), local.vector("1010"), atol=1e-6)
    with pytest.raises(InputError, match="nothing: no such product in shop"):
        served.vector("nothing")
