"""data/hub.py against a local server that answers as the Hugging Face hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from catalogues import tiny_catalogue
from tiny_runs import evaluate, train, use_patches

from common.catalogue import open_catalogue
from common.errors import InputError
from data.hub import PINNED, fetch

ROOT = Path(__file__).resolve().parents[1]
NAME, COMMIT = "someone/fashion", "0123456789abcdef0123456789abcdef01234567"
BLOCK = 50_000


class Hub(BaseHTTPRequestHandler):
    """One data set of some files; `cut` answers of content are broken off in the middle."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.asked[f"{self.command} {path}"] += 1
        if path.startswith(f"/api/datasets/{NAME}") and "/tree/" not in path:
            revision = path.rsplit("/revision/", 1)[-1]
            if self.server.answer is not None:
                self.send(200, self.server.answer, {"Content-Type": "application/json"})
            elif revision not in ("main", COMMIT, path):
                self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            else:
                self.send(200, json.dumps(self.described()).encode(), {"Content-Type": "application/json"})
        elif path == f"/api/datasets/{NAME}/tree/{COMMIT}":
            self.send(200, json.dumps(self.tree()).encode(), {"Content-Type": "application/json"})
        elif "/resolve/" in path and (name := path.split(f"{COMMIT}/")[-1]) in self.server.files:
            self.send_file(self.server.files[name])
        else:
            self.send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def described(self) -> dict:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": "0" * 40,
             "lfs": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}}
            for name, content in self.server.told.items()
        ]  # fmt: skip
        if not self.server.lfs:
            for entry in siblings:
                content = self.server.told[entry["rfilename"]]
                entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                del entry["lfs"]
        return {"id": NAME, "sha": COMMIT, "private": False, "gated": False, "disabled": False, "tags": [],
                "downloads": 0, "likes": 0, "siblings": siblings}  # fmt: skip

    def tree(self) -> list[dict]:
        files = [
            {"type": "file", "path": entry["rfilename"], "size": entry["size"], "oid": entry["blobId"],
             **({"lfs": entry["lfs"] | {"oid": entry["lfs"]["sha256"]}} if "lfs" in entry else {})}
            for entry in self.described()["siblings"]
        ]  # fmt: skip
        return [{"type": "directory", "path": "data", "oid": "1" * 40}, *files]

    def send_file(self, content: bytes) -> None:
        whole, start = content, 0
        if (asked := self.headers.get("Range")) and asked.startswith("bytes="):
            start = int(asked[6:].split("-")[0])
        tag = f'"{hashlib.sha256(whole).hexdigest()}"'
        headers = {"ETag": tag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes", "X-Linked-Size": str(len(whole)),
                   "X-Linked-ETag": tag}  # fmt: skip
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        cut = self.command == "GET" and self.server.cut > 0
        if cut:
            self.server.cut -= 1
        self.send(206 if start else 200, whole[start:], headers, half=cut)

    def send(self, code: int, content: bytes, headers: dict[str, str], half: bool = False) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.close_connection = True

    def log_message(self, *_) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path):
    files = {}
    for number in range(2):
        file = tiny_catalogue(tmp_path / f"shard{number}", 40 + 20 * number, kind="parquet")
        files[f"data/train-0000{number}-of-00002.parquet"] = file.read_bytes()
    files["README.md"] = b"# A data set"
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.daemon_threads = True
        server.files, server.told, server.asked, server.cut = files, files, Counter(), 0
        server.lfs, server.answer = True, None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def prepare(hub, folder: Path, *words: str, name: str = NAME) -> subprocess.CompletedProcess:
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    environment = os.environ | {
        "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder.parent / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    command = [sys.executable, ROOT / "data" / "prepare.py", "hub", name, "--output", folder, *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=120)


def test_a_data_set_is_fetched_at_one_commit_and_not_twice(hub, tmp_path, monkeypatch):
    folder = tmp_path / "fashion"
    done = prepare(hub, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        f"{NAME} at {COMMIT}: 2 files" in done.stdout
        and f"checked; use it with --data {folder / 'data'}" in done.stdout
    )
    catalogue = open_catalogue(folder / "data")
    assert len(catalogue.rows) == 100 and len(catalogue.images.files) == 2
    use_patches(monkeypatch)
    run = train(monkeypatch, folder / "data", tmp_path / "run", epochs=1)
    assert evaluate(monkeypatch, run, "--split", "all")["gallery"]["products"] == 60
    fetched = {key: count for key, count in hub.asked.items() if key.startswith("GET /datasets") or "resolve" in key}
    again = prepare(hub, folder)
    assert again.returncode == 0
    contents = [key for key in hub.asked if key.startswith("GET") and "resolve" in key]
    assert contents and all(hub.asked[key] == fetched[key] for key in contents), "no file was fetched again"
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize(("name", "revision", "asked"), [
    (NAME, None, "main"), (NAME, "v2", "v2"),
    ("Marqo/KAGL", None, PINNED["Marqo/KAGL"]), ("Marqo/KAGL", "main", "main"),
])  # fmt: skip
def test_known_data_sets_are_asked_for_at_a_commit(name, revision, asked, tmp_path, monkeypatch):
    def dataset_info(_, name, revision, files_metadata):
        asked_for.append((name, revision))
        raise OSError("enough")

    asked_for = []
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    with pytest.raises(InputError, match="the hub could not be reached or broke off"):
        fetch(name, revision, tmp_path / "fashion")
    assert asked_for == [(name, asked)] and all(len(commit) == 40 for commit in PINNED.values())


def test_an_answer_that_is_cut_off_is_completed(hub, tmp_path):
    hub.cut = 1
    done = prepare(hub, tmp_path / "fashion")
    if done.returncode == 2:
        assert "broke off" in done.stderr and "start again to go on" in done.stderr
        done = prepare(hub, tmp_path / "fashion")
    assert done.returncode == 0, done.stderr
    for name in hub.files:
        if name.endswith(".parquet"):
            assert (tmp_path / "fashion" / name).read_bytes() == hub.files[name]


def test_another_content_than_the_hub_says_is_removed(hub, tmp_path):
    name = next(iter(hub.files))
    content = hub.files[name]
    hub.told = hub.files | {name: content[:-1] + b"!"}
    done = prepare(hub, tmp_path / "fashion")
    assert done.returncode == 2 and "not the file that the hub has, so it was removed" in done.stderr
    assert not (tmp_path / "fashion" / name).exists()


def test_a_file_without_lfs_is_checked_by_gits_own_hash(hub, tmp_path):
    hub.lfs = False
    assert prepare(hub, tmp_path / "right").returncode == 0
    name = next(iter(hub.files))
    hub.files = hub.files | {name: hub.files[name][:-1] + b"!"}
    done = prepare(hub, tmp_path / "wrong")
    assert done.returncode == 2 and "not the file that the hub has, so it was removed" in done.stderr


@pytest.mark.parametrize(
    "answer", [b"<html>Please log in", b"[]", b"{}", b'{"siblings": [{"rfilename": "../a.parquet"}]}']
)
def test_what_answers_is_no_hub(answer, hub, tmp_path):
    hub.answer = answer
    done = prepare(hub, tmp_path / "fashion")
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.startswith("error: "), done.stderr
    assert not list((tmp_path / "fashion").rglob("*.parquet")) and not (tmp_path / "a.parquet").exists()


@pytest.mark.parametrize("content", ["not json", "[]", '{"name": "x"}'])
def test_a_source_of_something_else(content, hub, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "source.json").write_text(content)
    done = prepare(hub, tmp_path / "mine")
    assert done.returncode == 2 and "source.json: not of a download of this script; name another" in done.stderr


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        ((), "someone/else", "no such data set or revision on the hub"),
        (("--revision", "v9"), NAME, "no such data set or revision on the hub"),
    ],
)
def test_what_the_hub_does_not_have(words, name, message, hub, tmp_path):
    done = prepare(hub, tmp_path / "fashion", *words, name=name)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_folder_of_something_else_stays_as_it_is(hub, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    done = prepare(hub, tmp_path / "mine")
    assert done.returncode == 2 and "not empty and no download of this script" in done.stderr
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_no_hub_at_all(hub, tmp_path):
    hub.shutdown()
    hub.server_close()
    done = prepare(hub, tmp_path / "fashion")
    assert done.returncode == 2 and "the hub could not be reached" in done.stderr and "Traceback" not in done.stderr
