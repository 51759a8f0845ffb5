"""A shop, its index and its page, and how a server is asked by hand; conftest.py makes the fixtures known."""

import http.client
import os
from pathlib import Path

import pandas as pd
import pytest
from catalogues import drawing, tiny_products
from tiny_runs import run_main, train, use_patches

TITLE = "Red <img src=x onerror='window.bad=1'> ${window.bad=1} `${window.bad=1}` {{constructor}} & more"
"""Of a product: what a page that trusts titles would execute."""
SECRET = "what no visitor may read"


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    (folder / "images").mkdir()
    rows = []
    for row in tiny_products(120):
        (folder / "images" / f"{row['id']}.jpg").write_bytes(
            drawing(row["colour"], row["shape"], row["ground"], (48, 64))
        )
        rows.append({"id": row["id"], "image": f"images/{row['id']}.jpg", "caption": row["title"],
                     "colour": row["colour"], "shape": row["shape"]})  # fmt: skip
    rows[7]["caption"] = TITLE
    pd.DataFrame(rows).to_csv(folder / "shop.csv", index=False)
    return folder / "shop.csv"


@pytest.fixture(scope="module")
def folder(catalogue, tmp_path_factory):
    """An index, and a file beside it that is nobody's business."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "secret.txt").write_text(SECRET)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        monkeypatch.setattr("common.monitoring.draw_curves", lambda *_: None)
        run = train(monkeypatch, catalogue, folder / "run", epochs=12)
        from search import index

        run_main(index.main, monkeypatch, "--run", run, "--output", folder / "index", "--device", "cpu")
    return folder / "index"


@pytest.fixture(scope="module")
def search(folder):
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        from search.engine import Search

        return Search(folder, device="cpu")


@pytest.fixture(scope="module")
def served(folder):
    """The address of the page and the folder that takes uploads."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
            monkeypatch.setenv(name, "")
        use_patches(monkeypatch)
        from search.app import Options, shown

        with shown(Options(folder, device="cpu", browser=False)) as page:
            uploads = Path(os.environ["GRADIO_TEMP_DIR"])
            yield page.local_url, uploads
        assert not uploads.exists()


def ask(address, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(address.split("//")[1].rstrip("/"), timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def post(address, path, body, headers):
    return ask(address, "POST", path, body, headers)


def form(name, content):
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    return head + content + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}
