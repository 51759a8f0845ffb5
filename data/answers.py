"""One image asked of a server: what it answers, or why that is none."""

import io
import threading
import time
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError

from data.limits import Limits

READ_AT_ONCE = 2**16
MOST_REDIRECTS = 5
WATCH = 0.1
"""Seconds after which it is seen that it is time to stop."""
AGENT = {"User-Agent": "fashion-retrieval data/prepare.py", "Accept": "image/*"}


class Failure(Exception):
    """A URL that gives no image, whatever is tried."""


class Setback(Exception):
    """An attempt that failed and may be repeated, after so many seconds if the server said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class OneAnswer(requests.Session):
    """A session that follows no redirect: even asked not to, requests reads the whole body of one, however long."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def ask(url: str, stop: threading.Event, limits: Limits) -> bytes:
    """What `read` gives, in a thread that is left alone when it takes too long or it is time to stop.

    A server that sends its headers letter by letter is never silent, and keeps requests busy as long as it likes.

    Raises:
        Failure, Setback: as `read` does.
    """
    answer: Future[bytes] = Future()

    def work() -> None:
        try:
            answer.set_result(read(url, stop, limits))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    deadline = time.monotonic() + limits.patience + limits.silence
    while time.monotonic() < deadline and not stop.is_set():
        if wait([answer], timeout=WATCH).done:
            return answer.result()
    if stop.is_set():
        raise Failure("stopped")
    raise Setback(f"not all there after {limits.patience:g} s")


def read(url: str, stop: threading.Event, limits: Limits) -> bytes:
    """The body of an answer.

    Raises:
        Failure: the server has no such file, or something that cannot be taken, or it is time to stop.
        Setback: anything else that goes wrong between here and there.
    """
    deadline = time.monotonic() + limits.patience
    with OneAnswer() as session:
        try:
            for _ in range(MOST_REDIRECTS + 1):
                if stop.is_set():
                    raise Failure("stopped")
                with session.get(url, headers=AGENT, stream=True, timeout=limits.silence) as answer:
                    if answer.is_redirect:
                        url = urljoin(url, answer.headers["Location"])
                        continue
                    refuse(answer)
                    return body(answer, deadline, stop, limits)
            raise Failure(f"more than {MOST_REDIRECTS} redirects")
        except requests.exceptions.ChunkedEncodingError:
            raise Setback("the answer was cut off") from None
        except ValueError:  # of requests and of urllib alike
            raise Failure("not an address of http or https") from None
        except (requests.Timeout, TimeoutError):
            raise Setback(f"no answer for {limits.silence:g} s") from None
        except (requests.RequestException, HTTPError, ConnectionError) as error:
            silent = "timed out" in str(error).lower()  # of a body, which urllib3 reads
            raise Setback(f"no answer for {limits.silence:g} s" if silent else kind_of(error)) from None


def body(answer: requests.Response, deadline: float, stop: threading.Event, limits: Limits) -> bytes:
    content = io.BytesIO()
    while piece := answer.raw.read1(READ_AT_ONCE, decode_content=True):
        content.write(piece)
        if content.tell() > limits.most_bytes:
            raise Failure(f"larger than {limits.most_bytes / 1e6:,.1f} MB")
        if stop.is_set():
            raise Failure("stopped")
        if time.monotonic() > deadline:
            raise Setback(f"not all there after {limits.patience:g} s")
    return content.getvalue()


def kind_of(error: Exception) -> str:
    """A network error in few words, the same for all hosts."""
    text = str(error)
    if "IncompleteRead" in text or "incomplete" in text.lower():
        return "the answer was cut off"
    if any(words in text for words in ("NameResolution", "getaddrinfo", "Name or service")):
        return "no such host"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__


def refuse(answer: requests.Response) -> None:
    """Raise unless the server gives the file."""
    code = answer.status_code
    if code == 200:
        return
    if code in (408, 425, 429) or code >= 500:
        raise Setback(f"HTTP {code}", retry_after(answer.headers.get("Retry-After")))
    raise Failure(f"HTTP {code}")


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which gives seconds or a date; None where it gives neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
