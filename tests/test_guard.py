"""search/guard.py and search/app.py: what the page's server keeps to itself, and how the script begins and ends."""

import http.client
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

import pytest
from killing import leave_no_signal_ignored
from served_pages import SECRET, ask, form, post

from common.errors import InputError
from search import guard
from search.app import Options, shown

HERE = Path(__file__).parent
ENDINGS = [signal.SIGINT] + [pytest.param(end, marks=pytest.mark.slow) for end in (signal.SIGTERM, signal.SIGHUP)]


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
        ({"Host": "[::1"}, 403),  # of which urllib makes an error
        ({"Origin": "http://[::1"}, 403),
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
                              preexec_fn=leave_no_signal_ignored)  # fmt: skip
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
