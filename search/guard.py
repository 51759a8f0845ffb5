"""What stands between the web page's server and everyone but its visitors, and what removes their pictures."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.responses import PlainTextResponse

HOSTS = ("127.0.0.1", "localhost")
"""Names under which the page is known: a page of another name that leads to this machine is none of ours."""
ASKED = re.compile(
    r"/(|config|theme\.css|favicon\.ico|manifest\.json|robots\.txt|(assets|static|svelte)/.*"
    r"|gradio_api/(queue/(join|data)|upload|upload_progress|heartbeat/[^/]+|startup-events|info|file=/.*))"
)
"""Paths that the page asks for; gradio would answer others, some of which fetch what they are told to."""
HEADERS = [
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
LARGEST_REQUEST = 2**20
"""Bytes of a request that uploads nothing; an upload has a limit of its own."""
KEPT_SECONDS = 600
"""After which an uploaded picture is removed."""
CLEANED_EVERY = 60.0


class OwnPageOnly:
    """ASGI middleware: refuses requests that are not the page's own, by its visitors."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = why_refused(scope)
        if refused:
            await PlainTextResponse(refused[1], refused[0])(scope, receive, send)
            return

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def why_refused(scope: dict) -> tuple[int, str] | None:
    """Status and reason for an HTTP request that is not answered; None for one that is."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host, origin = headers.get("host", ""), headers.get("origin")
    if parts(f"//{host}").hostname not in HOSTS:
        return 403, f"the page is at {HOSTS[0]}, not at {host}"
    if origin is not None and parts(origin).netloc != host:
        return 403, f"the page is asked for by itself, not by {origin}"
    if not ASKED.fullmatch(scope["path"]):
        return 404, "there is no such part of the page"
    if scope["method"] == "POST" and scope["path"] != "/gradio_api/upload":
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST_REQUEST:
            return 413, f"a request has {LARGEST_REQUEST} bytes at most"
    return None


def parts(address: str) -> SplitResult:
    """The parts of an address; none of what is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


@contextmanager
def cleaned(folder: Path) -> Iterator[None]:
    """Removes a folder's older files meanwhile, those of broken-off uploads too."""
    ended = Event()

    def clean() -> None:
        while not ended.wait(CLEANED_EVERY):
            for file in folder.rglob("*"):
                if file.is_file() and time.time() - file.stat().st_mtime > KEPT_SECONDS:
                    file.unlink(missing_ok=True)

    cleaner = Thread(target=clean, daemon=True)
    cleaner.start()
    try:
        yield
    finally:
        ended.set()
        cleaner.join()
