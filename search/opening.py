"""Which index is searched, and with what: the options that the scripts of search/ share."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from search.engine import Search

Repeatable = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]
"""Of an option with values that may be given again, with more of them; `flat` has all."""


def flat(given: Repeatable) -> tuple[str, ...]:
    return tuple(chain.from_iterable(given))


@dataclass(frozen=True)
class SearchOptions:
    index: tyro.conf.Positional[Path]
    """Folder that search/index.py wrote."""
    run: Path | None = None
    """Run folder (None: the one that the index names)."""
    qdrant: str | None = None
    """URL of a Qdrant server that the index was sent to: it searches, in place of this process."""
    collection: str | None = None
    """With --qdrant: name of the collection (None: that of the index's folder)."""
    onnx: Path | None = None
    """Folder that search/export.py wrote: onnxruntime encodes the query, in place of the run."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""


def open_search(options: SearchOptions) -> "Search":
    """The index of the options, in memory or in a server.

    Raises:
        InputError: there is no such index or collection, or its run is missing.
    """
    # imported only now, so that --help and a mistyped option answer at once
    if options.qdrant is None:
        from search.engine import Search

        return Search(options.index, options.run, options.device, options.onnx)
    from search.served import ServedSearch, connect

    name = options.collection or options.index.expanduser().resolve().name
    return ServedSearch(options.index, connect(options.qdrant), name, options.run, options.device, options.onnx)
