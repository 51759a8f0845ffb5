"""Fetch images by URL: in parallel, politely, and so that nothing is lost when it is killed.

In the folder of a download: `images/`, a file a URL, and `downloads.jsonl`, a line a URL that is done with.
"""

import hashlib
import io
import json
import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from tqdm import tqdm

from common.errors import DiskFull
from common.files import describe_full_disk, is_disk_full, make_durable, part_name, remove_leftovers
from common.images import BROKEN_IMAGE, THUMBNAIL, decode
from data.answers import Failure, Setback, ask
from data.limits import Limits

LOG, IMAGES = "downloads.jsonl", "images"


@dataclass
class Host:
    """What all downloads from one host share."""

    waiting: deque[str] = field(default_factory=deque)
    """URLs that nobody fetches yet"""
    not_before: float = 0.0
    """time.monotonic() before which the host does not want to be asked"""


@dataclass(frozen=True)
class Downloads:
    """What is known of URLs.

    Attributes:
        files: URL -> the image's file, relative to the folder.
        failures: URL -> why there is none.
    """

    files: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def download(urls: Iterable[str], folder: Path, limits: Limits, retry_failed: bool = False) -> Downloads:
    """Fetch each distinct URL once; what an earlier call in this folder was done with is not asked for again.

    Args:
        urls: http and https.
        folder: that holds the images and the log.
        limits: see there.
        retry_failed: whether to ask again for what failed before.

    Raises:
        InputError: a limit is not above zero.
        DiskFull, OSError: a file cannot be written. What was fetched before stays.
    """
    limits.check()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).touch()  # first of all: by it a later call knows the folder for its own
    (folder / IMAGES).mkdir(exist_ok=True)
    remove_leftovers(folder / IMAGES)
    known = read_log(folder)
    if retry_failed:
        known.failures.clear()
    wanted = [url for url in dict.fromkeys(urls) if url not in known.files and url not in known.failures]
    hosts: dict[str, Host] = defaultdict(Host)
    for url in wanted:
        hosts[host_of(url)].waiting.append(url)
    pool, stop, running = ThreadPoolExecutor(limits.at_once), threading.Event(), {}

    def start(host: Host) -> None:
        if host.waiting:
            url = host.waiting.popleft()
            running[pool.submit(fetch, url, host, folder, limits, stop)] = url

    with (
        (folder / LOG).open("a", encoding="utf-8") as log,
        tqdm(total=len(wanted), desc="downloading", unit="image") as bar,
    ):
        log.write("\n" * (log.tell() > 0))  # the last line may have been cut off
        try:
            # a host has no more than these at a time: one that is slow keeps the others from nothing
            for host in [host for host in hosts.values() for _ in range(limits.per_host)]:
                start(host)
            while running:
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    url = running.pop(done)
                    try:
                        known.files[url] = done.result()
                        log.write(json.dumps({"url": url, "file": known.files[url]}) + "\n")
                    except Failure as failure:
                        known.failures[url] = str(failure)
                        log.write(json.dumps({"url": url, "failure": str(failure)}) + "\n")
                    log.flush()
                    bar.update()
                    bar.set_postfix(failed=len(known.failures), refresh=False)
                    start(hosts[host_of(url)])
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return known


def read_log(folder: Path) -> Downloads:
    """What earlier calls were done with: the last line of a URL counts, if its file is still there."""
    known, log = Downloads(), folder / LOG
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        try:
            entry = json.loads(line)
            url, failure, file = entry["url"], entry.get("failure"), entry.get("file")
        except (ValueError, KeyError, TypeError, AttributeError):  # cut off by a kill, or spoilt
            continue
        if not isinstance(url, str):
            continue
        known.files.pop(url, None), known.failures.pop(url, None)
        if isinstance(failure, str):
            known.failures[url] = failure
        elif isinstance(file, str) and (folder / file).is_file() and (folder / file).stat().st_size:
            known.files[url] = file
    return known


def host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:  # no address at all, which `read` says
        return ""


def fetch(url: str, host: Host, folder: Path, limits: Limits, stop: threading.Event) -> str:
    """Fetch one image; returns its file, relative to the folder.

    Raises:
        Failure: after as many attempts as are allowed, or at once where another could not help.
    """
    for attempt in range(1, limits.attempts + 1):
        stop.wait(max(0.0, host.not_before - time.monotonic()))
        try:
            return save(url, ask(url, stop, limits), folder)
        except Setback as setback:
            reason, pause = str(setback), setback.wait
        if pause is not None and pause > limits.longest_wait:
            raise Failure(f"{reason}, to be asked again after {pause:.0f} s")
        if attempt == limits.attempts:
            raise Failure(f"{reason}, {attempt} times")
        if pause is not None:
            host.not_before = max(host.not_before, time.monotonic() + pause)
        stop.wait((pause or limits.backoff * 2 ** (attempt - 1)) * random.uniform(1.0, 1.5))
    raise AssertionError("an attempt ends in a return or in an error")


def save(url: str, content: bytes, folder: Path) -> str:
    """Check that the content is an image, and write it under a name made of the URL.

    Raises:
        Failure: it is none.
        DiskFull: there is no space for it.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = image.format
        decode(content, THUMBNAIL)
    except BROKEN_IMAGE:
        start = content[:16].lstrip()
        found = "empty" if not content else "a web page" if start[:1] == b"<" else f"begins with {start[:8]!r}"
        raise Failure(f"not an image that can be decoded ({found})") from None
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    name = f"{IMAGES}/{hashlib.blake2b(url.encode(), digest_size=12).hexdigest()}.{suffix}"
    part = part_name(folder / name)
    try:
        part.write_bytes(content)
        make_durable(part)
        part.replace(folder / name)
    except OSError as error:
        part.unlink(missing_ok=True)
        if is_disk_full(error):
            raise DiskFull(describe_full_disk(folder / name, part, len(content))) from None
        raise
    return name
