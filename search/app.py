"""Search an index on a web page, on this machine alone.

python search/app.py runs/index
"""

import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import InputError, run_script
from search.opening import SearchOptions, open_search

if TYPE_CHECKING:
    import gradio

SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False", "GRADIO_ALLOWED_PATHS": "",
    "HF_HUB_OFFLINE": "1",
}  # fmt: skip
"""Environment that gradio reads: nothing is told to other machines, no search is written down in the browser, and no
folder is served."""


@dataclass(frozen=True)
class Options(SearchOptions):
    port: int | None = None
    """Port of the page (None: the first free one from 7860 up)."""
    browser: bool = True
    """Open the page in a browser."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    for ending in (signal.SIGTERM, signal.SIGHUP):  # ended so, it leaves no uploads behind either
        if signal.getsignal(ending) != signal.SIG_IGN:  # as with nohup
            signal.signal(ending, signal.default_int_handler)
    with shown(options) as page:
        print(f"the page: {page.local_url} (Ctrl-C ends it)", flush=True)
        page.block_thread()


@contextmanager
def shown(options: Options) -> "Iterator[gradio.Blocks]":
    """The page, served meanwhile; what is uploaded to it is removed at the end.

    Raises:
        InputError: there is no such index, its run is missing, or the port is taken.
    """
    if options.port is not None and not 0 < options.port < 65536:
        raise InputError(f"--port {options.port}: expected a number from 1 to 65535")
    search = open_search(options)
    with tempfile.TemporaryDirectory(prefix="search-") as uploads:
        os.environ |= {"GRADIO_TEMP_DIR": uploads} | SETTINGS
        from PIL import Image
        from starlette.middleware import Middleware

        from search.guard import OwnPageOnly, cleaned
        from search.page import LARGEST_UPLOAD, STYLE, THEME, build_page

        # the page has a limit of its own, and a message for it
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        page = build_page(search, Path(uploads))
        try:
            page.launch(
                server_name="127.0.0.1", server_port=options.port, inbrowser=options.browser, share=False, quiet=True,
                prevent_thread_lock=True, max_file_size=LARGEST_UPLOAD, ssr_mode=False, footer_links=[],
                enable_monitoring=False, css=STYLE, theme=THEME,
                app_kwargs={"middleware": [Middleware(OwnPageOnly)]},
            )  # fmt: skip
        except OSError:
            raise InputError(f"--port {options.port}: not free; name another, or end what uses it") from None
        try:
            with cleaned(Path(uploads)):
                yield page
        finally:
            page.close(verbose=False)


if __name__ == "__main__":
    run_script(main)
