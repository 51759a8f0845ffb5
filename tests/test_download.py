"""data/download.py and prepare.py against a local server that behaves as badly as servers do."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from catalogues import drawing, tiny_products
from disks import fill, mounted
from tiny_runs import evaluate, run_main, train, use_patches

from common.catalogue import open_catalogue
from common.errors import InputError
from data import prepare
from data.answers import retry_after
from data.download import LOG, download, read_log
from data.limits import Limits

ROOT = Path(__file__).resolve().parents[1]
PICTURE = drawing("red", "disc", "white")
QUICK = Limits(at_once=8, per_host=4, attempts=3, backoff=0.02, silence=0.5, patience=1.5, most_bytes=200_000)


class Handler(BaseHTTPRequestHandler):
    """The first word of the path says what happens."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.asked[self.path] += 1
            server.order.append(self.path)
        with suppress(BrokenPipeError, ConnectionResetError):
            getattr(self, self.path.split("/")[1])(server.asked[self.path])

    def give(self, content: bytes, code: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def good(self, _):
        with self.server.lock:
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        time.sleep(0.05)
        with self.server.lock:  # before the client can have the whole of it
            self.server.now -= 1
        self.give(PICTURE)

    def product(self, _):
        row = tiny_products(180)[int(Path(self.path).stem)]
        self.give(drawing(row["colour"], row["shape"], row["ground"]))

    def dripping_header(self, _):
        self.send_response(200)
        for number in range(60):
            self.send_header(f"X-{number}", "drip")
            self.flush_headers()
            time.sleep(0.2)

    def missing(self, _):
        self.give(b"gone", 404)

    def busy(self, asked):
        self.give(b"", 429, Retry_After="1") if asked == 1 else self.give(PICTURE)

    def closed(self, _):
        self.give(b"", 503, Retry_After="86400")

    def broken(self, _):
        self.give(b"", 500)

    def shaky(self, asked):
        self.give(b"", 502) if asked < 3 else self.give(PICTURE)

    def silent(self, _):
        time.sleep(3)

    def cut(self, _):
        self.give(PICTURE[:200], length=len(PICTURE))
        self.close_connection = True

    def short(self, _):
        self.give(PICTURE, length=200)
        self.close_connection = True

    def page(self, _):
        self.give(b"<!DOCTYPE html><p>Please log in", Content_Type="image/jpeg")

    def empty(self, _):
        self.give(b"")

    def circle(self, _):
        self.give(b"", 302, Location=self.path)

    def endless_redirect(self, _):
        self.send_response(302)
        self.send_header("Location", "/good/after-moving.jpg")
        self.end_headers()
        for _ in range(500):
            self.wfile.write(PICTURE)
            time.sleep(0.01)

    def odd_redirect(self, _):
        self.give(b"", 302, Location="http://[")

    def elsewhere(self, _):
        self.give(b"", 302, Location="file:///etc/hostname")

    def moved(self, _):
        self.give(b"", 301, Location="/good/after-moving.jpg")

    def endless(self, _):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(PICTURE)

    def trickle(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "10000")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def log_message(self, *_) -> None:
        """Nothing."""


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.asked, server.order, server.now, server.most, server.lock = Counter(), [], 0, 0, threading.Lock()
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


FAILURES = {
    "missing": ("HTTP 404", 1),
    "closed": ("HTTP 503, to be asked again after 86400 s", 1),
    "broken": ("HTTP 500, 3 times", 3),
    "silent": ("no answer for 0.5 s, 3 times", 3),
    "cut": ("the answer was cut off, 3 times", 3),
    "short": ("not an image that can be decoded (begins with b'\\xff\\xd8\\xff\\xe0\\x00\\x10JF')", 1),
    "page": ("not an image that can be decoded (a web page)", 1),
    "empty": ("not an image that can be decoded (empty)", 1),
    "circle": ("more than 5 redirects", 6),
    "elsewhere": ("not an address of http or https", 1),
    "odd_redirect": ("not an address of http or https", 1),
    "endless": ("larger than 0.2 MB", 1),
    "trickle": ("not all there after 1.5 s, 3 times", 3),
    "dripping_header": ("not all there after 1.5 s, 3 times", 3),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_what_cannot_be_had_is_told(kind, server, tmp_path):
    reason, asked = FAILURES[kind]
    url = f"{server.url}/{kind}/picture.jpg"
    found = download([url], tmp_path, QUICK)
    assert (found.files, found.failures) == ({}, {url: reason})
    assert server.asked[f"/{kind}/picture.jpg"] == asked
    assert list((tmp_path / "images").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "asked"), [("good", 1), ("shaky", 3), ("busy", 2), ("moved", 1), ("endless_redirect", 1)]
)
def test_what_can_be_had_in_the_end_is_had(kind, asked, server, tmp_path):
    url = f"{server.url}/{kind}/picture.jpg"
    started = time.monotonic()
    found = download([url], tmp_path, QUICK)
    assert found.failures == {} and (tmp_path / found.files[url]).read_bytes() == PICTURE
    assert server.asked[f"/{kind}/picture.jpg"] == asked
    assert kind != "busy" or time.monotonic() - started >= 1, "Retry-After was 1 second"


def test_a_host_that_wants_a_rest_gets_it_from_all(server, tmp_path):
    limits = Limits(at_once=2, per_host=2, attempts=3, backoff=0.02, silence=0.5)
    urls = [f"{server.url}/busy/1.jpg", *(f"{server.url}/good/{number}.jpg" for number in range(12))]
    started = time.monotonic()
    found = download(urls, tmp_path, limits)
    assert len(found.files) == 13 and time.monotonic() - started >= 1
    # what ran when the host asked for a rest, and one more in the meantime; the others came after it
    assert server.order.index("/good/11.jpg") > 3 and server.most <= 2


def test_no_such_host_or_port(tmp_path):
    found = download(
        ["http://no-such-host.invalid/a.jpg", "http://127.0.0.1:9/a.jpg", "ftp://a/b.jpg"], tmp_path, QUICK
    )
    assert sorted(found.failures.values()) == [
        "no connection, 3 times", "no such host, 3 times", "not an address of http or https"
    ]  # fmt: skip


def test_each_url_once_and_no_more_at_a_time_than_allowed(server, tmp_path):
    urls = [f"{server.url}/good/{number}.jpg" for number in range(40)]
    found = download(urls * 2, tmp_path, QUICK)
    assert set(found.files) == set(urls) and set(server.asked.values()) == {1}
    assert server.most == QUICK.per_host, "it could have been 8"
    download(urls, tmp_path, QUICK)
    assert set(server.asked.values()) == {1}, "all of it is known"


def test_failures_are_asked_for_again_on_request_only(server, tmp_path):
    url = f"{server.url}/missing/1.jpg"
    for retry, asked in ((False, 1), (False, 1), (True, 2)):
        assert download([url], tmp_path, QUICK, retry).failures == {url: "HTTP 404"}
        assert server.asked["/missing/1.jpg"] == asked


def test_a_file_that_was_deleted_is_fetched_again_and_a_cut_log_is_read(server, tmp_path):
    urls = [f"{server.url}/good/{number}.jpg" for number in range(3)]
    found = download(urls, tmp_path, QUICK)
    (tmp_path / found.files[urls[0]]).unlink()
    log = tmp_path / LOG
    lines = log.read_text().splitlines()
    cut = json.loads(lines[-1])["url"]
    log.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    assert set(read_log(tmp_path).files) == set(urls) - {urls[0], cut}
    again = download(urls, tmp_path, QUICK)
    assert again.files == found.files and sum(server.asked.values()) == 3 + len({urls[0], cut})
    assert set(read_log(tmp_path).files) == set(urls)


def test_a_silent_host_keeps_no_other_waiting(server, tmp_path):
    """localhost and 127.0.0.1 are two hosts: the many silent URLs of one stand before the few of the other."""
    silent = [f"http://localhost:{server.server_address[1]}/silent/{number}.jpg" for number in range(12)]
    good = [f"{server.url}/good/{number}.jpg" for number in range(4)]
    limits = Limits(at_once=8, per_host=4, attempts=1, silence=0.5)
    download([*silent, *good], tmp_path, limits)
    order = [json.loads(line)["url"] for line in (tmp_path / LOG).read_text().splitlines() if line]
    assert set(order[:4]) == set(good)


@pytest.mark.parametrize("name", ["at_once", "per_host", "attempts", "silence", "most_bytes"])
def test_limits_are_bounded(name, server, tmp_path, monkeypatch):
    option = f"--{name.replace('_', '-')}"
    words = ["indian-fashion", "--links", links(tmp_path, server), "--output", tmp_path / "out", option, 0]
    with pytest.raises(InputError, match=f"^{option} 0(.0)?: expected more than 0, at most [0-9,]+$"):
        run_main(prepare.main, monkeypatch, *words)
    with pytest.raises(InputError, match=f"^{option} .*: expected more than 0, at most [0-9,]+$"):
        run_main(prepare.main, monkeypatch, *words[:-1], 10**15)
    assert not (tmp_path / "out").exists() and not server.asked


@pytest.mark.parametrize(
    "url", ["http://[a/1.jpg", "http://\u2100.example/1.jpg", "https://", "not a url", "http:// /1.jpg"]
)
def test_what_is_no_address_stops_nothing(url, server, tmp_path):
    good = f"{server.url}/good/1.jpg"
    found = download([url, good], tmp_path, QUICK)
    assert set(found.files) == {good} and set(found.failures) == {url}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("-3", 0),
        ("soon", None),
        (None, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 +999999", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after(value) == seconds


# --- prepare.py ----------------------------------------------------------------------------------------


def links(folder: Path, server, name: str = "links.csv", good: int = 30) -> Path:
    """The Indian fashion layout: quoted URLs with commas, URLs that occur twice, some that fail."""
    urls = [f"{server.url}/good/w_400,h_600,c_fill/{number}.jpg" for number in range(good)]
    rows = [(url, f"Women red kurta number {number}", number) for number, url in enumerate(urls)]
    rows += [(urls[0], "the first again, in other words", 900), (f"{server.url}/missing/1.jpg", "gone", 901)]
    rows += [("", "no link", 902), (f"{server.url}/page/1.jpg", "a page", 903)]
    file = folder / name
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerows([("link", "description", "id"), *rows])
    return file


LIMITS = ["--attempts", 2, "--backoff", 0.02, "--silence", 0.5]


def test_indian_fashion_end_to_end(server, tmp_path, monkeypatch, capsys):
    file, output = links(tmp_path, server), tmp_path / "prepared"
    run_main(prepare.main, monkeypatch, "indian-fashion", "--links", file, "--output", output, *LIMITS)
    out = capsys.readouterr().out
    assert "34 rows, 32 distinct URLs" in out and "31 rows with an image, 30 images" in out
    assert "left out 1: no URL in 'link'" in out and "left out 1: HTTP 404 (line 33)" in out
    catalogue = open_catalogue(output / "catalogue.csv")
    assert len(catalogue.rows) == 31 and len(catalogue.images) == 30 and catalogue.report.unusable == {}
    assert catalogue.rows["caption"].iloc[30] == "the first again, in other words"
    assert catalogue.rows["image"].iloc[30] == catalogue.rows["image"].iloc[0], "one file for one URL"
    failed = pd.read_csv(output / "not-downloaded.csv")
    assert failed["place"].tolist() == ["line 33", "line 34", "line 35"]
    assert failed["reason"].tolist() == [
        "HTTP 404", "no URL in 'link'", "not an image that can be decoded (a web page)",
    ]  # fmt: skip


def test_what_was_made_of_another_table_or_by_hand_stays(server, tmp_path, monkeypatch):
    output, one = tmp_path / "out", links(tmp_path, server)
    words = ["indian-fashion", "--output", output, *LIMITS, "--links"]
    run_main(prepare.main, monkeypatch, *words, one)
    made = (output / "catalogue.csv").read_text()
    with pytest.raises(InputError, match=rf"out: holds what was made of {one}; name another folder with --output"):
        run_main(prepare.main, monkeypatch, *words, links(tmp_path, server, "other.csv", good=3))
    with one.open("a") as file:
        file.write(f"{server.url}/good/new.jpg,a new row,950\n")
    run_main(prepare.main, monkeypatch, *words, one)
    assert (output / "catalogue.csv").read_text().startswith(made), "a table may grow"
    (output / "catalogue.csv").write_text(made.replace("red", "crimson"))
    with pytest.raises(InputError, match=r"catalogue.csv: was changed since it was written, so it stays as it is"):
        run_main(prepare.main, monkeypatch, *words, one)
    assert "crimson" in (output / "catalogue.csv").read_text()


def test_the_new_table_can_be_read_whatever_its_columns_are_called(server, tmp_path, monkeypatch):
    file = tmp_path / "shop.csv"
    file.write_text(f"Image,link,url,title\nsmall.jpg,{server.url}/product/1.jpg,http://shop.example,red\n")
    run_main(prepare.main, monkeypatch, "urls", file, "--output", tmp_path / "out", "--image-column", "link")
    catalogue = open_catalogue(tmp_path / "out" / "catalogue.csv")
    row = catalogue.rows.iloc[0]
    assert (row["Image (table)"], row["url"]) == ("small.jpg", "http://shop.example")
    assert row["url 2"] == f"{server.url}/product/1.jpg" and row["caption"] == "red"


def test_lists_of_captions_by_another_name(server, tmp_path, monkeypatch):
    file = tmp_path / "shop.jsonl"
    file.write_text(json.dumps({"image": f"{server.url}/product/1.jpg", "titles": ["red", "blue"]}) + "\nbroken\n")
    words = ["urls", file, "--output", tmp_path / "out", "--caption-column"]
    with pytest.raises(InputError, match=r"no column 'title' found among .*--caption-column NAME"):
        run_main(prepare.main, monkeypatch, *words, "title")
    run_main(prepare.main, monkeypatch, *words, "titles")
    assert pd.read_csv(tmp_path / "out" / "catalogue.csv")["titles"].tolist() == ["red", "blue"]
    failed = pd.read_csv(tmp_path / "out" / "not-downloaded.csv")
    assert failed[["place", "reason"]].to_numpy().tolist() == [["line 2", "not a JSON object"]]


def test_a_log_with_lines_of_something_else(server, tmp_path):
    download([f"{server.url}/good/1.jpg"], tmp_path, QUICK)
    with (tmp_path / LOG).open("a") as log:
        log.write('[]\n{"url": 1}\n{"url": []}\n7\n{"file": "images/none.jpg"}\n')
    assert list(read_log(tmp_path).files) == [f"{server.url}/good/1.jpg"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "indian"])
def test_a_training_on_what_was_downloaded(kind, server, tmp_path, monkeypatch, capsys):
    """Two images a product in lists, where the table can hold them; four links are gone."""
    rows = [{"sku": row["id"], "title": row["title"], "colour": row["colour"],
             "image": f"{server.url}/{'missing' if number < 4 else 'product'}/{number}.jpg"}
            for number, row in enumerate(tiny_products(100))]  # fmt: skip
    if kind == "parquet":
        for number, row in enumerate(rows):
            row["image"] = [row["image"], f"{server.url}/product/{100 + number % 80}.jpg"][: 1 + (number < 80)]
    frame, file, words = pd.DataFrame(rows), tmp_path / f"shop.{kind}", ["urls"]
    if kind == "indian":
        frame = frame.rename(columns={"image": "link", "title": "description", "sku": "id"}).drop(columns="colour")
        file, words = tmp_path / "links.csv", ["indian-fashion", "--links"]
    frame.to_parquet(file) if kind == "parquet" else frame.to_csv(file, index=False)
    run_main(prepare.main, monkeypatch, *words, file, "--output", tmp_path / "out", *LIMITS)
    count = 176 if kind == "parquet" else 96
    assert f"100 rows, {count + 4} distinct URLs" in (out := capsys.readouterr().out)
    assert f"{count} rows with an image, {count} images" in out and "left out 4: HTTP 404" in out
    use_patches(monkeypatch)
    run = train(monkeypatch, tmp_path / "out" / "catalogue.csv", tmp_path / "run", epochs=1)
    assert evaluate(monkeypatch, run, "--split", "all")["gallery"]["images"] == count


def test_a_table_of_ones_own(server, tmp_path, monkeypatch, capsys):
    rows = [{"photo": f"{server.url}/good/{n}.jpg", "title": f"title {n}", "sku": n, "colour": "red"} for n in range(5)]
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="no image column found among"):
        run_main(prepare.main, monkeypatch, "urls", file, "--output", tmp_path / "out")
    run_main(prepare.main, monkeypatch, "urls", file, "--output", tmp_path / "out", "--image-column", "photo")
    catalogue = open_catalogue(tmp_path / "out" / "catalogue.csv")
    assert catalogue.rows["caption"].tolist() == [row["title"] for row in rows]
    assert catalogue.attributes == ["colour", "url"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda words, folder: [*words[:2], folder / "none.csv", *words[3:]], "no such file"),
        (lambda words, folder: (folder / "prepared").mkdir() or (folder / "prepared" / "mine").touch() or words,
         "not empty and no download of this script"),
    ],
)  # fmt: skip
def test_bad_words(change, message, server, tmp_path, monkeypatch):
    words = ["indian-fashion", "--links", links(tmp_path, server), "--output", tmp_path / "prepared"]
    with pytest.raises(InputError, match=message):
        run_main(prepare.main, monkeypatch, *change(words, tmp_path))


def test_a_good_catalogue_is_not_replaced_by_an_empty_one(server, tmp_path, monkeypatch, capsys):
    file, output = tmp_path / "shop.csv", tmp_path / "out"
    rows = [f"{server.url}/product/{n}.jpg,{server.url}/missing/{n}.jpg,title {n}\n" for n in range(2)]
    file.write_text("".join(["image,image_large,title\n", *rows]))
    words = ["urls", file, "--output", output, *LIMITS]
    with pytest.raises(InputError, match=r"none of the images could be downloaded.*catalogue\.csv is not written"):
        run_main(prepare.main, monkeypatch, *words, "--image-column", "image_large")
    assert not (output / "catalogue.csv").exists()
    run_main(prepare.main, monkeypatch, *words)
    made = (output / "catalogue.csv").read_bytes()
    capsys.readouterr()
    with pytest.raises(InputError, match=r"none of the images could be downloaded.*catalogue\.csv stays as it is"):
        run_main(prepare.main, monkeypatch, *words, "--image-column", "image_large")
    assert (output / "catalogue.csv").read_bytes() == made and len(open_catalogue(output / "catalogue.csv").rows) == 2
    assert "left out 2: HTTP 404 (line 2; line 3)" in capsys.readouterr().out
    assert pd.read_csv(output / "not-downloaded.csv")["reason"].tolist() == ["HTTP 404"] * 2
    run_main(prepare.main, monkeypatch, *words)  # the folder is still known as this table's


def test_a_table_without_urls(server, tmp_path, monkeypatch):
    file = tmp_path / "shop.csv"
    file.write_text("image,caption\na.jpg,one\n")
    with pytest.raises(InputError, match="the column 'image' holds no URL"):
        run_main(prepare.main, monkeypatch, "urls", file, "--output", tmp_path / "out")


def test_killed_at_any_point_it_goes_on(server, tmp_path):
    """SIGKILL at several moments; at the end the same as without, and hardly anything fetched twice."""
    file, output = links(tmp_path, server, good=60), tmp_path / "prepared"
    command = [sys.executable, ROOT / "data" / "prepare.py", "indian-fashion", "--links", file, "--output", output,
               *LIMITS, "--at-once", 2]  # fmt: skip
    command = list(map(str, command))
    wanted = 0
    for enough in (1, 25):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and sum(server.asked.values()) - wanted < enough:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wanted = sum(server.asked.values())
        for line in (output / LOG).read_text().splitlines()[:-1] if (output / LOG).is_file() else []:
            assert not line or json.loads(line)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0 and "61 rows with an image, 60 images" in done.stdout, done.stdout + done.stderr
    assert sum(server.asked.values()) <= 62 + 3 * 4, "at most what was running when it was killed"
    assert len(list((output / "images").iterdir())) == 60 and len(open_catalogue(output / "catalogue.csv").rows) == 61


def run_script(file: Path, output: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "data" / "prepare.py", "indian-fashion", "--links", file, "--output", output]
    return subprocess.run(list(map(str, [*command, *LIMITS])), capture_output=True, text=True, timeout=120)


def test_a_full_disk_stops_a_download_that_then_goes_on(server, disk, tmp_path):
    file, output = links(tmp_path, server, good=60), disk / "prepared"
    ballast = fill(disk, 128 * 1024)  # an image takes 4 kB there
    stopped = run_script(file, output)
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr, stopped.stderr
    assert re.search(r"stopped: \S+jpg: the disk is full, 0.1 MB more are needed", stopped.stderr), stopped.stderr
    fetched = set(read_log(output).files.values())
    assert 10 < len(fetched) < 40 and not list((output / "images").glob("*.part*"))
    ballast.unlink()
    done = run_script(file, output)
    assert done.returncode == 0 and "61 rows with an image, 60 images" in done.stdout, done.stderr
    twice = [path for path, count in server.asked.items() if count > 1]
    assert len(twice) <= 8, "what was written before is not fetched again"


def test_a_read_only_disk(server, tmp_path):
    mounted(tmp_path / "disk", "-o", "ro")
    try:
        refused = run_script(links(tmp_path, server), tmp_path / "disk" / "prepared")
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)
    assert refused.returncode == 2 and not server.asked
    assert refused.stderr == f"error: {tmp_path / 'disk' / 'prepared'}: Read-only file system\n"
