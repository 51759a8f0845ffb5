"""search/app.py: the page in a headless browser, what may be uploaded, and what the server keeps to itself."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pandas as pd
import pytest
from catalogues import drawing, tiny_products
from PIL import Image
from tiny_runs import run_main, train, use_patches

from common.errors import InputError
from search import guard, index
from search.app import Options, shown
from search.engine import Search
from search.question import Question

HERE = Path(__file__).parent
TITLE = "Red <img src=x onerror='window.bad=1'> ${window.bad=1} `${window.bad=1}` {{constructor}} & more"
"""Of a product: what a page that trusts titles would execute."""
ENDINGS = [signal.SIGINT] + [pytest.param(end, marks=pytest.mark.slow) for end in (signal.SIGTERM, signal.SIGHUP)]
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
        run_main(index.main, monkeypatch, "--run", run, "--output", folder / "index", "--device", "cpu")
    return folder / "index"


@pytest.fixture(scope="module")
def search(folder):
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        return Search(folder, device="cpu")


@pytest.fixture(scope="module")
def served(folder):
    """The address of the page and the folder that takes uploads."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
            monkeypatch.setenv(name, "")
        use_patches(monkeypatch)
        with shown(Options(folder, device="cpu", browser=False)) as page:
            uploads = Path(os.environ["GRADIO_TEMP_DIR"])
            yield page.local_url, uploads
        assert not uploads.exists()


@pytest.fixture
def visit(browser, served):
    """Opens the page at an address; all that it asks for must be of this server."""
    contexts, asked = [], []

    def visit(address: str = "", width: int = 1280, wait: bool = True):
        if not contexts or wait:  # those that do not wait come together, in one: else each would load all the scripts
            contexts.append(browser.new_context(viewport={"width": width, "height": 800}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served[0] + address, wait_until="commit")
        if wait:
            page.wait_for_selector("#found .note, #found .card")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert asked and all(url.startswith((served[0], "data:", "blob:")) for url in asked)


def type_words(page, words):
    page.locator("#words").locator("input, textarea").fill(words)
    page.keyboard.press("Enter")


def assert_cards(page, answer):
    """The page shows these results, in this order, and nothing else."""
    from playwright.sync_api import expect

    expect(page.locator(".card h3")).to_have_text([result.title for result in answer.results], timeout=60_000)
    scores = [f"{result.score:.3f}" for result in answer.results]
    expect(page.locator(".card .score")).to_have_text(scores)


def assert_note(page, text):
    from playwright.sync_api import expect

    expect(page.locator("#found .note").first).to_have_text(text, timeout=60_000)


def address_of(page):
    """What stands behind the page's name once the answer is there."""
    page.wait_for_function("() => location.search !== ''")
    return page.evaluate("location.search")


# --- searching -----------------------------------------------------------------------------------------


def test_words_and_then_more_like_this(visit, search):
    page = visit()
    assert_note(page, "Type what you look for, or give a picture of it.")
    assert page.locator("h2").inner_text() == "120 products"
    type_words(page, "red disc")
    found = search.by_text("red disc", 20)
    assert_cards(page, found)
    facts = [", ".join(result.attributes.values()) for result in found.results]
    assert page.locator(".card .facts").all_inner_texts() == facts
    assert page.evaluate("[...document.querySelectorAll('.card img')].every(image => image.naturalWidth > 0)")
    assert address_of(page) == "?q=red+disc"

    third = found.results[2]
    page.locator("a[data-like]").nth(2).click()
    assert_cards(page, search.similar(third.id, 20))
    assert_note(page, f"Products that look like “{third.title}”:")
    assert page.locator("#words").locator("input, textarea").input_value() == ""
    page.wait_for_function(f"() => location.search === '?like={third.id}'")

    page.click("#search")  # without words, it is still about that product
    assert_cards(page, search.similar(third.id, 20))

    page.go_back()
    assert_cards(page, found)
    page.locator("#words").locator("input, textarea").fill("blue cross")
    page.click("#search")
    assert_cards(page, search.by_text("blue cross", 20))
    assert page.evaluate("Object.keys(localStorage)") == []  # no search is written down


def test_the_last_of_two_quick_searches_stands(visit, search):
    page = visit()
    for words in ("red disc", "green pole"):
        type_words(page, words)
    assert_cards(page, search.by_text("green pole", 20))
    give(page, "large.png", png(8_000, 8_000))  # takes longer than what is asked next
    page.locator("#picture").get_by_label("Clear").or_(page.get_by_label("Remove")).first.click()
    type_words(page, "blue cross")
    page.wait_for_timeout(3000)
    assert_cards(page, search.by_text("blue cross", 20))
    assert page.evaluate("location.search") == "?q=blue+cross"


def test_an_address_can_be_shared(visit, search):
    where = ("colour=red", "shape!=disc")
    page = visit(Question("something red", where=where, top=50).address())
    assert_cards(page, search.by_text("something red", 50, where))
    page.click("#filters button")
    assert page.locator("#filter-0 input").input_value() == "red"
    assert page.locator("#others").locator("input, textarea").input_value() == "shape!=disc"
    assert page.locator("#top input").input_value() == "50"
    assert (
        page.locator("a[data-like]").first.get_attribute("href").endswith("&where=colour%3Dred&where=shape%21%3Ddisc")
    )


def test_filters(visit, search):
    page = visit("?q=red+disc")
    page.click("#filters button")
    page.click("#filter-1 input")
    page.get_by_role("option", name="cross").click()
    assert_cards(page, search.by_text("red disc", 20, ["shape=cross"]))
    page.wait_for_function("() => location.search === '?q=red+disc&where=shape%3Dcross'")
    page.locator("#others").locator("input, textarea").fill("shape!=cross")
    page.keyboard.press("Enter")
    assert_note(page, "Nothing in the catalogue meets these conditions.")
    page.locator("#others").locator("input, textarea").fill("color=red")
    page.locator("#words").click()
    assert_note(page, "color=red: no attribute 'color' in the index; did you mean colour?")


def test_nothing_that_matches_well_and_no_words(visit, search, monkeypatch):
    monkeypatch.setattr(Search, "judged", lambda *_: False)
    page = visit("?q=a+wedding+cake")
    assert_note(page, "Nothing in the catalogue matches well. The nearest are:")
    assert page.locator(".card").count() == 20
    type_words(page, "   ")
    assert_note(page, "Type what you look for, or give a picture of it.")
    assert_note(visit("?like=none"), "There is no product none.")


def test_titles_are_text(visit, search):
    """Its markup and its templates are shown, in the card, in the note and in the address."""
    product = next(id for id, title in search.products["title"].items() if title == TITLE)
    where = [f"{name}={search.result(1, search.number(product), 1.0).attributes[name]}" for name in ("colour", "shape")]
    page = visit(Question(TITLE, where=tuple(where)).address())
    assert TITLE in page.locator(".card h3").all_inner_texts()
    page.locator(f"a[data-like='{product}']").click()
    assert_note(page, f"Products that look like “{TITLE}”:")
    page.set_input_files("#picture input[type=file]", drawing_of(search, product))
    page.locator(".card").first.wait_for()
    page.click("#describe")
    page.wait_for_selector("ol.captions")
    assert page.evaluate("window.bad") is None
    type_words(page, "<b>${window.bad=1}</b>")
    assert page.evaluate("window.bad") is None
    assert page.locator("#found b").count() == 0


def test_twenty_visitors_at_once(visit, search):
    asked = [row["title"] for row in tiny_products(120)[20:40]]
    pages = [visit(Question(words).address(), wait=False) for words in asked]
    for page, words in zip(pages, asked, strict=True):
        assert_cards(page, search.by_text(words, 20))


@pytest.mark.parametrize(("width", "columns"), [(1280, 5), (390, 2)])
def test_a_laptop_and_a_phone(width, columns, visit):
    page = visit("?q=red+disc", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lefts = page.evaluate("[...document.querySelectorAll('.card')].map(card => card.getBoundingClientRect().left)")
    assert len(set(lefts)) == columns
    ask = page.locator("#search").bounding_box()
    assert ask["y"] < 200 and ask["x"] + ask["width"] <= width


# --- pictures ------------------------------------------------------------------------------------------


def drawing_of(search, product) -> dict:
    return {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": search.thumbnail(product)}


def give(page, name, content, kind="image/png"):
    page.set_input_files("#picture input[type=file]", {"name": name, "mimeType": kind, "buffer": content})


def png(width, height) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_a_picture_its_words_and_words_beside_it(visit, search, served):
    from playwright.sync_api import expect

    product = search.products["id"].iloc[30]
    picture = search.thumbnail(product)
    page = visit()
    assert not page.locator("#describe").is_visible()
    give(page, "photo.jpg", picture, "image/jpeg")
    assert_cards(page, search.by_image(picture, top=20))
    assert_note(page, "The picture is not part of this page's address.")

    page.click("#describe")
    page.wait_for_selector("ol.captions")
    captions = search.words(picture)
    assert page.locator("ol.captions a").all_inner_texts() == [text for text, _ in captions]
    type_words(page, "blue")
    assert_cards(page, search.by_image(picture, "blue", 0.5, 20))

    page.click("#describe")
    page.wait_for_selector("ol.captions")
    page.locator("ol.captions a").nth(1).click()
    assert_cards(page, search.by_text(captions[1][0], 20))
    expect(page.locator("#describe")).to_be_hidden()  # its words took the picture's place
    assert [file for file in served[1].rglob("*") if file.is_file()]


def test_a_picture_is_pasted(visit, search):
    picture = search.thumbnail(search.products["id"].iloc[40])
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async bytes => {
          const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)], {type: 'image/jpeg'}));
          const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
          canvas.getContext('2d').drawImage(bitmap, 0, 0);
          const blob = await canvas.convertToBlob({type: 'image/png'});
          await navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
        }""",
        list(picture),
    )
    page.get_by_label("Paste from clipboard").click()
    page.wait_for_selector(".card")
    expected = [result.id for result in search.by_image(picture, top=5).results]
    found = [link.get_attribute("data-like") for link in page.locator("a[data-like]").all()[:5]]
    assert len(set(found) & set(expected)) >= 4  # a PNG of a JPEG, by the browser's own decoder


def test_a_text_file_and_pictures_that_are_none(visit):
    page = visit()
    give(page, "photo.jpg", b"no picture, only a name\n", "image/jpeg")
    assert_note(page, "the picture: no image that can be decoded")
    page = visit()
    give(page, "half.png", png(800, 800)[:60])
    assert_note(page, "the picture: no image that can be decoded (image file is truncated)")
    page = visit()
    give(page, "notes.txt", b"text", "text/plain")
    page.get_by_text("Invalid file type").first.wait_for()
    type_words(page, "red disc")  # the page still works
    page.wait_for_selector(".card")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_100_megapixels(visit):
    page = visit()
    give(page, "huge.png", png(10_000, 10_000))
    assert_note(page, "the picture has 100 million pixels, 64 are the most")
    page.reload()
    page.wait_for_selector("#found .note")
    give(page, "large.png", png(8_000, 6_000))
    page.wait_for_selector(".card")


def test_a_file_that_is_too_large(visit, served, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(bytes(21 * 2**20))
    page = visit()
    page.set_input_files("#picture input[type=file]", tmp_path / "photo.jpg")
    page.get_by_text("exceed the maximum allowed size of 20.0 Mb").first.wait_for()
    status, _ = post(served[0], "/gradio_api/upload", *form("photo.jpg", bytes(21 * 2**20)))
    assert status == 413
    assert all(file.stat().st_size <= 20e6 for file in served[1].rglob("*") if file.is_file())


# --- what the server keeps to itself -------------------------------------------------------------------


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


def test_no_file_of_the_machine_is_served(folder, served):
    secret = folder.parent / "secret.txt"
    up = "../" * 30
    files = [secret, folder / "index.json", HERE / "conftest.py", HERE.parent / "README.md", Path("/etc/passwd")]
    places = ["/file=", "/gradio_api/file=", "/gradio_api/file/", "/gradio_api/stream/", "/static/", "/assets/",
              "/svelte/", "/custom_component/", "/gradio_api/proxy=file://", "/gradio_api/deep_link/", "/"]  # fmt: skip
    for file in files:
        content = file.read_bytes()
        spellings = [str(file), f"{up}{file}", quote(f"{up}{file}", safe=""), f"{served[1]}/{up}{file}",
                     f"{served[1]}/..{file}", f"file://{file}", os.path.relpath(file), f"/{file}"]  # fmt: skip
        for place in places:
            for spelling in spellings:
                status, answer = ask(served[0], "GET", quote(place + spelling, safe="/=%:"))
                assert status >= 400 or content not in answer, (place, spelling)
                assert SECRET.encode() not in answer


@pytest.fixture
def elsewhere():
    """Another server, and the paths that it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def call_directly(address, path, meta=True):
    """Ask for the words of a picture by a path that a request makes up; the answers as text."""
    config = json.loads(ask(address, "GET", "/config")[1])
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    ends = {"inputs": [ids["picture"]], "outputs": [ids["found"]]}
    function = next(call["id"] for call in config["dependencies"] if ends.items() <= call.items())
    file = {"path": path} | ({"meta": {"_type": "gradio.FileData"}} if meta else {})
    body = json.dumps({"data": [file], "fn_index": function, "session_hash": "x"})
    headers = {"Content-Type": "application/json"}
    status, answer = post(address, "/gradio_api/queue/join", body, headers)
    if status >= 400:
        return answer.decode()
    connection = http.client.HTTPConnection(address.split("//")[1].rstrip("/"), timeout=60)
    connection.request("GET", "/gradio_api/queue/data?session_hash=x")
    return connection.getresponse().read().decode()


@pytest.mark.parametrize("meta", [True, False])
def test_a_request_names_only_what_it_uploaded(meta, folder, served, elsewhere, catalogue, tmp_path):
    """Gradio itself looks at a path only where the request calls it a file (`meta`)."""
    address, asked = elsewhere
    someones = sorted((catalogue.parent / "images").iterdir())[0]
    os.mkfifo(tmp_path / "fifo")
    inside = os.path.relpath(someones, served[1])
    for path in (str(someones), str(folder / "index.json"), "/etc/passwd", "/etc/none", str(tmp_path / "fifo"),
                 "/dev/zero", str(served[1]), f"{served[1]}/{inside}", "", ".", f"{address}/photo.jpg",
                 "http://example.com/photo.jpg", f"file://{someones}"):  # fmt: skip
        answer = call_directly(served[0], path, meta)
        assert "captions" not in answer and "decoded" not in answer, (path, answer)
        assert "not a picture that was given to this page" in answer or '"success":false' in answer.replace(" ", "")
    assert not asked
    status, answer = post(served[0], "/gradio_api/upload", *form("photo.jpg", someones.read_bytes()))
    assert status == 200 and "captions" in call_directly(served[0], json.loads(answer)[0], meta)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "evil.example"}, 403),  # a name that its owner lets lead to this machine
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "OWN"}, 200),
        ({"Origin": "http://evil.example"}, 403),  # another page that the visitor has open
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_only_the_page_itself_is_answered(headers, status, served):
    own = served[0].rstrip("/")
    headers = {name: value.replace("OWN", own) for name, value in headers.items()}
    for path in ("/", "/config"):
        assert ask(served[0], "GET", path, headers=headers)[0] == status
    body, kind = form("photo.jpg", b"content")
    assert post(served[0], "/gradio_api/upload", body, kind | headers)[0] == status


def test_what_the_page_does_not_ask_for_is_not_there(served):
    for path in ("/gradio_api/file=http://203.0.113.1/x.png", "/gradio_api/file=HTTPS://203.0.113.1/x.png", "/docs",
                 "/gradio_api/proxy=http://203.0.113.1/", "/gradio_api/process_recording", "/gradio_api/run-history",
                 "/gradio_api/runs", "/gradio_api/component_server", "/monitoring",
                 "/openapi.json", "//config"):  # fmt: skip
        assert ask(served[0], "GET", path)[0] == 404, path
    assert post(served[0], "/gradio_api/queue/join", b" " * (2**20 + 1), {"Content-Type": "application/json"})[0] == 413
    connection = http.client.HTTPConnection(served[0].split("//")[1].rstrip("/"), timeout=60)
    connection.request("GET", "/")
    headers = connection.getresponse().headers
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_long_condition_takes_no_time(search):
    started = time.monotonic()
    for condition in ("a" + " " * 100_000 + "x", "=" * 100_000, "a!" * 50_000, " " * 100_000):
        with pytest.raises(InputError):
            search.by_text("red", where=[condition])
    assert time.monotonic() - started < 2


def test_uploads_stay_in_their_folder(served, folder):
    before = {file for place in (folder.parent, Path.cwd()) for file in place.glob("*")}
    for name in ("../../outside.jpg", "/tmp/outside.jpg", "..\\outside.jpg", "a" * 300 + ".jpg", "\x00.jpg", ".."):
        status, answer = post(served[0], "/gradio_api/upload", *form(name, b"content"))
        if status == 200:
            assert all(Path(path).resolve().is_relative_to(served[1].resolve()) for path in json.loads(answer))
    assert {file for place in (folder.parent, Path.cwd()) for file in place.glob("*")} == before
    assert not (served[1].parent / "outside.jpg").exists()


def test_uploads_are_removed_after_a_while(tmp_path, monkeypatch):
    """Also what a broken-off upload left, of which gradio does not know."""
    monkeypatch.setattr(guard, "KEPT_SECONDS", 100)
    monkeypatch.setattr(guard, "CLEANED_EVERY", 0.05)
    (tmp_path / "hash").mkdir()
    old, new = tmp_path / "hash" / "photo.jpg", tmp_path / "tmp123"
    for file, age in ((old, 101), (new, 50)):
        file.write_bytes(b"content")
        os.utime(file, (time.time() - age,) * 2)
    with guard.cleaned(tmp_path):
        deadline = time.monotonic() + 30
        while old.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not old.exists() and new.exists()


def test_other_machines_do_not_reach_it(served):
    """A server for all addresses would answer at another one of this machine, too."""
    port = int(served[0].rsplit(":", 1)[1].strip("/"))
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


# --- the script ----------------------------------------------------------------------------------------


@pytest.fixture
def script(folder, tmp_path):
    """The script with its page on, whose address is `script.address`; what it keeps meanwhile is in tmp_path."""
    command = [sys.executable, HERE / "app_in_process.py", folder, "--no-browser", "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(HERE.parent)}
    script = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    line = next(line for line in script.stdout if line.startswith("the page"))
    script.address = line.split()[2]
    assert line == f"the page: {script.address} (Ctrl-C ends it)\n"
    yield script
    script.kill()
    script.wait()


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_script_shows_the_page_until_it_is_ended(ending, script, tmp_path):
    status, answer = ask(script.address, "GET", "/")
    assert status == 200 and answer.startswith(b"<!doctype html>")
    assert post(script.address, "/gradio_api/upload", *form("photo.jpg", b"content"))[0] == 200
    assert [file for file in tmp_path.glob("search-*/**/*") if file.is_file()]
    script.send_signal(ending)
    assert script.wait(60) == 0
    assert not list(tmp_path.glob("search-*"))


def test_a_port_that_is_taken(served, folder):
    port = int(served[0].rsplit(":", 1)[1].strip("/"))
    told = pytest.raises(InputError, match=f"--port {port}: not free; name another, or end what uses it")
    with told, shown(Options(folder, device="cpu", browser=False, port=port)):
        pass


def test_an_index_that_is_none(tmp_path):
    with pytest.raises(InputError, match="no index there"), shown(Options(tmp_path / "none", browser=False)):
        pass
